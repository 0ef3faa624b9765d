"""One training step against the formulas written out in float64 (tests/reference_steps.py)."""

import pytest
import torch
from step_cases import (
    KINDS,
    LAM_TENSOR,
    RATE,
    algorithm_of,
    batch,
    network,
    noise_of,
    our_step,
    reference_step,
    take_steps,
)
from torch import Tensor, nn

from reproduce.compute.compilation import Graphs
from reproduce.core.rng import generator
from reproduce.training.step import train_step

GAMMA = 0.005
# method; the train-mode forwards of its step, c the clean batch, a the adversarial one; AWP's gamma
CASES = [
    ("trades", "ca", 0.0),
    ("trades", "cac", 0.0),
    ("trades", "ac", 0.0),
    ("trades", "acc", 0.0),
    ("at", "ac", 0.0),
    ("mart", "ca", 0.0),
    ("trades", "acc", GAMMA),
    ("at", "ac", GAMMA),
    ("mart", "ca", GAMMA),
]


@pytest.mark.parametrize(("method", "order", "gamma"), CASES)
def test_step_in_float64(method: str, order: str, gamma: float) -> None:
    """Loss, gradients, BatchNorm statistics, weights and momentum agree to rounding."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    ours, trained = our_step(model, method, order, images, labels, gamma)
    expected = reference_step(model, method, order, images, labels, noise_of(images), gamma)
    exact = {"rtol": 1e-8, "atol": 1e-11}
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


class _Counter(nn.Module):
    """Counts the images that pass forward."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.images = inner, 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.inner(images)


@pytest.mark.parametrize(
    ("method", "forwards"), [("trades", 1 + 10 + 2), ("at", 10 + 2), ("mart", 10 + 2)]
)
def test_number_of_forward_passes(method: str, forwards: int) -> None:
    """27F a TRADES step: 13 forwards, 10 input gradients (F each), 2 full backwards (2F each)."""
    model, (images, labels) = _Counter(network(torch.float32)), batch(torch.float32)
    optimizer, algorithm = torch.optim.SGD(model.parameters(), lr=RATE), algorithm_of(method, "ca")
    train_step(model, optimizer, algorithm, images, labels, LAM_TENSOR, generator(0, "a"))
    assert model.images == forwards * len(images)


# a CPU has no graphs; there a recorded function is called again on the same memory
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_recorded_steps_are_the_steps(kind: tuple) -> None:
    plain, recorded = (
        [*seen, *model.state_dict().values()]
        for seen, model in (take_steps(kind), take_steps(kind, "graph"))
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, recorded, strict=True))


def test_recorded_results_are_overwritten_by_the_next_call() -> None:
    """As on a GPU: code that keeps a result without a copy fails here too."""
    graphs = Graphs(nn.Identity(), {2})
    (first,) = graphs("double", lambda x: (2 * x,), torch.ones(2))
    (second,) = graphs("double", lambda x: (2 * x,), torch.zeros(2))
    assert first is second
    assert first.tolist() == [0, 0]
    (other,) = graphs("double", lambda x: (2 * x,), torch.ones(3))
    assert other.tolist() == [2, 2, 2]
