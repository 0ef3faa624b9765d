"""PGD from several starts, and top-5 accuracy in records."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reproduce.attacks.parts import Batch, attack_parts
from reproduce.attacks.pgd import cross_entropy, pgd
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.config.attacks import PGDAttack
from reproduce.core.rng import uniform_per_image
from reproduce.evaluation.attack import attack_batch
from reproduce.evaluation.records import Record, compute_metrics
from reproduce.evaluation.shards import read_shard, write_shard
from reproduce.experiments.cost import attack_passes
from reproduce.experiments.spec import SCHEMA, AttackSpec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts

EPSILON, CPU = 0.02, torch.device("cpu")


def _spec(restarts: int, steps: int = 2, clamp_start: bool = False) -> AttackSpec:
    attack = PGDAttack(
        kind="pgd", steps=steps, step_size=0.01, restarts=restarts, clamp_start=clamp_start
    )
    return AttackSpec(
        schema_version=SCHEMA, name="many", attack=attack, epsilon=EPSILON, seed=3, images=None
    )


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network on which some starts succeed and some fail."""
    model = build_model("wrn-10-0.5", dataset_facts("cifar10"), seed=1)
    with torch.no_grad():
        model.fc.weight.mul_(4)
        for seed in range(3):
            model(_images(seed, 16))
    return model.eval()


def _images(seed: int, count: int) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def _batch(model: nn.Module) -> Batch:
    images = _images(7, 60)
    labels = model(images).argmax(1)
    labels[::7] = (labels[::7] + 1) % 10
    return Batch(images, labels, list(range(100, 160)))


def _run(model: nn.Module, spec: AttackSpec, batch_size: int = 100) -> tuple[Tensor, int]:
    network = AttackedNetwork(model, 10, batch_size)
    with frozen(model):
        (part,) = attack_parts(spec, network, 10, CPU, batch_size)
        found = part.run(_batch(model), 0)
    return found, network.passes.forward


def _by_hand(model: nn.Module, restarts: int) -> list[tuple[Tensor, Tensor]]:
    """Every start on every image: what it found, and whether it is predicted right."""
    batch, outcomes = _batch(model), []
    for restart in range(restarts):
        purpose = "many" if restart == 0 else f"many/restart-{restart}"
        noise = uniform_per_image(3, purpose, batch.indices, (3, 16, 16))
        start, loss = batch.images + EPSILON * noise, cross_entropy(batch.labels)
        sizes = {"epsilon": EPSILON, "step_size": 0.01, "steps": 2}
        found = pgd(model, batch.images, loss, start, **sizes).images
        outcomes.append((found, model(found).argmax(1) == batch.labels))
    return outcomes


@pytest.mark.parametrize("clamp_start", [False, True])
def test_the_first_gradient_is_taken_at_the_start(clamp_start: bool) -> None:
    """Fast-AT's code clamps every start to [0, 1], the authors' PGD-20 does not."""
    seen = []

    class Recorder(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            return images.mean((2, 3))

    images = (3 * _images(7, 8) - 1).clamp(0, 1)
    batch = Batch(images, torch.zeros(8, dtype=torch.int64), list(range(8)))
    spec = _spec(1, steps=1, clamp_start=clamp_start)
    (part,) = attack_parts(spec, Recorder(), 3, CPU, 8)
    part.run(batch, 0)
    start = images + EPSILON * uniform_per_image(3, "many", batch.indices, (3, 16, 16))
    assert start.min() < 0 < 1 < start.max()
    assert torch.equal(seen[0], start.clamp(0, 1) if clamp_start else start)


def test_several_starts_are_the_first_that_breaks(network: nn.Module) -> None:
    """As the plain loop over all starts: an image that holds keeps its first x', and passes."""
    outcomes = _by_hand(network, 4)
    expected, alive, passes = outcomes[0][0].clone(), torch.ones(60, dtype=torch.bool), 0
    for found, held in outcomes:
        # two steps and the prediction after them, of images that no start broke yet
        passes += 3 * int(alive.sum())
        expected[alive & ~held] = found[alive & ~held]
        alive &= held
    ours, counted = _run(network, _spec(4))
    torch.testing.assert_close(ours, expected)
    assert counted == passes < 4 * 60 * 3
    broken = [int((~held).sum()) for _, held in outcomes]
    assert max(broken) < int((~alive).sum()) < 60, "the case says nothing"
    groups, _ = _run(network, _spec(4), batch_size=7)
    torch.testing.assert_close(groups, ours, rtol=0, atol=1e-6)


def test_costs_count_every_start() -> None:
    assert attack_passes(_spec(1, steps=20).attack, 10) == 42
    # fifty steps of a forward and a gradient and a prediction each, predictions before and after
    assert attack_passes(_spec(10, steps=50).attack, 1000) == 1 + 10 * (2 * 50 + 1) + 1


def test_top5_is_counted_on_clean_images(network: nn.Module) -> None:
    batch, target = _batch(network), AttackedNetwork(network, 10)
    parts = [*attack_parts(_spec(1), network, 10, CPU, 100)]
    with frozen(network):
        found = attack_batch(target, batch, parts, EPSILON, seed=0, top5=True)
        assert "top5" not in attack_batch(target, batch, parts, EPSILON, seed=0)
    logits = network(batch.images)
    ranks = (logits > logits.gather(1, batch.labels[:, None])).sum(1)
    expected = (ranks < 5).numpy()
    assert np.array_equal(found["top5"].numpy(), expected)
    label, clean, adversarial, top5 = (
        found[key].numpy() for key in ("label", "clean", "adversarial", "top5")
    )
    metrics = compute_metrics(label, clean, adversarial, top5=top5)
    assert metrics.as_dict()["top5_natural_accuracy"] == pytest.approx(100 * expected.mean())
    assert metrics.top5_natural_accuracy > metrics.natural_accuracy
    plain = compute_metrics(label, clean, adversarial)
    assert "top5_natural_accuracy" not in plain.as_dict()


def test_a_shard_keeps_top5(tmp_path: Path) -> None:
    arrays = {key: np.arange(4) for key in ("index", "label", "clean", "adversarial", "broken_by")}
    path = tmp_path / "0000.npz"
    for top5 in ([True, False, True, True], None):
        more = {} if top5 is None else {"top5": np.array(top5, dtype=int)}
        write_shard(path, Record(**arrays, **more, info={}), "x")
        shard = read_shard(path, "x", 4, print)
        assert shard is not None
        assert (None if shard.top5 is None else shard.top5.tolist()) == top5
