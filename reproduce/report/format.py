"""How the page writes names, numbers and verdicts."""

import base64
import math
import re

from reproduce.claims.evidence import Effect
from reproduce.tables.diff import JUDGED, TOLERANCE

# verdict: class of the style, symbol; in the order of the bar
NUMBER_VERDICTS = {
    "agrees": ("agree", "✓"),
    "within noise": ("noise", "≈"),
    "differs": ("differ", "≠"),
    "too few seeds": ("few", "?"),
    "subset": ("part", "◔"),
    "not a reproduction": ("other", "∼"),
    "missing": ("none", "○"),
}
CLAIM_MEANINGS = {
    "holds": "the results here show what the paper says",
    "fails": "the results here contradict it",
    "too little data": "too few runs, seeds or images here to tell",
}
CLAIM_VERDICTS = {
    "holds": ("agree", "✓"),
    "fails": ("differ", "✗"),
    "too little data": ("none", "○"),
}
# shown after a difference; the colour says the other verdicts
SYMBOLS = {name: NUMBER_VERDICTS[name][1] for name in (*JUDGED, "subset")}
# points beyond which a difference has the next stronger colour
_STEPS = (TOLERANCE, 3.0, 6.0)
_NAMES = {"war": "WAR", "lemma": "Lemma", "checkpoints": "Checkpoints"}


def label(name: str) -> str:
    """Write the name of a table or figure: Table 1, Figure 3, WAR."""
    return _NAMES.get(name) or re.sub(r"(\d+)$", r" \1", name).capitalize()


def minus(text: str) -> str:
    """Write a negative number with a typographic minus."""
    return text.replace("-", "−")


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals; empty for NaN."""
    return "" if math.isnan(value) else minus(f"{value:.{digits}f}")


def number(value: float) -> str:
    """Write a number of any kind to six digits."""
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if math.isnan(value) else minus(f"{value:.6g}")


def with_std(mean: float, std: float) -> str:
    """Write a number of the paper: 47.81 ± 0.09; empty for NaN."""
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def signed(difference: float) -> str:
    """Write a difference with its sign: +0.42, −1.30, 0.00; empty for NaN."""
    if math.isnan(difference):
        return ""
    text = f"{difference:+.2f}"
    return minus(text) if float(text) else "0.00"


def count(number: int, word: str) -> str:
    """Write a number of things: 1 seed, 3 seeds."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def hours(value: float) -> str:
    """Write hours, with more digits the fewer they are."""
    if not value:
        return "0"
    digits = next(d for least, d in ((100, 0), (10, 1), (1, 2), (-math.inf, 4)) if value >= least)
    return f"{value:,.{digits}f}"


def shade(verdict: str, difference: float) -> str:
    """Return the class of a difference: blue above the paper's number, orange below, by size.

    A number under other settings than the paper's is framed; other verdicts have no colour.
    """
    framed = verdict == "not a reproduction"
    if math.isnan(difference) or not (framed or verdict in SYMBOLS):
        return ""
    step = sum(abs(difference) > limit for limit in _STEPS)
    side = "near" if step == 0 else f"{'above' if difference > 0 else 'below'}-{step}"
    return f"{side} framed" if framed else side


def forest(effect: Effect, effects: tuple[Effect, ...]) -> dict[str, float | None] | None:
    """Place an effect on the scale that a claim's effects of its unit share, in percent.

    The scale holds all of them, their intervals, zero and thresholds; 6 % stay free at either end.
    None where there is nothing to place.
    """
    shared = [one for one in effects if one.unit == effect.unit]
    points = [(one.value, one.low, one.high, one.threshold or 0.0) for one in shared]
    known = [point for of_one in points for point in of_one if math.isfinite(point)]
    start, span = min(known), max(known) - min(known)
    if not math.isfinite(effect.value) or not span:
        return None
    low, high = (end if math.isfinite(end) else effect.value for end in (effect.low, effect.high))
    # a threshold at zero is the line at zero
    marks = {"low": low, "high": high, "value": effect.value, "zero": 0.0}
    placed: dict[str, float | None] = {"threshold": None}
    for name, value in (marks | {"threshold": effect.threshold or None}).items():
        placed[name] = None if value is None else round(6 + 88 * (value - start) / span, 2)
    return placed


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as a URI that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
