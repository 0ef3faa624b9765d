"""An attack of the configuration as parts that run one after the other on a batch.

To add an attack, give its settings a class beside `PGDAttack` in `reproduce.config.schema`,
with a `kind` and the names of its parts, make the parts in `attack_parts` below, and count their
passes through the network in `reproduce.experiments.cost.part_passes`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.attacks.autoattack import PackageAttack, package_attacks
from reproduce.attacks.pgd import Loss, cross_entropy, margin, pgd
from reproduce.config.attacks import PGD, AutoAttack, FABAttack, PGDAttack, SquareAttack
from reproduce.core.rng import uniform_per_image
from reproduce.experiments.spec import AttackSpec


@dataclass(frozen=True)
class Batch:
    """Images to attack together."""

    images: Tensor
    """float32 in [0, 1], shape (B, channels, H, W)."""
    labels: Tensor
    indices: list[int]
    """Positions of the images in the official split."""

    def take(self, rows: Tensor) -> "Batch":
        """Return the rows given, an int64 tensor."""
        return Batch(
            self.images[rows], self.labels[rows], [self.indices[row] for row in rows.tolist()]
        )


@dataclass(frozen=True)
class Part:
    """One attack."""

    name: str
    every_image: bool
    """Whether it also moves images that are predicted wrong, so that stability can be measured."""
    run: Callable[[Batch, int], Tensor]
    """(batch, seed of the shard) -> images that it found, in the ball."""


def attack_parts(
    spec: AttackSpec, network: nn.Module, classes: int, device: torch.device, batch_size: int
) -> list[Part]:
    """Return the parts of an attack on a frozen network; PGD attacks `batch_size` at once."""
    match spec.attack:
        case PGDAttack() as attack:
            return [Part("pgd", every_image=True, run=_pgd(spec, attack, network, batch_size))]
        case FABAttack() | SquareAttack() | AutoAttack() as attack:
            found = package_attacks(
                attack,
                network,
                package=str(spec.package),
                epsilon=spec.epsilon,
                classes=classes,
                device=device,
            )
            return [Part(name, every_image=False, run=_packaged(f)) for name, f in found.items()]


def _packaged(attack: PackageAttack) -> Callable[[Batch, int], Tensor]:
    return lambda batch, seed: attack(batch.images, batch.labels, seed)


def _pgd(
    spec: AttackSpec, attack: PGDAttack, network: nn.Module, batch_size: int
) -> Callable[[Batch, int], Tensor]:
    """Return PGD from several starts, each of which attacks what still holds.

    An image that holds to the end keeps its first x'.
    """

    def once(batch: Batch, restart: int) -> Tensor:
        # the first one's name says nothing of restarts, so their number does not change it
        purpose = spec.name if restart == 0 else f"{spec.name}/restart-{restart}"
        shape = tuple(batch.images.shape[1:])
        noise = uniform_per_image(spec.seed, purpose, batch.indices, shape)
        return pgd(
            network,
            batch.images,
            pgd_loss(attack, batch.labels),
            pgd_start(attack, batch.images, spec.epsilon * noise.to(batch.images.device)),
            epsilon=spec.epsilon,
            step_size=attack.step_size,
            steps=attack.steps,
        ).images

    def holds(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right: Tensor = network(images).argmax(1) == labels
        return right

    def from_all_starts(batch: Batch) -> Tensor:
        found = once(batch, 0)
        if attack.restarts == 1:
            return found
        rows = holds(found, batch.labels).nonzero()[:, 0]
        for restart in range(1, attack.restarts):
            if not len(rows):
                break
            members = batch.take(rows)
            latest = once(members, restart)
            held = holds(latest, members.labels)
            found[rows[~held]] = latest[~held]
            rows = rows[held]
        return found

    def run(batch: Batch, _: int) -> Tensor:
        groups = torch.arange(len(batch.labels)).split(batch_size)
        return torch.cat([from_all_starts(batch.take(rows)) for rows in groups])

    return run


def pgd_start(attack: PGD, images: Tensor, noise: Tensor) -> Tensor:
    """Return where a PGD attack starts from."""
    start = images + noise
    return start.clamp_(0, 1) if attack.clamp_start else start


def pgd_loss(attack: PGD, labels: Tensor) -> Loss:
    """Return what a PGD attack maximises on images with these labels."""
    if attack.loss == "margin":
        return margin(labels, attack.cw_mask)
    return cross_entropy(labels)
