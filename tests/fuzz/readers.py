"""Every reader of files from outside, with whole files to damage and one property to hold.

A reader returns something, or raises `HarnessError` with a line that names the file; it
writes nothing.
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save

from reproduce import paths
from reproduce.cells import parse_cell
from reproduce.config import Config
from reproduce.data.decoding import Decoder
from reproduce.data.extra import load_extra
from reproduce.data.load import load_prepared
from reproduce.data.pickled import read_pickled_arrays
from reproduce.data.prepared import checksum
from reproduce.errors import LONGEST, HarnessError
from reproduce.evaluation.shards import ARRAYS, read_shard
from reproduce.examples.files import read_files
from reproduce.files import read_json, read_npz, sha256_of_file
from reproduce.lemma.results import COLUMNS, WAYS, read_examination
from reproduce.models.weights import read_weights
from reproduce.outcomes import PublishedAttack
from reproduce.planning import load_speeds
from reproduce.records import read_record
from reproduce.runs import read_run
from reproduce.saved import TRACE_COLUMNS, read_rows
from reproduce.settings import load_config
from reproduce.specs import lemma_digest
from reproduce.tensors import read_tensors
from reproduce.traces import read_epochs, read_trace
from reproduce.zoo import ZooCheckpoint
from reproduce.zoo.cards import zoo_facts

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes
    ----------
    seeds : callable
        Returns contents of whole files.
    place : callable
        Puts a content, whole or not, where the reader looks in a folder; returns the file.
    read : callable
        Reads the file that `place` returned.
    """

    seeds: Callable[[], list[bytes]]
    place: Callable[[bytes, Path], Path]
    read: Callable[[Path], object]


def holds(reader: Reader, data: bytes, folder: Path) -> bool:
    """Check the property on one content: True if it was read, False if clearly refused."""
    path = reader.place(data, folder)
    before = _listing(folder)
    try:
        reader.read(path)
        read = True
    except HarnessError as error:
        message = str(error)
        assert message.isprintable(), f"not one printable line: {message!r}"
        assert len(message) <= LONGEST, f"{len(message)} characters"
        # a setting that does not fit is named instead
        named = path.suffix == ".yaml" or path.stem in message
        assert named, f"names no file: {message}"
        read = False
    assert _listing(folder) == before, "the reader wrote something"
    return read


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def _plain(name: str) -> Callable[[bytes, Path], Path]:
    def place(data: bytes, folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return place


def _config(folder: Path) -> Config:
    sets = [f"results={folder}", f"data.folder={folder}"]
    sets += ["lemma={widths: [30, 60], depths: [1, 2], seeds: [0, 1], candidates: 4, rounds: 1}"]
    return load_config("{}", "demo", sets)


def _pickles() -> list[bytes]:
    stream = np.random.default_rng(0)
    images = stream.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    content = {"data": images, "extrapolated_targets": np.arange(2), "one": np.float32(2), "w": "a"}
    return [pickle.dumps(content, protocol) for protocol in range(6)]


def _npz(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    target = BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)
    return target.getvalue()


def _npy(array: Any) -> bytes:
    target = BytesIO()
    np.lib.format.write_array(target, np.asarray(array), allow_pickle=True)
    return target.getvalue()


def _members() -> list[bytes]:
    """Arrays as members of an .npz, behind a byte that says whose place they take."""
    kinds: list[Any] = [
        np.zeros((3, 8, 8, 1), np.uint8),
        np.zeros(3, np.int32),
        np.ones(3, np.bool_),
        np.zeros(3, np.int16),
        np.zeros((2, 3, 3), np.float32),
        np.array("text"),
        np.array(True),
        np.array([b"a/b.jpeg"]),
        np.array(["x"], object),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.zeros(0),
        np.array(1j),
    ]
    return [bytes([place]) + _npy(kind) for kind in kinds for place in range(3)]


def _jsons(value: Callable[[Path], dict[str, Any]]) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value(Path("/nowhere"))).encode()]


def _run(_: Path) -> dict[str, Any]:
    piece = {"device": "cpu", "seconds": 3.0, "name": "cpu", "processes": 1, "versions": {"a": "1"}}
    return {
        "digest": "0",
        "data": {"sha256": "0", "source": "", "official": True, "train": 100, "test": 40},
        "models": {"best-test": "0", "last": "1"},
        "final_lambda": 2.0,
        "zeta": None,
        "hardware": ["cpu"],
        "trace": "0",
        "checkpoint_epochs": {"best-test": 1, "last": 3},
        "seconds": 3.0,
        "pieces": [piece],
    }


def _summary(_: Path) -> dict[str, Any]:
    return {
        "digest": "0",
        "model_sha256": "0",
        "parts": ["pgd"],
        "every_image": True,
        "warnings": ["text"],
        "seconds": 2.0,
        "record_sha256": "",
    }


def _record_arrays() -> dict[str, Any]:
    whole = {key: np.zeros(3, kind) for key, kind in ARRAYS.items()}
    return {**whole, "index": np.arange(3, dtype=np.int32), "top5": np.ones(3, np.bool_)}


def _examples(_: Path) -> dict[str, Any]:
    network = {"cell": CELL.id, "checkpoint": "last", "digest": "0", "model_sha256": "0"}
    network |= {"record_sha256": "0", "differs": [1]}
    return {
        "attack": "pgd20",
        "epsilon": 0.1,
        "data_sha256": "0",
        "held_by": ["both", "neither"],
        "networks": [network, network],
        "examples_sha256": "",
    }


def _example_arrays() -> dict[str, Any]:
    return {
        "index": np.arange(2),
        "label": np.arange(2),
        "images": np.zeros((2, 4, 4, 1), np.uint8),
        "adversarial": np.zeros((2, 2, 4, 4, 1), np.float32),
        "prediction": np.zeros((2, 3, 2), np.int64),
        "confidence": np.zeros((2, 3, 2), np.float32),
    }


def _lemma(folder: Path) -> dict[str, Any]:
    rows = []
    for way in WAYS:
        for width in (30, 60):
            for depth in (1, 2):
                for seed in (0, 1):
                    start = [way, width, depth, 20, seed, 0.1, True]
                    norms = [1.0 + width / (depth + seed) for _ in COLUMNS[7:]]
                    rows.append(dict(zip(COLUMNS, [*start, *norms], strict=True)))
    about: dict[str, Any] = {"seconds": 1.0, "hardware": "cpu", "versions": {}, "commit": None}
    return {"digest": lemma_digest(_config(folder)), "fits": [], "rows": rows, **about}


def _outcome(_: Path) -> dict[str, Any]:
    return {"model": "m", "attempt": 2, "checkpoint": "3 bytes", "evaluated": False, "reason": "x"}


def _speeds(_: Path) -> dict[str, Any]:
    return {"hardware": "cpu", "seconds_per_pass": {"digits/wrn-10-0.25": 0.1}}


def _card(_: Path) -> dict[str, Any]:
    return {"architecture": "WideResNet-34-10", "additional_data": True, "eps": "8/255"}


def _states() -> list[bytes]:
    progress = {"epoch": 1, "step": 3, "epochs": [{"epoch": 1.0}], "pieces": [{"seconds": 2.0}]}
    trace = torch.zeros(4, len(TRACE_COLUMNS), dtype=torch.float64)
    tensors = {"trace": trace, "model/w": torch.zeros(2, 3)}
    return [save(tensors, {"progress": json.dumps(progress)})]


def _safetensors() -> list[bytes]:
    return [
        save({"a.weight": torch.zeros(2, 3), "b": torch.ones(2, dtype=torch.int64)}, {"a": "b"})
    ]


def _checkpoints() -> list[bytes]:
    state = {"module.a": torch.zeros(2, 3), "b": torch.arange(2), "c": torch.ones(1).bfloat16()}
    found = []
    for content in (state, {"state_dict": state, "epoch": 3, "best": np.float64(2)}):
        for new in (True, False):
            target = BytesIO()
            torch.save(content, target, _use_new_zipfile_serialization=new)
            found.append(target.getvalue())
    return found


def _images() -> list[bytes]:
    found = []
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    for mode in ("RGB", "L", "CMYK", "P", "RGBA", "1", "I;16"):
        for form in ("JPEG", "PNG"):
            if (mode, form) not in {
                *((m, "JPEG") for m in ("P", "RGBA", "1", "I;16")),
                ("CMYK", "PNG"),
            }:
                target = BytesIO()
                image = Image.fromarray(pixels)
                (image.convert("I").convert(mode) if ";" in mode else image.convert(mode)).save(
                    target, form
                )
                found.append(target.getvalue())
    return found


def _traces() -> list[bytes]:
    frame = pd.DataFrame(np.zeros((3, len(TRACE_COLUMNS)), np.float32), columns=[*TRACE_COLUMNS])
    frame = frame.astype({"epoch": "int32"})
    frame.insert(0, "iteration", pd.Series([1, 2, 3], dtype="int32"))
    found = []
    for compression in ("zstd", None):
        target = BytesIO()
        frame.to_parquet(target, compression=compression, index=False)
        found.append(target.getvalue())
    return found


def _epochs() -> list[bytes]:
    head = "epoch,test_robust_accuracy,test_natural_accuracy,test_perturbation_stability\n"
    return [(head + "1,30.5,50.0,60.25\n2,31,51,\n3,1e1,52.0,61\n").encode()]


def _configurations() -> list[bytes]:
    presets = Path(__file__).parents[2] / "reproduce" / "presets"
    whole = [path.read_bytes() for path in sorted(presets.glob("*.yaml"))]
    return [*whole, b"preset: demo\ntrain: {epochs: 3, attack: {epsilon: 8/255}}\n"]


def _place_summary(data: bytes, folder: Path) -> Path:
    """Put a summary beside a whole record, with the record's checksum where it has a place."""
    path = folder / "pgd20-seed0.npz"
    if not path.exists():
        path.write_bytes(_npz(_record_arrays()))
    return _with_checksum(data, path, "record_sha256")


def _with_checksum(data: bytes, path: Path, key: str) -> Path:
    known = b'"%s": ""' % key.encode()
    sha256 = b'"%s": "%s"' % (key.encode(), sha256_of_file(path).encode())
    path.with_suffix(".json").write_bytes(data.replace(known, sha256))
    return path


def _place_examples(data: bytes, folder: Path) -> Path:
    path = folder / "digits.npz"
    if not path.exists():
        path.write_bytes(_npz(_example_arrays()))
    return _with_checksum(data, path, "examples_sha256")


def _replaced(arrays: dict[str, Any], data: bytes, path: Path) -> None:
    """Write an .npz one of whose members is the content given; its checksums are right."""
    keys = list(arrays)
    chosen = keys[(data[0] if data else 0) % len(keys)]
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for key in keys:
            archive.writestr(f"{key}.npy", data[1:] if key == chosen else _npy(arrays[key]))


def _place_record_member(data: bytes, folder: Path) -> Path:
    path = folder / "pgd20-seed0.npz"
    _replaced(_record_arrays(), data, path)
    summary = _summary(folder) | {"record_sha256": sha256_of_file(path)}
    path.with_suffix(".json").write_text(json.dumps(summary))
    return path


def _place_example_member(data: bytes, folder: Path) -> Path:
    path = folder / "digits.npz"
    _replaced(_example_arrays(), data, path)
    about = _examples(folder) | {"examples_sha256": sha256_of_file(path)}
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def _place_prepared_member(name: str, arrays: Callable[[], dict[str, Any]], keys: int) -> Any:
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


def _digits() -> dict[str, Any]:
    images, labels = np.zeros((3, 8, 8, 1), np.uint8), np.arange(3, dtype=np.uint8)
    whole = {"train_images": images, "train_labels": labels}
    whole |= {"test_images": images, "test_labels": labels}
    return {**whole, "source": np.array("made up"), "official": np.array(True)}


def _extra() -> dict[str, Any]:
    images, labels = np.zeros((3, 32, 32, 3), np.uint8), np.arange(3, dtype=np.uint8)
    return {"images": images, "labels": labels, "source_md5": np.array("0")}


def _index() -> dict[str, Any]:
    files, labels = np.array([b"n1/a.jpeg", b"n2/b.jpeg"]), np.arange(2, dtype=np.uint16)
    whole: dict[str, Any] = {"classes": np.array([b"n1", b"n2"])}
    for split in ("train", "test"):
        whole |= {f"{split}_files": files, f"{split}_sizes": np.ones(2, np.int64)}
        whole |= {f"{split}_labels": labels}
    return {**whole, "folder": np.array("/")}


def _shard_arrays() -> dict[str, Any]:
    about = {"made_for": "this", "seconds": 1.0, "piece": {}, "warnings": [], "forward": 1}
    return {**_record_arrays(), "about": np.array(json.dumps({**about, "backward": 1}))}


def _place_shard(data: bytes, folder: Path) -> Path:
    path = folder / "0000.npz"
    _replaced(_shard_arrays(), data, path)
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
        path = place(_config(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return put


def _published(folder: Path) -> PublishedAttack:
    return PublishedAttack(_config(folder), "cifar10", "Zhang2019Theoretically", "pgd20", 0)


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


def _read_all_speeds(path: Path) -> object:
    speeds = load_speeds(_config(_folder_of(path)))
    return speeds.seconds("digits", "wrn-10-0.25") * 2.0


READERS: dict[str, Reader] = {
    "pickles": Reader(_pickles, _plain("ti_500K.pickle"), read_pickled_arrays),
    "npz": Reader(
        lambda: [_npz(_record_arrays()), _npz(_record_arrays(), compressed=True)],
        _plain("given.npz"),
        lambda path: read_npz(path, _record_arrays()),
    ),
    "npy-record": Reader(_members, _place_record_member, lambda p: read_record(p).metrics),
    "npy-examples": Reader(_members, _place_example_member, read_files),
    "npy-prepared": Reader(_members, _place_prepared_member("digits", _digits, 4), load_prepared),
    "npy-extra": Reader(_members, _place_prepared_member("cifar10-extra", _extra, 2), load_extra),
    "npy-index": Reader(_members, _place_prepared_member("imagenet", _index, 7), load_prepared),
    "npy-shard": Reader(_members, _place_shard, _read_shard),
    "json": Reader(_jsons(_run), _plain("any.json"), read_json),
    "run": Reader(_jsons(_run), _plain("run.json"), lambda path: read_run(path.parent)),
    "summary": Reader(_jsons(_summary), _place_summary, lambda p: read_record(p).metrics),
    "examples": Reader(_jsons(_examples), _place_examples, read_files),
    "lemma": Reader(
        _jsons(_lemma),
        _in_results(paths.lemma_file),
        lambda path: read_examination(_config(_folder_of(path))),
    ),
    "outcome": Reader(
        _jsons(_outcome),
        lambda data, folder: _in_results(lambda _: _published(folder).outcome)(data, folder),
        _read_outcome,
    ),
    "speeds": Reader(_jsons(_speeds), _in_results(paths.throughput_file), _read_all_speeds),
    "card": Reader(
        _jsons(_card),
        _place_card,
        lambda path: zoo_facts(ZooCheckpoint("mine", "cifar10", path.parents[3])),
    ),
    "state": Reader(_states, _plain("state-0.safetensors"), read_rows),
    "safetensors": Reader(_safetensors, _plain("model.safetensors"), read_weights),
    "checkpoints": Reader(_checkpoints, _plain("published.pt"), read_weights),
    "tensors": Reader(_checkpoints, _plain("published.pt"), read_tensors),
    "images": Reader(_images, _plain("n1_0.jpeg"), _read_image),
    "traces": Reader(_traces, _plain("trace.parquet"), lambda path: read_trace(path, CELL)),
    "epochs": Reader(
        _epochs, _plain("epochs.csv"), lambda path: read_epochs(path, CELL, range(1, 4))
    ),
    "configuration": Reader(_configurations, _plain("config.yaml"), load_config),
}
