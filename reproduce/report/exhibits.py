"""Figures, claims and pictures as the page shows them, and what they are shown with.

As in `view`: plain values, written out.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A file that lies beside the page."""

    label: str
    href: str


@dataclass(frozen=True)
class Cell:
    """An entry of a plain table: its text, and what the column is sorted by."""

    text: str
    value: float | str | None = None
    code: bool = False


@dataclass(frozen=True)
class Plain:
    """A plain table: a caption, heads, and rows whose first cell names them."""

    name: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure: its drawing as a data URI, what it shows, and what it lacks."""

    name: str
    title: str
    source: str
    size: tuple[int, int]
    caption: str
    missing: tuple[str, ...]
    numbers: Plain | None
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Bar:
    """An interval of a forest plot; positions in percent of its width."""

    low: float
    high: float
    value: float
    zero: float | None
    threshold: float | None


@dataclass(frozen=True)
class Effect:
    """One effect behind a claim, and its interval as a picture."""

    what: str
    text: str
    bar: Bar | None
    behind: str
    detail: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what became of it.

    Attributes
    ----------
    name, statement, source : str
        What it goes by, what the paper says, and where.
    verdict, kind, symbol : str
        What became of it; the style's class of that, and its symbol.
    summary, over : str
        The effect in a sentence, and what the intervals speak of.
    effects : tuple of Effect
        The numbers behind it, the one that decides first.
    missing : tuple of str
        What belongs to it and is not there.
    """

    name: str
    statement: str
    source: str
    verdict: str
    kind: str
    symbol: str
    summary: str
    over: str
    effects: tuple[Effect, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, what it shows in words, and what a network takes it for.

    Attributes
    ----------
    source, alt : str
        The image, and its description for those who do not see it.
    prediction, confidence : str
        The class it is taken for, and how surely.
    right : bool or None
        Whether that is its class; None where it has none.
    """

    source: str
    alt: str
    prediction: str
    confidence: str
    right: bool | None


@dataclass(frozen=True)
class Strip:
    """What one network makes of one image: clean, the perturbation, under attack."""

    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Example:
    """One attacked image, and a strip of pictures for each of two networks."""

    title: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Gallery:
    """The adversarial examples, and how to read them."""

    note: str
    examples: tuple[Example, ...]
