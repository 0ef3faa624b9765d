"""The one exception that reaches a user, as a single clear line."""

import reprlib

# characters of the longest line that an error is
LONGEST = 2000

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlong = 60
_SHORT.maxlevel = 2


class HarnessError(Exception):
    """Something the user can mend: the message says what is wrong and what to do.

    The command line prints it without a traceback and exits with ``exit_status``.

    Parameters
    ----------
    message : str
        What is wrong.  Names in it may come from damaged files: whatever it holds, it
        becomes one printable line, and of a very long one the middle is left out.
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Stopped(HarnessError):
    """A run ended before it was finished, with everything saved, and can be continued."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


# what every message of `Stopped` ends with: in a log it is told from a failure by that
CONTINUES = "run the same command again to continue"


def brief(value: object) -> str:
    """Return a value as an error shows it: like `repr`, with deep and long parts left out.

    A small file can describe a value whose whole text no memory holds.
    """
    return _SHORT.repr(value)


def named(error: Exception) -> str:
    """Name an error of code that is not ours by its kind and first line."""
    reason = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {reason}"


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""Return a text as one line that does nothing to a terminal.

    Whatever is not printable (control characters, what turns the direction of writing,
    bytes that are no UTF-8) is written as an escape, and of a long text the middle is left out.

    Examples
    --------
    >>> one_line("a" + chr(27) + "[31m" + chr(10) + "b")
    'a\\x1b[31m b'
    """
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    half = (longest - 5) // 2
    return line if len(line) <= longest else f"{line[:half]} ... {line[-half:]}"
