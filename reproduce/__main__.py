"""``python -m reproduce``: the same as the command ``reproduce``."""

from reproduce.cli.app import main

main()
