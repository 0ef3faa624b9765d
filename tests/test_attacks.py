"""PGD against its plain reference, and what must hold for every attack."""

import copy

import pytest
import references
import torch
from torch import Tensor, nn

from reproduce.attacks.pgd import cross_entropy, kl_divergence, margin, pgd
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.core.errors import HarnessError
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts


def _setting(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    # many pixels at 0 and 1, where the two projections meet
    images = (1.6 * torch.rand(12, 3, 16, 16, generator=stream) - 0.3).clamp(0, 1).to(dtype)
    labels = torch.randint(10, (12,), generator=stream)
    return build_model("wrn-10-0.5", dataset_facts("cifar10")).to(dtype).eval(), images, labels


def _uniform(images: Tensor, epsilon: float, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    noise = torch.rand(images.shape, generator=stream, dtype=images.dtype)
    return images + epsilon * (2 * noise - 1)


def test_losses_are_the_formulas() -> None:
    stream = torch.Generator().manual_seed(1)
    clean = 5 * torch.randn(20, 10, generator=stream, dtype=torch.float64)
    logits = 5 * torch.randn(20, 10, generator=stream, dtype=torch.float64)
    labels = torch.randint(10, (20,), generator=stream)
    torch.testing.assert_close(kl_divergence(clean)(logits), references.kl(clean, logits))
    torch.testing.assert_close(
        cross_entropy(labels)(logits), references.cross_entropy(logits, labels)
    )


def test_losses_of_extreme_logits_are_finite() -> None:
    clean = torch.tensor([[200.0, -200.0, 0.0]])
    logits = torch.tensor([[-200.0, 200.0, 0.0]])
    assert kl_divergence(clean)(logits).item() == pytest.approx(400.0)
    assert kl_divergence(clean)(clean).item() == 0.0


@pytest.mark.parametrize("mask", ["proper", "zero"])
def test_the_margin_is_the_formula(mask: str) -> None:
    stream = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(40, 10, generator=stream, dtype=torch.float64)
    logits[20:] -= 30  # every other logit below 0: there the masks differ
    labels = torch.randint(10, (40,), generator=stream)
    labels[::2] = logits.argmax(1)[::2]
    expected = references.cw_margin(logits, labels, mask)
    torch.testing.assert_close(margin(labels, mask)(logits), expected)
    assert (expected == 0).any()
    assert (expected < 0).any()


def test_the_two_masks_differ_where_all_others_are_negative() -> None:
    logits, labels = torch.tensor([[5.0, -2.0, -3.0]]), torch.tensor([0])
    assert margin(labels, "proper")(logits).item() == -7
    assert margin(labels, "zero")(logits).item() == -5


def test_the_margin_rests_once_the_attack_has_succeeded() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0]], requires_grad=True)
    loss = margin(torch.tensor([0]))(logits)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", ["cross_entropy", "kl", "proper", "zero"])
@pytest.mark.parametrize("steps", [1, 20])
def test_pgd_is_the_reference(name: str, steps: int) -> None:
    model, images, labels = _setting()
    epsilon, step_size = 8 / 255, 0.007
    start = _uniform(images, epsilon)
    kept = start.clone()
    with torch.no_grad():
        clean = model(images)
    losses = {
        "cross_entropy": cross_entropy(labels),
        "kl": kl_divergence(clean),
        "proper": margin(labels, "proper"),
        "zero": margin(labels, "zero"),
    }
    with frozen(model):
        found = pgd(
            model,
            images,
            losses[name],
            start,
            epsilon=epsilon,
            step_size=step_size,
            steps=steps,
        )

    def loss(x: Tensor) -> Tensor:
        logits = model(x)
        if name == "kl":
            return references.kl(clean, logits)
        if name in ("proper", "zero"):
            return references.cw_margin(logits, labels, name)
        return references.cross_entropy(logits, labels)

    expected, norms = references.attack(loss, images, start, epsilon, step_size, steps)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.gradient_norm, norms)
    assert torch.equal(start, kept)


@pytest.mark.parametrize("epsilon", [0.001, 0.031, 8 / 255, 0.5])
def test_never_outside_the_ball_or_the_pixel_range(epsilon: float) -> None:
    model, images, labels = _setting(torch.float32)
    for seed in range(3):
        start = _uniform(images, 3 * epsilon, seed)
        with frozen(model):
            found = pgd(
                model,
                images,
                cross_entropy(labels),
                start,
                epsilon=epsilon,
                step_size=epsilon,
                steps=3,
            )
        assert found.images.min() >= 0
        assert found.images.max() <= 1
        assert torch.all(found.images >= images - epsilon)
        assert torch.all(found.images <= images + epsilon)


def test_more_steps_find_no_less() -> None:
    """Mean loss after 1, 5 and 40 steps, over five starts of a network that fits its labels."""
    model, images, labels = _setting(torch.float32)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.eval()

    def mean_loss(steps: int, seed: int) -> float:
        with frozen(model):
            found = pgd(
                model,
                images,
                cross_entropy(labels),
                _uniform(images, 0.02, seed),
                epsilon=0.02,
                step_size=0.003,
                steps=steps,
            )
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(found.images), labels).item()

    few, more, most = (sum(mean_loss(steps, seed) for seed in range(5)) / 5 for steps in (1, 5, 40))
    assert few < more
    assert more < most * 1.02


def test_frozen_restores_the_network() -> None:
    model = build_model("wrn-10-0.25", dataset_facts("cifar10")).train()
    model.bn1.eval()
    model.fc.bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="stop"), frozen(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        model(torch.rand(4, 3, 16, 16))
        raise RuntimeError("stop")
    assert model.training
    assert model.block1.training
    assert not model.bn1.training
    assert model.fc.weight.requires_grad
    assert not model.fc.bias.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_large_batch_in_parts_is_the_same_function() -> None:
    """Logits, gradients and counts, with the memory of a small batch."""
    model, images, labels = _setting()
    found = []
    for size in (None, 5):
        network = AttackedNetwork(model, classes=10, batch_size=size)
        with frozen(model):
            points = images.clone().requires_grad_(True)
            logits = network(points)
            (gradient,) = torch.autograd.grad(cross_entropy(labels)(logits).sum(), points)
            predicted = network.predict(images)
        found.append((logits.detach(), gradient, predicted))
        # 12 images for the gradient, computed twice if in parts, and 12 for the prediction
        assert network.passes.forward == (24 if size is None else 36)
        assert network.passes.backward == 12
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-10, atol=1e-12)


def test_a_compiled_network_is_the_same_function() -> None:
    model, images, labels = _setting()
    plain, compiled = AttackedNetwork(model, 10), AttackedNetwork(model, 10, compiled=True)
    for size in (12, 7):
        gradients = []
        for network in (plain, compiled):
            with frozen(model):
                points = images[:size].clone().requires_grad_(True)
                loss = cross_entropy(labels[:size])(network(points)).sum()
                gradients.append(torch.autograd.grad(loss, points)[0])
        torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


class _Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


class _Infinite(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] / 0


class _InPlace(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.sub_(0.5).flatten(1)[:, :10]


def test_a_network_may_change_its_input() -> None:
    images = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    kept = images.clone()
    network = AttackedNetwork(_InPlace(), 10)
    network.predict(images)
    (gradient,) = torch.autograd.grad(network(images.requires_grad_(True)).sum(), images)
    assert torch.equal(images, kept)
    assert gradient.sum() == 40


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(1, 3, 1), r"the network fails on torch.float32 of shape \[4, 3, 8, 8\]"),
        (nn.Flatten(), r"with \[4, 192\], expected logits of shape \[4, 10\]"),
        (_Pair(), "with tuple, expected logits"),
        (_Infinite(), "NaN or infinite"),
    ],
)
def test_what_is_no_classifier_of_the_data_set(model: nn.Module, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        AttackedNetwork(model, 10).predict(torch.rand(4, 3, 8, 8))
