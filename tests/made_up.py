"""Made-up runs and records, whose tables are known beforehand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.files import sha256_of_file, write_json
from reproduce.evaluation.records import Record, write_record
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, PublishedEvaluation, find_experiment
from reproduce.experiments.runs import write_epochs
from reproduce.experiments.spec import attack_spec, evaluation_spec, training_spec

IMAGES = 10_000
# of a run of each network
HOURS = {"wrn-34-0.5": 3.0, "wrn-34-1": 12.0, "wrn-34-5": 20.0, "wrn-34-10": 32.0}


def fill(
    config: Config,
    numbers: Callable[[Cell], tuple[float, float] | None],
    images: int = IMAGES,
    **data: object,
) -> None:
    """Make up a run and its Table 1 record for every cell with robust and natural accuracy."""
    for item in find_experiment(config, "table1").evaluations:
        percent = numbers(item.cell)
        if percent is not None:
            robust, natural = (np.arange(images) < round(images * p / 100) for p in percent)
            write_run(config, item, **{"test": images, **data})
            write_made_up(config, item, np.arange(images), robust, natural)


def fill_attacks(config: Config, percent: Callable[[Evaluation], float | None]) -> None:
    """Make up Table 2's records; the images that hold are the first ones."""
    for item in find_experiment(config, "table2").evaluations:
        value = percent(item)
        if value is not None:
            if not paths.run_file(paths.cell_folder(config, item.cell)).is_file():
                write_run(config, item)
            held = np.arange(IMAGES) < round(IMAGES * value / 100)
            write_made_up(config, item, np.arange(IMAGES), held)


def fill_tuning(config: Config, wanted: Callable[[Cell], bool] = lambda _: True) -> None:
    """Make up Table 3's: lambda 15 is the best, WAR a little below, a seed is worth a tenth."""
    held = np.arange(IMAGES)
    for item in find_experiment(config, "table3").evaluations:
        cell, war = item.cell, item.cell.method == "war"
        if wanted(cell):
            hours = HOURS[cell.architecture] + cell.seed / 10
            lam = 12.5 + cell.seed if war else cell.lam
            write_run(config, item, final_lambda=lam, seconds=3600 * hours)
            robust = (50.0 if war else 51 - abs(cell.lam - 15) / 10) + cell.seed / 10
            write_made_up(config, item, held, held < round(IMAGES * robust / 100), held < 8000)


# made-up results need not outlive a power cut
_unsynced = mock.patch("os.fsync", new=int)


@_unsynced
def write_run(
    config: Config,
    item: Evaluation,
    final_lambda: float | None = None,
    seconds: float = 3600.0,
    epochs: Sequence[Mapping[str, float]] = (),
    **data: object,
) -> None:
    """Make up a finished training run, done at one go on one GPU.

    `epochs` are the columns of epochs.csv but the first, a mapping an epoch; the first of test_
    and of val_ chooses that checkpoint.
    """
    chosen = {item.checkpoint: 1, "last": len(epochs) or 1}
    for choice, split in (("best-test", "test_"), ("best-val", "val_")):
        names = [name for name in (epochs[0] if epochs else ()) if name.startswith(split)]
        if names:
            chosen[choice] = 1 + int(np.argmax([row[names[0]] for row in epochs]))
    about = {"sha256": "0", "source": "", "official": True, "train": 50_000, "test": IMAGES}
    run = {
        "digest": training_spec(config, item.cell).digest,
        "data": about | data,
        "models": {item.checkpoint: f"weights of {item.cell}"},
        "final_lambda": item.cell.lam if final_lambda is None else final_lambda,
        "hardware": ["made up"],
        "trace": "",
        "epochs": "",
        "checkpoint_epochs": chosen,
        "seconds": seconds,
        "pieces": [{"device": "cuda", "name": "made up", "processes": 1, "seconds": seconds}],
    }
    folder = paths.cell_folder(config, item.cell)
    if epochs:
        rows = [{"epoch": number, **row} for number, row in enumerate(epochs, start=1)]
        write_epochs(paths.epochs_file(folder), rows)
        run["epochs"] = sha256_of_file(paths.epochs_file(folder))
    write_json(paths.run_file(folder), run)


@_unsynced
def write_made_up(
    config: Config,
    item: Evaluation,
    index: NDArray[np.integer],
    robust: NDArray[np.bool_],
    natural: NDArray[np.bool_] | None = None,
    wrong_and_stable: int | None = None,
    recovered: int = 0,
    top5: NDArray[np.bool_] | None = None,
    **info: object,
) -> None:
    """Make up a record: which images hold, which are right; a twentieth is wrong and stable.

    Unless it is said how many are.  The last wrong ones may be right under attack.
    """
    natural = np.ones_like(robust) if natural is None else natural
    labels = index % 10
    clean = np.where(natural, labels, (labels + 1) % 10)
    count = len(index) // 20 if wrong_and_stable is None else wrong_and_stable
    wrong = np.flatnonzero(~natural)[:count]
    stable = robust.copy()
    stable[wrong] = True
    adversarial = np.where(stable, clean, (labels + 2) % 10)
    found = np.flatnonzero(~natural)[len(index) - int(natural.sum()) - recovered :]
    adversarial[found] = labels[found]
    broken_by = np.where(natural & ~robust, 0, -1)
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    label, folder = config.eval.label(item.attack), paths.cell_folder(config, item.cell)
    about = {
        "digest": spec.digest,
        "model_sha256": f"weights of {item.cell}",
        "parts": ["pgd"],
        "every_image": True,
        "warnings": [],
        **info,
    }
    write_record(
        paths.record_file(folder, item.checkpoint, label, item.seed),
        Record(index, labels, clean, adversarial, broken_by, about, top5),
    )


@_unsynced
def write_published(
    config: Config, item: PublishedEvaluation, held: int, images: int = IMAGES, **info: object
) -> Path:
    """Make up the record of AutoAttack on a published network, of which so many images hold."""
    index = np.arange(images)
    labels = index % 10
    adversarial = np.where(index < held, labels, (labels + 1) % 10)
    about = {
        "digest": attack_spec(config, item.attack, item.seed, item.dataset).digest,
        "model_sha256": "0",
        "parts": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "every_image": False,
        "warnings": [],
        "data": {"train": 50_000, "test": 10_000, "official": True},
        **info,
    }
    path = paths.published_record(config, item.dataset, item.name, item.attack, item.seed)
    broken = np.where(index < held, -1, 0)
    write_record(path, Record(index, labels, labels, adversarial, broken, about))
    return path
