"""One training step against the formulas written out in float64 (tests/reference_steps.py)."""

import copy

import pytest
import reference_steps
import references
import torch
from torch import Tensor, nn

from reproduce.catalogue import dataset_facts
from reproduce.config import Train, TrainingAttack
from reproduce.models import build_model
from reproduce.objectives import build_objective
from reproduce.rng import generator
from reproduce.training.recipe import Recipe
from reproduce.training.step import train_step

ATTACK = TrainingAttack(epsilon=0.031, step_size=0.007, steps=10)
NAMES = {"trades": "trades", "at": "adversarial_training", "mart": "mart"}
LAM, RATE, DECAY = 6.0, 0.1, 2e-4
LAM_TENSOR = torch.tensor(LAM, dtype=torch.float64)
# method, and the train-mode forwards of its step: c the clean batch, a the adversarial one
CASES = [
    ("trades", "ca"),
    ("trades", "cac"),
    ("trades", "ac"),
    ("trades", "acc"),
    ("at", "ac"),
    ("mart", "ca"),
]


def network(dtype: torch.dtype) -> nn.Module:
    """Build a small WideResNet whose BatchNorm statistics are not those of a fresh one."""
    model = build_model("wrn-10-0.5", dataset_facts("cifar10"), seed=1)
    with torch.no_grad():
        for index in range(3):
            model(batch(torch.float32, seed=10 + index)[0])
    return model.to(dtype).to(memory_format=torch.channels_last)


def batch(dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    images = torch.rand(8, 3, 16, 16, generator=stream)
    labels = torch.randint(10, (8,), generator=stream)
    return images.to(dtype), labels


def noise_of(images: Tensor) -> Tensor:
    return torch.empty_like(images).normal_(generator=generator(0, "attack", 1, 0))


def _recipe(method: str, order: str, gamma: float = 0.0) -> Recipe:
    first = "clean" if order[0] == "c" else "adversarial"
    train = Train(epochs=1, attack=ATTACK, bn_forwards=len(order), bn_first=first)
    return Recipe(build_objective(NAMES[method], train), ATTACK, gamma=gamma)


def _ours(
    model: nn.Module,
    method: str,
    order: str,
    images: Tensor,
    labels: Tensor,
    gamma: float = 0.0,
) -> tuple[reference_steps.Step, nn.Module]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    stream = generator(0, "attack", 1, 0)
    recipe = _recipe(method, order, gamma)
    result = train_step(model, optimizer, recipe, images, labels, LAM_TENSOR, stream)
    named = dict(model.named_parameters())
    step = reference_steps.Step(
        result.natural,
        result.robust,
        result.lipschitz,
        torch.empty(0),
        {name: parameter.grad for name, parameter in named.items()},
        model.state_dict(),
        {name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in named.items()},
    )
    return step, model


def _reference(
    model: nn.Module,
    method: str,
    order: str,
    images: Tensor,
    labels: Tensor,
    noise: Tensor,
    gamma: float = 0.0,
) -> reference_steps.Step:
    return reference_steps.training_step(
        model,
        method,
        images,
        labels,
        noise,
        lam=LAM,
        order=order,
        epsilon=ATTACK.epsilon,
        step_size=ATTACK.step_size,
        steps=ATTACK.steps,
        rate=RATE,
        weight_decay=DECAY,
        gamma=gamma,
    )


@pytest.mark.parametrize(("method", "order"), CASES)
def test_step_in_float64(method: str, order: str) -> None:
    """Loss, gradients, BatchNorm statistics, weights and momentum agree to rounding."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    ours, trained = _ours(model, method, order, images, labels)
    expected = _reference(model, method, order, images, labels, noise_of(images))
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
    expected = _reference(model, method, order, images, labels, noise_of(images))
    ours, _ = _ours(model, method, order, images, labels)
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

    def update(step: reference_steps.Step) -> Tensor:
        parts = [
            (step.state[name].double() - before[name].double()).flatten()
            for name, _ in model.named_parameters()
        ]
        return torch.cat(parts)

    exact = update(
        _reference(
            copy.deepcopy(model).double(),
            method,
            order,
            images.double(),
            labels,
            noise.double(),
        )
    )
    reference = update(_reference(model, method, order, images, labels, noise))
    moved = update(_reference(model, method, order, nudged, labels, noise))
    ours = update(_ours(model, method, order, images, labels)[0])
    spread = max((moved - reference).norm(), (reference - exact).norm())
    assert (ours - exact).norm() <= 3 * spread + 1e-6 * exact.norm()
    assert (ours - exact).norm() <= 0.05 * exact.norm()


def test_a_wrong_formula_would_be_seen() -> None:
    """The comparison above is sharp: detaching the KL's target changes the gradient plainly."""
    model, (images, labels) = network(torch.float64), batch(torch.float64)
    expected = _reference(model, "trades", "ca", images, labels, noise_of(images))
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
        model, optimizer, _recipe(method, "ca"), images, labels, LAM_TENSOR, generator(0, "a")
    )
    assert model.images == forwards * len(images)


def test_unknown_objective() -> None:
    with pytest.raises(ModuleNotFoundError):
        build_objective("none", Train(epochs=1, attack=ATTACK))
