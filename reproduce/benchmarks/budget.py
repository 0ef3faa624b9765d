"""The time a benchmark may take, and what did not fit into it."""

import gc
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from reproduce.benchmarks.measured import NotMeasured
from reproduce.core.errors import HarnessError, named
from reproduce.training.loop import StopReason

Found = TypeVar("Found")
_MORE = "; raise --minutes"


class Budget:
    """Seconds that a measurement may take; what does not fit is kept by name.

    Parameters
    ----------
    seconds : float
        From now on.
    missing : list of NotMeasured, optional
        Where what does not fit is noted; shared with the parts of this budget.
    stop : callable
        Gives a reason to end now, or None; then nothing fits any more.
    clock : callable
        Tells the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        missing: list[NotMeasured] | None = None,
        stop: StopReason = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.missing: list[NotMeasured] = [] if missing is None else missing
        self._stop, self._clock = stop, clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; not above 0 once they are over."""
        return 0.0 if self._stop() else self._end - self._clock()

    def part(self, fraction: float) -> "Budget":
        """Return a budget of a fraction of what is left; what it leaves stays in this one."""
        return Budget(max(self.left, 0.0) * fraction, self.missing, self._stop, self._clock)

    def fits(self, what: str, seconds: float) -> bool:
        """Say whether `seconds` are left for something; note it as not measured if not."""
        left = self.left
        if left > 0 and seconds <= left:
            return True
        if left > 0:
            self.leave_out(
                what, f"needs about {_seconds(seconds)}, {_seconds(left)} are left{_MORE}"
            )
        else:
            self.run_out(what)
        return False

    def run_out(self, what: str) -> None:
        """Note something as not measured because the time is over."""
        self.leave_out(what, self._stop() or f"no time is left{_MORE}")

    def leave_out(self, what: str, why: str) -> None:
        """Note something as not measured, or not as asked for."""
        self.missing.append(NotMeasured(what=what, why=why))


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 1 else f"{value:.1g} s"


def guarded(what: str, budget: Budget, measure: Callable[[], Found | None]) -> Found | None:
    """Measure something; whatever goes wrong is noted, and the others are measured all the same.

    Parameters
    ----------
    what : str
        Its name, among what was not measured.
    budget : Budget
        Where that is noted.
    measure : callable
        What to do.
    """
    try:
        return measure()
    except HarnessError as error:
        budget.leave_out(what, str(error))
    except Exception as error:  # noqa: BLE001  a driver, a compiler and a recording fail in their own ways
        budget.leave_out(what, "out of memory" if out_of_memory(error) else named(error))
    finally:
        # what an exception or a closure still holds must not fill the memory of the next
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return None


def out_of_memory(error: Exception) -> bool:
    """Say whether an error of PyTorch means that a device has no room left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
