"""Warnings of flawed evaluations, each provoked and each absent from a sound one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reproduce.attacks.parts import Batch
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.config.attacks import AutoAttack, PGDAttack
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.records import check_accuracy, check_black_box
from reproduce.experiments.spec import SCHEMA, AttackSpec
from reproduce.registry import dataset_facts

FLAWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": lambda logits, _: logits,
    "random": lambda logits, _: logits + torch.randn_like(logits),
    "batch": lambda logits, _: logits - logits.mean(0),
    "detached": lambda logits, _: logits.detach(),
    "saturated": lambda logits, _: 1000 * logits,
    "nan": lambda logits, images: logits + (0 * images.flatten(1)[:, :1]).sqrt(),
    "probabilities": lambda logits, _: logits.softmax(1),
}


class Linear(nn.Module):
    """Tells images apart by their first ten pixels, with a flaw."""

    def __init__(self, flaw: str) -> None:
        super().__init__()
        self.flaw = FLAWS[flaw]

    def forward(self, images: Tensor) -> Tensor:
        return self.flaw(4 * images.flatten(1)[:, :10], images)


def _found(
    flaw: str = "",
    scale: float = 1.0,
    epsilon: float = 8 / 255,
    attack: AutoAttack | PGDAttack | None = None,
) -> list[str]:
    torch.manual_seed(0)
    labels = torch.arange(40) % 10
    images = torch.rand(40, 3, 32, 32) / 4
    images.flatten(1)[range(40), labels] = 1.0
    batch = Batch(scale * images, labels, list(range(40)))
    attack = attack or PGDAttack(kind="pgd", steps=1)
    spec = AttackSpec(
        schema_version=SCHEMA, name="a", attack=attack, epsilon=epsilon, seed=0, images=None
    )
    model, facts = Linear(flaw), dataset_facts("cifar10")
    with frozen(model):
        return list(check_network(AttackedNetwork(model, 10), batch, spec, facts))


@pytest.mark.parametrize(
    ("flaw", "messages"),
    [
        ("", []),
        ("random", ["output changes between two calls"]),
        ("batch", ["depends on the other images of its batch"]),
        ("detached", ["cross entropy gradient of exactly zero", "margin gradient of exactly zero"]),
        ("saturated", ["40 of 40 images have a cross entropy gradient of exactly zero"]),
        ("nan", ["cross entropy gradient with NaN", "margin gradient with NaN"]),
        ("probabilities", ["looks like probabilities"]),
    ],
)
def test_flawed_networks(flaw: str, messages: list[str]) -> None:
    found = _found(flaw)
    # a random output has random gradients too
    assert len(found) == len(messages) or flaw == "random"
    for line, message in zip(found, messages, strict=flaw != "random"):
        assert message in line


def test_settings_that_do_not_fit() -> None:
    for scale in (1 / 255, 255.0, -1.0):
        assert any("attacks expect 0 to 1" in line for line in _found(scale=scale))
    for epsilon in (8 / 255 / 255, 0.3):
        (line,) = _found(epsilon=epsilon)
        assert "is unusual for CIFAR-10, where 0.03137 is" in line
    assert _found(attack=AutoAttack(kind="autoattack")) == []
    (line,) = _found(attack=AutoAttack(kind="autoattack", targets=12))
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
