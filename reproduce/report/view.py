"""What the page says, as plain values: texts, numbers already written out, and order.

The template knows nothing of records or configurations, only of these.
"""

from dataclasses import dataclass

from reproduce.report.exhibits import Claim, Figure, Gallery, Link, Plain


@dataclass(frozen=True)
class Share:
    """A part of a stacked bar: how many, under which name, and what that means."""

    name: str
    count: int
    # the style's class, a word
    kind: str
    symbol: str
    meaning: str


@dataclass(frozen=True)
class Tile:
    """A number of the first screen and what it counts."""

    value: str
    label: str


@dataclass(frozen=True)
class Gap:
    """A row of the largest differences: where, the paper's number, ours, their difference."""

    table: str
    where: str
    paper: str
    ours: str
    difference: str
    shade: str
    verdict: str


@dataclass(frozen=True)
class Summary:
    """The first screen.

    Attributes
    ----------
    preset : str
        The preset.
    headline : str
        One sentence: how far the numbers agree.
    tiles : tuple of Tile
        What was done of what was planned, and the mean absolute difference.
    numbers, claims : tuple of Share
        Numbers of the paper by verdict, and its claims.
    beside : str
        What the bar of numbers leaves out.
    deviations, missing, damaged : tuple of str
        Settings that are not the paper's, results not there yet, files that could not be used.
    gaps : tuple of Gap
        The largest differences.
    """

    preset: str
    headline: str
    tiles: tuple[Tile, ...]
    numbers: tuple[Share, ...]
    claims: tuple[Share, ...]
    beside: str
    deviations: tuple[str, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class Number:
    """An entry of a table beside the paper's.

    Attributes
    ----------
    value : float or None
        What the column is sorted by; None where there is nothing.
    mean, std, count : str
        Ours, written out; `count` is "2/3" where seeds are missing, else empty.
    best : bool
        Whether it is the best of its column.
    paper, difference : str
        The paper's, and ours minus the paper's; empty where there is none.
    shade : str
        The style's class of the difference: its sign and how large it is.
    verdict, symbol, meaning : str
        Of the comparison.
    details : tuple of (str, str)
        What else is known of it: the interval, the number of images.
    seeds : tuple of (str, str)
        The single values behind the mean, each with the seed it is of.
    """

    value: float | None
    mean: str
    std: str
    count: str
    best: bool
    paper: str
    difference: str
    shade: str
    verdict: str
    symbol: str
    meaning: str
    details: tuple[tuple[str, str], ...]
    seeds: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """A row of a table: its labels and its entries."""

    labels: tuple[str, ...]
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Section:
    """Rows of a table under a heading of their own."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Note:
    """A remark under a table: a long one is folded under its first words."""

    head: str
    text: str


@dataclass(frozen=True)
class Table:
    """One table of the paper, regenerated.

    Attributes
    ----------
    name, title : str
        The name of its target, and its heading.
    labels : tuple of str
        Heads of the columns that name a row.
    groups : tuple of (str, int)
        Heads above several columns, and above how many.
    columns : tuple of (str, str)
        Heads of the other columns, each with the group above it.
    sections : tuple of Section
        The rows.
    compared : bool
        Whether the paper has a number for any entry.
    notes : tuple of Note
        What a reader must know.
    links : tuple of Link
        The same table in other forms.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    columns: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    compared: bool
    notes: tuple[Note, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Costs:
    """What the runs cost: by table, by cell, and by which speed it was estimated."""

    by_table: Plain
    by_cell: Plain
    note: str


@dataclass(frozen=True)
class Provenance:
    """What a reviewer needs to know of where the numbers come from, and to make them again."""

    facts: tuple[tuple[str, tuple[str, ...]], ...]
    versions: Plain
    data: Plain
    models: Plain
    configuration: str
    commands: str


@dataclass(frozen=True)
class Report:
    """The whole page."""

    summary: Summary
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    claims: tuple[Claim, ...]
    lemma: Plain | None
    gallery: Gallery | None
    costs: Costs
    provenance: Provenance
