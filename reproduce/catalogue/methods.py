"""The training methods: a row each, as combinations of parts that exist once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from reproduce.errors import HarnessError


@dataclass(frozen=True)
class Method:
    """One training method.

    Attributes
    ----------
    name, title : str
        The name in cell ids and the one in tables.
    objective : str
        The module of ``reproduce.objectives`` that gives its two terms and its attack.
    passes : int
        Cost of a step per image in forward passes, with the clean part counted once:
        an input gradient is 1, a full backward 2.  Attack steps cost 2 each on top.
    train : mapping
        Settings of the configuration's ``train`` section that this method replaces.
    unused : tuple of str
        Settings of that section that this method never reads: changing one changes
        no result of it.
    source : str
        Where the method was published.
    """

    name: str
    title: str
    objective: str
    passes: int
    source: str
    train: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    unused: tuple[str, ...] = ()


METHODS = {
    method.name: method
    for method in (
        # 1 clean forward for the attack's target, 2 forwards, 2 backwards
        Method("trades", "TRADES", "trades", 7, "Zhang et al. 2019"),
        # 2 forwards, 2 backwards
        Method(
            "at",
            "Adversarial training",
            "adversarial_training",
            6,
            "Madry et al. 2018, generalised in appendix D of the paper",
            unused=("bn_forwards",),
        ),
    )
}


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    HarnessError
        If there is none of that name.
    """
    if name not in METHODS:
        raise HarnessError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
