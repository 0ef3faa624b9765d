"""Warnings of flawed evaluations, each provoked and each absent from a sound one."""

import pytest
import torch
from torch import Tensor, nn

from reproduce.attacks.parts import Batch
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.config.schema import AutoAttack, PGDAttack
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.records import check_accuracy, check_black_box
from reproduce.experiments.spec import SCHEMA, AttackSpec
from reproduce.registry import dataset_facts

FACTS = dataset_facts("cifar10")


class Linear(nn.Module):
    """Tells images apart by their first ten pixels; `change` spoils what it answers."""

    def __init__(self, change: str = "") -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        logits = 4 * images.flatten(1)[:, :10]
        if self.change == "random":
            return logits + torch.randn_like(logits)
        if self.change == "batch":
            return logits - logits.mean(0)
        if self.change == "detached":
            return logits.detach()
        if self.change == "saturated":
            return 1000 * logits
        if self.change == "rounded":
            return logits.round()
        if self.change == "nan":
            return logits + (0 * images.flatten(1)[:, :1]).sqrt()
        if self.change == "probabilities":
            return logits.softmax(1)
        return logits


def _spec(attack: AutoAttack | PGDAttack | None = None, epsilon: float = 8 / 255) -> AttackSpec:
    attack = attack or PGDAttack(kind="pgd", steps=1)
    return AttackSpec(
        schema_version=SCHEMA, name="a", attack=attack, epsilon=epsilon, seed=0, images=None
    )


def _found(
    change: str = "", scale: float = 1.0, spec: AttackSpec | None = None, **facts: object
) -> list[str]:
    torch.manual_seed(0)
    labels = torch.arange(40) % 10
    images = torch.rand(40, 3, 32, 32) / 4
    images.flatten(1)[range(40), labels] = 1.0
    batch = Batch(scale * images, labels, list(range(40)))
    model = Linear(change)
    known = type(FACTS)(**{**FACTS.__dict__, **facts})
    with frozen(model):
        return check_network(AttackedNetwork(model, 10), batch, spec or _spec(), known)


def test_a_sound_evaluation_has_no_warning() -> None:
    assert _found() == []
    assert _found(spec=_spec(AutoAttack(kind="autoattack"))) == []


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ("random", ["output changes between two calls"]),
        ("batch", ["depends on the other images of its batch"]),
        ("detached", ["cross entropy gradient of exactly zero", "margin gradient of exactly zero"]),
        ("saturated", ["40 of 40 images have a cross entropy gradient of exactly zero"]),
        ("rounded", ["cross entropy gradient of exactly zero", "margin gradient of exactly zero"]),
        ("nan", ["cross entropy gradient with NaN", "margin gradient with NaN"]),
        ("probabilities", ["looks like probabilities"]),
    ],
)
def test_flawed_networks(change: str, messages: list[str]) -> None:
    found = _found(change)
    # a random output has random gradients too
    assert len(found) == len(messages) or change == "random"
    for line, message in zip(found, messages, strict=change != "random"):
        assert message in line


@pytest.mark.parametrize("scale", [1 / 255, 255.0, -1.0])
def test_pixels_out_of_range(scale: float) -> None:
    assert any("attacks expect 0 to 1" in line for line in _found(scale=scale))


@pytest.mark.parametrize("epsilon", [8 / 255 / 255, 0.3, 1.0])
def test_an_epsilon_that_does_not_fit(epsilon: float) -> None:
    (line,) = _found(spec=_spec(epsilon=epsilon))
    assert "is unusual for CIFAR-10, where 0.03137 is" in line


def test_fewer_classes_than_targets() -> None:
    (line,) = _found(spec=_spec(AutoAttack(kind="autoattack", targets=12)))
    assert line == "12 target classes are asked for, only 9 others exist"


def test_accuracy_no_better_than_chance() -> None:
    assert check_accuracy(correct=300, images=1000, classes=10) == []
    assert check_accuracy(correct=0, images=10, classes=10) == []
    (line,) = check_accuracy(correct=110, images=1000, classes=10)
    assert line.startswith("natural accuracy is 11.00 % on 1000 images, no better than chance")


def test_a_black_box_attack_that_wins() -> None:
    assert check_black_box(white=50.0, black=49.9) == []
    (line,) = check_black_box(white=50.0, black=45.0)
    assert "Square lowers robust accuracy from 50.00 to 45.00 %" in line
