"""The grids of the tables: which cells, which attacks, which seeds."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from reproduce.config.fields import ArchitectureName, DatasetName, Lambda, MethodName, Section

Seed = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]


class Grid(Section):
    """The training runs of Table 1: every combination of the axes."""

    dataset: DatasetName
    """Data set: digits, cifar10 or cifar100."""
    architectures: list[ArchitectureName] = Field(min_length=1)
    """Networks, in the order of the columns."""
    methods: dict[MethodName, list[Lambda]] = Field(min_length=1)
    """Lambdas by method, in the order of the rows."""
    seeds: list[Seed] = Field(min_length=1)
    """Training seeds; tables give the mean and standard deviation over them."""

    @model_validator(mode="after")
    def _checked(self) -> "Grid":
        _nothing_twice({"architectures": self.architectures, "seeds": self.seeds, **self.methods})
        return self


class AttackTable(Section):
    """The runs of Table 2 and the attacks on each: every combination of the axes."""

    architectures: dict[DatasetName, list[ArchitectureName]] = Field(min_length=1)
    """Networks by data set, in the order of the rows."""
    method: MethodName
    """How they are trained."""
    lambdas: list[Lambda] = Field(min_length=1)
    """Lambdas, in the order of the rows."""
    training_seed: Seed = 0
    """Training seed of every run."""
    attacks: list[str] = Field(min_length=1)
    """Attacks of eval.attacks, in the order of the columns."""
    attack_seeds: list[Seed] = Field(min_length=1)
    """Seeds of the attacks' random starts; the table gives mean and standard deviation over
    them."""

    @model_validator(mode="after")
    def _checked(self) -> "AttackTable":
        _nothing_twice(
            {
                "lambdas": self.lambdas,
                "attacks": self.attacks,
                "attack_seeds": self.attack_seeds,
                **self.architectures,
            }
        )
        return self


class Experiments(Section):
    """The grid of each table."""

    table1: Grid | None = None
    """Three metrics under PGD-20 by lambda and width; null to leave it out."""
    table2: AttackTable | None = None
    """Robust accuracy under several attacks; null to leave it out."""


def _nothing_twice(axes: Mapping[str, list[Any]]) -> None:
    for name, axis in axes.items():
        if len(set(axis)) < len(axis):
            raise ValueError(f"{name} lists a value twice")
