"""The attacks of the configuration as parts that run one after the other on a shard."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.attacks.autoattack import PackageAttack, package_attacks
from reproduce.attacks.pgd import Loss, cross_entropy, margin, pgd
from reproduce.compute.device import default_dtype
from reproduce.config.schema import PGD, PGDAttack
from reproduce.core.rng import uniform_per_image
from reproduce.experiments.spec import AttackSpec


@dataclass(frozen=True)
class Batch:
    """Images to attack together.

    Attributes
    ----------
    images : Tensor
        float32 in [0, 1], shape (B, channels, H, W).
    labels : Tensor
        int64, shape (B,).
    indices : list of int
        Positions of the images in the official split.
    """

    images: Tensor
    labels: Tensor
    indices: list[int]

    def take(self, rows: Tensor) -> "Batch":
        """Return the rows given, an int64 tensor."""
        return Batch(
            self.images[rows], self.labels[rows], [self.indices[row] for row in rows.tolist()]
        )


@dataclass(frozen=True)
class Part:
    """One attack.

    Attributes
    ----------
    name : str
        "pgd", "apgd-ce", "apgd-t", "fab", "fab-t" or "square".
    every_image : bool
        Whether it also moves images that are predicted wrong, so that stability can
        be told.
    run : callable
        (batch, seed of the shard) -> images that it found, in the ball.
    """

    name: str
    every_image: bool
    run: Callable[[Batch, int], Tensor]


def attack_parts(
    spec: AttackSpec, network: nn.Module, classes: int, device: torch.device, batch_size: int
) -> list[Part]:
    """Return the parts of an attack on a network.

    Parameters
    ----------
    spec : AttackSpec
        What to run.
    network : torch.nn.Module
        The frozen network, on `device`.
    classes : int
        Number of classes.
    device : torch.device
        Where the network is.
    batch_size : int
        Most images that PGD attacks at once; it changes nothing beyond rounding.

    Raises
    ------
    HarnessError
        If the package of the attack is missing or has no use for so few classes.
    """
    attack = spec.attack
    if isinstance(attack, PGDAttack):
        return [Part("pgd", every_image=True, run=_pgd(spec, attack, network, batch_size))]
    found = package_attacks(
        attack,
        network,
        package=str(spec.package),
        epsilon=spec.epsilon,
        classes=classes,
        device=device,
    )
    return [Part(name, every_image=False, run=_on_batch(run)) for name, run in found.items()]


def _on_batch(attack: PackageAttack) -> Callable[[Batch, int], Tensor]:
    def run(batch: Batch, seed: int) -> Tensor:
        # the packages mix new tensors with float32 ones
        with default_dtype("float32"):
            return attack(batch.images.float(), batch.labels, seed).to(batch.images.dtype)

    return run


def _pgd(
    spec: AttackSpec, attack: PGDAttack, network: nn.Module, batch_size: int
) -> Callable[[Batch, int], Tensor]:
    def start(batch: Batch, restart: int) -> Tensor:
        # the first one's name says nothing of restarts, so their number does not change it
        purpose = spec.name if restart == 0 else f"{spec.name}/restart-{restart}"
        shape = tuple(batch.images.shape[1:])
        noise = uniform_per_image(spec.seed, purpose, batch.indices, shape)
        return pgd_start(attack, batch.images, spec.epsilon * noise.to(batch.images.device))

    def once(batch: Batch, restart: int) -> Tensor:
        return pgd(
            network,
            batch.images,
            pgd_loss(attack, batch.labels),
            start(batch, restart),
            epsilon=spec.epsilon,
            step_size=attack.step_size,
            steps=attack.steps,
        ).images

    def run(batch: Batch, _: int) -> Tensor:
        groups = [batch.take(r) for r in torch.arange(len(batch.labels)).split(batch_size)]
        return torch.cat(
            [_from_several_starts(network, once, group, attack.restarts) for group in groups]
        )

    return run


def _from_several_starts(
    network: nn.Module, once: Callable[[Batch, int], Tensor], batch: Batch, restarts: int
) -> Tensor:
    """Attack again and again what still holds; an image that holds keeps its first x'."""
    found = once(batch, 0)
    if restarts == 1:
        return found
    rows = _holding(network, found, batch.labels)
    for restart in range(1, restarts):
        if not len(rows):
            break
        members = batch.take(rows)
        latest = once(members, restart)
        held = _holding(network, latest, members.labels)
        broken = torch.ones_like(rows, dtype=torch.bool).index_fill_(0, held, value=False)
        found[rows[broken]] = latest[broken]
        rows = rows[held]
    return found


def _holding(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the rows of the images that are predicted right."""
    with torch.no_grad():
        held: Tensor = network(images).argmax(1) == labels
    return held.nonzero()[:, 0]


def pgd_start(attack: PGD, images: Tensor, noise: Tensor) -> Tensor:
    """Return where a PGD attack starts from."""
    start = images + noise
    return start.clamp_(0, 1) if attack.clamp_start else start


def pgd_loss(attack: PGD, labels: Tensor) -> Loss:
    """Return what a PGD attack maximises on images with these labels."""
    if attack.loss == "margin":
        return margin(labels, attack.cw_mask)
    return cross_entropy(labels)
