"""One step of TRADES or AWP-TRADES, ours against the official formulation, in pairs."""

import argparse
import copy
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
GAMMA = 0.005


def official_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    proxy: nn.Module | None = None,
) -> None:
    """Take the step as Zhang et al. 2019 formulate it; with a proxy, as Wu et al. 2020 do."""
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
    moves = {} if proxy is None else official_moves(model, proxy, images, adversarial, labels)
    _add(model, moves, GAMMA)
    optimizer.zero_grad()
    official_loss(model, images, adversarial, labels).backward()
    optimizer.step()
    _add(model, moves, -GAMMA)


def official_loss(model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """Compute the loss of TRADES with three forwards, as both codes do."""
    natural = F.cross_entropy(model(images), labels)
    robust = F.kl_div(
        F.log_softmax(model(adversarial), 1), F.softmax(model(images), 1), reduction="batchmean"
    )
    return natural + LAM * robust


def official_moves(
    model: nn.Module, proxy: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Let a copy of the network climb the loss once; scale how far each tensor went."""
    proxy.load_state_dict(model.state_dict())
    proxy.train()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.1)
    optimizer.zero_grad()
    (-official_loss(proxy, images, adversarial, labels)).backward()
    optimizer.step()
    weights = dict(model.named_parameters())
    moves = {}
    for name, moved in proxy.named_parameters():
        if moved.dim() > 1:
            difference = (moved - weights[name]).detach()
            moves[name] = weights[name].norm().detach() / difference.norm() * difference
    return moves


def _add(model: nn.Module, moves: dict[str, Tensor], factor: float) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in moves:
                weight.add_(factor * moves[name])


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
    parser.add_argument("--awp", action="store_true", help="AWP-TRADES instead of TRADES")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theirs = _prepare(options.architecture, options.batch, torch.contiguous_format)
    lam = torch.tensor(LAM, dtype=torch.float64)
    model, optimizer, images, labels = _prepare(
        options.architecture, options.batch, torch.channels_last
    )

    recipe = Recipe(Trades(2), ATTACK, gamma=GAMMA if options.awp else 0.0)
    proxy = copy.deepcopy(theirs[0]) if options.awp else None

    def ours() -> None:
        stream = generator(0, "benchmark")
        train_step(model, optimizer, recipe, images, labels, lam, stream)

    def official() -> None:
        official_step(*theirs, proxy)

    official(), ours()  # warm-up
    ratios = []
    for _ in range(options.pairs):
        ratios.append(_seconds(official) / _seconds(ours))
        print(f"official / ours: {ratios[-1]:.2f}", flush=True)
    middle = statistics.median(ratios)
    method = "AWP-TRADES" if options.awp else "TRADES"
    print(
        f"{method}, {options.architecture}, batch {options.batch}, {options.pairs} pairs: "
        f"median {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
