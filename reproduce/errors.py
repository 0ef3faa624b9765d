"""The one exception that reaches a user, as a single clear line."""


class HarnessError(Exception):
    """Something the user can mend: the message says what is wrong and what to do.

    The command line prints it without a traceback and exits with ``exit_status``.
    """

    exit_status = 1


class Stopped(HarnessError):
    """A run ended before it was finished, with everything saved, and can be continued."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


# what every message of `Stopped` ends with: in a log it is told from a failure by that
CONTINUES = "run the same command again to continue"
