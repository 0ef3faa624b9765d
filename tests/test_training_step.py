"""One training step against the formulas written out in float64 (tests/reference_steps.py)."""

import copy

import pytest
import references
import torch
from reference_steps import Step
from step_cases import (
    ATTACK,
    LAM,
    LAM_TENSOR,
    RATE,
    algorithm_of,
    batch,
    network,
    noise_of,
    our_step,
    reference_step,
)
from torch import Tensor, nn

from reproduce.config.schema import Train
from reproduce.core.rng import generator
from reproduce.objectives import build_objective
from reproduce.training.step import train_step

# method, and the train-mode forwards of its step: c the clean batch, a the adversarial one
CASES = [
    ("trades", "ca"),
    ("trades", "cac"),
    ("trades", "ac"),
    ("trades", "acc"),
    ("at", "ac"),
    ("mart", "ca"),
]


@pytest.mark.parametrize(("method", "order"), CASES)
def test_step_in_float64(method: str, order: str) -> None:
    """Loss, gradients, BatchNorm statistics, weights and momentum agree to rounding."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    ours, trained = our_step(model, method, order, images, labels)
    expected = reference_step(model, method, order, images, labels, noise_of(images))
    exact = {"rtol": 1e-9, "atol": 1e-11}
    for name in ("natural", "robust", "lipschitz"):
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), **exact)
    assert expected.robust > 0
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(ours.gradients[name], gradient, **exact)
        torch.testing.assert_close(ours.momentum[name], expected.momentum[name], **exact)
    for name, value in expected.state.items():
        torch.testing.assert_close(ours.state[name], value, **exact)
    assert trained.training
    assert all(parameter.requires_grad for parameter in trained.parameters())


@pytest.mark.parametrize(("method", "order"), CASES)
def test_batch_norm_sees_the_right_batches(method: str, order: str) -> None:
    """The first layer's statistics follow from the batches in their documented order."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    expected = reference_step(model, method, order, images, labels, noise_of(images))
    ours, _ = our_step(model, method, order, images, labels)
    clean, adversarial = model.conv1(images), model.conv1(expected.adversarial)
    seen = [clean if letter == "c" else adversarial for letter in order]
    first = model.block1.layer[0].bn1
    mean, variance = references.batch_norm_after(first.running_mean, first.running_var, seen)
    key = "block1.layer.0.bn1"
    torch.testing.assert_close(ours.state[f"{key}.running_mean"], mean)
    torch.testing.assert_close(ours.state[f"{key}.running_var"], variance)
    assert ours.state[f"{key}.num_batches_tracked"] == first.num_batches_tracked + len(order)


@pytest.mark.parametrize(("method", "order"), CASES)
def test_step_in_float32(method: str, order: str) -> None:
    """The float32 step is as near to float64 as the float32 reference is to itself.

    A rounding in one sign step is amplified by the attack, so the measure is how far
    the reference's own update moves when every pixel moves by one unit in the last place.
    """
    model, (images, labels) = network(torch.float32), batch(torch.float32)
    noise = noise_of(images)
    nudged = torch.nextafter(images, torch.ones_like(images))
    before = model.state_dict()

    def update(step: Step) -> Tensor:
        parts = [
            (step.state[name].double() - before[name].double()).flatten()
            for name, _ in model.named_parameters()
        ]
        return torch.cat(parts)

    exact = update(
        reference_step(
            copy.deepcopy(model).double(),
            method,
            order,
            images.double(),
            labels,
            noise.double(),
        )
    )
    reference = update(reference_step(model, method, order, images, labels, noise))
    moved = update(reference_step(model, method, order, nudged, labels, noise))
    ours = update(our_step(model, method, order, images, labels)[0])
    spread = max((moved - reference).norm(), (reference - exact).norm())
    assert (ours - exact).norm() <= 3 * spread + 1e-6 * exact.norm()
    assert (ours - exact).norm() <= 0.05 * exact.norm()


def test_a_wrong_formula_would_be_seen() -> None:
    """The comparison above is sharp: detaching the KL's target changes the gradient plainly."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    expected = reference_step(model, "trades", "ca", images, labels, noise_of(images))
    model.train()
    clean, perturbed = model(images), model(expected.adversarial)
    wrong = references.cross_entropy(clean, labels).mean()
    wrong = wrong + LAM * references.kl(clean.detach(), perturbed).mean()
    gradient = torch.autograd.grad(wrong, model.fc.weight)[0]
    right = expected.gradients["fc.weight"]
    assert (gradient - right).norm() > 1e-3 * right.norm()


class _Counter(nn.Module):
    """Counts the images that pass forward."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.inner(images)


@pytest.mark.parametrize(
    ("method", "forwards"), [("trades", 1 + 10 + 2), ("at", 10 + 2), ("mart", 10 + 2)]
)
def test_number_of_forward_passes(method: str, forwards: int) -> None:
    """27F a TRADES step: 13 forwards, 10 input gradients (F each), 2 full backwards (2F each)."""
    model = _Counter(network(torch.float32))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    images, labels = batch(torch.float32)
    train_step(
        model, optimizer, algorithm_of(method, "ca"), images, labels, LAM_TENSOR, generator(0, "a")
    )
    assert model.images == forwards * len(images)


def test_unknown_objective() -> None:
    with pytest.raises(ModuleNotFoundError):
        build_objective("none", Train(epochs=1, attack=ATTACK))
