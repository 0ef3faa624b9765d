"""When a run must end before it is finished: its time is over, or someone asks it to."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Why to stop now, or None to go on; asked once an iteration
StopReason = Callable[[], str | None]


@contextmanager
def stop_requests(max_minutes: float | None) -> Iterator[StopReason]:
    """Watch the clock and the signals that ask a process to end.

    SIGTERM (a scheduler), SIGHUP (a lost connection) and SIGINT (Ctrl-C) then no longer
    kill at once: the current iteration is finished and the state saved.  The second
    signal of a kind does kill.

    Parameters
    ----------
    max_minutes : float or None
        Minutes from now after which to stop.
    """
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    received: list[str] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        received.append(name)
        signal.signal(number, before[signal.Signals(number)])
        # what is under way can take a minute, compiling; print is not safe in a handler
        line = f"\n{name}: ending once what is under way is done; a second {name} ends at once\n"
        with suppress(OSError):
            os.write(2, line.encode())

    def reason() -> str | None:
        if received:
            return f"stopped by {received[0]}"
        if deadline is not None and time.monotonic() >= deadline:
            return f"stopped after {max_minutes:g} minutes"
        return None

    watched = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, receive) for number in watched}
    try:
        yield reason
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
