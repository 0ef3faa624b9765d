"""The reference formulations of the benchmarks against the formulas written out."""

import copy
from collections.abc import Iterator

import pytest
import torch
from step_cases import DECAY, LAM, RATE, batch, network, noise_of, reference_step
from torch import Tensor, nn

from reproduce.benchmarks.references import REFERENCES, Constants, make_proxy
from reproduce.benchmarks.references import reference_step as official_step
from reproduce.core.rng import generator

# the method, and the train-mode forwards of its official code: c clean, a adversarial
ORDERS = {"trades": "cac", "at": "ac", "mart": "ca", "awp-trades": "acc"}


def _official(
    method: str, model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, nn.Module]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    stream = generator(0, "attack", 1, 0)
    proxy = make_proxy(model) if method == "awp-trades" else None
    loss = official_step(
        REFERENCES[method], model, optimizer, images, labels, Constants(), stream, proxy
    )
    return loss, model


@pytest.mark.parametrize("method", REFERENCES)
def test_references_in_float64(method: str) -> None:
    """Loss, updated weights and BatchNorm statistics are those of the formulas written out."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    loss, trained = _official(method, model, images, labels)
    formula, gamma = ("trades", 0.005) if method == "awp-trades" else (method, 0.0)
    order = ORDERS[method]
    expected = reference_step(model, formula, order, images, labels, noise_of(images), gamma)
    # the official code of MART adds 1e-7 to its weights and 1e-12 to its logarithms' arguments
    limit = 1e-6 if method == "mart" else 1e-10
    whole = expected.natural + LAM * expected.robust
    assert abs(loss - whole) < limit
    for name, value in expected.state.items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=limit, atol=limit)


def test_the_comparison_is_sharp() -> None:
    """Another lambda, or no perturbation of the weights, is far outside those limits."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    plain, awp = (_official(name, model, images, labels)[1] for name in ("trades", "awp-trades"))
    assert max((a - b).abs().max() for a, b in _both(plain, awp)) > 1e-5


def _both(one: nn.Module, other: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(one.parameters(), other.parameters(), strict=True)


class _Counter(nn.Module):
    """Counts the images that pass forward."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.inner(images)


@pytest.mark.parametrize(("method", "passes"), [("trades", 39), ("at", 26), ("mart", 26)])
def test_passes_of_references(method: str, passes: int) -> None:
    """F: forwards, an input gradient for each attack step, two for each train-mode forward."""
    model = _Counter(network(torch.float32))
    images, labels = batch(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    reference = REFERENCES[method]
    official_step(reference, model, optimizer, images, labels, Constants(), generator(0, "a"))
    trained = len(ORDERS[method])
    assert model.images / len(images) + 10 + 2 * trained == passes == reference.passes(10)
