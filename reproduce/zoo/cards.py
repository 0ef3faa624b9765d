"""What is known of a checkpoint of the zoo: by the leaderboard, or by a card beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce.errors import HarnessError, brief
from reproduce.files import read_json
from reproduce.paper import network_of, parse_radius, published_models
from reproduce.zoo.checkpoint import ZooCheckpoint

# what tables say where nothing is known
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ZooFacts:
    """What a checkpoint is; None where nothing says it.

    Attributes
    ----------
    architecture : str or None
        Its network in the leaderboard's words, such as ``WideResNet-34-10``.
    extra_data : bool or None
        Whether it was trained with images beyond the data set's.
    epsilon : float or None
        Radius of the numbers that are reported of it, pixels in [0, 1].
    """

    architecture: str | None = None
    extra_data: bool | None = None
    epsilon: float | None = None

    @property
    def network(self) -> str | None:
        """The architecture as cells name it, if they have such, else as the leaderboard does."""
        return network_of(self.architecture or "") or self.architecture

    @property
    def unknown(self) -> list[str]:
        """What nothing says, in words."""
        named = {
            "network": self.architecture,
            "extra images": self.extra_data,
            "epsilon": self.epsilon,
        }
        return [name for name, value in named.items() if value is None]


def zoo_facts(checkpoint: ZooCheckpoint) -> ZooFacts:
    """Look up what a checkpoint is; RobustBench need not be installed.

    zoo.csv comes first.  Of other checkpoints the model card in the zoo's folder is read:
    one that was exported has it, and RobustBench's own may be put there.

    Raises
    ------
    HarnessError
        If the card is damaged, or one of these fields is not what RobustBench writes.
    """
    model = published_models().get(checkpoint.name)
    if model is not None and model.dataset == checkpoint.dataset:
        return ZooFacts(model.architecture, model.extra_data, model.epsilon)
    if not checkpoint.card.is_file():
        return ZooFacts()
    card = read_json(checkpoint.card)
    return ZooFacts(
        _field(checkpoint.card, card, "architecture", str),
        _field(checkpoint.card, card, "additional_data", bool),
        _radius(checkpoint.card, card.get("eps")),
    )


def _field(path: Path, card: dict[str, Any], key: str, kind: type) -> Any:
    """Return a field of a card; None if it is null or left out."""
    value = card.get(key)
    if value is not None and not isinstance(value, kind):
        wanted = {str: "a network's name, such as WideResNet-34-10", bool: "true or false"}[kind]
        raise HarnessError(f"{path}: {key} {brief(value)}: expected {wanted}")
    return value


def _radius(path: Path, told: object) -> float | None:
    if told is None:
        return None
    try:
        return parse_radius(str(told))
    except (ValueError, ZeroDivisionError):
        raise HarnessError(f"{path}: eps {brief(told)}: expected a radius, such as 8/255") from None
