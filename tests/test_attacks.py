"""PGD and FGSM against plain references, and the network as an attack sees it."""

import copy
from typing import get_args

import pytest
import reference_steps
import references
import torch
from torch import Tensor, nn

from reproduce.attacks.pgd import cross_entropy, kl_divergence, margin, pgd
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.config.attacks import Attack
from reproduce.config.load import load_config
from reproduce.config.schema import Train, TrainingAttack
from reproduce.experiments.cost import part_passes
from reproduce.models.load import build_model
from reproduce.objectives import build_objective
from reproduce.registry import dataset_facts
from reproduce.training.step import Algorithm, build_optimizer, train_step


def _setting() -> tuple[nn.Module, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    # many pixels at 0 and 1, where the two projections meet
    images = (1.6 * torch.rand(12, 3, 16, 16, generator=stream) - 0.3).clamp(0, 1).double()
    labels = torch.randint(10, (12,), generator=stream)
    return build_model("wrn-10-0.5", dataset_facts("cifar10")).double().eval(), images, labels


def _uniform(images: Tensor, epsilon: float) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=stream, dtype=images.dtype)
    return images + epsilon * (2 * noise - 1)


def test_losses_are_the_formulas() -> None:
    stream = torch.Generator().manual_seed(1)
    clean = 5 * torch.randn(40, 10, generator=stream, dtype=torch.float64)
    logits = 5 * torch.randn(40, 10, generator=stream, dtype=torch.float64)
    logits[20:] -= 30  # every other logit below 0: there the masks of the margin differ
    labels = torch.randint(10, (40,), generator=stream)
    labels[::2] = logits.argmax(1)[::2]
    torch.testing.assert_close(kl_divergence(clean)(logits), references.kl(clean, logits))
    torch.testing.assert_close(
        cross_entropy(labels)(logits), references.cross_entropy(logits, labels)
    )
    for mask in ("proper", "zero"):
        expected = references.cw_margin(logits, labels, mask)
        torch.testing.assert_close(margin(labels, mask)(logits), expected)
        assert (expected == 0).any()
        assert (expected < 0).any()


def test_losses_of_extreme_logits_are_finite() -> None:
    clean = torch.tensor([[200.0, -200.0, 0.0]])
    logits = torch.tensor([[-200.0, 200.0, 0.0]])
    assert kl_divergence(clean)(logits).item() == pytest.approx(400.0)
    assert kl_divergence(clean)(clean).item() == 0.0


@pytest.mark.parametrize("name", ["cross_entropy", "kl", "proper", "zero"])
def test_pgd_is_the_reference(name: str) -> None:
    model, images, labels = _setting()
    epsilon = 8 / 255
    # outside the ball: only the results of steps are projected
    start = _uniform(images, 1.5 * epsilon)
    kept = start.clone()
    with torch.no_grad():
        clean = model(images)
    loss, plain = {
        "cross_entropy": (cross_entropy(labels), lambda x: references.cross_entropy(x, labels)),
        "kl": (kl_divergence(clean), lambda x: references.kl(clean, x)),
        "proper": (margin(labels), lambda x: references.cw_margin(x, labels, "proper")),
        "zero": (margin(labels, "zero"), lambda x: references.cw_margin(x, labels, "zero")),
    }[name]
    with frozen(model):
        found = pgd(model, images, loss, start, epsilon=epsilon, step_size=0.007, steps=20)
    expected, norms = references.attack(
        lambda x: plain(model(x)), images, start, epsilon, 0.007, 20
    )
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.gradient_norm, norms)
    assert torch.equal(start, kept)


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


def test_a_step_of_fast_at_in_float64() -> None:
    """Two steps: attack, loss, and SGD with decay on all but BatchNorm's parameters."""
    epsilon, size = 4 / 255, 5 / 255
    settings = Train(
        epochs=1,
        learning_rate=0.1,
        weight_decay=1e-2,
        decay_norm=False,
        attack=TrainingAttack(epsilon=epsilon, step_size=size, steps=1),
    )
    model, images, labels = _setting()
    reference = reference_steps.FastAT(copy.deepcopy(model), momentum=0.9, weight_decay=1e-2)
    optimizer = build_optimizer(model, settings)
    algorithm = Algorithm(build_objective("fast", settings), settings.attack)
    lam = torch.tensor(1.0, dtype=torch.float64)
    for index in range(2):
        stream = torch.Generator().manual_seed(index)
        noise = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=stream)
        before, stream = copy.deepcopy(reference.model), stream.manual_seed(index)
        found = train_step(model, optimizer, algorithm, images, labels, lam, stream)
        _, gradient = reference_steps.fast_attack(before, images, labels, noise, epsilon, size)
        expected = reference.step(images, labels, noise, epsilon, size, rate=0.1)
        assert found.natural == 0
        torch.testing.assert_close(found.robust, expected, rtol=1e-9, atol=0)
        # the reference's loss is the mean
        norm = len(labels) * gradient.abs().sum((1, 2, 3)).mean()
        torch.testing.assert_close(found.lipschitz, norm, rtol=1e-9, atol=0)
    for key, value in reference.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-8, atol=1e-10)


def test_every_kind_of_attack_is_known_everywhere() -> None:
    """Its parts have costs and its column has a head."""
    attacks = load_config("{}", "paper").eval.attacks.values()
    kinds = get_args(get_args(Attack)[0])
    assert {type(attack) for attack in attacks} == set(kinds)
    for attack in attacks:
        assert part_passes(attack, 10).keys() == set(attack.parts)
        assert attack.title
        assert attack.of_package == (attack.parts != ("pgd",))
