"""What was found of one result: a verdict, and why; safe to print whatever the folder holds."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reproduce.core.errors import one_line

Verdict = Literal["stands", "damaged", "differs", "not checked"]
VERDICTS: tuple[Verdict, ...] = ("stands", "damaged", "differs", "not checked")

# why what is whole is not checked further
OTHER_SETTINGS = "of other settings than this configuration's"
# what counting with a stranger's values, or looking something up by them, may raise
UNEXPECTED = (ArithmeticError, LookupError, ValueError, TypeError)


@dataclass(frozen=True)
class Finding:
    """One line of the verdict on a folder.

    Attributes
    ----------
    verdict : str
        stands; damaged: a file is not what was written, or cannot be what it says;
        differs: it is whole, and not what the rest of the folder, the images or a new
        evaluation give; not checked.
    path : str
        The file or folder it is about, from the results folder on.
    reason : str
        Why, in words; of what stands what was looked at.
    """

    verdict: Verdict
    path: str
    reason: str = ""

    def __str__(self) -> str:
        parts = (self.verdict, self.path, self.reason)
        return one_line(": ".join(part for part in parts if part))


@dataclass
class Verification:
    """All that was found of a folder.

    Attributes
    ----------
    findings : list of Finding
        What was found, in the order of the checks.
    seed : int
        What the sample of evaluations that were repeated was drawn with.
    """

    seed: int
    findings: list[Finding] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Number of findings of each verdict."""
        found: Counter[str] = Counter(dict.fromkeys(VERDICTS, 0))
        found.update(finding.verdict for finding in self.findings)
        return found

    @property
    def exit_status(self) -> int:
        """0: all stands; 1: something does not; 3: all that could be checked stands."""
        counts = self.counts
        if counts["damaged"] or counts["differs"]:
            return 1
        return 3 if counts["not checked"] or not counts["stands"] else 0

    @property
    def summary(self) -> str:
        """The last line: the verdict on all of it, and the counts."""
        words = {
            0: "the results stand",
            1: "the results do not stand",
            3: "the results stand as far as they could be checked",
        }
        words_of = {"stands": "stand", "differs": "differ"}
        counts = ", ".join(f"{self.counts[v]} {words_of.get(v, v)}" for v in VERDICTS)
        return f"{words[self.exit_status]}: {counts}"


def unexpected(error: Exception) -> str:
    """Say that values are none that a result of ours has, and what came of them."""
    return f"it holds values that no result has ({type(error).__name__}: {error})"


def judged(name: str, check: Callable[[], Finding]) -> Finding:
    """Check one file; values that nobody thought of are damage to it, not the end of all checks."""
    try:
        return check()
    except UNEXPECTED as error:
        return Finding("damaged", name, unexpected(error))


def first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Say in which line two texts first differ, and what stands there.

    Parameters
    ----------
    ours, theirs : sequence of str
        The lines of the text made here, and of the one in the folder.
    """
    for number, (here, there) in enumerate(zip(ours, theirs, strict=False), 1):
        if here != there:
            pairs = enumerate(zip(here, there, strict=False))
            first = next((k for k, (a, b) in pairs if a != b), min(len(here), len(there)))
            part = slice(max(0, first - 20), first + 40)
            return f"line {number} has {there[part]!r}, made from the records here {here[part]!r}"
    return f"it has {len(theirs)} lines, made from the records here {len(ours)}"
