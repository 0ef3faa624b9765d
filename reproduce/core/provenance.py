"""What a result was made with: versions, and the commit of the code."""

import os
import platform
import re
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
    """Return versions of Python and libraries, and the commit of the code if it can be told."""
    return {
        "versions": {
            "reproduce": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "commit": _commit(),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say by what hardware, software and settings of the machine two parts of a work differ.

    Both are as run.json and records have them: `provenance`, and how and on what it was computed.
    What one of them says nothing about is no difference.
    """
    for key, describe in _KEYS.items():
        if key in before and key in now and before[key] != now[key]:
            what = "it computes with other bits" if key == "precision" else _ROUNDING
            yield f"begun {describe(before[key])}, now {describe(now[key])}: {what}"
    old, new = before.get("versions", {}), now.get("versions", {})
    changed = [name for name in new if old.get(name, new[name]) != new[name]]
    if changed:
        then, today = (", ".join(f"{name} {of[name]}" for name in changed) for of in (old, new))
        yield f"begun with {then}, now {today}: {_ROUNDING}"
    if before.get("commit", now.get("commit")) != now.get("commit"):
        yield f"begun by the code of {_named(before['commit'])}, now of {_named(now['commit'])}"


def _named(commit: str | None) -> str:
    return "no known commit" if commit is None else f"commit {commit}"


_ROUNDING = "the last bits round otherwise from here on"
_KEYS: dict[str, Callable[[Any], str]] = {
    "name": lambda name: f"on {name}",
    "threads": lambda count: f"with {count} thread(s)",
    "precision": lambda precision: f"in {precision}",
    "compiled": lambda value: "compiled" if value else "not compiled",
    "graphs": lambda graphs: "with CUDA graphs" if graphs else "without CUDA graphs",
    "eval_batch": lambda size: f"with {size} images at once in evaluation",
}


def _commit() -> str | None:
    """Return the commit of the code: of a checkout, or else of the environment or an archive."""
    root = Path(__file__).resolve().parents[1]
    archive = root / "COMMIT"  # filled in by `git archive`
    found = archive.read_text(encoding="utf-8").strip() if archive.is_file() else ""
    archived = found if re.fullmatch("[0-9a-f]{40}", found) else None
    return _checked_out(root) or os.environ.get("REPRODUCE_COMMIT") or archived


def _checked_out(root: Path) -> str | None:
    """Return the commit that is checked out in a folder, marked if files were changed."""
    if not (root / ".git").exists():
        return None
    # the checkout may have another owner, and the environment name another repository
    git = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=own, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
