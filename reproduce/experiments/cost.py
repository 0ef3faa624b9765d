"""What a run costs before it is run: operations, hours, bytes.  No torch needed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from reproduce.config.attacks import PGD, Attack, AutoAttack, FABAttack, PGDAttack, SquareAttack
from reproduce.config.schema import Config
from reproduce.core.files import read_model
from reproduce.experiments import paths
from reproduce.experiments.grids import Item
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import AttackSpec, TrainingSpec, checkpoints
from reproduce.registry import (
    METHODS,
    Architecture,
    DatasetFacts,
    dataset_facts,
    parse_architecture,
)

# What WideResNet-34-10 keeps of an image for a gradient; and how many images a processor takes at
# once in evaluation.
KEPT_BYTES, CPU_BATCH = 22 * 2**20, 500
_FLOAT = 4


class Speed(NamedTuple):
    """How long one forward pass of one image takes: `latency` (s) + operations / `throughput`."""

    latency: float
    throughput: float

    def seconds(self, operations: float) -> float:
        """Return the seconds of one forward pass of one image."""
        return self.latency + operations / self.throughput


# The paper's V100: 12, 20 and 32 GPU-hours a run for WideResNet-34 of width 1, 5, 10
# (Table 3), which at the authors' 36 passes a training image and 42 a validation image
# are 194, 324 and 519 microseconds a pass; this line meets the first and the last.
PAPER_V100 = Speed(latency=191e-6, throughput=40.5e12)


class Speeds(BaseModel):
    """Seconds of one forward pass of one image, by "dataset/architecture", and the hardware."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hardware: str
    measured: dict[str, PositiveFloat] = Field(alias="seconds_per_pass")

    def seconds(self, dataset: str, architecture: str) -> float:
        """Return the seconds of a pass, as on the paper's V100 where none was measured."""
        key = f"{dataset}/{architecture}"
        if key in self.measured:
            return self.measured[key]
        return PAPER_V100.seconds(forward_operations(architecture, dataset_facts(dataset)))

    @property
    def stated(self) -> str:
        """What the speeds are of."""
        return f"{self.hardware}, measured" if self.measured else self.hardware


PAPER_SPEEDS = Speeds(
    hardware="the paper's V100 (12, 20, 32 GPU-hours a WRN-34-1, -5, -10 run)",
    seconds_per_pass={},
)


def load_speeds(config: Config) -> Speeds:
    """Return what `reproduce plan --measure` found on this machine, or the paper's V100."""
    path = paths.throughput_file(config)
    return read_model(path, Speeds) if path.is_file() else PAPER_SPEEDS


def epoch_hours(spec: TrainingSpec, speeds: Speeds) -> list[float]:
    """Estimate the device hours of each epoch of a training run, with its validation."""
    cell = spec.parsed
    hours = speeds.seconds(cell.dataset, cell.architecture) / 3600
    return [passes * hours for passes in epoch_passes(spec, dataset_facts(cell.dataset))]


def evaluation_hours(config: Config, item: Item, speeds: Speeds) -> float:
    """Estimate the device hours of an evaluation, as if every image held to the end."""
    if item.architecture is None:
        return 0.0  # nobody knows the speed of a published network of another family
    passes = evaluation_passes(item.spec(config), dataset_facts(item.dataset))
    return passes * speeds.seconds(item.dataset, item.architecture) / 3600


def parameters(architecture: str, facts: DatasetFacts) -> int:
    """Return the number of trained parameters of a network."""
    return sum(layer.parameters for layer in _layers(parse_architecture(architecture), facts))


def forward_operations(architecture: str, facts: DatasetFacts) -> int:
    """Return the floating-point operations of one forward pass of one image.

    A multiplication and an addition count as two; only convolutions and the linear
    layer count, as in PyTorch's FlopCounterMode.
    """
    return 2 * sum(layer.products for layer in _layers(parse_architecture(architecture), facts))


def training_passes(spec: TrainingSpec, facts: DatasetFacts) -> float:
    """Return the forward-pass equivalents of a whole run, validation included."""
    return sum(epoch_passes(spec, facts))


def epoch_passes(spec: TrainingSpec, facts: DatasetFacts) -> list[float]:
    """Return the forward-pass equivalents of each epoch of a run, and of measuring it after those.

    An input gradient counts as one pass and a full backward as two.
    """
    train, name, measured = spec.train, spec.parsed.architecture, measured_epochs(spec.train)
    trained = (spec.train_images or facts.train) - train.holdout
    # phases train on crops: a pass costs a fraction of one on an image as it is tested
    sizes = [
        forward_operations(name, replace(facts, size=phase.crop)) / forward_operations(name, facts)
        for phase in train.phases
        for _ in range(phase.epochs)
    ]
    return [
        trained * step_passes(spec, epoch) * size
        + validation_passes(spec, facts) * (epoch in measured)
        for epoch, size in enumerate(sizes or [1.0] * train.epochs, start=1)
    ]


def validation_passes(spec: TrainingSpec, facts: DatasetFacts) -> int:
    """Return the forward-pass equivalents of measuring a network after one epoch."""
    how = spec.validation
    tested = (spec.test_images or facts.test) + spec.train.holdout
    return tested * (1 if how is None else attack_passes(how.attack, facts.classes))


def step_passes(spec: TrainingSpec, epoch: int) -> int:
    """Return the forward-pass equivalents of one training step of an epoch, per image."""
    method = METHODS[spec.parsed.method]
    terms = method.terms_passes
    if spec.awp is not None and epoch >= spec.awp.first_epoch:
        terms *= 2  # once at the weights, once where they were moved to
    return method.target_passes + 2 * spec.train.attack.steps + terms


def evaluation_passes(spec: AttackSpec, facts: DatasetFacts) -> float:
    """Return the forward-pass equivalents of one evaluation in which every image holds."""
    return (spec.images or facts.test) * attack_passes(spec.attack, facts.classes)


def attack_passes(attack: Attack | PGD, classes: int) -> int:
    """Return the most passes an attacked image costs: its prediction, then part by part."""
    return 1 + sum(part_passes(attack, classes).values())


def part_passes(attack: Attack | PGD, classes: int) -> dict[str, int]:
    """Return the most passes of an image in each part of an attack.

    An input gradient counts as one pass on top of its forward pass; the prediction on
    what a part found is its own.  Counted from AutoAttack's code, which predicts the
    images once more before and after each restart.
    """

    def targeted_fab(steps: int, runs: int) -> int:
        return 2 + runs * (3 * steps + 3)

    def square(queries: int, restarts: int) -> int:
        return 2 + restarts * (queries + 2)

    match attack:
        case PGDAttack():
            # with several starts what each found is predicted once more
            again = attack.restarts if attack.restarts > 1 else 0
            return {"pgd": 2 * attack.steps * attack.restarts + again + 1}
        case PGD():
            return {"pgd": 2 * attack.steps + 1}
        case FABAttack() if attack.targets is None:
            # a gradient for every class, and the prediction on the new point
            return {"fab": 2 + attack.restarts * (attack.steps * (classes + 2) + 2)}
        case FABAttack():
            targets = min(attack.targets or 1, classes - 1)
            return {"fab-t": targeted_fab(attack.steps, targets * attack.restarts)}
        case SquareAttack():
            return {"square": square(attack.queries, attack.restarts)}
        case AutoAttack():
            targets = min(attack.targets, classes - 1)
            passes = {
                "apgd-ce": 2 + 2 * (attack.steps + 1),
                "apgd-t": 2 + targets * (1 + 2 * (attack.steps + 1)),
                "fab-t": targeted_fab(attack.steps, targets),
                "square": square(attack.queries, 1),
            }
            return {part: passes[part] for part in attack.parts}


def training_bytes(spec: TrainingSpec, facts: DatasetFacts) -> int:
    """Return about how much disk a finished run takes: its checkpoints and its trace."""
    weights = _FLOAT * parameters(spec.parsed.architecture, facts)
    trained = (spec.train_images or facts.train) - spec.train.holdout
    whole = [(spec.train.epochs, spec.train.batch_size)]
    parts = [(phase.epochs, phase.batch_size) for phase in spec.train.phases] or whole
    rows = sum(epochs * -(-trained // size) for epochs, size in parts)
    return len(checkpoints(spec.train)) * weights + rows * 5 * _FLOAT + 10_000


def evaluation_bytes(spec: AttackSpec, facts: DatasetFacts) -> int:
    """Return at most how much disk a record takes: some bytes an image, and its summary."""
    return (spec.images or facts.test) * (11 + facts.top5) + 3_000


class _Layer(NamedTuple):
    parameters: int
    # multiply-adds of one image
    products: int


def _layers(shape: Architecture, facts: DatasetFacts) -> Iterator[_Layer]:
    facts.check_architecture(shape)
    if shape.bottleneck:
        yield from _resnet50(shape, facts)
    elif shape.family == "wrn":
        yield from _wide_resnet(shape, facts)
    else:
        yield from _densenet(shape, facts)


def _conv(inputs: int, outputs: int, kernel: int, size: int) -> _Layer:
    weights = inputs * outputs * kernel**2
    return _Layer(weights, weights * size**2)


def _norm(channels: int) -> _Layer:
    return _Layer(2 * channels, 0)


def _linear(inputs: int, classes: int) -> _Layer:
    return _Layer((inputs + 1) * classes, inputs * classes)


def _wide_resnet(shape: Architecture, facts: DatasetFacts) -> Iterator[_Layer]:
    channels, size = 16, facts.size
    yield _conv(facts.channels, channels, 3, size)
    for base, stride in ((16, 1), (32, 2), (64, 2)):
        outputs = int(base * shape.width)
        for block in range(shape.blocks):
            step = stride if block == 0 else 1
            size = -(-size // step)
            yield _norm(channels)
            yield _conv(channels, outputs, 3, size)
            yield _norm(outputs)
            yield _conv(outputs, outputs, 3, size)
            if channels != outputs:
                yield _conv(channels, outputs, 1, size)
            channels = outputs
    yield _norm(channels)
    yield _linear(channels, facts.classes)


def _densenet(shape: Architecture, facts: DatasetFacts) -> Iterator[_Layer]:
    growth, size = int(shape.width), facts.size
    channels = 2 * growth
    yield _conv(facts.channels, channels, 3, size)
    for block in range(3):
        for _ in range(shape.blocks):
            yield _norm(channels)
            yield _conv(channels, 4 * growth, 1, size)
            yield _norm(4 * growth)
            yield _conv(4 * growth, growth, 3, size)
            channels += growth
        if block < 2:
            yield _norm(channels)
            yield _conv(channels, channels // 2, 1, size)
            channels, size = channels // 2, size // 2
    yield _norm(channels)
    yield _linear(channels, facts.classes)


def _resnet50(shape: Architecture, facts: DatasetFacts) -> Iterator[_Layer]:
    # the stem and its pooling halve the map twice
    channels, size = 64, -(-facts.size // 2)
    yield _conv(facts.channels, channels, 7, size)
    yield _norm(channels)
    size = -(-size // 2)
    for blocks, base, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
        inner, outputs = int(base * shape.width), 4 * base
        for block in range(blocks):
            step = stride if block == 0 else 1
            yield _conv(channels, inner, 1, size)
            size = -(-size // step)
            yield _conv(inner, inner, 3, size)
            yield _conv(inner, outputs, 1, size)
            norms = [inner, inner, outputs]
            if block == 0:
                yield _conv(channels, outputs, 1, size)
                norms.append(outputs)
            yield from map(_norm, norms)
            channels = outputs
    yield _linear(channels, facts.classes)
