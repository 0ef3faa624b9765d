"""float64: a run and its record come out the same whatever instructions the processor has."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_runs import SMALL_ATTACKS, record_of

from reproduce.cell import Cell
from reproduce.compute.device import default_dtype
from reproduce.config.schema import Config
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.models.load import ModelSource

SETS = ("train.precision=float64", "eval.precision=float64", "train.epochs=1")
# without the vector instructions that this processor may have
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


def run(config: Config, *words: str, **environment: str) -> None:
    command = [sys.executable, "-m", "reproduce", *words, "--preset", "demo"]
    done = subprocess.run(
        command,
        env=os.environ | {"REPRODUCE_CONFIG": config.model_dump_json()} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_results_do_not_depend_on_the_processor(tiny: Callable[..., Config], cell: Cell) -> None:
    found = []
    for name, environment in (("vector", {}), ("plain", PLAIN)):
        config = tiny(*SETS)
        config = config.model_copy(update={"results": config.results / name})
        run(config, "train", cell.id, **environment)
        run(config, "evaluate", cell.id, "--attack", "pgd20", **environment)
        folder = paths.cell_folder(config, cell)
        weights = load_file(paths.model_file(folder, "last"))
        found.append((weights, read_record(paths.record_file(folder, "best-test", "pgd20", 0))))
    (first, record), (second, again) = found
    assert first["fc.weight"].dtype == np.float64
    for key, value in first.items():
        np.testing.assert_allclose(value, second[key], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(record.clean, again.clean)
    np.testing.assert_array_equal(record.adversarial, again.adversarial)


def test_attacks_of_the_package_run(tiny: Callable[..., Config], source: ModelSource) -> None:
    config = tiny(*SETS[1:], *SMALL_ATTACKS, "data.test_images=20")
    found = record_of(config, source, "autoattack")
    assert found.info["spec"]["precision"] == "float64"


def test_the_default_is_put_back() -> None:
    with pytest.raises(KeyError), default_dtype("float64"):
        assert torch.get_default_dtype() == torch.float64
        raise KeyError
    assert torch.get_default_dtype() == torch.float32
