"""One evaluation from a network's name to its record."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import digest, exclusive, read_json, remove_abandoned, sha256_of_file
from reproduce.core.provenance import differences
from reproduce.data.sources import load_prepared
from reproduce.evaluation.records import (
    Record,
    check_accuracy,
    check_black_box,
    read_record,
    write_record,
)
from reproduce.evaluation.shards import ARRAYS, OPTIONAL_ARRAYS, Job, Shard, run_shards
from reproduce.experiments import paths
from reproduce.experiments.runs import RunInfo, problem_with, read_run
from reproduce.experiments.spec import AttackSpec, attack_spec, evaluation_spec, training_spec
from reproduce.experiments.superseded import copy_record_aside, how_to_restore
from reproduce.models.load import ModelSource
from reproduce.zoo.checkpoints import PublishedAttack, ZooCheckpoint

Say = Callable[[str], None]


def evaluate_cell(
    config: Config,
    cell: Cell,
    attack: str,
    seed: int,
    checkpoint: Checkpoint,
    say: Say = print,
) -> Record:
    """Attack a checkpoint of a trained cell and write the record, or return the one there is.

    Parameters
    ----------
    config : Config
        The configuration.
    cell : Cell
        The training run.
    attack : str
        Name of an attack of the configuration.
    seed : int
        Seed of the attack's random start.
    checkpoint : {"best-test", "last", "best-val"}
        Which weights of the run.
    say : callable
        Told the outcome.

    Raises
    ------
    Stopped
        If `machine.max_minutes` are over before all images are attacked.
    HarnessError
        If the cell is not trained, its checkpoint is damaged or was trained with
        other settings or images, or the same evaluation runs elsewhere.
    """
    spec = evaluation_spec(config, cell, attack, seed, checkpoint)
    folder = paths.cell_folder(config, cell)
    run = usable_run(config, cell, checkpoint)
    weights = paths.model_file(folder, checkpoint)
    source = ModelSource(cell.dataset, cell.architecture, weights)
    path = paths.record_file(folder, checkpoint, config.eval.label(attack), seed)
    about = {"cell": cell.id, "checkpoint": checkpoint}
    return _evaluate(config, spec, source, run.models[checkpoint], path, about, say)


def evaluate_model(
    config: Config, source: ModelSource, attack: str, seed: int, say: Say = print
) -> Record:
    """Attack any network and write the record, or return the one there is.

    It lies under ``results/<preset>/models``, by data set, name and fingerprint of
    the network; one of the zoo by its id.  Parameters and errors as in `evaluate_cell`.
    """
    spec, sha256 = attack_spec(config, attack, seed, source.dataset), source.fingerprint()
    given = source.name
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in given) + f"-{sha256[:12]}"
    if source.zoo is not None:
        # ids are unique, and tables look for records by them
        name = given
    folder = paths.foreign_folder(config, source.dataset, name)
    path = paths.record_file(folder, "best-test", config.eval.label(attack), seed)
    about = {"model": given, "dataset": source.dataset, "architecture": source.architecture}
    return _evaluate(config, spec, source, sha256, path, about, say)


def _evaluate(
    config: Config,
    spec: AttackSpec,
    source: ModelSource,
    sha256: str,
    path: Path,
    about: dict[str, Any],
    say: Say,
) -> Record:
    name = about.get("cell") or about["model"]
    title = f"{name}  {path.stem}"
    with exclusive(paths.evaluation_lock(path), title):
        prepared = paths.prepared_file(config, source.dataset)
        remove_abandoned(path.parent)
        before = _whole(path, say)
        record = before if _is_asked_for(before, path, spec, sha256, prepared, say) else None
        if record is None:
            dataset = load_prepared(prepared)
            images = spec.images or len(dataset.test)
            job = Job(
                title,
                spec,
                source,
                sha256,
                dataset.sha256,
                prepared,
                _shards_folder(path, spec, sha256, dataset.sha256),
                config.eval.shard,
                config.machine,
            )
            shards = run_shards(job, images, say)
            info = {**about, **_info(job, shards), "data": dataset.about()}
            for one, next_one in pairwise(info["pieces"]):
                for change in differences(one, next_one):
                    say(f"{title}: {change}")
            if before is not None:
                aside = copy_record_aside(paths.root(config), path)
                say(f"the record before lies in {aside}; {how_to_restore(aside)} swaps them")
            write_record(path, _join(shards, info, dataset.facts.classes))
            # with those that other settings or networks left behind
            for unfinished in path.parent.glob(f"{path.stem}-*.shards"):
                shutil.rmtree(unfinished)
            record = read_record(path)
        else:
            # a process that was killed between its last two lines leaves them
            left = _shards_folder(path, spec, sha256, record.info["data"]["sha256"])
            shutil.rmtree(left, ignore_errors=True)
            say(f"already evaluated, {path}")
    say(f"{title}:  {record.metrics}{_broken(record)}")
    for warning in record.info["warnings"]:
        say(f"Warning: {warning}")
    return record


def _shards_folder(path: Path, spec: AttackSpec, sha256: str, images: str) -> Path:
    return paths.shards_folder(path, digest([spec.digest, sha256, images]))


def _broken(record: Record) -> str:
    """Say which part of an attack of several broke how many images."""
    parts = record.info["parts"]
    if len(parts) == 1:
        return ""
    counts = [f"{name} {(record.broken_by == k).sum()}" for k, name in enumerate(parts)]
    return f"  (broken by {', '.join(counts)})"


def usable_run(config: Config, cell: Cell, checkpoint: Checkpoint) -> RunInfo:
    """Return the run whose checkpoint is to be used.

    Raises
    ------
    HarnessError
        If the cell is not trained, or with other settings or images, or the checkpoint
        is damaged.
    """
    folder = paths.cell_folder(config, cell)
    run = read_run(folder)
    problem = problem_with(config, training_spec(config, cell), run)
    if run is None or problem is not None:
        raise HarnessError(f"{cell} {problem}; run `reproduce train {cell}` first")
    if checkpoint not in run.kept:
        raise HarnessError(
            f"{cell} was imported without the weights of {checkpoint}; "
            f"`reproduce train {cell}` trains it here"
        )
    weights = paths.model_file(folder, checkpoint)
    if run.models.get(checkpoint) != sha256_of_file(weights):
        raise HarnessError(
            f"checkpoint {weights} does not match its checksum in run.json; "
            f"run `reproduce train {cell}` to train it again"
        )
    return run


def _whole(path: Path, say: Say) -> Record | None:
    """Return the record on disk, of whatever settings, weights and images; None if not whole."""
    if not path.is_file():
        return None
    try:
        return read_record(path)
    except HarnessError as error:
        say(f"{error}: attacking again")
        return None


def _is_asked_for(
    record: Record | None, path: Path, spec: AttackSpec, sha256: str, prepared: Path, say: Say
) -> bool:
    """Say whether a record is of these settings, weights and images."""
    if record is None:
        return False
    if record.info["digest"] != spec.digest:
        say(f"{path} was made with other settings: attacking again")
        return False
    if record.info["model_sha256"] != sha256:
        say(f"{path} is of another network: attacking again")
        return False
    manifest = prepared.with_suffix(".json")
    images = record.info.get("data", {}).get("sha256")
    if manifest.is_file() and read_json(manifest).get("sha256") != images:
        say(f"{path} is of other images than {prepared}: attacking again")
        return False
    return True


def _join(shards: list[Shard], info: dict[str, Any], classes: int) -> Record:
    """Put the shards together, and look at what only all of them tell."""
    keys = [*ARRAYS, *(key for key in OPTIONAL_ARRAYS if key in shards[0].arrays)]
    arrays = {key: np.concatenate([shard.arrays[key] for shard in shards]) for key in keys}
    record = Record(**arrays, info=info)
    correct = int((record.clean == record.label).sum())
    info["warnings"] += check_accuracy(correct, len(record.label), classes)
    parts = info["parts"]
    if "square" in parts[1:]:
        before = (record.clean == record.label) & (record.broken_by < 0)
        after = record.broken_by == parts.index("square")
        white, black = 100 * float((before | after).mean()), 100 * float(before.mean())
        info["warnings"] += check_black_box(white, black)
    return record


def _info(job: Job, shards: list[Shard]) -> dict[str, Any]:
    """Summarise how the shards were made."""
    parts = job.spec.attack.parts
    pieces = [shard.about["piece"] for shard in shards]
    return {
        "digest": job.spec.digest,
        "spec": job.spec.settings,
        "model_sha256": job.model_sha256,
        "parts": list(parts),
        "every_image": parts == ("pgd",),
        "shard": job.shard,
        "warnings": [line for shard in shards for line in shard.about["warnings"]],
        "forward_passes": sum(shard.about["forward"] for shard in shards),
        "backward_passes": sum(shard.about["backward"] for shard in shards),
        "seconds": round(sum(shard.about["seconds"] for shard in shards), 3),
        # more than one if the shards were computed on several machines or by several versions
        "pieces": [piece for i, piece in enumerate(pieces) if piece not in pieces[:i]],
    }


def evaluate_published(
    config: Config,
    checkpoint: ZooCheckpoint,
    attack: str,
    seed: int,
    *,
    optional: bool = False,
    say: Callable[[str], None] = print,
) -> Record | None:
    """Attack a published checkpoint and write the record, or return the one there is.

    What came of it, a record or the reason why there is none, also goes into a small
    file that tables read.

    Parameters
    ----------
    config : Config
        The configuration.
    checkpoint : ZooCheckpoint
        The checkpoint; downloaded where the configuration allows it.
    attack : str
        Name of an attack of the configuration.
    seed : int
        Seed of the attack's random start.
    optional : bool
        Whether a checkpoint that cannot be had is no error.
    say : callable
        Told the outcome.

    Returns
    -------
    Record or None
        None if the checkpoint cannot be had, and `optional`.

    Raises
    ------
    Stopped
        If `machine.max_minutes` are over before all images are attacked.
    HarnessError
        If the checkpoint cannot be had, unless `optional`, or the evaluation fails.
    """
    published = PublishedAttack(config, checkpoint.dataset, checkpoint.name, attack, seed)
    attempt = published.attempt()
    source = ModelSource(checkpoint.dataset, zoo=checkpoint)
    try:
        checkpoint.obtain(download=config.data.zoo_download, say=say)
        found = published.checkpoint()
        # a file for another network is as good as none
        source.load()
    except HarnessError as error:
        published.keep_failure(attempt, str(error), missing=_lacks_files(checkpoint))
        if not optional:
            raise
        say(f"{checkpoint.name} cannot be had: {error}")
        return None
    record = evaluate_model(config, source, attack, seed, say)
    published.keep(attempt, found, record.info["model_sha256"])
    return record


def _lacks_files(checkpoint: ZooCheckpoint) -> bool:
    """Say whether a file is missing of a checkpoint whose files are known."""
    try:
        return not all(path.is_file() for path in checkpoint.files())
    except HarnessError:
        return False
