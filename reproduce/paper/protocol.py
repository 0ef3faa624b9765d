"""Loader of protocol.yaml: the settings that the paper's numbers were made with."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from reproduce.paper.zoo import parse_radius


@cache
def protocol() -> dict[str, Any]:
    """Return the paper's value of every setting that it, or a code it builds on, decides.

    Returns
    -------
    dict
        Values by dotted key of the configuration; ``checkpoint`` and ``checkpoint.METHOD``
        are what the tables show.

    Source: protocol.yaml names that of every value.
    """
    text = files("reproduce").joinpath("paper", "protocol.yaml").read_text(encoding="utf-8")
    return {key: _value(item["value"]) for key, item in yaml.safe_load(text).items()}


def _value(written: Any) -> Any:
    return parse_radius(written) if isinstance(written, str) and "/" in written else written
