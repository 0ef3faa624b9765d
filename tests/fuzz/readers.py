"""Every reader of files from outside: whole files to damage, where they lie, what reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import torch
from fuzz.contents import (
    CELL,
    OF_RUN,
    card_json,
    checked_states,
    checkpoints,
    configurations,
    digits_arrays,
    epochs_files,
    example_arrays,
    examples_json,
    extra_arrays,
    images_files,
    index_arrays,
    jsons,
    lemma_json,
    members,
    npy,
    npz,
    outcome_json,
    pickles,
    record_arrays,
    run_json,
    safetensors_files,
    shard_arrays,
    small_config,
    speeds_json,
    states,
    summary_json,
    text_frames,
    traces,
    weights_files,
    wrapped,
)
from fuzz.reader import Reader
from reproduce.share.verification_formats import check_npz, check_weights, read_frame
from torch import nn

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz, read_tensors, sha256_of_file
from reproduce.data.dataset import checksum
from reproduce.data.extra import load_extra, read_pickled_arrays
from reproduce.data.imagenet import Decoder
from reproduce.data.sources import load_prepared
from reproduce.evaluation.records import read_record
from reproduce.evaluation.shards import read_shard
from reproduce.examples.files import read_files
from reproduce.experiments import paths
from reproduce.experiments.history import read_epochs, read_trace
from reproduce.experiments.runs import TRACE_COLUMNS, check_state, read_rows, read_run
from reproduce.lemma.results import read_examination
from reproduce.models.load import load_weights, read_weights
from reproduce.results.plan import load_speeds
from reproduce.zoo.checkpoints import PublishedAttack, ZooCheckpoint, zoo_facts


def _plain(name: str) -> Callable[[bytes, Path], Path]:
    def place(data: bytes, folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return place


def _replaced(arrays: dict[str, Any], data: bytes, path: Path) -> None:
    """Write an .npz one of whose members is the content given; its checksums are right."""
    keys = list(arrays)
    chosen = keys[(data[0] if data else 0) % len(keys)]
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for key in keys:
            archive.writestr(f"{key}.npy", data[1:] if key == chosen else npy(arrays[key]))


class _Pair(NamedTuple):
    """An .npz and the JSON beside it, which holds its checksum under a key."""

    name: str
    arrays: Callable[[], dict[str, Any]]
    about: Callable[[Path], dict[str, Any]]
    key: str

    def place_json(self, data: bytes, folder: Path) -> Path:
        """Put a JSON beside a whole .npz, with the checksum of that where it has a place."""
        path = folder / self.name
        if not path.exists():
            path.write_bytes(npz(self.arrays()))
        known = b'"%s": ""' % self.key.encode()
        sha256 = b'"%s": "%s"' % (self.key.encode(), sha256_of_file(path).encode())
        path.with_suffix(".json").write_bytes(data.replace(known, sha256))
        return path

    def place_member(self, data: bytes, folder: Path) -> Path:
        """Put an .npz one of whose members is the content, beside the whole JSON of it."""
        path = folder / self.name
        _replaced(self.arrays(), data, path)
        about = self.about(folder) | {self.key: sha256_of_file(path)}
        path.with_suffix(".json").write_text(json.dumps(about))
        return path


_RECORD = _Pair("pgd20-seed0.npz", record_arrays, summary_json, "record_sha256")
_EXAMPLES = _Pair("digits.npz", example_arrays, examples_json, "examples_sha256")


def _place_prepared(name: str, arrays: Callable[[], dict[str, Any]], keys: int) -> Any:
    """Put a prepared file with one array replaced, and the manifest that belongs to it."""

    def place(data: bytes, folder: Path) -> Path:
        path, whole = folder / f"{name}.npz", arrays()
        _replaced(whole, data, path)
        try:
            found = read_npz(path, whole)
            sha256 = checksum(found, list(whole)[:keys])
        except (HarnessError, KeyError, ValueError, TypeError):
            sha256 = ""
        path.with_suffix(".json").write_text(json.dumps({"sha256": sha256}))
        return path

    return place


def _place_shard(data: bytes, folder: Path) -> Path:
    path = folder / "0000.npz"
    _replaced(shard_arrays(), data, path)
    return path


def _read_shard(path: Path) -> object:
    said: list[str] = []
    found = read_shard(path, "this", 3, said.append)
    # a shard that cannot be used is computed again, and that is said in a line
    if found is None:
        raise HarnessError(said[0])
    return found


def _in_results(place: Callable[[Config], Path]) -> Callable[[bytes, Path], Path]:
    def put(data: bytes, folder: Path) -> Path:
        path = place(small_config(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return put


def _published(folder: Path) -> PublishedAttack:
    return PublishedAttack(small_config(folder), "cifar10", "Zhang2019Theoretically", "pgd20", 0)


def _folder_of(path: Path) -> Path:
    """Return the folder that `_in_results` was given: results lie under a preset's name."""
    return next(parent.parent for parent in path.parents if parent.name == "demo")


def _read_outcome(path: Path) -> object:
    attack = _published(_folder_of(path))
    return attack.read(), attack.attempt(), attack.problem_with({"digest": attack.spec.digest})


def _place_card(data: bytes, folder: Path) -> Path:
    path = ZooCheckpoint("mine", "cifar10", folder).card
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _read_image(path: Path) -> object:
    return Decoder(16).middle(path)


def _load_checkpoint(path: Path) -> None:
    model = nn.Module()
    for name, value in {"a": torch.zeros(2, 3), "b": torch.arange(2), "c": torch.ones(1)}.items():
        model.register_buffer(name, value)
    load_weights(model, path)


def _read_all_speeds(path: Path) -> object:
    speeds = load_speeds(small_config(_folder_of(path)))
    return speeds.seconds("digits", "wrn-10-0.25") * 2.0


def _verified(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Add the file's name, as `reproduce verify` does to what these say of it."""

    def named(path: Path) -> object:
        try:
            return read(path)
        except HarnessError as error:
            raise HarnessError(f"{path.name}: {error}") from error

    return named


READERS: dict[str, Reader] = {
    "pickles": Reader(pickles, _plain("ti_500K.pickle"), read_pickled_arrays),
    "npz": Reader(
        lambda: [npz(record_arrays()), npz(record_arrays(), compressed=True)],
        _plain("given.npz"),
        lambda path: read_npz(path, record_arrays()),
    ),
    "npy-record": Reader(members, _RECORD.place_member, lambda p: read_record(p).metrics),
    "npy-examples": Reader(members, _EXAMPLES.place_member, read_files),
    "npy-prepared": Reader(members, _place_prepared("digits", digits_arrays, 4), load_prepared),
    "npy-extra": Reader(members, _place_prepared("cifar10-extra", extra_arrays, 2), load_extra),
    "npy-index": Reader(members, _place_prepared("imagenet", index_arrays, 7), load_prepared),
    "npy-shard": Reader(members, _place_shard, _read_shard),
    "json": Reader(jsons(run_json), _plain("any.json"), read_json),
    "run": Reader(jsons(run_json), _plain("run.json"), lambda path: read_run(path.parent)),
    "summary": Reader(jsons(summary_json), _RECORD.place_json, lambda p: read_record(p).metrics),
    "examples": Reader(jsons(examples_json), _EXAMPLES.place_json, read_files),
    "lemma": Reader(
        jsons(lemma_json),
        _in_results(paths.lemma_file),
        lambda path: read_examination(small_config(_folder_of(path))),
    ),
    "outcome": Reader(
        jsons(outcome_json),
        lambda data, folder: _in_results(lambda _: _published(folder).outcome)(data, folder),
        _read_outcome,
    ),
    "speeds": Reader(jsons(speeds_json), _in_results(paths.throughput_file), _read_all_speeds),
    "card": Reader(
        jsons(card_json),
        _place_card,
        lambda path: zoo_facts(ZooCheckpoint("mine", "cifar10", path.parents[3])),
    ),
    "state": Reader(states, _plain("state-0.safetensors"), read_rows),
    "safetensors": Reader(safetensors_files, _plain("model.safetensors"), read_weights),
    "checkpoints": Reader(wrapped, _plain("published.pt"), _load_checkpoint),
    "tensors": Reader(checkpoints, _plain("published.pt"), read_tensors),
    "images": Reader(images_files, _plain("n1_0.jpeg"), _read_image),
    "traces": Reader(traces, _plain("trace.parquet"), lambda path: read_trace(path, CELL)),
    "epochs": Reader(
        epochs_files, _plain("epochs.csv"), lambda path: read_epochs(path, CELL, range(1, 4))
    ),
    "verify-npz": Reader(
        lambda: [npz(record_arrays()), npz(record_arrays(), compressed=True)],
        _plain("given.npz"),
        _verified(check_npz),
    ),
    "npy-verify": Reader(members, _place_shard, _verified(check_npz)),
    "verify-frame": Reader(
        traces,
        _plain("trace.parquet"),
        _verified(lambda path: read_frame(path, ("iteration", *TRACE_COLUMNS), texts=False)),
    ),
    "verify-texts": Reader(
        text_frames,
        _plain("results.parquet"),
        _verified(lambda path: read_frame(path, ("cell", "value"), texts=True)),
    ),
    "verify-weights": Reader(
        weights_files,
        _plain("model.safetensors"),
        _verified(lambda path: check_weights(path, OF_RUN)),
    ),
    "verify-state": Reader(checked_states, _plain("state-0.safetensors"), check_state),
    "configuration": Reader(configurations, _plain("config.yaml"), load_config),
}
