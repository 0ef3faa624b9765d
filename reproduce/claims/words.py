"""How claims are written out."""

import math
from collections.abc import Sequence

from reproduce.claims.claim import Effect, Finding
from reproduce.claims.compare import Judgement, span

_NOTE = {
    "seeds": "",
    "images": " The interval is over images: it speaks of these very networks, not of another "
    "training seed.",
}


def finding(judgement: Judgement, subject: str, above: str, below: str, note: str = "") -> Finding:
    """Write a judgement out.

    Parameters
    ----------
    judgement : Judgement
        The judgement.
    subject : str
        What is compared, with its verb: "natural accuracy is".
    above, below : str
        How to say that the difference is positive, or negative: "higher on the wider
        network", "lower on the wider network".
    note : str, optional
        A sentence more for what is judged.
    """
    return Finding(
        judgement.verdict,
        _sentence(judgement, subject, above, below, note),
        judgement.unit,
        judgement.effects,
        judgement.missing,
    )


def _sentence(judgement: Judgement, subject: str, above: str, below: str, note: str) -> str:
    main = judgement.main
    if not judgement.planned:
        return "Nothing to compare: the configuration has a single width, or lambda, here."
    if not judgement.singles:
        return f"No results yet; {counted(judgement.planned, 'comparison')} to make."
    if main is None:
        there = f"{len(judgement.singles)} of {counted(judgement.planned, 'comparison')}"
        return (
            f"Needs two training seeds on each side. So far there are differences for {there}, "
            f"{span(judgement.singles)}, without intervals."
        )
    text = f"{subject} {size(main, above if main.value >= 0 else below)}"
    if judgement.averaged > 1:
        text = f"on average over {judgement.averaged} comparisons {text}"
    text = f"{text[0].upper()}{text[1:]}."
    text += f" {note}" * bool(note)
    if judgement.contrary:
        text += f" Significantly against the claim: {', '.join(judgement.contrary)}."
    elif judgement.judged > 1:
        for_itself = " when taken for itself" * (judgement.verdict == "fails")
        text += f" No single one is significantly against the claim{for_itself}."
    left = judgement.planned - judgement.judged
    if left:
        text += f" Not judged for want of results: {left} of {judgement.planned} comparisons."
    return text + _NOTE[judgement.unit] * (not math.isnan(main.low))


def size(effect: Effect, where: str = "", rests_on: str | None = None) -> str:
    """Write how large an effect is, its interval turned the same way, and what it rests on.

    `where` stands between the number and the brackets; it rests on seeds and images
    unless that is said.
    """
    low, high = effect.low, effect.high
    if effect.value < 0:
        low, high = -high, -low
    interval = "no interval"
    if not math.isnan(low):
        interval = f"95 % interval {number(low, effect.unit)} to {number(high, effect.unit)}"
    text = f"{number(abs(effect.value), effect.unit)} {effect.unit} {where}".strip()
    return f"{text} ({', '.join(filter(None, (interval, rests_on or behind(effect))))})"


def number(value: float, unit: str) -> str:
    """Write a number: points to two decimals, others to three digits."""
    text = f"{value:.2f}" if unit == "points" else f"{value:.3g}"
    return text.replace("-", "−")


def behind(effect: Effect) -> str:
    """Say what an effect rests on."""
    parts = ((effect.seeds, "training seed"), (effect.images, "image"))
    return ", ".join(counted(count, word) for count, word in parts if count)


def counted(count: int, word: str) -> str:
    """Write how many there are of something."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
