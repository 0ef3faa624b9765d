"""The command ``reproduce``."""

from reproduce.cli import run, share, show  # they register their commands, in this order
from reproduce.cli.app import app, main

__all__ = ["app", "main", "run", "share", "show"]
