"""Whole files of every kind, which are then damaged."""

import argparse
import json
import pickle
from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save

from reproduce.cell import parse_cell
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.evaluation.shards import ARRAYS
from reproduce.experiments.runs import PROGRESS, TRACE_COLUMNS, checksum_of_tensors, header
from reproduce.experiments.spec import lemma_digest
from reproduce.lemma.results import COLUMNS, WAYS

CELL = parse_cell("digits/wrn-10-0.25/trades/lam-2/seed-0")


def small_config(folder: Path) -> Config:
    sets = [f"results={folder}", f"data.folder={folder}"]
    sets += ["lemma={widths: [30, 60], depths: [1, 2], seeds: [0, 1], candidates: 4, rounds: 1}"]
    return load_config("{}", "demo", sets)


def pickles() -> list[bytes]:
    stream = np.random.default_rng(0)
    images = stream.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    content = {"data": images, "extrapolated_targets": np.arange(2), "one": np.float32(2), "w": "a"}
    return [pickle.dumps(content, protocol) for protocol in range(6)]


def npz(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    target = BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)
    return target.getvalue()


def npy(array: Any) -> bytes:
    target = BytesIO()
    np.lib.format.write_array(target, np.asarray(array), allow_pickle=True)
    return target.getvalue()


def members() -> list[bytes]:
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
    return [bytes([place]) + npy(kind) for kind in kinds for place in range(3)]


def jsons(value: Callable[[Path], dict[str, Any]]) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value(Path("/nowhere"))).encode()]


def run_json(_: Path) -> dict[str, Any]:
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


def summary_json(_: Path) -> dict[str, Any]:
    return {
        "digest": "0",
        "model_sha256": "0",
        "parts": ["pgd"],
        "every_image": True,
        "warnings": ["text"],
        "seconds": 2.0,
        "record_sha256": "",
    }


def record_arrays() -> dict[str, Any]:
    whole = {key: np.zeros(3, kind) for key, kind in ARRAYS.items()}
    return {**whole, "index": np.arange(3, dtype=np.int32), "top5": np.ones(3, np.bool_)}


def examples_json(_: Path) -> dict[str, Any]:
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


def example_arrays() -> dict[str, Any]:
    return {
        "index": np.arange(2),
        "label": np.arange(2),
        "images": np.zeros((2, 4, 4, 1), np.uint8),
        "adversarial": np.zeros((2, 2, 4, 4, 1), np.float32),
        "prediction": np.zeros((2, 3, 2), np.int64),
        "confidence": np.zeros((2, 3, 2), np.float32),
    }


def lemma_json(folder: Path) -> dict[str, Any]:
    rows = []
    for way in WAYS:
        for width in (30, 60):
            for depth in (1, 2):
                for seed in (0, 1):
                    start = [way, width, depth, 20, seed, 0.1, True]
                    norms = [1.0 + width / (depth + seed) for _ in COLUMNS[7:]]
                    rows.append(dict(zip(COLUMNS, [*start, *norms], strict=True)))
    about: dict[str, Any] = {"seconds": 1.0, "hardware": "cpu", "versions": {}, "commit": None}
    return {"digest": lemma_digest(small_config(folder)), "fits": [], "rows": rows, **about}


def outcome_json(_: Path) -> dict[str, Any]:
    return {"model": "m", "attempt": 2, "checkpoint": "3 bytes", "evaluated": False, "reason": "x"}


def speeds_json(_: Path) -> dict[str, Any]:
    return {"hardware": "cpu", "seconds_per_pass": {"digits/wrn-10-0.25": 0.1}}


def card_json(_: Path) -> dict[str, Any]:
    return {"architecture": "WideResNet-34-10", "additional_data": True, "eps": "8/255"}


def states() -> list[bytes]:
    progress = {"epoch": 1, "step": 3, "epochs": [{"epoch": 1.0}], "pieces": [{"seconds": 2.0}]}
    trace = torch.zeros(4, len(TRACE_COLUMNS), dtype=torch.float64)
    tensors = {"trace": trace, "model/w": torch.zeros(2, 3)}
    return [save(tensors, {"progress": json.dumps(progress)})]


def checked_states() -> list[bytes]:
    """A state with the checksum over its tensors, which `reproduce verify` asks for."""
    tensors = {"model/w": np.zeros((2, 3), np.float32), "trace": np.zeros((4, len(TRACE_COLUMNS)))}
    progress = {"epoch": 1, "step": 3, "epochs": [{"epoch": 1.0}], "pieces": [{"seconds": 2.0}]}
    progress["checksum"] = checksum_of_tensors(tensors, tensors.__getitem__)
    words = (header(progress), {PROGRESS: json.dumps(progress)})
    return [save({key: torch.from_numpy(v) for key, v in tensors.items()}, word) for word in words]


# what the header of a network of ours must say of it
OF_RUN = {"cell": CELL.id, "digest": "0", "checkpoint": "last"}


def weights_files() -> list[bytes]:
    """A network as training saves one."""
    tensors = {"a.weight": torch.zeros(2, 3), "bn.num_batches_tracked": torch.tensor(1)}
    return [save(tensors, {"reproduce": json.dumps(OF_RUN)})]


def safetensors_files() -> list[bytes]:
    return [
        save({"a.weight": torch.zeros(2, 3), "b": torch.ones(2, dtype=torch.int64)}, {"a": "b"})
    ]


def checkpoints() -> list[bytes]:
    state = {"module.a": torch.zeros(2, 3), "b": torch.arange(2), "c": torch.ones(1).bfloat16()}
    found = []
    for content in (state, {"state_dict": state, "epoch": 3, "best": np.float64(2)}):
        for new in (True, False):
            target = BytesIO()
            torch.save(content, target, _use_new_zipfile_serialization=new)
            found.append(target.getvalue())
    return found


def wrapped() -> list[bytes]:
    """Checkpoints, and one with objects that a stand-in takes the place of."""
    target = BytesIO()
    state = {"a": torch.zeros(2, 3), "b": torch.arange(2), "c": torch.ones(1)}
    objects = [argparse.Namespace(lr=0.1), np.arange(3), defaultdict(list, a=[1])]
    torch.save({"net": state, "args": objects}, target)
    return [*checkpoints(), target.getvalue()]


def images_files() -> list[bytes]:
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


def traces() -> list[bytes]:
    frame = pd.DataFrame(np.zeros((3, len(TRACE_COLUMNS)), np.float32), columns=[*TRACE_COLUMNS])
    frame = frame.astype({"epoch": "int32"})
    frame.insert(0, "iteration", pd.Series([1, 2, 3], dtype="int32"))
    return _parquet(frame)


def text_frames() -> list[bytes]:
    return _parquet(pd.DataFrame({"cell": [CELL.id, CELL.id, None], "value": [1.0, 2.5, None]}))


def _parquet(frame: pd.DataFrame) -> list[bytes]:
    found = []
    for compression in ("zstd", None):
        target = BytesIO()
        frame.to_parquet(target, compression=compression, index=False)
        found.append(target.getvalue())
    return found


def epochs_files() -> list[bytes]:
    head = "epoch,test_robust_accuracy,test_natural_accuracy,test_perturbation_stability\n"
    return [(head + "1,30.5,50.0,60.25\n2,31,51,\n3,1e1,52.0,61\n").encode()]


def configurations() -> list[bytes]:
    presets = Path(__file__).parents[2] / "reproduce" / "presets"
    whole = [path.read_bytes() for path in sorted(presets.glob("*.yaml"))]
    return [*whole, b"preset: demo\ntrain: {epochs: 3, attack: {epsilon: 8/255}}\n"]


def digits_arrays() -> dict[str, Any]:
    images, labels = np.zeros((3, 8, 8, 1), np.uint8), np.arange(3, dtype=np.uint8)
    whole = {"train_images": images, "train_labels": labels}
    whole |= {"test_images": images, "test_labels": labels}
    return {**whole, "source": np.array("made up"), "official": np.array(True)}


def extra_arrays() -> dict[str, Any]:
    images, labels = np.zeros((3, 32, 32, 3), np.uint8), np.arange(3, dtype=np.uint8)
    return {"images": images, "labels": labels, "source_md5": np.array("0")}


def index_arrays() -> dict[str, Any]:
    files, labels = np.array([b"n1/a.jpeg", b"n2/b.jpeg"]), np.arange(2, dtype=np.uint16)
    whole: dict[str, Any] = {"classes": np.array([b"n1", b"n2"])}
    for split in ("train", "test"):
        whole |= {f"{split}_files": files, f"{split}_sizes": np.ones(2, np.int64)}
        whole |= {f"{split}_labels": labels}
    return {**whole, "folder": np.array("/")}


def shard_arrays() -> dict[str, Any]:
    about = {"made_for": "this", "seconds": 1.0, "piece": {}, "warnings": [], "forward": 1}
    return {**record_arrays(), "about": np.array(json.dumps({**about, "backward": 1}))}
