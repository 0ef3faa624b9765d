"""``python -m reproduce``: the same as the command ``reproduce``."""

from reproduce.cli import main

main()
