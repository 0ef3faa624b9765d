"""Made-up traces and epochs of finished runs."""

import pandas as pd
from made_up import write_run

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json, sha256_of_file, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, curve_cells
from reproduce.experiments.runs import as_frame, write_epochs
from reproduce.experiments.spec import checkpoints
from reproduce.registry import parse_architecture

EPOCHS, STEPS = 6, 20


def made_up_trace(cell: Cell, steps: int = STEPS) -> pd.DataFrame:
    """Natural risk falls by a line, the Lipschitz constant is width plus seed."""
    width = parse_architecture(cell.architecture).width
    rows = []
    for row in range(EPOCHS * steps):
        share = row / (EPOCHS * steps)
        natural = 2 - share - 0.1 * width
        rows.append([1 + row // steps, natural, 0.1 * width, cell.lam, 0.1, width + cell.seed])
    return as_frame(rows)


def made_up_epochs(cell: Cell) -> list[dict[str, float]]:
    """Robust accuracy rises to epoch 4 and falls, stability falls, natural accuracy rises."""
    width = parse_architecture(cell.architecture).width
    return [
        {
            "epoch": epoch,
            "test_robust_accuracy": 50 + width + cell.seed - abs(epoch - 4),
            "test_natural_accuracy": 60 + epoch + width,
            "test_perturbation_stability": 90 - 2 * epoch - width,
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def finish(config: Config, item: Evaluation, **run: float) -> None:
    """Write a finished run of an evaluation whose files but run.json are empty."""
    write_run(config, item, **run)
    for path in paths.run_files(paths.cell_folder(config, item.cell), checkpoints(config.train)):
        path.touch()


def write_history(
    config: Config,
    cell: Cell,
    trace: pd.DataFrame | None = None,
    epochs: list[dict[str, float]] | None = None,
) -> None:
    """Write what a finished run leaves: checkpoints (empty), trace, epochs, run.json."""
    folder = paths.cell_folder(config, cell)
    finish(config, Evaluation(cell, "best-test", "pgd20", 0))
    file = paths.trace_file(folder)
    (made_up_trace(cell) if trace is None else trace).to_parquet(file)
    numbers = paths.epochs_file(folder)
    write_epochs(numbers, epochs or made_up_epochs(cell))
    run = paths.run_file(folder)
    manifest = paths.prepared_file(config, cell.dataset).with_suffix(".json")
    info = read_json(run) | {"trace": sha256_of_file(file), "epochs": sha256_of_file(numbers)}
    info["data"]["sha256"] = read_json(manifest)["sha256"]
    write_json(run, info)


def write_histories(config: Config, figure: str) -> None:
    """Write one for every run of a figure."""
    for cell in curve_cells(getattr(config.experiments, figure)):
        write_history(config, cell)
