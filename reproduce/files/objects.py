"""JSON files that hold an object, and a checksum of it."""

import json
import math
from pathlib import Path
from typing import Any

from reproduce.errors import HarnessError
from reproduce.files.checksums import digest
from reproduce.files.writing import write_text

# the last key of a JSON file of ours: a SHA-256 of all its others
SEAL = "json_sha256"


def write_json(path: Path, value: dict[str, Any], *, sealed: bool = True) -> None:
    """Write an object as indented JSON, atomically; NaN and infinity are refused.

    Parameters
    ----------
    path : Path
        The file.
    value : dict
        What it says.
    sealed : bool
        Whether a checksum of all that stands in it comes last, as `SEAL`.  Not where others
        say what the file holds.
    """
    if sealed:
        # of what will be read back: a tuple comes back as a list, a number as a key as a text
        plain = json.loads(json.dumps(value, allow_nan=False))
        value = {**value, SEAL: digest(plain, 64)}
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, and hold it against its checksum if it has one.

    Files written before there were such checksums, and those of others, have none.

    Returns
    -------
    dict
        The object without its checksum.

    Raises
    ------
    HarnessError
        If the file is missing, unreadable, no JSON object or not what was written.
    """
    value = _json_object(path)
    if SEAL not in value:
        return value
    seal = value.pop(SEAL)
    # null is no checksum: with it a file would count as sealed and be held against nothing
    if seal is None or seal != _sealed(value):
        raise HarnessError(f"{path} is damaged, it is not what its checksum is of; delete it")
    return value


def is_sealed(path: Path) -> bool:
    """Say whether a JSON file holds a checksum of its own.

    Raises
    ------
    HarnessError
        If it is missing, unreadable or no JSON object.
    """
    return SEAL in _json_object(path)


def _sealed(value: dict[str, Any]) -> str | None:
    """Return the checksum of an object; None of one that `write_json` cannot have written."""
    try:
        return digest(value, 64)
    except (ValueError, RecursionError):
        return None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if "\\ud" in text.lower():
            # half a character, which could be written nowhere
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{path} is damaged, it is not JSON; delete it") from error
    if not isinstance(value, dict):
        raise HarnessError(f"{path} is damaged, it holds no JSON object; delete it")
    return value


def _no_number(text: str) -> float:
    """Refuse NaN and infinity, which JSON has not and `write_json` does not write."""
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)
