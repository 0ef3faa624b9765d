"""Groups of two processes without torchrun, which takes seconds to start: what it would set."""

import os
import socket
import subprocess
import sys

from conftest import ROOT


def start_two(*words: str, **variables: str) -> list[subprocess.Popen[str]]:
    """Start Python with the same words as each of two processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**common, **address, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
