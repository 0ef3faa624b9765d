"""Whether what was made from runs and records is what they give: it is made again here."""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reproduce.claims.statements import judge_claims, write_claims
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.examples.files import read_files
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.spec import lemma_digest
from reproduce.figures import draw
from reproduce.lemma.results import read_examination, to_json
from reproduce.registry import dataset_facts
from reproduce.report.build import write_report
from reproduce.results.frames import COLUMNS, collect, write_results
from reproduce.share.verification_finding import UNEXPECTED, Finding, first_difference
from reproduce.share.verification_folder import Copied
from reproduce.share.verification_formats import check_npz, read_frame
from reproduce.tables.diff import build_diff, write_diff
from reproduce.tables.write import write_checkpoints, write_table

# rounding that an attack's projection may leave
_SLACK = 1e-6
# of numbers that libraries of another version may round otherwise
_ROUNDING = 1e-9
_PICTURES = ("svg", "png")
_TEXTS = ("csv", "md", "tex", "svg")
# among the settings of a page; with nothing in it that a browser would take for more than text
_PLACE = re.compile(r"(?<=\Aresults: )[^<>&]*\Z")


class Rebuilt:
    """Tables, figures and verdicts, made from the checked copy of a folder.

    Parameters
    ----------
    config : Config
        The configuration, with the folder that the copy lies in as its results.
    given : Path
        Where the files of the folder were put that are to be made again: beside the copy,
        which gets those made here.
    """

    def __init__(self, config: Config, given: Path) -> None:
        self._config, self._given = config, given
        self._made: dict[tuple[str, str], str | None] = {}

    def check(self, file: Copied) -> Finding:
        """Make a file again and compare."""
        name, kind = file.place.parts.get("name", ""), file.place.kind
        problem = self._make(kind, name)
        if problem is not None:
            return Finding("not checked", file.name, problem)
        ours, theirs = paths.root(self._config) / file.name, self._given / file.name
        if not ours.is_file():
            return Finding("not checked", file.name, "there is nothing to make it from")
        made, given = ours.read_bytes(), theirs.read_bytes()
        if made == given:
            return Finding("stands", file.name, "made again: the same bytes")
        if file.place.parts.get("suffix") in _TEXTS and made == given.replace(b"\r\n", b"\n"):
            return Finding("stands", file.name, "made again: the same with line ends of Windows")
        return self._compare(file, ours, theirs)

    def _make(self, kind: str, name: str) -> str | None:
        """Make a result once; why not, where that cannot be."""
        key = (kind, name)
        if key not in self._made:
            try:
                _MAKERS[kind](self._config, name)
                self._made[key] = None
            except HarnessError as error:
                self._made[key] = str(error)
            except UNEXPECTED as error:
                # of what it is made from, not of this file
                self._made[key] = f"it cannot be made here ({type(error).__name__}: {error})"
        return self._made[key]

    def _compare(self, file: Copied, ours: Path, theirs: Path) -> Finding:
        """Say what differs in two files of other bytes."""
        if file.place.kind == "report" and _lines_of_page(ours) == _lines_of_page(theirs):
            return Finding("stands", file.name, "made again: alike but for where it lay")
        if file.place.parts.get("suffix") in _PICTURES or file.place.kind == "report":
            return Finding(
                "not checked",
                file.name,
                "its bytes are not those made here, which may be other versions of the libraries "
                "that draw; its numbers stand in the .csv files",
            )
        try:
            if file.place.kind == "claims":
                same = alike(read_json(ours), read_json(theirs))
                reason = "" if same else "its verdicts or effects are not those of the records"
            elif file.place.kind == "results":
                reason = _frames_differ(pd.read_parquet(ours), theirs)
            else:
                lines = [path.read_text(encoding="utf-8").splitlines() for path in (ours, theirs)]
                reason = first_difference(*lines) or "its line ends are others"
        except (HarnessError, UnicodeDecodeError) as error:
            return Finding("damaged", file.name, str(error))
        return Finding("differs" if reason else "stands", file.name, reason or "made again: alike")


def _lines_of_page(path: Path) -> list[str]:
    """Return the lines of a report, that of the place it was made from left out."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [_PLACE.sub("", line) for line in text.splitlines()]


def _table(config: Config, name: str) -> None:
    if name == "checkpoints":
        write_checkpoints(config)
        return
    chosen = find_table(config, name)
    write_table(config, chosen, collect(config, chosen))


def _diff(config: Config, name: str) -> None:
    chosen = find_table(config, name)
    write_diff(config, chosen, build_diff(config, chosen, collect(config, chosen)))


_MAKERS: dict[str, Callable[[Config, str], object]] = {
    "table": _table,
    "diff": _diff,
    "figure": draw,
    "claims": lambda config, _: write_claims(config, judge_claims(config)),
    "results": lambda config, _: write_results(config),
    "report": lambda config, _: write_report(config),
}


def alike(ours: Any, theirs: Any) -> bool:
    """Say whether two JSON values are equal, numbers to rounding."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(alike(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        both_nan = math.isnan(ours) and math.isnan(theirs)
        return both_nan or math.isclose(ours, theirs, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return type(ours) is type(theirs) and bool(ours == theirs)


def _frames_differ(ours: pd.DataFrame, theirs: Path) -> str:
    """Say what differs in a table of all numbers; empty if nothing does.

    Raises
    ------
    HarnessError
        If the other one is no such table.
    """
    other = read_frame(theirs, list(COLUMNS), texts=True)
    if len(ours) != len(other):
        return f"it has {len(other)} rows, the records give {len(ours)}"
    for name in COLUMNS:
        pairs = zip(ours[name].tolist(), other[name].tolist(), strict=True)
        for row, (here, there) in enumerate(pairs):
            if not (pd.isna(here) is True and pd.isna(there) is True) and here != there:
                return f"row {row} has {name} {there!r}, the records give {here!r}"
    return ""


def check_lemma(config: Config, file: Copied) -> Finding:
    """Fit the norms of lemma.json again; the random networks are not drawn again."""
    try:
        told = read_json(file.path)
        if told.get("digest") != lemma_digest(config):
            return Finding("not checked", file.name, "it is of other settings than these")
        found = read_examination(config)
    except HarnessError as error:
        return Finding("damaged", file.name, str(error))
    if found is None:
        return Finding("not checked", file.name, "it is of other settings than these")
    made = json.loads(json.dumps(to_json(config.lemma, lemma_digest(config), found)))
    if not alike(made, told):
        return Finding("differs", file.name, "its fits are not those of its rows")
    return Finding("stands", file.name, f"{len(found.rows)} rows fitted again")


def check_examples(file: Copied, records: Iterable[str]) -> Finding:
    """Check adversarial images: whole, within the ball, of records that stand.

    Parameters
    ----------
    file : Copied
        The arrays.
    records : iterable of str
        Checksums of the records that stand.
    """
    try:
        check_npz(file.path)
        info, arrays = read_files(file.path)
        dataset_facts(file.place.parts["dataset"])
    except HarnessError as error:
        return Finding("damaged", file.name, str(error))
    adversarial = arrays["adversarial"].astype(np.float64)
    far = np.abs(adversarial - arrays["images"].astype(np.float64) / 255).max(initial=0.0)
    inside = bool(((adversarial >= 0) & (adversarial <= 1)).all())
    if not (inside and far <= info.epsilon + _SLACK):
        return Finding(
            "damaged", file.name, f"an image is {far:.6g} away, epsilon is {info.epsilon:.6g}"
        )
    classes = dataset_facts(file.place.parts["dataset"]).classes
    for key in ("label", "prediction"):
        if (arrays[key] < 0).any() or (arrays[key] >= classes).any():
            return Finding("damaged", file.name, f"its {key} holds a class that there is not")
    known = set(records)
    if any(network.record_sha256 not in known for network in info.networks):
        return Finding("differs", file.name, "its images are of records that are not here")
    return Finding("stands", file.name, f"{len(info.held_by)} images in the ball")
