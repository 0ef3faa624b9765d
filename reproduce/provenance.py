"""What a result was made with: versions, and the commit of the code."""

import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reproduce import __version__

_LIBRARIES = ("torch", "numpy", "pandas", "scikit-learn")


@cache
def provenance() -> dict[str, Any]:
    """Return versions of Python and libraries, and the commit if the code is a checkout."""
    return {
        "versions": {
            "reproduce": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "commit": _commit(),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say by what hardware, software and settings of the machine two pieces of a work differ.

    What one of them says nothing about is no difference.

    Parameters
    ----------
    before, now : mapping
        As run.json and records have them: `provenance`, and how and on what it was computed.
    """
    for key, words in _KEYS.items():
        if key in before and key in now and before[key] != now[key]:
            yield f"begun {words(before[key])}, now {words(now[key])}: {_ROUNDING}"
    old, new = before.get("versions", {}), now.get("versions", {})
    changed = [name for name in new if old.get(name, new[name]) != new[name]]
    if changed:
        then, today = (", ".join(f"{name} {of[name]}" for name in changed) for of in (old, new))
        yield f"begun with {then}, now {today}: {_ROUNDING}"
    if before.get("commit", now.get("commit")) != now.get("commit"):
        yield f"begun by the code of {_named(before['commit'])}, now of {_named(now['commit'])}"


def _compiled(value: str | bool | None) -> str:
    return "compiled" if value else "not compiled"


def _named(commit: str | None) -> str:
    return "no checkout" if commit is None else f"commit {commit}"


_ROUNDING = "the last bits round otherwise from here on"
_KEYS: dict[str, Callable[[Any], str]] = {
    "name": lambda name: f"on {name}",
    "threads": lambda count: f"with {count} thread(s)",
    "precision": lambda precision: f"in {precision}",
    "compiled": _compiled,
    "graphs": lambda graphs: "with CUDA graphs" if graphs else "without CUDA graphs",
    "eval_batch": lambda size: f"with {size} images at once in evaluation",
}


def _commit() -> str | None:
    """Return the commit of the checkout this package runs from, marked if it was changed."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
