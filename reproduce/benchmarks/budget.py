"""The time a benchmark may take, and what did not fit into it."""

import time
from collections.abc import Callable

from reproduce.benchmarks.measured import NotMeasured


class Budget:
    """Seconds that a measurement may take; what does not fit is kept by name.

    Parameters
    ----------
    seconds : float
        From now on.
    missing : list of NotMeasured, optional
        Where what does not fit is noted; shared with the parts of this budget.
    clock : callable
        Tells the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        missing: list[NotMeasured] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.missing: list[NotMeasured] = [] if missing is None else missing
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 once they are over."""
        return self._end - self._clock()

    def part(self, fraction: float) -> "Budget":
        """Return a budget of a fraction of what is left; what it leaves stays in this one."""
        return Budget(max(self.left, 0.0) * fraction, self.missing, self._clock)

    def fits(self, what: str, seconds: float) -> bool:
        """Say whether `seconds` are left for something; note it as not measured if not."""
        left = self.left
        if left > 0 and seconds <= left:
            return True
        need = f"needs about {seconds:.0f} s, " if seconds else ""
        self.leave_out(what, f"no time: {need}{max(left, 0.0):.0f} s are left; raise --minutes")
        return False

    def leave_out(self, what: str, why: str) -> None:
        """Note something as not measured, or not as asked for."""
        self.missing.append(NotMeasured(what=what, why=why))
