"""What exactly a training run or an evaluation computes, resolved from the configuration.

A spec holds every setting that can change a result and nothing else, so its digest says whether a
result on disk is the one that the configuration asks for.
"""

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reproduce.cell import Cell, check_cell, parse_cell
from reproduce.config.attacks import Attack
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import AWP, WAR, Config, Mixed, Train, Validation
from reproduce.core.errors import HarnessError
from reproduce.core.files import digest
from reproduce.registry import METHODS, ExtraFacts, dataset_facts, extra_of

# Raised when settings of the same names and values come to mean another result.
SCHEMA = 1
# settings of the data section that change results; the others say where images come from
_IMAGES = ("train_images", "test_images", "extra_images", "imagenet_crop")


class Spec(BaseModel):
    """A frozen set of resolved settings with a fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    """`SCHEMA` when the settings were resolved."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that count, as plain values: those that were given, also at a default."""
        return self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits, the same on every machine for equal settings."""
        return digest(self.settings)


class TrainingSpec(Spec):
    """Every setting that can change a trained network."""

    cell: str
    train: Train
    train_images: int | None
    test_images: int | None
    war: WAR | None = None
    """How lambda is chosen; None where it stays what the cell says."""
    thin: str | None = None
    """Digest of the run that zeta is measured from; None where it is not measured."""
    awp: AWP | None = None
    """The perturbation of the weights; None for none."""
    mixed: Mixed | None = None
    """How batches are mixed with extra images; None where there are none of those."""
    extra_images: int | None = None
    """Number of extra images; None for all, or where there are none."""
    crop: int | None = None
    """What is cut from the middle of a folder's test images, in pixels."""

    @cached_property
    def parsed(self) -> Cell:
        """The cell that is trained."""
        return parse_cell(self.cell)

    @property
    def validation(self) -> Validation | None:
        """How epochs are measured; None where only natural accuracy is."""
        natural = METHODS[self.parsed.method].validation == "natural"
        return None if natural else self.train.validation

    @property
    def extra(self) -> ExtraFacts | None:
        """The extra images that the cell is trained with; None for none."""
        return None if self.mixed is None else extra_of(self.parsed.dataset)


class AttackSpec(Spec):
    """Every setting that can change what one attack does to a given network."""

    name: str
    attack: Attack
    epsilon: float
    seed: int
    images: int | None
    """Number of test images; None for all."""
    precision: Literal["float32", "float64", "tf32"] = "float32"
    shard: int | None = None
    """Images that share a seed; None where every image has its own."""
    package: str | None = None
    """Where the attack comes from, if it is not ours."""
    crop: int | None = None
    """What is cut from the middle of a folder's images, in pixels."""


class EvaluationSpec(AttackSpec):
    """Every setting that can change what one attack does to one checkpoint of a cell."""

    training: str
    """Digest of the training spec."""
    checkpoint: Checkpoint


def checkpoints(train: Train) -> tuple[Checkpoint, ...]:
    """Name the checkpoints that a training run keeps."""
    return ("best-test", "last", "best-val") if train.holdout else ("best-test", "last")


def training_spec(config: Config, cell: Cell) -> TrainingSpec:
    """Resolve how a cell is trained; HarnessError if its settings or parts do not go together."""
    method = METHODS[cell.method]
    check_cell(cell)
    train, facts = config.train_of(cell.method), dataset_facts(cell.dataset)
    if train.phases and facts.storage == "arrays":
        raise HarnessError(
            f"{cell}: train.phases are for a folder of images; {facts.title} has images of one size"
        )
    settings: dict[str, Any] = {
        "schema_version": SCHEMA,
        "cell": cell.id,
        "train": config.read_by(cell.method),
        "train_images": config.data.train_images,
        "test_images": config.data.test_images,
        **_crop(config, cell.dataset),
    }
    if method.lambda_rule == "war":
        source = zeta_source(config, cell)
        # with a zeta that is given the narrow network plays no part
        read = {"zeta", "alpha"} if source is None else None
        settings["war"] = config.war.model_dump(include=read)
        if source is not None:
            settings["thin"] = training_spec(config, source).digest
    if method.weight_perturbation == "awp":
        settings["awp"] = config.awp.model_dump()
    if method.batches == "mixed":
        extra_of(cell.dataset)
        settings["mixed"] = config.mixed.model_dump()
        settings["extra_images"] = config.data.extra_images
    return TrainingSpec.model_validate(settings)


def _crop(config: Config, dataset: str) -> dict[str, int]:
    folder = dataset_facts(dataset).storage == "folder"
    return {"crop": config.data.imagenet_crop} if folder else {}


def zeta_source(config: Config, cell: Cell) -> Cell | None:
    """Return the run that a cell's zeta is measured from; None if it needs none."""
    war = config.war
    if METHODS[cell.method].lambda_rule != "war" or war.zeta != "measured":
        return None
    return Cell(cell.dataset, war.thin_architecture, "trades", war.thin_lambda, war.thin_seed)


def evaluation_spec(
    config: Config, cell: Cell, attack: str, seed: int, checkpoint: Checkpoint
) -> EvaluationSpec:
    """Resolve how a checkpoint is attacked."""
    if checkpoint == "best-val" and not config.train.holdout:
        raise HarnessError(
            "checkpoint best-val needs held-out training images: set train.holdout, to 1000 say"
        )
    spec = attack_spec(config, attack, seed, cell.dataset)
    training = training_spec(config, cell).digest
    return EvaluationSpec(training=training, checkpoint=checkpoint, **spec.settings)


def find_attack(config: Config, name: str) -> Attack:
    """Return an attack of the configuration; HarnessError if it has none of that name."""
    if name not in config.eval.attacks:
        known = ", ".join(config.eval.attacks)
        raise HarnessError(f"unknown attack {name!r}; preset {config.preset} has: {known}")
    return config.eval.attacks[name]


def attack_spec(config: Config, name: str, seed: int, dataset: str) -> AttackSpec:
    """Resolve how any network is attacked, on images of a data set."""
    attack, facts = find_attack(config, name), dataset_facts(dataset)
    there = config.data.test_images or facts.test
    if (attack.images or there) > min(there, facts.test):
        raise HarnessError(
            f"eval.attacks.{name}.images is {attack.images} and data.test_images is "
            f"{config.data.test_images}; {facts.title} has {facts.test} test images"
        )
    settings = {
        "schema_version": SCHEMA,
        "name": name,
        # the radius has a key of its own
        "attack": attack.model_dump(exclude={"epsilon", *attack.idle}),
        "epsilon": config.eval.epsilon_of(name),
        "seed": seed,
        "images": attack.images or config.data.test_images,
        "precision": config.eval.precision,
        **_crop(config, dataset),
    }
    if attack.of_package:
        settings["shard"] = config.eval.shard
        settings["package"] = config.eval.autoattack_package
    return AttackSpec.model_validate(settings)


def protocol_digest(config: Config, experiment: str) -> str:
    """Fingerprint everything but the records that the text of a table depends on."""
    others = {"machine", "results", "experiments", "lemma"}
    settings = config.model_dump(mode="json", exclude=others)
    settings["data"] = {key: settings["data"][key] for key in _IMAGES}
    grids = config.model_dump(mode="json")["experiments"]
    return digest([settings, grids.get(experiment)])


def lemma_digest(config: Config) -> str:
    """Fingerprint everything that the examination of Lemma 4.2 depends on."""
    return digest(config.lemma.model_dump(mode="json"))
