"""`python -m reproduce.workflow.preload COMMAND...`: many short jobs share one start of Python.

torch, SciPy and matplotlib take ten seconds to import, longer than most jobs of the demo take.
This process runs COMMAND, and imports them once in the meantime.  Every `python -m reproduce`
below it then asks this process for a fork of itself.
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

# where the socket is, for those that COMMAND starts
ADDRESS = "REPRODUCE_PRELOADED"
# what jobs import, in the order in which they need it; optimizers import torch's compiler
_MODULES = [
    "reproduce.training.train",
    "torch._dynamo",
    "pyautoattack",
    "reproduce.lemma.search",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "reproduce.report.build",
    "pyarrow.parquet",
]
# in seconds, how often to look whether COMMAND has ended
_POLL = 0.2


def serve(command: list[str]) -> int:
    """Run a command, fork for the jobs that it starts, and return its status."""
    modules = list(_MODULES)
    # that of a notebook's terminal may not even import here
    os.environ["MPLBACKEND"] = "agg"
    with (
        tempfile.TemporaryDirectory(prefix="reproduce-") as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        address = str(Path(folder, "socket"))
        server.bind(address)
        server.listen()
        process = subprocess.Popen(command, env=os.environ | {ADDRESS: address})
        # a terminal's Ctrl-C reaches the command by itself
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while process.poll() is None:
            if select.select([server], [], [], 0 if modules else _POLL)[0]:
                connection, _ = server.accept()
                # a fork of a fork is nobody's to wait for
                child = os.fork()
                if child == 0:
                    if os.fork() == 0:
                        try:
                            _work(connection)
                        finally:  # whoever asked is gone; only the server removes its socket
                            os._exit(1)
                    os._exit(0)
                os.waitpid(child, 0)
                connection.close()
            elif modules:
                # a job that needs it says what is wrong with it
                with suppress(Exception):
                    importlib.import_module(modules.pop(0))
        return process.returncode


def _work(connection: socket.socket) -> NoReturn:
    """Be the job that asked: take over its files, folder, environment and arguments."""
    from reproduce.cli import main

    status = 1
    try:
        # signals come from the process that asked
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        job = json.load(connection.makefile())
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        # the server's have its encoding
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2)
        )
        sys.argv = job["arguments"]
        connection.sendall(b"%d\n" % os.getpid())
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        connection.sendall(b"%d\n" % status)
        os._exit(status)


def ask(address: str) -> int:
    """Have this command run by a fork of the preloaded process, and return its status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"f"], [0, 1, 2])
        job = {"arguments": sys.argv, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        connection.sendall(json.dumps(job).encode())
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb")
        pid = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _: os.kill(pid, received))
        # none if it was killed
        return int(answers.readline() or 1)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))
