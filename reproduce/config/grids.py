"""The grids of the tables and figures: which cells, which attacks, which seeds."""

from pydantic import Field, model_validator

from reproduce.config.fields import (
    ArchitectureName,
    Axis,
    CellName,
    Checkpoint,
    DatasetName,
    Distinct,
    Lambda,
    MethodName,
    Section,
    Seed,
    ZooName,
)


class _Runs(Section):
    """Training runs: every combination of these axes and those of the table or figure."""

    dataset: DatasetName
    """Data set of every run."""
    architectures: Axis[ArchitectureName]
    """Networks, in the order of the columns, rows or lines."""
    seeds: Axis[Seed]
    """Training seeds; means and standard deviations are over them."""


class Grid(_Runs):
    """The training runs of a table of the three metrics."""

    methods: dict[MethodName, Distinct[Lambda]] = Field(min_length=1)
    """Lambdas by method, in the order of the rows."""
    attack: str = "pgd20"
    """The attack of eval.attacks that the table is of."""
    checkpoint: Checkpoint | None = None
    """Which checkpoint the table reports; null for eval.checkpoint."""


class AttackTable(Section):
    """The runs of Table 2 and the attacks on each: every combination of the axes."""

    architectures: dict[DatasetName, Distinct[ArchitectureName]] = Field(min_length=1)
    """Networks by data set, in the order of the rows."""
    method: MethodName
    """How they are trained."""
    lambdas: Axis[Lambda]
    """Lambdas, in the order of the rows."""
    training_seed: Seed = 0
    """Training seed of every run."""
    attacks: Axis[str]
    """Attacks of eval.attacks, in the order of the columns."""
    attack_seeds: Axis[Seed]
    """Seeds of the attacks' random starts; the table gives mean and standard deviation over
    them."""


class TuningTable(_Runs):
    """The runs of Table 3: lambda untuned, tuned by hand, and chosen by WAR."""

    untuned: Lambda
    """Lambda tuned on the thin network, used on the others as it is."""
    lambdas: Axis[Lambda]
    """Lambdas that the search by hand tries on every network."""


class ComparisonTable(Section):
    """The networks of Table 4 or Figure 6: published checkpoints, and runs of this harness."""

    dataset: DatasetName
    """Data set of every row."""
    published: Distinct[ZooName] = Field(default=[])
    """Checkpoints of RobustBench's zoo by their ids, in the order of the rows."""
    trained: dict[CellName, Checkpoint] = Field(default={})
    """Runs by their cell ids, in the order of the rows, and the checkpoint that each reports."""
    attack: str = "autoattack"
    """The attack of eval.attacks that all are measured under."""

    @model_validator(mode="after")
    def _checked(self) -> "ComparisonTable":
        if not self.published and not self.trained:
            raise ValueError("published and trained are both empty; there is nothing to compare")
        for cell in self.trained:
            if not cell.startswith(f"{self.dataset}/"):
                raise ValueError(f"trained: {cell} is not of dataset {self.dataset}")
        return self


class Curves(_Runs):
    """The training runs that a figure follows."""

    method: MethodName
    """How they are trained."""
    lambdas: Axis[Lambda]
    """Lambdas: a row of panels each."""


class CurvesOfOne(Curves):
    """The training runs that a figure of a single lambda follows."""

    lambdas: list[Lambda] = Field(min_length=1, max_length=1)
    """The one lambda that the figure is of."""


class Experiments(Section):
    """The grid of each table, and of each figure that is made of runs."""

    table1: Grid | None = None
    """Three metrics under PGD-20 by lambda and width; null to leave it out."""
    table2: AttackTable | None = None
    """Robust accuracy under several attacks; null to leave it out."""
    table3: TuningTable | None = None
    """Three ways to choose lambda, and what they cost; null to leave it out."""
    table4: ComparisonTable | None = None
    """AutoAttack on published checkpoints and on own runs; null to leave it out."""
    table5: Grid | None = None
    """Fast-AT on ImageNet by width, with top-5 natural accuracy; null to leave it out."""
    table6: Grid | None = None
    """Adversarial weight perturbation by lambda; null to leave it out."""
    figure1: Curves | None = None
    """Natural risk and robust regularisation during training; null to leave it out."""
    figure2: CurvesOfOne | None = None
    """Sizes of the sets of correct, stable and robust images; null to leave it out."""
    figure3: CurvesOfOne | None = None
    """The three metrics over epochs, and by width at the best one; null to leave it out."""
    figure4: CurvesOfOne | None = None
    """Local Lipschitz constant during training; null to leave it out."""
    figure6: ComparisonTable | None = None
    """Natural accuracy against stability under PGD-20; null to leave it out."""
    figure7: Curves | None = None
    """Both terms by lambda, WideResNet on CIFAR-10; null to leave it out."""
    figure8: Curves | None = None
    """Both terms by lambda, WideResNet on CIFAR-100; null to leave it out."""
    figure9: Curves | None = None
    """Both terms by lambda, DenseNet on CIFAR-10; null to leave it out."""
