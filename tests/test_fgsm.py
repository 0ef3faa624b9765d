"""The attack and the step of Fast-AT against the formulas written out in float64."""

import copy

import reference_steps
import torch
from torch import Tensor, nn

from reproduce.attacks.pgd import cross_entropy, fgsm
from reproduce.attacks.target import without_parameter_gradients
from reproduce.config.schema import Train, TrainingAttack
from reproduce.models.load import build_model
from reproduce.objectives import build_objective
from reproduce.registry import dataset_facts
from reproduce.training.step import Algorithm, build_optimizer, train_step

EPSILON, STEP = 4 / 255, 5 / 255
SETTINGS = Train(
    epochs=1,
    learning_rate=0.1,
    weight_decay=1e-2,
    decay_norm=False,
    attack=TrainingAttack(epsilon=EPSILON, step_size=STEP, steps=1),
)


def _network(dtype: torch.dtype = torch.float64) -> nn.Module:
    return build_model("wrn-10-0.5", dataset_facts("cifar10"), seed=1).to(dtype).train()


def _batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    # many pixels at 0 and 1, where the start leaves the range of pixels
    images = (1.6 * torch.rand(8, 3, 16, 16, generator=stream) - 0.3).clamp(0, 1)
    labels = torch.randint(10, (8,), generator=stream)
    noise = EPSILON * (2 * torch.rand(images.shape, generator=stream) - 1)
    return images.to(dtype), labels, noise.to(dtype)


def _ours(model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor):
    with without_parameter_gradients(model):
        return fgsm(model, images, cross_entropy(labels), noise, epsilon=EPSILON, step_size=STEP)


def test_the_attack_is_the_formula() -> None:
    model, (images, labels, noise) = _network(), _batch()
    reference = copy.deepcopy(model)
    found = _ours(model, images, labels, noise)
    expected, gradient = reference_steps.fast_attack(
        reference, images, labels, noise, EPSILON, STEP
    )
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-12)
    # the reference's loss is the mean
    norms = len(labels) * gradient.abs().sum((1, 2, 3))
    torch.testing.assert_close(found.gradient_norm, norms, rtol=1e-9, atol=0)
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-12, atol=1e-12)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_batch_norm_is_in_train_mode() -> None:
    """Its statistics move, and the other images of the batch have a say in the attack."""
    model, (images, labels, noise) = _network(), _batch()
    before = model.bn1.num_batches_tracked.item()
    whole = _ours(model, images, labels, noise).images
    assert model.bn1.num_batches_tracked == before + 1
    half = _ours(model, images[:4], labels[:4], noise[:4]).images
    assert not torch.equal(half, whole[:4])


def test_pixels_cut_at_the_start_stay() -> None:
    """No gradient passes where the start left [0, 1]: one step of PGD would move those."""
    model, (images, labels, noise) = _network(), _batch()
    found = _ours(model, images, labels, noise).images
    outside = (images + noise < 0) | (images + noise > 1)
    assert outside.float().mean() > 0.1
    assert torch.equal(found[outside], (images + noise).clamp(0, 1)[outside])
    moved = (found - images).abs()[~outside]
    assert moved.max() <= EPSILON + 1e-12
    # a step longer than the radius from a start inside: most end on the ball's surface
    assert (moved > EPSILON - 1e-9).double().mean() > 0.4
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_step_of_fast_at_in_float64() -> None:
    """Two steps: attack, loss, and SGD with decay on all but BatchNorm's parameters."""
    model = _network()
    reference = reference_steps.FastAT(copy.deepcopy(model), momentum=0.9, weight_decay=1e-2)
    optimizer = build_optimizer(model, SETTINGS)
    for index in range(2):
        images, labels, _ = _batch()
        images = images.roll(index, 0)
        stream = torch.Generator().manual_seed(index)
        noise = torch.empty_like(images).uniform_(-EPSILON, EPSILON, generator=stream)
        algorithm = Algorithm(build_objective("fast", SETTINGS), SETTINGS.attack)
        lam = torch.tensor(1.0, dtype=torch.float64)
        result = train_step(
            model, optimizer, algorithm, images, labels, lam, stream.manual_seed(index)
        )
        expected = reference.step(images, labels, noise, EPSILON, STEP, rate=0.1)
        assert result.natural == 0
        torch.testing.assert_close(result.robust, expected, rtol=1e-9, atol=0)
    for key, value in reference.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-8, atol=1e-10)


def test_the_comparison_is_sharp() -> None:
    """Decay on BatchNorm's parameters, or eval mode in the attack, would be seen."""
    images, labels, noise = _batch()
    expected, _ = reference_steps.fast_attack(_network(), images, labels, noise, EPSILON, STEP)
    wrong = _ours(_network().eval(), images, labels, noise).images
    assert (wrong - expected).abs().max() > EPSILON / 2
    steps = [reference_steps.FastAT(_network(), momentum=0.9, weight_decay=1e-2) for _ in range(2)]
    steps[1].decay = dict.fromkeys(steps[1].decay, 1e-2)
    for one in steps:
        one.step(images, labels, noise, EPSILON, STEP, rate=0.1)
    right, all_decay = (one.model.bn1.weight for one in steps)
    assert (right - all_decay).abs().min() > 5e-4
