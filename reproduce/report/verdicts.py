"""Verdicts as the page shows them: a word, a symbol, a class of the style, what it means."""

import math

from reproduce.report.view import Share
from reproduce.tables.diff import JUDGED, TOLERANCE, VERDICTS

# verdict of a number: class of the style, symbol, meaning; in the order of the bar
_NUMBERS = {
    name: (*look, VERDICTS[name])
    for name, look in {
        "agrees": ("agree", "✓"),
        "within noise": ("noise", "≈"),
        "differs": ("differ", "≠"),
        "too few seeds": ("few", "?"),
        "subset": ("part", "◔"),
        "not a reproduction": ("other", "∼"),
        "missing": ("none", "○"),
    }.items()
}

# beside a difference; of the others the colour says it all
SYMBOLS = {name: _NUMBERS[name][1] for name in (*JUDGED, "subset")}

# verdict of a claim: class of the style, symbol, meaning
CLAIMS = {
    "holds": ("agree", "✓", "the results here show what the paper says"),
    "fails": ("differ", "✗", "the results here contradict it"),
    "too little data": ("none", "○", "too few runs, seeds or images here to tell"),
}

# verdicts whose difference has a colour; that of another protocol says little and is only framed
_COLOURED = {*JUDGED, "subset"}
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
