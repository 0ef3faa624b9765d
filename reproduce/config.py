"""The configuration: one validated model, filled from a preset and the user's config.yaml."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from reproduce.catalogue import dataset_facts, find_method, parse_architecture
from reproduce.errors import HarnessError

PresetName = Literal["paper", "short", "mini", "demo"]
PRESETS: tuple[str, ...] = get_args(PresetName)
Checkpoint = Literal["best-test", "last", "best-val"]


def _number(value: Any) -> Any:
    """Read fractions such as "8/255", the way perturbation sizes are written."""
    if isinstance(value, str):
        above, slash, below = value.partition("/")
        try:
            return float(above) / float(below) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError("not a number; write 0.031 or 8/255") from None
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _checked(check: Any, value: Any) -> Any:
    """Let a look-up in the catalogue validate a value."""
    try:
        check(value)
    except HarnessError as error:
        raise ValueError(str(error)) from None
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
# at most four decimals, so that a cell id names it exactly
Lambda = Annotated[
    NotNegative,
    Field(lt=1e6),
    AfterValidator(lambda value: _checked(_four_decimals, value)),
]
Epsilon = Annotated[Number, Field(gt=0, le=1)]
DatasetName = Annotated[str, AfterValidator(partial(_checked, dataset_facts))]
ArchitectureName = Annotated[str, AfterValidator(partial(_checked, parse_architecture))]
MethodName = Annotated[str, AfterValidator(partial(_checked, find_method))]


def _four_decimals(value: float) -> None:
    if round(value, 4) != value:
        raise HarnessError("a lambda has at most four decimals")


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TrainingAttack(Section):
    """The l_inf PGD attack that makes the training examples."""

    epsilon: Epsilon
    """Radius of the ball, pixels in [0, 1]. Paper's code: 0.031."""
    step_size: Positive
    """Step, same unit. Paper's code: 0.007."""
    steps: Count
    """Number of steps. Paper's code: 10."""
    start_sigma: NotNegative = 0.001
    """Standard deviation of the Gaussian start around the image, pixels in [0, 1]."""


class Train(Section):
    """How a network is trained."""

    epochs: Count
    """Passes over the training images. Paper: 100."""
    batch_size: Count = 128
    """Images a step. Paper: 128; the authors' code defaults to 64."""
    learning_rate: Positive = 0.1
    """Initial learning rate of SGD."""
    momentum: Annotated[NotNegative, Field(lt=1)] = 0.9
    """Momentum of SGD, no Nesterov."""
    weight_decay: NotNegative = 2e-4
    """Weight decay on every parameter."""
    schedule: Literal["exp", "step", "cosine"] = "exp"
    """exp halves the learning rate every epoch from 75 % on, step divides by 10 at 75 % and
    90 % of the epochs, cosine follows half a cosine."""
    bn_forwards: Literal[2, 3] = 2
    """Train-mode forwards of a TRADES step: 2 (authors' code) or 3 (official TRADES code, whose
    BatchNorm statistics see the clean batch twice)."""
    holdout: int = Field(default=0, strict=True, ge=0)
    """Training images held out to choose the best-val checkpoint; 0 for none (paper)."""
    attack: TrainingAttack


class Attack(Section):
    """One evaluation attack: l_inf PGD from a uniform start in the ball."""

    loss: Literal["cross_entropy"] = "cross_entropy"
    """What the attack maximises."""
    steps: Count
    """Number of steps."""
    step_size: Positive = 0.007
    """Step, pixels in [0, 1]."""


class Eval(Section):
    """How a checkpoint is evaluated."""

    epsilon: Epsilon
    """Radius of the ball, pixels in [0, 1]. Paper's text: 8/255; the authors' code: 0.031."""
    checkpoint: Checkpoint = "best-test"
    """Which checkpoint the tables report. Paper: best-test."""
    attacks: dict[str, Attack]
    """Attacks by the name that records carry, without a dash."""

    @model_validator(mode="after")
    def _names(self) -> "Eval":
        for name in self.attacks:
            if not (name.isascii() and name.isalnum() and name.islower()):
                raise ValueError(f"attack name {name!r}: only small letters and digits")
        if "pgd20" not in self.attacks:
            raise ValueError("attack 'pgd20' is missing; every epoch is validated with it")
        return self


class Data(Section):
    """Where images come from, and how many are used."""

    folder: Path = Path("data")
    """Folder of downloads and of the prepared copies."""
    cifar10: str = "download"
    """"download", or the path of an official folder, archive or .npz file."""
    cifar100: str = "download"
    """The same for CIFAR-100."""
    train_images: Count | None = None
    """Use only this many training images, every class in its proportion; null for all."""
    test_images: Count | None = None
    """The same for test images."""


class Grid(Section):
    """The training runs of a table: every combination of the axes."""

    dataset: DatasetName
    """Data set: digits, cifar10 or cifar100."""
    architectures: list[ArchitectureName] = Field(min_length=1)
    """Networks, in the order of the columns."""
    methods: dict[MethodName, list[Lambda]] = Field(min_length=1)
    """Lambdas by method, in the order of the rows."""
    seeds: list[Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]] = Field(min_length=1)
    """Training seeds; tables give the mean and standard deviation over them."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> "Grid":
        axes: dict[str, list[Any]] = {
            "architectures": list(self.architectures),
            "seeds": list(self.seeds),
            **self.methods,
        }
        for name, axis in axes.items():
            if len(set(axis)) < len(axis):
                raise ValueError(f"{name} lists a value twice")
        return self


class Machine(Section):
    """What the runs run on.

    Only the kind of device changes a result beyond rounding: CPU and CUDA draw other
    random numbers from the same seed.
    """

    device: Annotated[str, Field(pattern=r"^(cpu|cuda|cuda:\d+)$")] = "cuda"
    """cpu, cuda (any free GPU) or cuda:K."""
    jobs_per_gpu: Count = 1
    """How many jobs may share one GPU."""
    threads: Count = 1
    """CPU threads a job computes with."""
    eval_batch: Count = 500
    """Images a batch in evaluation."""
    save_minutes: Positive = 10.0
    """A run saves its state after every epoch, and after this many minutes within one."""
    max_minutes: Positive | None = None
    """Stop a training run cleanly after this many minutes; null for never."""


class Config(Section):
    """The whole configuration of a harness."""

    preset: PresetName
    """Name of the preset the values come from; results lie under results/<preset>."""
    results: Path = Path("results")
    """Folder of everything the runs make."""
    data: Data = Data()
    train: Train
    eval: Eval
    machine: Machine = Machine()
    experiments: dict[Literal["table1"], Grid]
    """The grid of each experiment."""

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.eval.checkpoint == "best-val" and not self.train.holdout:
            raise ValueError(
                "eval.checkpoint best-val needs held-out images: set train.holdout, to 1000 say"
            )
        for name, grid in self.experiments.items():
            facts = dataset_facts(grid.dataset)
            train, test = self.data.train_images or facts.train, self.data.test_images or facts.test
            if train > facts.train or test > facts.test:
                raise ValueError(
                    f"{name}: {facts.title} has {facts.train} training and {facts.test} test "
                    "images, data.train_images or data.test_images asks for more"
                )
            if self.train.holdout >= train:
                raise ValueError(f"{name}: train.holdout leaves none of {train} training images")
        return self
