"""The paper's claims: a verdict each, and their effects as small forest plots."""

import math
from collections.abc import Iterable

from reproduce.claims import evidence
from reproduce.report.exhibits import Bar, Claim, Effect
from reproduce.report.verdicts import CLAIMS
from reproduce.report.words import count, minus

# share of the width that stays free at either end of a scale, percent
_MARGIN = 6.0


def claim_view(claim: evidence.Claim) -> Claim:
    """Write a judged claim out; its effects of one unit share a scale."""
    kind, symbol, _ = CLAIMS[claim.verdict]
    scales = {
        unit: _scale(effect for effect in claim.effects if effect.unit == unit)
        for unit in {effect.unit for effect in claim.effects}
    }
    return Claim(
        claim.name,
        claim.statement,
        claim.source,
        claim.verdict,
        kind,
        symbol,
        claim.summary,
        f"Intervals over {claim.unit}" if claim.effects else "",
        tuple(_effect(effect, *scales[effect.unit]) for effect in claim.effects),
        claim.missing,
    )


def _effect(effect: evidence.Effect, low: float, high: float) -> Effect:
    bounded = not (math.isnan(effect.low) or math.isnan(effect.high))
    text = "no value yet"
    if not math.isnan(effect.value):
        text = f"{_number(effect.value)} {effect.unit}".strip()
        if bounded:
            text += f", 95 % interval {_number(effect.low)} to {_number(effect.high)}"
        if effect.threshold is not None:
            text += f"; threshold {_number(effect.threshold)}"
    behind = [
        count(effect.seeds, "seed") * bool(effect.seeds),
        count(effect.images, "image") * bool(effect.images),
        "" if effect.p_value is None else f"p {_p(effect.p_value)}",
    ]
    return Effect(
        effect.what,
        text,
        _bar(effect, low, high),
        ", ".join(filter(None, behind)),
        effect.detail,
    )


def _scale(effects: Iterable[evidence.Effect]) -> tuple[float, float]:
    """Return the ends of a scale that holds all effects, zero and thresholds."""
    points = [0.0]
    for effect in effects:
        threshold = math.nan if effect.threshold is None else effect.threshold
        points += [effect.value, effect.low, effect.high, threshold]
    known = [point for point in points if math.isfinite(point)]
    return min(known), max(known)


def _bar(effect: evidence.Effect, low: float, high: float) -> Bar | None:
    """Place an effect on its scale, in percent; None where there is nothing to place."""
    if not math.isfinite(effect.value) or low == high:
        return None

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        return round(_MARGIN + (100 - 2 * _MARGIN) * share, 2)

    ends = [end if math.isfinite(end) else effect.value for end in (effect.low, effect.high)]
    # a threshold at zero is the line at zero
    threshold = None if not effect.threshold else place(effect.threshold)
    return Bar(place(ends[0]), place(ends[1]), place(effect.value), place(0.0), threshold)


def _number(value: float) -> str:
    return minus(f"{value:.3g}")


def _p(value: float) -> str:
    """Write the probability of a test: very small ones as below a limit."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
