"""One step of each method on a small network and batch, ours and the reference's."""

import copy
from functools import partial

import reference_steps
import torch
from torch import Tensor, nn

from reproduce.compute.compilation import Graphs
from reproduce.config.schema import Train, TrainingAttack
from reproduce.core.rng import generator
from reproduce.models.load import build_model
from reproduce.objectives import build_objective
from reproduce.registry import METHODS, dataset_facts
from reproduce.training.lambda_rules import WidthAdjusted, constant
from reproduce.training.step import Algorithm, step_modules, train_step

CPU = torch.device("cpu")
ATTACK = TrainingAttack(epsilon=0.031, step_size=0.007, steps=10)
LAM, RATE, DECAY = 6.0, 0.1, 2e-4
LAM_TENSOR = torch.tensor(LAM, dtype=torch.float64)

# method, train-mode forwards, gamma of AWP, zeta of WAR
KINDS = [
    ("trades", "ca", 0.0, None),
    ("trades", "acc", 0.01, None),
    ("trades", "ca", 0.0, 0.5),
    ("at", "ac", 0.0, None),
    ("mart", "ca", 0.0, None),
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


def algorithm_of(
    method: str, order: str, gamma: float = 0.0, zeta: float | None = None
) -> Algorithm:
    first = "clean" if order[0] == "c" else "adversarial"
    train = Train(epochs=1, attack=ATTACK, bn_forwards=len(order), bn_first=first)
    rule = constant if zeta is None else WidthAdjusted(zeta, 0.1)
    return Algorithm(build_objective(METHODS[method].objective, train), ATTACK, rule, gamma)


def our_step(
    model: nn.Module,
    method: str,
    order: str,
    images: Tensor,
    labels: Tensor,
    gamma: float = 0.0,
    zeta: float | None = None,
) -> tuple[reference_steps.Step, nn.Module]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    stream = generator(0, "attack", 1, 0)
    algorithm = algorithm_of(method, order, gamma, zeta)
    result = train_step(model, optimizer, algorithm, images, labels, LAM_TENSOR, stream)
    named = dict(model.named_parameters())
    step = reference_steps.Step(
        result.natural,
        result.robust,
        result.lipschitz,
        torch.empty(0),
        {name: parameter.grad for name, parameter in named.items()},
        model.state_dict(),
        {name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in named.items()},
        result.lam.item(),
    )
    return step, model


def take_steps(
    kind: tuple,
    form: str = "",
    sizes: tuple[int, ...] = (8, 8, 5, 8),
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float64,
) -> tuple[list[Tensor], nn.Module]:
    """Take a step on a batch of each size, as it is or "compiled", recorded ("graph") or both."""
    model = network(torch.float64)
    model.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    algorithm, lam = algorithm_of(*kind), LAM_TENSOR.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    graphs = Graphs(model, {8}) if "graph" in form else None
    modules = step_modules(model, algorithm.objective, {8} if "compiled" in form else ())
    seen: list[Tensor] = []
    for index, size in enumerate(sizes):
        images, labels = (part[:size].to(device) for part in batch(torch.float64, seed=index))
        images = images.to(dtype).contiguous(memory_format=torch.channels_last)
        stream = generator(0, "attack", 1, index, device=device)
        result = train_step(
            model, optimizer, algorithm, images, labels, lam, stream, modules, graphs=graphs
        )
        lam = result.lam
        seen += result
    return seen, model


reference_step = partial(
    reference_steps.training_step,
    lam=LAM,
    epsilon=ATTACK.epsilon,
    step_size=ATTACK.step_size,
    steps=ATTACK.steps,
    rate=RATE,
    weight_decay=DECAY,
)
