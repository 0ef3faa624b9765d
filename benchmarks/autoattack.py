"""AutoAttack through the runner against the plain package: verdicts, CPU time, passes.

    python benchmarks/autoattack.py --weights model.safetensors --architecture wrn-10-1 \
        --dataset cifar10 --data data --images 64 --pairs 3

Both see the same images in the same batch with the same seed. The plain package gets the network
as its users pass it: in eval mode, its parameters as they are.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from pyautoattack import AutoAttack as PlainAutoAttack
from torch import Tensor, nn

from reproduce.attacks import AttackedNetwork, Batch, attack_parts, frozen
from reproduce.config import AutoAttack
from reproduce.data import ImageStore, load_prepared, stratified_subset
from reproduce.evaluation.batch import attack_batch
from reproduce.models import ModelSource
from reproduce.specs import AttackSpec

SEED = 20


class Counted(nn.Module):
    """A network as it is, with its passes counted in images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        self.forward_passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


def plain(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    """Run the package's own standard evaluation."""
    counted = Counted(model.eval())
    attack = PlainAutoAttack(counted, eps=epsilon, seed=SEED, version="standard")
    began = time.process_time()
    _, predicted = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    seconds = time.process_time() - began
    return predicted == labels, seconds, (counted.forward_passes, counted.backward_passes)


def ours(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    """Run the parts as the runner does on a shard."""
    spec = AttackSpec(
        name="autoattack",
        attack=AutoAttack(kind="autoattack"),
        epsilon=epsilon,
        seed=0,
        images=None,
        shard=len(images),
        package="pyautoattack",
    )
    network = AttackedNetwork(model, classes=10)
    parts = attack_parts(spec, network, 10, images.device, batch_size=len(images))
    began = time.process_time()
    with frozen(model):
        found = attack_batch(
            network, Batch(images, labels, list(range(len(labels)))), parts, epsilon, SEED
        )
    seconds = time.process_time() - began
    robust = (found["clean"] == labels) & (found["adversarial"] == labels)
    return robust, seconds, (network.passes.forward, network.passes.backward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load_prepared(options.data / "prepared" / f"{options.dataset}.npz")
    store = ImageStore(
        stratified_subset(dataset.test, options.images, "test"), dataset.facts, torch.device("cpu")
    )
    images, labels = store.plain(0, options.images)
    images = images.contiguous()
    source = ModelSource(options.dataset, options.architecture, options.weights)
    ratios = []
    for _ in range(options.pairs):
        theirs = plain(source.load(), images, labels, options.epsilon)
        mine = ours(source.load(), images, labels, options.epsilon)
        ratios.append(theirs[1] / mine[1])
        print(
            f"robust {int(theirs[0].sum())} and {int(mine[0].sum())} of {len(labels)}, "
            f"{int((theirs[0] != mine[0]).sum())} verdicts differ; CPU seconds {theirs[1]:.1f} and "
            f"{mine[1]:.1f}; forward and backward passes {theirs[2]} and {mine[2]}",
            flush=True,
        )
    print(f"plain / runner: median {statistics.median(ratios):.2f} of {sorted(ratios)}")


if __name__ == "__main__":
    main()
