"""How fast images are attacked: forward passes and PGD as the harness's evaluations run them."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from reproduce.attacks.parts import Batch, attack_parts
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.benchmarks.budget import Budget, guarded
from reproduce.benchmarks.result import AttackRate
from reproduce.benchmarks.settings import DATASET
from reproduce.benchmarks.timing import Call, rate, seconds_of
from reproduce.compute.device import images_at_once
from reproduce.config.schema import Config
from reproduce.core.rng import generator
from reproduce.experiments.cost import part_passes
from reproduce.experiments.spec import attack_spec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts

# Square sees few images once most are broken
_BATCHES = {"cpu": (8, 32), "cuda": (8, 64, 500)}
_RUNS = 3
_RUN_SECONDS = 0.3
_ATTACK = "pgd20"


def measure_attacks(
    config: Config,
    architectures: Sequence[str],
    device: torch.device,
    budget: Budget,
    say: Callable[[str], object],
) -> list[AttackRate]:
    """Time forward passes of small and large batches, and PGD on large ones.

    Parameters
    ----------
    config : Config
        Its attack pgd20, and `machine.eval_batch`, which bounds the batches.
    architectures : sequence of str
        Networks, untrained: what PGD costs does not depend on what they have learnt.
    device : torch.device
        What to time on.
    budget : Budget
        The time there is; what does not fit in is noted there.
    say : callable
        Told what comes next.
    """
    found: list[AttackRate] = []
    for architecture in architectures:
        what = f"attacks on {architecture}"
        if budget.fits(what, 0.0):
            say(what)
            rows = guarded(what, budget, partial(_of_network, config, architecture, device, budget))
            found += rows or []
    return found


def _of_network(
    config: Config, architecture: str, device: torch.device, budget: Budget
) -> list[AttackRate]:
    facts = dataset_facts(DATASET)
    most = images_at_once(config.machine, device, facts.size)
    batches = sorted({min(batch, most) for batch in _BATCHES[device.type]})
    model = build_model(architecture, facts).to(device)
    network = AttackedNetwork(model, facts.classes, most)
    spec = attack_spec(config, _ATTACK, 0, DATASET)
    (part,) = attack_parts(spec, network, facts.classes, device, batches[-1])
    # of the attack itself: the predictions before and after it are not timed
    passes = part_passes(spec.attack, facts.classes)[part.name] - 1
    found: list[AttackRate] = []

    def add(what: str, passes: int, batch: Batch, call: Call, first: float) -> None:
        """Time a call whose first run took, or will take, about so many seconds."""
        size = len(batch.labels)
        if budget.fits(f"{what} of {size} images, {architecture}", 3 * first):
            runs = max(1, min(_RUNS, int(budget.left / first) - 2))
            speed = rate(call, size, device, runs, min(_RUN_SECONDS, first))
            row = {"architecture": architecture, "what": what, "batch": size, "passes": passes}
            found.append(AttackRate(**row, images_per_second=speed))

    with frozen(model):
        for size in batches:
            batch = _batch(size, device)
            forward = partial(network.logits, batch.images)
            # the first one loads kernels and chooses among them
            forward()
            once = seconds_of(forward, device)
            add("forward", 1, batch, forward, once)
        add(_ATTACK, passes, batch, partial(part.run, batch, 0), once * passes)
    return found


def _batch(size: int, device: torch.device) -> Batch:
    facts = dataset_facts(DATASET)
    stream = generator(0, "benchmark images")
    images = torch.rand(size, facts.channels, facts.size, facts.size, generator=stream)
    labels = torch.randint(facts.classes, (size,), generator=stream)
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    return Batch(images, labels.to(device), list(range(size)))
