"""Ways to make a results folder hostile; each says which of its files is."""

import json
import os
import pickle
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hostile_contents import CELL, CONTENTS, RECORD, root_of, run_of, sealed_by_them

from reproduce.config.schema import Config
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.experiments import paths
from reproduce.experiments.runs import header as state_header


def _link_to_a_file(config: Config) -> str:
    path = root_of(config) / "claims.json"
    path.symlink_to("/etc/passwd")
    return "claims.json"


def _link_to_a_folder(config: Config) -> str:
    (root_of(config) / "tables").symlink_to("/etc")
    return "tables"


def _link_out_of_it(config: Config) -> str:
    (root_of(config) / "cells" / "up").symlink_to("../../..")
    return "cells/up"


def _pipe(config: Config) -> str:
    os.mkfifo(root_of(config) / "lemma.json")
    return "lemma.json"


def _socket(config: Config) -> str:
    here = Path.cwd()
    os.chdir(root_of(config))  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind("report.html")
    finally:
        os.chdir(here)
    return "report.html"


def ten_gigabytes(config: Config) -> str:
    path = paths.model_file(paths.cell_folder(config, CELL), "last")
    with path.open("r+b") as handle:
        handle.truncate(10 * 2**30)
    return f"cells/{CELL}/model-last.safetensors"


def _deep_json(config: Config) -> str:
    run_of(config).write_text('{"spec":' + "[" * 100_000 + "]" * 100_000 + "}")
    return f"cells/{CELL}/run.json"


def _deep_object(config: Config) -> str:
    path = root_of(config) / RECORD
    path.with_suffix(".json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return RECORD


def _a_number_of_a_million_digits(config: Config) -> str:
    run_of(config).write_text('{"digest": ' + "9" * 1_000_000 + "}")
    return f"cells/{CELL}/run.json"


def zip_bomb(config: Config) -> str:
    """One GiB of zeros in a megabyte."""
    path = root_of(config) / RECORD
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("index.npy", "w") as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**30,)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(1024):
            member.write(bytes(2**20))
    sealed_by_them(path)
    return RECORD


def _header_of_a_huge_array(config: Config) -> str:
    path = root_of(config) / RECORD
    with zipfile.ZipFile(path, "w") as archive, archive.open("index.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<i8", "fortran_order": False, "shape": (2**40,)}
        )
    sealed_by_them(path)
    return RECORD


def _many_members(config: Config) -> str:
    path = root_of(config) / RECORD
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}.npy", b"")
    sealed_by_them(path)
    return RECORD


class _Harm:
    """What unpickles to a file that should not be there."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.where,)


def _objects(config: Config) -> str:
    path = root_of(config) / RECORD
    array = np.array([_Harm(config.results / "HARM")], dtype=object)
    with path.open("wb") as handle:
        np.savez(handle, index=array, label=array, clean=array, adversarial=array, broken_by=array)
    sealed_by_them(path)
    return RECORD


def _a_pickle_as_checkpoint(config: Config) -> str:
    path = paths.model_file(paths.cell_folder(config, CELL), "last")
    path.write_bytes(pickle.dumps(_Harm(config.results / "HARM")))
    told = read_json(run_of(config))
    told["models"]["last"] = sha256_of_file(path)
    write_json(run_of(config), told)
    return f"cells/{CELL}/model-last.safetensors"


def _with_a_hole(path: Path, size: int, about: dict[str, str]) -> None:
    """Write a file of one tensor and so many bytes, which takes no room on a disk."""
    shape, places = [(size - 1024) // 4], [0, size - 1024]
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": places}
    text = json.dumps({"__metadata__": about, "a": tensor}).encode().ljust(1016)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, size)


def a_checkpoint_with_a_hole(config: Config) -> str:
    """As large as a checkpoint may be, with its checksum right."""
    path = paths.model_file(paths.cell_folder(config, CELL), "best-test")
    told = read_json(run_of(config))
    about = {"cell": str(CELL), "digest": told["digest"], "checkpoint": "best-test"}
    _with_a_hole(path, 4096 * 2**20, {"reproduce": json.dumps(about)})
    told["models"]["best-test"] = sha256_of_file(path)
    write_json(run_of(config), told)
    return f"cells/{CELL}/{path.name}"


def a_state_with_a_hole(config: Config) -> str:
    """As large as a saved state may be."""
    path = paths.cell_folder(config, CELL) / "state-0123456789ab.safetensors"
    progress = {"epoch": 1, "step": 0, "epochs": [], "pieces": [], "checksum": 0}
    _with_a_hole(path, 16384 * 2**20, state_header(progress))
    return f"cells/{CELL}/{path.name}"


def header_of_many_gigabytes(config: Config) -> str:
    path = paths.model_file(paths.cell_folder(config, CELL), "last")
    header = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    told = read_json(run_of(config))
    told["models"]["last"] = sha256_of_file(path)
    write_json(run_of(config), told)
    return f"cells/{CELL}/model-last.safetensors"


def _parquet(config: Config, table: pa.Table) -> str:
    path = paths.trace_file(paths.cell_folder(config, CELL))
    pyarrow.parquet.write_table(table, path)
    write_json(run_of(config), read_json(run_of(config)) | {"trace": sha256_of_file(path)})
    return f"cells/{CELL}/trace.parquet"


def _columns(config: Config) -> list[str]:
    return pyarrow.parquet.read_schema(paths.trace_file(paths.cell_folder(config, CELL))).names


def _parquet_of_many_rows(config: Config) -> str:
    zeros = pa.array(np.zeros(20_000_000, "int8"))
    return _parquet(config, pa.table(dict.fromkeys(_columns(config), zeros)))


def parquet_of_long_texts(config: Config) -> str:
    """Eight megabytes a text, once in a dictionary, in 4,096 rows."""
    texts = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(4096, "int32")), pa.array(["x" * 8 * 2**20])
    )
    plain = pa.array(np.zeros(4096, "int32"))
    columns = dict.fromkeys(_columns(config), plain) | {"lipschitz": texts}
    return _parquet(config, pa.table(columns))


def _nested_parquet(config: Config) -> str:
    lists = pa.array([[[1.0]]] * 9)
    return _parquet(config, pa.table(dict.fromkeys(_columns(config), lists)))


HOSTILE = (
    _link_to_a_file,
    _link_to_a_folder,
    _link_out_of_it,
    _pipe,
    _socket,
    ten_gigabytes,
    _deep_json,
    _deep_object,
    _a_number_of_a_million_digits,
    zip_bomb,
    _header_of_a_huge_array,
    _many_members,
    _objects,
    _a_pickle_as_checkpoint,
    a_state_with_a_hole,
    header_of_many_gigabytes,
    _parquet_of_many_rows,
    parquet_of_long_texts,
    _nested_parquet,
    *CONTENTS,
)
