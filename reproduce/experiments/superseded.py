"""Finished results that others replace: kept aside, counted, and brought back by a command.

They lie under ``results/<preset>/superseded`` by the paths that they had: a run in a folder named
by its digest, ``cells/<cell>/<digest>``, a record with its digest in its name.  A number follows
where that is taken.  A move that was interrupted is finished by the same command again.
"""

import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
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

_DIGEST = re.compile(r"[0-9a-f]{6,64}")
_CELL = r"cells/[^/]+/[^/]+/[^/]+/[^/]+/[^/]+"
_RUN = re.compile(rf"(?P<folder>{_CELL})/(?P<digest>[0-9a-f]+|damaged)(-\d+)?")
_RECORD = re.compile(
    rf"(?P<folder>({_CELL}|models/[^/]+/[^/]+)/records[a-z-]*)/"
    r"(?P<stem>[a-z0-9-]+-seed\d+)-([0-9a-f]+|damaged)(-\d+)?\.npz"
)


class Superseded(NamedTuple):
    """How many runs, and records beside them, were replaced and lie aside."""

    runs: int
    records: int


def move_run_aside(root: Path, folder: Path) -> Path | None:
    """Move the finished run in a cell's folder aside, with its records; the caller holds its lock.

    run.json goes last, so that a move that was interrupted is found and finished.  The saved states
    of runs that have not ended, and shards of evaluations, stay.

    Parameters
    ----------
    root : Path
        The results folder of the preset.
    folder : Path
        The cell's folder in it.

    Returns
    -------
    Path or None
        Where it lies now; None if there was none: without run.json a run is not finished.
    """
    if not paths.run_file(folder).is_file():
        return None
    names = _names(folder)
    target = _free(_aside(root, folder) / _digest_of(paths.run_file(folder)), names)
    _move(folder, target, names)
    return target


def copy_record_aside(root: Path, record: Path) -> Path:
    """Copy a whole record aside that a new one is about to replace; once, however often asked."""
    files = (record, record.with_suffix(".json"))
    base = _aside(root, record.parent) / f"{record.stem}-{_digest_of(files[1])}"
    for target in _numbered(base):
        copies = (target.with_name(f"{target.name}.npz"), target.with_name(f"{target.name}.json"))
        if all(map(_free_for, files, copies)):
            for source, copy in zip(files, copies, strict=True):
                write_atomically(copy, partial(shutil.copyfile, source))
            return copies[0]
    raise AssertionError  # numbers do not end


def return_records(aside: Path, folder: Path, models: Mapping[Checkpoint, str]) -> None:
    """Copy the records of a run that was moved aside back, as far as the new weights are the same.

    Parameters
    ----------
    aside, folder : Path
        Where `move_run_aside` put it, and where it was.
    models : mapping
        Checksums of the weights that lie there now.
    """
    for checkpoint, sha256 in models.items():
        some = paths.record_file(aside, checkpoint, "some", 0)
        for summary in sorted(some.parent.glob("*-seed*.json")):
            record = summary.with_suffix(".npz")
            if record.is_file() and _told(summary, "model_sha256") == sha256:
                for source in (record, summary):
                    copy = folder / source.relative_to(aside)
                    write_atomically(copy, partial(shutil.copyfile, source))


def restore(path: Path) -> tuple[Path, Path | None]:
    """Bring a run or record back; what lies in its place now goes aside in turn.

    Parameters
    ----------
    path : Path
        The run's folder, or the record's .npz, under ``superseded``.

    Returns
    -------
    place : Path
        Where it lies now.
    aside : Path or None
        Where what was there lies now.

    Raises
    ------
    HarnessError
        If it is no such path or not whole, or a process works on that cell or record.
    """
    root, name = _split(path)
    run, record = _RUN.fullmatch(name), _RECORD.fullmatch(name)
    if run is not None and path.is_dir():
        folder = root / run["folder"]
        with exclusive(paths.training_lock(folder), f"cell {folder}"):
            return folder, _restore_run(root, path, folder, run["digest"])
    if record is not None and path.is_file():
        place = root / record["folder"] / f"{record['stem']}.npz"
        with exclusive(paths.evaluation_lock(place), str(place)):
            return place, _restore_record(root, path, place)
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
    """Count what lies aside."""
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
    # else an earlier move of this run was interrupted.  run.json goes first: with it the rest is
    # known to belong to a finished run, wherever it lies
    _move(path, folder, reversed(_names(path)))
    for below in (*path.glob("records*"), path):
        if not any(below.iterdir()):
            below.rmdir()
    return aside


def _restore_record(root: Path, path: Path, place: Path) -> Path | None:
    files, places = ((p, p.with_suffix(".json")) for p in (path, place))
    if not files[1].is_file():
        raise HarnessError(f"{path} has no summary beside it: it is not a whole record")
    aside = copy_record_aside(root, place) if all(p.is_file() for p in places) else None
    for source, target in zip(files, places, strict=True):
        write_atomically(target, partial(shutil.copyfile, source))
    for source in files:
        source.unlink()
    return aside


def _split(path: Path) -> tuple[Path, str]:
    """Return the results folder that a path under ``superseded`` belongs to, and the rest of it."""
    place = path.absolute()
    for parent in place.parents:
        if parent.name == "superseded":
            return parent.parent, str(place.relative_to(parent))
    return place, ""


def _aside(root: Path, path: Path) -> Path:
    return paths.superseded_folder(root) / path.relative_to(root)


def _names(folder: Path) -> list[Path]:
    """Return the files of a run in its folder, and of its records; run.json comes last."""
    files = paths.run_files(folder, paths.CHECKPOINTS)
    records = [
        path
        for pattern in ("records*/*.npz", "records*/*.json")
        for path in sorted(folder.glob(pattern))
        if not path.name.startswith(".")
    ]
    found = [path for path in (*records, *files) if path.is_file()]
    return [path.relative_to(folder) for path in found]


def _move(source: Path, target: Path, names: Iterable[Path]) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target / name)


def _free(base: Path, names: Iterable[Path]) -> Path:
    """Return the first folder, by number, that has none of these files."""
    names = list(names)
    return next(to for to in _numbered(base) if not any((to / name).exists() for name in names))


def _numbered(base: Path) -> Iterable[Path]:
    yield base
    yield from (base.with_name(f"{base.name}-{number}") for number in count(2))


def _free_for(source: Path, copy: Path) -> bool:
    """Say whether a file may be copied there: nothing else is."""
    return not copy.exists() or sha256_of_file(copy) == sha256_of_file(source)


def _digest_of(about: Path) -> str:
    """Return the digest that run.json or a summary names."""
    found = str(_told(about, "digest"))
    return found if _DIGEST.fullmatch(found) else "damaged"


def _told(path: Path, key: str) -> object:
    try:
        return read_json(path).get(key)
    except HarnessError:
        return None
