"""Verdicts as the page shows them: a word, a symbol, a class of the style, what it means."""

import math

from reproduce.analysis.diff import TOLERANCE
from reproduce.report.view import Share

# verdict of a number: class of the style, symbol, meaning; in the order of the bar
_NUMBERS = {
    "agrees": ("agree", "✓", "within one point of the paper's number"),
    "within noise": (
        "noise",
        "≈",
        "farther apart than one point, but the 95 % interval of the difference holds zero",
    ),
    "differs": (
        "differ",
        "≠",
        "farther apart than one point, and the 95 % interval of the difference excludes zero, "
        "or too few seeds for one",
    ),
    "subset": ("part", "◔", "only a part of the test images was attacked"),
    "not a reproduction": ("other", "∼", "the settings, or the images, are not the paper's"),
    "missing": ("none", "○", "the paper has a number, there is no result yet"),
}
# verdicts that say whether a number of the paper was reproduced
JUDGED = ("agrees", "within noise", "differs")
_UNJUDGED = {
    "no paper value": "the paper has no such number",
    "for information": "shown beside the paper's, not judged",
}
MEANINGS = {name: meaning for name, (_, _, meaning) in _NUMBERS.items()} | _UNJUDGED

# beside a difference; of the others the colour says it all
SYMBOLS = {name: _NUMBERS[name][1] for name in ("agrees", "within noise", "differs", "subset")}

# verdict of a claim: class of the style, symbol, meaning
CLAIMS = {
    "holds": ("agree", "✓", "the results here show what the paper says"),
    "fails": ("differ", "✗", "the results here contradict it"),
    "too little data": ("none", "○", "too few runs, seeds or images here to tell"),
}

# verdicts whose difference has a colour; that of another protocol says little and is only framed
_COLOURED = {"agrees", "within noise", "differs", "subset"}
_FRAMED = {"not a reproduction"}
# points beyond which a difference has the next stronger colour
_STEPS = (TOLERANCE, 3.0, 6.0)


def shade(verdict: str, difference: float) -> str:
    """Return the class of a difference: blue above the paper's number, orange below, by size."""
    if math.isnan(difference) or verdict not in _COLOURED | _FRAMED:
        return ""
    step = sum(abs(difference) > limit for limit in _STEPS)
    side = "near" if step == 0 else f"{'above' if difference > 0 else 'below'}-{step}"
    return f"{side} framed" if verdict in _FRAMED else side


def shares_of_numbers(verdicts: list[str]) -> tuple[Share, ...]:
    """Count the numbers of the paper by verdict; verdicts that do not occur are left out."""
    return _shares(_NUMBERS, verdicts)


def shares_of_claims(verdicts: list[str]) -> tuple[Share, ...]:
    """Count the claims of the paper by verdict."""
    return _shares(CLAIMS, verdicts)


def _shares(known: dict[str, tuple[str, str, str]], verdicts: list[str]) -> tuple[Share, ...]:
    counts = {name: verdicts.count(name) for name in known}
    return tuple(Share(name, n, *known[name]) for name, n in counts.items() if n)
