"""``python -m reproduce``: the same as the command ``reproduce``."""

import os
import sys

from reproduce.workflow import preload

address = os.environ.get(preload.ADDRESS)
if address is not None:
    sys.exit(preload.ask(address))

from reproduce.cli.app import main  # noqa: E402

main()
