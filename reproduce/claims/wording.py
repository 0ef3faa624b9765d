"""How cells, effects and counts are written out."""

import math
from collections.abc import Iterable, Sequence

from reproduce.claims.evidence import Effect, Key
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label

OVER_IMAGES = (
    " This is over images: it speaks of these very networks, not of another training seed."
)
_STRATEGIES = {"manual": "search by hand", "untuned": "untuned λ"}


def width_of(key: Key) -> float:
    """Return the width of a key's network."""
    # a published network may be of a kind that cells have no name for
    return parse_architecture(key.architecture).width if key.architecture else 0.0


def kind_of(key: Key) -> str:
    """Return the family and depth of a key's network."""
    return parse_architecture(key.architecture).model if key.architecture else ""


def where_of(key: Key, groups: Iterable[Key], along: str) -> str:
    """Name what the sides of a comparison share, as far as others have it otherwise."""
    method = METHODS[key.method].title if key.method in METHODS else key.method
    parts = {
        dataset_facts(key.dataset).title: len({k.dataset for k in groups}) > 1,
        method: along not in ("method", "schedule"),
        f"λ={key.lam:g}": along in ("width", "schedule") and bool(key.lam),
        parse_architecture(key.architecture).title: len(set(map(kind_of, groups)) - {""}) > 1,
        width_label(key.architecture): along in ("lambda", "method", "schedule"),
        key.attack: len({k.attack for k in groups}) > 1,
    }
    return ", ".join(part for part, said in parts.items() if said)


def side_of(key: Key, along: str) -> str:
    """Name one side of a comparison."""
    if along == "width":
        return width_label(key.architecture)
    if along == "lambda":
        return f"λ={key.lam:g}"
    if key.method in METHODS:
        return METHODS[key.method].title
    return _STRATEGIES.get(key.method, key.method)


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
    counts = ((effect.seeds, "training seed"), (effect.images, "image"))
    behind = ", ".join(counted(count, word) for count, word in counts if count)
    text = f"{number(abs(effect.value), effect.unit)} {effect.unit} {where}".strip()
    return f"{text} ({', '.join(filter(None, (interval, rests_on or behind)))})"


def span(effects: Sequence[Effect]) -> str:
    """Write from where to where effects of one unit reach."""
    values = [effect.value for effect in effects]
    ends = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
    return " to ".join(ends).replace("-", "−") + f" {effects[0].unit}"


def number(value: float, unit: str) -> str:
    """Write a number: points to two decimals, others to three digits."""
    text = f"{value:.2f}" if unit == "points" else f"{value:.3g}"
    return text.replace("-", "−")


def capitalised(text: str) -> str:
    """Begin a sentence."""
    return text[0].upper() + text[1:]


def counted(count: int, word: str) -> str:
    """Write how many there are of something."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
