"""One TRADES step, ours against the official formulation, in pairs."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.catalogue import dataset_facts
from reproduce.config import TrainingAttack
from reproduce.models import build_model
from reproduce.objectives.trades import Trades
from reproduce.rng import generator
from reproduce.training.recipe import Recipe
from reproduce.training.step import train_step

ATTACK = TrainingAttack(epsilon=0.031, step_size=0.007, steps=10)
LAM = 6.0


def official_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Take the step as Zhang et al. 2019 formulate it."""
    model.eval()
    adversarial = images + 0.001 * torch.randn_like(images)
    for _ in range(ATTACK.steps):
        adversarial.requires_grad_(True)
        divergence = F.kl_div(
            F.log_softmax(model(adversarial), 1), F.softmax(model(images), 1), reduction="sum"
        )
        (gradient,) = torch.autograd.grad(divergence, adversarial)
        adversarial = adversarial.detach() + ATTACK.step_size * gradient.sign()
        adversarial = torch.min(
            torch.max(adversarial, images - ATTACK.epsilon), images + ATTACK.epsilon
        ).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    natural = F.cross_entropy(model(images), labels)
    robust = F.kl_div(
        F.log_softmax(model(adversarial), 1), F.softmax(model(images), 1), reduction="batchmean"
    )
    (natural + LAM * robust).backward()
    optimizer.step()


def _prepare(architecture: str, batch: int, layout: torch.memory_format) -> tuple:
    facts = dataset_facts("cifar10")
    model = build_model(architecture, facts).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, 32, 32, generator=stream).contiguous(memory_format=layout)
    return model, optimizer, images, torch.randint(10, (batch,), generator=stream)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Time both and print the ratio of each pair, its median and range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="wrn-34-1")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theirs = _prepare(options.architecture, options.batch, torch.contiguous_format)
    lam = torch.tensor(LAM, dtype=torch.float64)
    model, optimizer, images, labels = _prepare(
        options.architecture, options.batch, torch.channels_last
    )

    def ours() -> None:
        stream = generator(0, "benchmark")
        train_step(model, optimizer, Recipe(Trades(2), ATTACK), images, labels, lam, stream)

    def official() -> None:
        official_step(*theirs)

    official(), ours()  # warm-up
    ratios = []
    for _ in range(options.pairs):
        ratios.append(_seconds(official) / _seconds(ours))
        print(f"official / ours: {ratios[-1]:.2f}", flush=True)
    middle = statistics.median(ratios)
    print(
        f"{options.architecture}, batch {options.batch}, {options.pairs} pairs: "
        f"median {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
