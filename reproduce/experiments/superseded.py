"""Finished results that others replace: kept, counted, and brought back by a command.

A run goes to ``superseded/cells/<cell>/<digest>``, a record to ``<name>-<digest>`` in its folder
there.  A number follows where there is another of that name.
"""

import filecmp
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, read_json, write_atomically
from reproduce.experiments import paths
from reproduce.experiments.runs import problem_with, read_run
from reproduce.experiments.spec import TrainingSpec


class Superseded(NamedTuple):
    """How many runs, and records without their runs, were replaced."""

    runs: int
    records: int


def count_superseded(config: Config) -> Superseded:
    """Count what was replaced; records of a replaced run count as part of it."""
    root = paths.superseded_folder(paths.root(config))
    runs = list(root.glob("cells/*/*/*/*/*/*/run.json"))
    return Superseded(len(runs), len(list(root.rglob("records*/*/*.npz"))))


def move_run_aside(root: Path, folder: Path) -> Path | None:
    """Move the finished run in a cell's folder aside, with its records; the caller holds its lock.

    Nothing goes before all of it lies there, and run.json goes last, so an interrupted move is
    done again.  Returns where the run lies now; None if there was none.
    """
    run = paths.run_file(folder)
    if not run.is_file():
        return None
    records = [*folder.glob("records*/[!.]*.npz"), *folder.glob("records*/[!.]*.json")]
    files = [file for file in paths.run_files(folder, paths.CHECKPOINTS) if file.is_file()]
    aside = _keep(root, folder, [*records, *files], _value(run, "digest"))
    for file in (*records, *files):
        file.unlink()
    return aside


def copy_record_aside(root: Path, record: Path) -> Path | None:
    """Copy a record aside that a new one is about to replace; None if it is not whole."""
    summary = record.with_suffix(".json")
    if not (record.is_file() and summary.is_file()):
        return None
    name = f"{record.stem}-{_value(summary, 'digest')}"
    return _keep(root, record.parent, [record, summary], name)


def return_records(aside: Path, folder: Path, models: Mapping[Checkpoint, str]) -> None:
    """Copy the records of a run that was moved aside back that are of the new weights, `models`."""
    for summary in aside.glob("records*/*.json"):
        if _value(summary, "model_sha256") in models.values():
            for file in (summary.with_suffix(".npz"), summary):
                _put(file, folder / file.relative_to(aside))


def restore(path: Path) -> tuple[Path, Path | None]:
    """Bring a run or record back from its folder under ``superseded``.

    What lies in its place goes aside.  Returns where it lies now, and where what was there does.
    """
    path = path.absolute()
    root = next((parent.parent for parent in path.parents if parent.name == "superseded"), None)
    records = [file for file in path.glob("*.npz") if file.with_suffix(".json").is_file()]
    is_run = paths.run_file(path).is_file()
    if root is None or not (is_run or records):
        raise HarnessError(
            f"{path} is no whole superseded run or record; give a folder such as "
            "results/demo/superseded/cells/CELL/DIGEST"
        )
    place = root / path.parent.relative_to(paths.superseded_folder(root))
    target = place if is_run else place / records[0].name
    lock = paths.training_lock(place) if is_run else paths.evaluation_lock(target)
    with exclusive(lock, str(target)):
        aside = move_run_aside(root, place) if is_run else copy_record_aside(root, target)
        # run.json last: without it nothing counts
        files = [file for file in path.rglob("*.*") if file.is_file()]
        for file in sorted(files, key=lambda file: file.name == "run.json"):
            _put(file, place / file.relative_to(path))
        shutil.rmtree(path)
    return target, None if aside == path else aside


def found_superseded(config: Config, spec: TrainingSpec) -> str | None:
    """Say in a line where a whole run of these settings and images lies aside; None for none."""
    folder = paths.cell_folder(config, spec.parsed).relative_to(paths.root(config))
    aside = paths.superseded_folder(paths.root(config)) / folder
    for found in sorted(aside.glob(f"{spec.digest}*")):
        try:
            if problem_with(config, spec, read_run(found), found, checksums=True) is None:
                return (
                    f"{spec.cell}: a finished run of these settings lies in {found}; "
                    f"{how_to_restore(found)} brings it back without training"
                )
        except HarnessError:  # its run.json is damaged
            continue
    return None


def how_to_restore(path: Path) -> str:
    """Return the command that brings something back, in backquotes."""
    return f"`reproduce restore {shlex.quote(str(path))}`"


def _keep(root: Path, folder: Path, files: Iterable[Path], name: str) -> Path:
    """Put files of a folder aside under a name, or where others have that, with a number."""
    base = paths.superseded_folder(root) / folder.relative_to(root) / name
    places = {file: file.relative_to(folder) for file in files}
    target = next(
        to
        for to in chain([base], (base.with_name(f"{base.name}-{number}") for number in count(2)))
        if all(
            not (to / place).exists() or filecmp.cmp(file, to / place, shallow=False)
            for file, place in places.items()
        )
    )
    for file, place in places.items():
        _put(file, target / place)
    return target


def _put(source: Path, target: Path) -> None:
    """Put a file at another place too, as a hard link where the disk knows such."""

    def write(part: Path) -> None:
        try:
            part.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, part)

    write_atomically(target, write)


def _value(path: Path, key: str) -> str:
    """Return a checksum that a JSON file names; "damaged" where the file is."""
    try:
        found = str(read_json(path).get(key))
    except HarnessError:
        return "damaged"
    return found if re.fullmatch("[0-9a-f]+", found) else "damaged"
