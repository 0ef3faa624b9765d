"""Taking published runs into a results folder."""

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from reproduce import paths
from reproduce.config import Config
from reproduce.files import exclusive, sha256_of_file, write_atomically
from reproduce.reference.find import Taken, is_ours


def adopt(config: Config, taken: Iterable[Taken], say: Callable[[str], None]) -> None:
    """Copy published runs and their records to where runs of the configuration lie.

    Files that are there already are only touched; run.json comes last, so that a copy that was
    interrupted is no finished run.

    Parameters
    ----------
    config : Config
        The configuration.
    taken : iterable of Taken
        What `find_reference` found for it.
    say : callable
        Told of every run where it comes from.

    Raises
    ------
    HarnessError
        If the disk is full, or a process trains that cell.
    """
    for run in taken:
        folder = paths.cell_folder(config, run.cell)
        with exclusive(paths.training_lock(folder), f"cell {run.cell}"):
            if is_ours(config, run.cell):
                say(f"{run.cell}: begun here meanwhile, not taken")
                continue
            for left in set(_weights(folder)) - {folder / name for name in run.files}:
                # of other settings: run.json will not know them
                left.unlink(missing_ok=True)
            for name in run.files:
                _copy(run.source / name, folder / name)
        before = run.source == folder
        say(f"{run.cell}: {'was taken before' if before else f'taken from {run.source}'}")


def _weights(folder: Path) -> list[Path]:
    return [paths.model_file(folder, checkpoint) for checkpoint in paths.CHECKPOINTS]


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and sha256_of_file(target) == sha256_of_file(source):
        # for Snakemake, which goes by times
        target.touch()
    else:
        write_atomically(target, partial(shutil.copyfile, source))
