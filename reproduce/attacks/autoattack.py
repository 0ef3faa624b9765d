"""FAB, Square and APGD of AutoAttack's package, driven one batch at a time.

The package's own runner is not used: it seeds once, resumes from a file that cannot be
read back, and knows no shards.  Its attack classes are.
"""

import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.compute.device import default_dtype
from reproduce.config.attacks import AutoAttack, FABAttack, SquareAttack
from reproduce.core.errors import HarnessError

# (images, their labels, seed) -> images that the attack found, in the ball
PackageAttack = Callable[[Tensor, Tensor, int], Tensor]

_SOURCE = {
    "pyautoattack": "pyautoattack",
    "autoattack": "git+https://github.com/fra31/auto-attack",
}
# the package logs of gradients that are zero; `evaluation.checks` looks for them itself
_LOGGER = logging.getLogger("reproduce.attacks.package")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


def package_attacks(
    attack: FABAttack | SquareAttack | AutoAttack,
    network: nn.Module,
    *,
    package: str,
    epsilon: float,
    classes: int,
    device: torch.device,
) -> dict[str, PackageAttack]:
    """Return the parts of an attack by name, in the order in which they run.

    Parameters
    ----------
    attack : FABAttack, SquareAttack or AutoAttack
        What to run, with its budget.
    network : torch.nn.Module
        The network they attack.
    package : {"pyautoattack", "autoattack"}
        Where the attacks come from.
    epsilon : float
        Radius of the l_inf ball, pixels in [0, 1].
    classes : int
        Number of classes; no more other classes than there are become targets.
    device : torch.device
        Where the network is.

    Raises
    ------
    HarnessError
        If the package is not installed, or there are too few classes for its losses.

    Source: Croce and Hein 2020a (FAB), 2020b (AutoAttack); Andriushchenko et al. 2020.
    """
    names = ("autopgd_base", "fab_pt", "square")
    try:
        modules: dict[str, Any] = {n: importlib.import_module(f"{package}.{n}") for n in names}
    except ModuleNotFoundError as error:
        raise HarnessError(
            f"eval.autoattack_package is {package!r}, which is not installed ({error}); pip "
            f"install {_SOURCE[package]}"
        ) from error
    shared = {"norm": "Linf", "eps": epsilon, "verbose": False, "device": device}

    def fab(steps: int, restarts: int, targets: int | None) -> Any:
        settings = {"n_iter": steps, "n_restarts": restarts, **shared}
        if targets is not None:
            settings |= {"targeted": True, "n_target_classes": min(targets, classes - 1)}
        return modules["fab_pt"].FABAttack_PT(network, **settings)

    def square(queries: int, restarts: int) -> Any:
        settings = {"p_init": 0.8, "n_queries": queries, "n_restarts": restarts, **shared}
        return modules["square"].SquareAttack(network, resc_schedule=False, **settings)

    match attack:
        case FABAttack():
            (name,) = attack.parts
            made = {name: fab(attack.steps, attack.restarts, attack.targets)}
        case SquareAttack():
            made = {"square": square(attack.queries, attack.restarts)}
        case AutoAttack():
            if classes < 4:
                raise HarnessError(f"AutoAttack's losses need four classes, there are {classes}")
            # as the package's standard version sets them
            base, targets = modules["autopgd_base"], min(attack.targets, classes - 1)
            apgd = {"n_restarts": 1, "n_iter": attack.steps, "eot_iter": 1, "rho": 0.75, **shared}
            apgd["logger"] = _LOGGER
            made = {
                "apgd-ce": base.APGDAttack(network, loss="ce", **apgd),
                "apgd-t": base.APGDAttack_targeted(network, n_target_classes=targets, **apgd),
                "fab-t": fab(attack.steps, 1, targets),
                "square": square(attack.queries, 1),
            }
    return {name: _seeded(made[name]) for name in attack.parts}


def _seeded(attack: Any) -> PackageAttack:
    def run(images: Tensor, labels: Tensor, seed: int) -> Tensor:
        attack.seed = seed
        # the packages mix new tensors with float32 ones, and take views that channels-last lacks
        with default_dtype("float32"):
            found: Tensor = attack.perturb(images.float().contiguous(), labels)
        return found.detach().to(images.dtype)

    return run
