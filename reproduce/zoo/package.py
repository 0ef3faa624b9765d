"""RobustBench, imported only where it is used, with what its import asks for."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from reproduce.errors import HarnessError
from reproduce.vision import torchvision


def robustbench(module: str = "robustbench") -> Any:
    """Import RobustBench or one of its modules.

    Its import needs a torchvision that can be imported, a module named ``autoattack``
    (its release on PyPI depends on the same code under the name ``pyautoattack``), and
    ``pkg_resources``, which setuptools no longer brings along.

    Raises
    ------
    HarnessError
        If it, or something it needs, is not installed.
    """
    if sys.modules.get(module) is not None:
        return sys.modules[module]
    torchvision()
    with _stand_ins(), warnings.catch_warnings():
        # of timm's old module names
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("robustbench")
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise HarnessError(
                f"RobustBench cannot be imported, there is no {error.name}; "
                "pip install robustbench brings it and what it needs"
            ) from error


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Provide the two modules by name inside, unless they are installed.

    They are taken away again: with a stand-in left behind, the harness would take
    pyautoattack for the original when it is asked for the original.
    """
    missing = [
        name
        for name in ("autoattack", "pkg_resources")
        if name not in sys.modules and importlib.util.find_spec(name) is None
    ]
    try:
        if "autoattack" in missing:
            sys.modules["autoattack"] = importlib.import_module("pyautoattack")
        if "pkg_resources" in missing:
            # it is asked for the place of a list of ImageNet's files, at another time
            sys.modules["pkg_resources"] = ModuleType("pkg_resources")
        yield
    finally:
        for name in list(sys.modules):
            if name.partition(".")[0] in missing:
                del sys.modules[name]
