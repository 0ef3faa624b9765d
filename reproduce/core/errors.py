"""The one exception that reaches a user, as a single line."""


class HarnessError(Exception):
    """Something the user can mend: the message says in one line what is wrong and what to do."""

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Stopped(HarnessError):
    """A run ended before it was finished, with everything saved, and can be continued."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


# what every message of `Stopped` ends with: a log that ends so is of no failure
CONTINUES = "run the same command again to continue"


def named(error: Exception) -> str:
    """Name an error of a library by its kind and first line."""
    reason = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {reason}"
