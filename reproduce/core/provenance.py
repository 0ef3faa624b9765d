"""What a result was made with: versions, and the commit of the code."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
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
    """Say by what hardware, software and settings of the machine two parts of a work differ."""
    known = ("name", "threads", "precision", "compiled", "graphs", "eval_batch", "commit")
    old, new = (
        {key: about[key] for key in known if key in about} | about.get("versions", {})
        for about in (before, now)
    )
    for key, value in new.items():
        if old.get(key, value) != value:
            yield f"begun with {key} {old[key]}, now {value}: the last bits may differ"


def _commit() -> str | None:
    """Return the commit of the code: of a checkout, or else of the environment or an archive."""
    root = Path(__file__).resolve().parents[1]
    archive = root / "COMMIT"  # filled in by `git archive`
    found = archive.read_text(encoding="utf-8").strip() if archive.is_file() else ""
    archived = found if re.fullmatch("[0-9a-f]{40}", found) else None
    return _checked_out(root) or os.environ.get("REPRODUCE_COMMIT") or archived


def _checked_out(root: Path) -> str | None:
    """Return the commit that is checked out in a folder, marked if files were changed."""
    # named outright, because the checkout may have another owner, or git be told of another
    git = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
