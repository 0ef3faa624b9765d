"""The whole configuration, and what of it must fit together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from reproduce.catalogue import METHODS, dataset_facts
from reproduce.config.evaluation import Eval
from reproduce.config.experiments import Experiments
from reproduce.config.fields import Checkpoint, MethodName, Place, PresetName, Section
from reproduce.config.lemma import Lemma
from reproduce.config.machine import Data, Machine
from reproduce.config.merge import merge
from reproduce.config.methods import AWP, WAR, Mixed
from reproduce.config.training import Train
from reproduce.errors import brief


class Config(Section):
    """The whole configuration of a harness."""

    preset: PresetName
    """Name of the preset the values come from; results lie under results/<preset>."""
    results: Place = Path("results")
    """Folder of everything the runs make."""
    data: Data = Data()
    train: Train
    train_for: dict[MethodName, dict[str, Any]] = Field(default={})
    """Settings of train that single methods replace, by method."""
    war: WAR = WAR()
    awp: AWP = AWP()
    mixed: Mixed = Mixed()
    eval: Eval
    lemma: Lemma = Lemma()
    machine: Machine = Machine()
    experiments: Experiments
    """The grid of each experiment."""

    def train_of(self, method: str) -> Train:
        """Return the training settings of a method: those of all, and its own over them."""
        return Train.model_validate(merge(self.train.model_dump(), self.train_for.get(method, {})))

    def read_by(self, method: str) -> dict[str, Any]:
        """Return the training settings that decide what a method trains.

        Left out are those that it never reads, and those that others of its settings
        make idle: of the schedule, of the size of its batches, and of validation.

        Returns
        -------
        dict
            Names and plain values; of a section again a dict.
        """
        train = self.train_of(method)
        idle = set(METHODS[method].unused)
        if METHODS[method].validation == "natural":
            idle |= {"validation.epsilon", "validation.attack"}
        else:
            idle |= {f"validation.attack.{name}" for name in train.validation.attack.idle}
        idle |= {"batch_size"} if train.phases else set()
        idle |= {"learning_rate"} if train.schedule == "linear" else {"rates"}
        idle |= set() if train.schedule == "step" else {"milestones"}
        tree = train.model_dump(mode="json")
        for name in idle:
            *sections, key = name.split(".")
            place = tree
            for section in sections:
                place = place[section]
            place.pop(key)
        return tree

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        self._check_methods()
        needs: list[tuple[str, Checkpoint | None]] = [("eval.checkpoint", self.eval.checkpoint)]
        for table, grid in self.experiments:
            needs.append((table, getattr(grid, "checkpoint", None)))
            needs += [(table, choice) for choice in getattr(grid, "trained", {}).values()]
            for dataset in _datasets(grid):
                self._enough_images(table, dataset)
            for attack in _attacks(grid):
                if attack not in self.eval.attacks:
                    known = ", ".join(self.eval.attacks)
                    raise ValueError(
                        f"{table}: unknown attack {attack!r}; eval.attacks has: {known}"
                    )
        for place, checkpoint in needs:
            if checkpoint == "best-val" and not self.train.holdout:
                raise ValueError(
                    f"{place} best-val needs held-out images: set train.holdout, to 1000 say"
                )
        return self

    def _check_methods(self) -> None:
        for method, settings in self.train_for.items():
            if "holdout" in settings:
                raise ValueError(f"train_for.{method}.holdout: all methods share train.holdout")
            try:
                self.train_of(method)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(["train_for", method, *map(str, first["loc"])])
                if not first["loc"]:  # of several settings together
                    raise ValueError(
                        f"{key}: {first['msg'].removeprefix('Value error, ')}"
                    ) from None
                if first["type"] == "extra_forbidden":
                    raise ValueError(f"unknown key {key!r}") from None
                raise ValueError(f"{key}: {first['msg']} (it is {brief(first['input'])})") from None

    def _enough_images(self, table: str, dataset: str) -> None:
        facts = dataset_facts(dataset)
        train, test = self.data.train_images or facts.train, self.data.test_images or facts.test
        if train > facts.train or test > facts.test:
            raise ValueError(
                f"{table}: {facts.title} has {facts.train} training and {facts.test} test "
                "images, data.train_images or data.test_images asks for more"
            )
        if self.train.holdout >= train:
            raise ValueError(f"{table}: train.holdout leaves none of {train} training images")


def _datasets(grid: Any) -> Iterator[str]:
    """Name the data sets of a table's grid, of whatever kind it is."""
    if hasattr(grid, "dataset"):
        yield grid.dataset
    elif grid is not None:
        yield from grid.architectures


def _attacks(grid: Any) -> Iterator[str]:
    """Name the attacks of a table's grid that its user chose."""
    if hasattr(grid, "attack"):
        yield grid.attack
    yield from getattr(grid, "attacks", ())
