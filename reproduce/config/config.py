"""The whole configuration, and what of it must fit together."""

from pathlib import Path

from pydantic import model_validator

from reproduce.catalogue import dataset_facts
from reproduce.config.evaluation import Eval
from reproduce.config.experiments import Experiments
from reproduce.config.fields import PresetName, Section
from reproduce.config.machine import Data, Machine
from reproduce.config.training import Train


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
    experiments: Experiments
    """The grid of each experiment."""

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.eval.checkpoint == "best-val" and not self.train.holdout:
            raise ValueError(
                "eval.checkpoint best-val needs held-out images: set train.holdout, to 1000 say"
            )
        table1, table2 = self.experiments.table1, self.experiments.table2
        datasets = [("table1", table1.dataset)] if table1 else []
        datasets += [("table2", name) for name in table2.architectures] if table2 else []
        for table, dataset in datasets:
            self._enough_images(table, dataset)
        for attack in table2.attacks if table2 else ():
            if attack not in self.eval.attacks:
                known = ", ".join(self.eval.attacks)
                raise ValueError(f"table2: unknown attack {attack!r}; eval.attacks has: {known}")
        return self

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
