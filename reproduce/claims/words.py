"""How claims are written out."""

import math
from collections.abc import Sequence

from reproduce.claims.claim import Effect, Finding
from reproduce.claims.compare import Judgement
from reproduce.claims.comparison import span

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
    if main is None and not judgement.singles:
        return f"No results yet; {counted(judgement.planned, 'comparison')} to make."
    if main is None and not judgement.judged:
        there = f"{len(judgement.singles)} of {counted(judgement.planned, 'comparison')}"
        return (
            f"Needs two training seeds on each side. So far there are differences for {there}, "
            f"{span(judgement.singles)}, without intervals."
        )
    if main is None:
        text = f"of what decides, whether {subject} {above}, there are no two seeds yet"
    else:
        text = f"{subject} {size(main, above if main.value >= 0 else below)}"
    if judgement.averaged > 1:
        text = f"on average over {judgement.averaged} comparisons {text}"
    text = so_far(judgement.judged, judgement.planned, "comparison") + f"{text}."
    text = text[0].upper() + text[1:]
    text += f" {note}" * bool(note) + _single_ones(judgement)
    if main is None or math.isnan(main.low):
        return text
    return text + _NOTE[judgement.unit]


def _single_ones(judgement: Judgement) -> str:
    """Say how many single comparisons are not as the claim says."""
    against, judged = judgement.against, judgement.judged
    if judged < 2 and not judgement.contrary:
        return ""
    if not against:
        return f" None of the {judged} points the other way."
    verb = "points" if against == 1 else "point"
    text = f" {against} of {judged} {verb} the other way"
    if judgement.contrary:
        return f"{text}. Significantly against the claim: {', '.join(judgement.contrary)}."
    return f"{text}, none significantly" + " by itself" * (judgement.verdict == "fails") + "."


def so_far(judged: int, planned: int, what: str) -> str:
    """Begin a sentence on a part of what is planned; of all of it there is nothing to say."""
    if judged == planned:
        return ""
    return f"So far, judged on {judged:,} of {counted(planned, what)}: "


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
