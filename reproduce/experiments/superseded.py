"""Finished results that others replace: kept aside, counted, and brought back by a command.

They lie under ``results/<preset>/superseded`` by the paths that they had: a run in a folder named
by its digest, ``cells/<cell>/<digest>``, a record with its digest in its name.  A number follows
where that is taken.  The same command finishes a move that was interrupted.
"""

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, read_json, sha256_of_file, write_atomically
from reproduce.experiments import paths
from reproduce.experiments.runs import damaged_file, problem_with, read_run
from reproduce.experiments.spec import TrainingSpec

# cells/<cell>/<digest>, and records of cells and of networks from elsewhere
_RUN = re.compile(r"cells(/[^/]+){5}/(?P<digest>[0-9a-f]+|damaged)(-\d+)?")
_RECORD = re.compile(r"(?P<record>(cells|models)/.+/records[^/]*/[^/]+-seed\d+)-[^/]+\.npz")


class Superseded(NamedTuple):
    """How many runs, and records beside them, were replaced and lie aside."""

    runs: int
    records: int


def move_run_aside(root: Path, folder: Path) -> Path | None:
    """Move the finished run in a cell's folder aside, with its records; the caller holds its lock.

    run.json goes last, so that an interrupted move is found and finished.  Saved states of runs
    that have not ended and shards of evaluations stay.  Returns where the run lies now; None if
    there was none: without run.json a run is not finished.
    """
    if not paths.run_file(folder).is_file():
        return None
    names = _names(folder)
    base = _aside(root, folder) / _digest_of(paths.run_file(folder))
    # an interrupted move goes on into its folder, which has none of the names that are left
    free = (to for to in _numbered(base) if not any((to / name).exists() for name in names))
    target = next(free)
    _move(folder, target, names)
    return target


def copy_record_aside(root: Path, record: Path) -> Path:
    """Copy a whole record aside that a new one is about to replace; once, however often asked."""
    files = (record, record.with_suffix(".json"))
    base = _aside(root, record.parent) / f"{record.stem}-{_digest_of(files[1])}"
    for target in _numbered(base):
        copies = tuple(target.with_name(target.name + source.suffix) for source in files)
        pairs = list(zip(files, copies, strict=True))
        if all(not to.exists() or sha256_of_file(to) == sha256_of_file(of) for of, to in pairs):
            _copy(pairs)
            return copies[0]
    raise AssertionError  # numbers do not end


def return_records(aside: Path, folder: Path, models: Mapping[Checkpoint, str]) -> None:
    """Copy records of a run that was moved aside back, where the new weights are the same.

    `models` has the checksums of the weights that now lie in `folder`, by checkpoint.
    """
    for checkpoint, sha256 in models.items():
        records = paths.record_file(aside, checkpoint, "any", 0).parent
        for summary in sorted(records.glob("*-seed*.json")):
            record = summary.with_suffix(".npz")
            if record.is_file() and _value(summary, "model_sha256") == sha256:
                _copy((one, folder / one.relative_to(aside)) for one in (record, summary))


def restore(path: Path) -> tuple[Path, Path | None]:
    """Bring a run or record back from under ``superseded``: its folder, or its .npz.

    What lies in its place goes aside in turn.  Returns where it lies now, and where what
    was there does.
    """
    place = path.absolute()
    above = next((parent for parent in place.parents if parent.name == "superseded"), place)
    root, name = above.parent, place.relative_to(above).as_posix()
    run, record = _RUN.fullmatch(name), _RECORD.fullmatch(name)
    if run is not None and path.is_dir():
        folder = (root / name).parent
        with exclusive(paths.training_lock(folder), f"cell {folder}"):
            return folder, _restore_run(root, path, folder, run["digest"])
    if record is not None and path.is_file():
        target = root / f"{record['record']}.npz"
        with exclusive(paths.evaluation_lock(target), str(target)):
            return target, _restore_record(root, path, target)
    raise HarnessError(
        f"{path} is no superseded run or record; it is a folder such as "
        "results/demo/superseded/cells/CELL/DIGEST, or the .npz of a record there"
    )


def found_superseded(config: Config, spec: TrainingSpec) -> str | None:
    """Say in a line where a whole run of these settings and images lies aside; None for none."""
    aside = _aside(paths.root(config), paths.cell_folder(config, spec.parsed))
    for folder in sorted(aside.glob(f"{spec.digest}*")):
        try:
            run = read_run(folder)
            if run is None or problem_with(config, spec, run, folder) or damaged_file(folder, run):
                continue
        except HarnessError:  # damaged
            continue
        return (
            f"{spec.cell}: a finished run of these settings lies in {folder}; "
            f"{how_to_restore(folder)} brings it back without training"
        )
    return None


def how_to_restore(path: Path) -> str:
    """Return the command that brings something back, in backquotes."""
    return f"`reproduce restore {shlex.quote(str(path))}`"


def count_superseded(config: Config) -> Superseded:
    """Count what lies aside; records of a run that lies aside count as part of it."""
    root = paths.superseded_folder(paths.root(config))
    records = ("cells/*/*/*/*/*/records*/*.npz", "models/*/*/records*/*.npz")
    return Superseded(
        len(list(root.glob("cells/*/*/*/*/*/*/run.json"))),
        sum(len(list(root.glob(place))) for place in records),
    )


def _restore_run(root: Path, path: Path, folder: Path, digest: str) -> Path | None:
    aside, here = None, paths.run_file(folder)
    if paths.run_file(path).is_file():
        aside = move_run_aside(root, folder)
    elif not here.is_file() or _digest_of(here) != digest:
        raise HarnessError(f"{path} has no run.json: it is not a whole run")
    # else an earlier restore was interrupted: run.json goes first, and the rest follows it
    _move(path, folder, reversed(_names(path)))
    for below in (*path.glob("records*"), path):
        if not any(below.iterdir()):
            below.rmdir()
    return aside


def _restore_record(root: Path, path: Path, place: Path) -> Path | None:
    pairs = [(path, place), (path.with_suffix(".json"), place.with_suffix(".json"))]
    if not pairs[1][0].is_file():
        raise HarnessError(f"{path} has no summary beside it: it is not a whole record")
    whole = all(target.is_file() for _, target in pairs)
    aside = copy_record_aside(root, place) if whole else None
    _copy(pairs)
    for source, _ in pairs:
        source.unlink()
    return aside


def _aside(root: Path, path: Path) -> Path:
    return paths.superseded_folder(root) / path.relative_to(root)


def _names(folder: Path) -> list[Path]:
    """Return the files of a run and of its records, from its folder on; run.json comes last."""
    records = [*folder.glob("records*/[!.]*.npz"), *folder.glob("records*/[!.]*.json")]
    files = paths.run_files(folder, paths.CHECKPOINTS)
    return [path.relative_to(folder) for path in (*sorted(records), *files) if path.is_file()]


def _move(source: Path, target: Path, names: Iterable[Path]) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target / name)


def _copy(pairs: Iterable[tuple[Path, Path]]) -> None:
    for source, target in pairs:
        write_atomically(target, partial(shutil.copyfile, source))


def _numbered(base: Path) -> Iterator[Path]:
    yield base
    yield from (base.with_name(f"{base.name}-{number}") for number in count(2))


def _digest_of(about: Path) -> str:
    """Return the digest that run.json or a summary names."""
    found = str(_value(about, "digest"))
    return found if re.fullmatch("[0-9a-f]{6,64}", found) else "damaged"


def _value(path: Path, key: str) -> object:
    """Return a value of a JSON file; None where the file is damaged."""
    try:
        return read_json(path).get(key)
    except HarnessError:
        return None
