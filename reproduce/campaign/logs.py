"""What the log of a job of the workflow says of its end."""

import os
import re
import time
from pathlib import Path

from reproduce.errors import CONTINUES

# enough for the last words of a job, whatever stood before them
_TAIL = 8192
# what the command prints last, or what Python does
_ENDS = re.compile(r"^(reproduce: .+|[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b(: .*)?)$")


def failure(log: Path, since: float = 0.0) -> str | None:
    """Return the error that a job's log ends with; None if it has none, or was only stopped.

    Snakemake begins the log of a job anew, so an error in it is that of the last try.

    Parameters
    ----------
    log : Path
        The log; it need not be there.
    since : float
        Time in seconds since 1970 of what has been saved after; an older log is not
        about that.  A time that is yet to come says nothing: the clock was set back.
    """
    try:
        with log.open("rb") as handle:
            about = os.fstat(handle.fileno())
            handle.seek(max(0, about.st_size - _TAIL))
            text = handle.read().decode(errors="replace")
    except OSError:
        return None
    if about.st_mtime < since <= time.time():
        return None
    for line in reversed(text.splitlines()):
        if _ENDS.match(line.strip()):
            found = line.strip().removeprefix("reproduce: ")
            return None if found.endswith(CONTINUES) else found
    return None
