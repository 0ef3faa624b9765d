"""The kinds of file that a results folder holds, and how large each can be at most."""

import re
from typing import Literal, NamedTuple

Kind = Literal[
    "model",
    "state",
    "trace",
    "epochs",
    "run",
    "record",
    "summary",
    "shard",
    "outcome",
    "table",
    "diff",
    "figure",
    "examples",
    "examples-info",
    "claims",
    "lemma",
    "results",
    "report",
    "speeds",
    "aside",
]

_MIB = 2**20
_CELL = r"cells/(?P<cell>[^/]+/[^/]+/[^/]+/[^/]+/[^/]+)"
_MODEL = r"models/(?P<dataset>[^/]+)/(?P<model>[^/]+)"
_CHOICE = r"(?P<choice>|-last|-best-val)"
_RECORD = r"(?P<label>[a-z0-9][a-z0-9-]*)-seed(?P<seed>\d{1,9})"


class Place(NamedTuple):
    """What a file is by its path.

    Attributes
    ----------
    kind : str
        What it is.
    most : int
        Bytes that a file of this kind can have; one that has more is not opened.  The
        paper's largest are far below.
    parts : dict
        What its path says: cell, choice, label, seed, dataset, model, name, suffix.
    """

    kind: Kind
    most: int
    parts: dict[str, str]


def _kind(kind: Kind, mib: float, pattern: str) -> tuple[Kind, int, re.Pattern[str]]:
    return kind, int(mib * _MIB), re.compile(pattern)


_KINDS = (
    _kind("model", 4096, rf"{_CELL}/model{_CHOICE}\.safetensors"),
    _kind("state", 16384, rf"{_CELL}/(state|previous)-[0-9a-f]+\.safetensors"),
    _kind("trace", 512, rf"{_CELL}/trace\.parquet"),
    _kind("epochs", 16, rf"{_CELL}/epochs\.csv"),
    _kind("run", 16, rf"{_CELL}/run\.json"),
    _kind("record", 8, rf"({_CELL}|{_MODEL})/records{_CHOICE}/{_RECORD}\.npz"),
    _kind("summary", 4, rf"({_CELL}|{_MODEL})/records{_CHOICE}/{_RECORD}\.json"),
    _kind("shard", 8, rf"({_CELL}|{_MODEL})/records{_CHOICE}/{_RECORD}-[0-9a-f]+\.shards/\d+\.npz"),
    _kind("outcome", 1, rf"{_MODEL}/{_RECORD}\.json"),
    _kind("table", 16, r"tables/(?P<name>table\d|checkpoints)\.(?P<suffix>csv|md|tex)"),
    _kind("diff", 16, r"diff/(?P<name>table\d)\.(?P<suffix>csv)"),
    _kind("figure", 64, r"figures/(?P<name>figure\d|war|lemma)\.(?P<suffix>svg|png|csv)"),
    _kind("examples", 256, r"examples/(?P<dataset>[^/]+)\.npz"),
    _kind("examples-info", 16, r"examples/(?P<dataset>[^/]+)\.json"),
    _kind("claims", 64, r"claims\.json"),
    _kind("lemma", 64, r"lemma\.json"),
    _kind("results", 256, r"results\.parquet"),
    _kind("report", 256, r"report\.html"),
    _kind("speeds", 1, r"throughput\.json"),
    # nothing is made from them: logs, event files, what was replaced, locks, what is being written;
    # what publishing says of a folder in words
    _kind(
        "aside",
        1024 * 1024,
        r"(logs|superseded|tensorboard)/.*|README\.md|config\.yaml|(.*/)?\.([^/]*\.)?lock|(.*/)?\.[^/]*\.part/.*",
    ),
)


def place_of(path: str) -> Place | None:
    """Say what a file is by its path from the results folder on; None if nothing known."""
    for kind, most, pattern in _KINDS:
        match = pattern.fullmatch(path)
        if match is not None:
            return Place(kind, most, {k: v for k, v in match.groupdict().items() if v is not None})
    return None
