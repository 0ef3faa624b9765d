"""The attacks of the configuration as parts that run one after the other on a shard."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.attacks.losses import Loss, cross_entropy, margin
from reproduce.attacks.package import PackageAttack, package_attacks
from reproduce.attacks.pgd import pgd
from reproduce.config import PGDAttack
from reproduce.rng import uniform_per_image
from reproduce.specs import AttackSpec


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
    return lambda batch, seed: attack(batch.images, batch.labels, seed)


def _pgd(
    spec: AttackSpec, attack: PGDAttack, network: nn.Module, batch_size: int
) -> Callable[[Batch, int], Tensor]:
    def run(batch: Batch, _: int) -> Tensor:
        shape = tuple(batch.images.shape[1:])
        found = []
        for first in range(0, len(batch.labels), batch_size):
            members = slice(first, first + batch_size)
            images, labels = batch.images[members], batch.labels[members]
            noise = uniform_per_image(spec.seed, spec.name, batch.indices[members], shape)
            result = pgd(
                network,
                images,
                pgd_loss(attack, labels),
                images + spec.epsilon * noise.to(images.device),
                epsilon=spec.epsilon,
                step_size=attack.step_size,
                steps=attack.steps,
            )
            found.append(result.images)
        return torch.cat(found)

    return run


def pgd_loss(attack: PGDAttack, labels: Tensor) -> Loss:
    """Return what a PGD attack maximises on images with these labels."""
    if attack.loss == "margin":
        return margin(labels, attack.cw_mask)
    return cross_entropy(labels)
