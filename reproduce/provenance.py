"""What a result was made with: versions, and the commit of the code."""

import platform
import subprocess
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
