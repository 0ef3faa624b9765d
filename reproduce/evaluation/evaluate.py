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
from reproduce.core.files import exclusive, read_json, sha256_of_file, write_json
from reproduce.core.provenance import differences
from reproduce.data.sources import load_prepared
from reproduce.evaluation.attack import Job
from reproduce.evaluation.records import (
    ARRAYS,
    Record,
    check_accuracy,
    check_black_box,
    read_record,
    write_record,
)
from reproduce.evaluation.shards import run_shards
from reproduce.experiments import paths
from reproduce.experiments.runs import RunInfo, require_run
from reproduce.experiments.spec import AttackSpec, attack_spec, evaluation_spec
from reproduce.experiments.superseded import copy_record_aside, how_to_restore
from reproduce.models.load import ModelSource
from reproduce.zoo.checkpoints import ZooCheckpoint

Say = Callable[[str], None]


def evaluate_cell(
    config: Config,
    cell: Cell,
    attack: str,
    seed: int,
    checkpoint: Checkpoint,
    say: Say = print,
) -> Record:
    """Attack a checkpoint of a trained cell and write the record, or return the one there is."""
    spec = evaluation_spec(config, cell, attack, seed, checkpoint)
    folder = paths.cell_folder(config, cell)
    run = require_checkpoint(config, cell, checkpoint)
    weights = paths.model_file(folder, checkpoint)
    source = ModelSource(cell.dataset, cell.architecture, weights)
    path = paths.record_file(folder, checkpoint, config.eval.label(attack), seed)
    about = {"cell": cell.id, "checkpoint": checkpoint}
    return _evaluate(config, spec, source, run.models[checkpoint], path, about, say)


def evaluate_model(
    config: Config, source: ModelSource, attack: str, seed: int, say: Say = print
) -> Record:
    """Attack any network and write the record, or return the one there is."""
    spec, sha256 = attack_spec(config, attack, seed, source.dataset), source.fingerprint()
    name = source.name
    if source.zoo is None:  # ids of the zoo are unique, and tables look for records by them
        name = "".join(c if c.isalnum() or c in "-." else "-" for c in name) + f"-{sha256[:12]}"
    folder = paths.foreign_folder(config, source.dataset, name)
    path = paths.record_file(folder, "best-test", config.eval.label(attack), seed)
    about = {"model": source.name, "dataset": source.dataset, "architecture": source.architecture}
    return _evaluate(config, spec, source, sha256, path, about, say)


def evaluate_published(
    config: Config,
    checkpoint: ZooCheckpoint,
    attack: str,
    seed: int,
    *,
    optional: bool = False,
    say: Say = print,
) -> Record | None:
    """Attack a published checkpoint; one that cannot be had is an error, or None if `optional`.

    A small file beside the records says whether there is one, or why not.
    """
    name, dataset, label = checkpoint.name, checkpoint.dataset, config.eval.label(attack)
    path = paths.published_record(config, dataset, name, label, seed)
    source = ModelSource(dataset, zoo=checkpoint)

    def conclude(reason: str | None) -> None:
        outcome = {"model": name, "evaluated": reason is None, "reason": reason}
        write_json(paths.published_outcome(path), outcome)

    try:
        checkpoint.obtain(download=config.data.zoo_download, say=say)
        # a file for another network is as good as none
        source.load()
    except HarnessError as error:
        conclude(str(error))
        if not optional:
            raise
        say(f"{name} cannot be had: {error}")
        return None
    record = evaluate_model(config, source, attack, seed, say)
    conclude(None)
    return record


def require_checkpoint(config: Config, cell: Cell, checkpoint: Checkpoint) -> RunInfo:
    """Return the finished run of a cell, checked with the weights of this checkpoint."""
    folder = paths.cell_folder(config, cell)
    run = require_run(config, cell)
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


def _evaluate(
    config: Config,
    spec: AttackSpec,
    source: ModelSource,
    sha256: str,
    path: Path,
    about: dict[str, Any],
    say: Say,
) -> Record:
    """Return the record at `path` if it is the one asked for, else make it."""
    title = f"{about.get('cell') or about['model']}  {path.stem}"
    prepared = paths.prepared_file(config, source.dataset)
    folder = paths.shards_folder(path)
    with exclusive(paths.evaluation_lock(path), title):
        record, problem = _find_record(path, spec, sha256, prepared)
        if record is not None and problem is None:
            say(f"already evaluated, {path}")
        else:
            if problem is not None:
                say(f"{problem}: attacking again")
            dataset = load_prepared(prepared)
            job = Job(spec, source, sha256, prepared, config.eval.shard, config.machine)
            images = spec.images or len(dataset.test)
            shards = run_shards(job, title, folder, images, dataset.sha256, say)
            made = _join(job, shards, {**about, "data": dataset.about()}, dataset.facts.classes)
            for one, next_one in pairwise(made.info["pieces"]):
                for change in differences(one, next_one):
                    say(f"{title}: {change}")
            if record is not None:
                aside = copy_record_aside(paths.root(config), path)
                if aside is not None:
                    say(f"the record before lies in {aside}; {how_to_restore(aside)} swaps them")
            write_record(path, made)
            record = read_record(path)
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{title}:  {record.metrics}")
    for warning in record.info["warnings"]:
        say(f"Warning: {warning}")
    return record


def _find_record(
    path: Path, spec: AttackSpec, sha256: str, prepared: Path
) -> tuple[Record | None, str | None]:
    """Return the whole record on disk, and why there is none or it is not the one asked for."""
    if not path.is_file():
        return None, None
    try:
        record = read_record(path)
    except HarnessError as error:
        return None, str(error)
    manifest = prepared.with_suffix(".json")
    images = record.info.get("data", {}).get("sha256")
    problem = record.problem_with(spec.digest, sha256)
    if problem is not None:
        return record, f"{path} {problem}"
    if manifest.is_file() and read_json(manifest).get("sha256") != images:
        return record, f"{path} is of other images than {prepared}"
    return record, None


def _join(job: Job, shards: list[Record], about: dict[str, Any], classes: int) -> Record:
    """Put the shards together, with the warnings that need all images."""
    kept = [key for key in ARRAYS if getattr(shards[0], key) is not None]
    arrays = {key: np.concatenate([getattr(shard, key) for shard in shards]) for key in kept}
    made, parts = [shard.info for shard in shards], job.spec.attack.parts
    pieces = [one["piece"] for one in made]
    warnings = [line for one in made for line in one["warnings"]]
    info = {
        **about,
        "digest": job.spec.digest,
        "spec": job.spec.settings,
        "model_sha256": job.model_sha256,
        "parts": list(parts),
        "every_image": not job.spec.attack.of_package,
        "shard": job.shard,
        "warnings": warnings,
        "forward_passes": sum(one["forward"] for one in made),
        "backward_passes": sum(one["backward"] for one in made),
        "seconds": round(sum(one["seconds"] for one in made), 3),
        # more than one if the shards were computed on several machines or by several versions
        "pieces": [piece for i, piece in enumerate(pieces) if piece not in pieces[:i]],
    }
    record = Record(**arrays, info=info)
    correct = record.clean == record.label
    warnings += check_accuracy(int(correct.sum()), len(correct), classes)
    if "square" in parts[1:]:
        # of the standard AutoAttack Square is the last part
        black = correct & (record.broken_by < 0)
        white = black | (record.broken_by == parts.index("square"))
        warnings += check_black_box(100 * float(white.mean()), 100 * float(black.mean()))
    return record
