"""Where every file of a results folder lies; the Snakefile and the commands agree here."""

from collections.abc import Callable, Iterable
from pathlib import Path

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config, Data
from reproduce.registry import extra_facts

# best-test is the paper's checkpoint and goes by the plain name
_SUFFIX: dict[Checkpoint, str] = {"best-test": "", "last": "-last", "best-val": "-best-val"}

CHECKPOINTS: tuple[Checkpoint, ...] = tuple(_SUFFIX)


def root(config: Config) -> Path:
    """Return the folder of one preset's results."""
    return config.results / config.preset


def shortened(config: Config, text: str) -> str:
    """Return a message with the files of runs named from their cells on."""
    return text.replace(f"{root(config) / 'cells'}/", "")


# --- files of a preset: functions of the configuration, and of a name where there are several


def _of_preset(name: str) -> Callable[[Config], Path]:
    return lambda config: root(config) / name


def _in_folder(folder: str) -> Callable[[Config, str, str], Path]:
    return lambda config, name, suffix: root(config) / folder / f"{name}.{suffix}"


claims_file = _of_preset("claims.json")
lemma_file = _of_preset("lemma.json")
results_file = _of_preset("results.parquet")
report_file = _of_preset("report.html")
tensorboard_folder = _of_preset("tensorboard")
# what `reproduce plan --measure` found
throughput_file = _of_preset("throughput.json")
# csv, md and tex of a table; svg, png and csv of a figure
table_file = _in_folder("tables")
figure_file = _in_folder("figures")


def diff_file(config: Config, name: str) -> Path:
    """Return the comparison of a table with the paper's."""
    return root(config) / "diff" / f"{name}.csv"


def examples_file(config: Config, dataset: str) -> Path:
    """Return the adversarial examples of a data set; the .json of that name says what they are."""
    return root(config) / "examples" / f"{dataset}.npz"


def log_file(config: Config, job: str, name: str) -> Path:
    """Return the log of a job of the workflow, such as train or evaluate."""
    return root(config) / "logs" / job / f"{name}.log"


def superseded_folder(root: Path) -> Path:
    """Return where finished runs and records of a preset go that others replace."""
    return root / "superseded"


# --- files of a run: functions of its folder


def cell_folder(config: Config, cell: Cell) -> Path:
    """Return the folder of one training run."""
    return root(config) / "cells" / cell.id


def _of_run(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


run_file = _of_run("run.json")
# a row an iteration
trace_file = _of_run("trace.parquet")
# a row an epoch that was measured
epochs_file = _of_run("epochs.csv")
# held by a process while it trains
training_lock = _of_run(".lock")


def model_file(folder: Path, checkpoint: Checkpoint) -> Path:
    """Return the weights of one checkpoint of a run."""
    return folder / f"model{_SUFFIX[checkpoint]}.safetensors"


def checkpoint_of(suffix: str) -> Checkpoint:
    """Return the checkpoint that a suffix in a file's name means."""
    return next(checkpoint for checkpoint, known in _SUFFIX.items() if known == suffix)


def run_files(folder: Path, checkpoints: Iterable[Checkpoint]) -> list[Path]:
    """Return every file of a finished run, run.json last."""
    models = [model_file(folder, choice) for choice in checkpoints]
    return [*models, trace_file(folder), epochs_file(folder), run_file(folder)]


# --- records of attacks; the summary of one is the .json of its name


def record_file(folder: Path, checkpoint: Checkpoint, label: str, seed: int) -> Path:
    """Return the record of one attack, by its label, on one checkpoint."""
    return folder / f"records{_SUFFIX[checkpoint]}" / f"{label}-seed{seed}.npz"


def evaluation_lock(record: Path) -> Path:
    """Return the file that a process holds while it makes a record."""
    return record.with_name(f".{record.stem}.lock")


def shards_folder(record: Path) -> Path:
    """Return where the shards of an unfinished record lie."""
    return record.with_suffix(".shards")


def foreign_folder(config: Config, dataset: str, name: str) -> Path:
    """Return the folder of a network that is no cell's."""
    return root(config) / "models" / dataset / name


def published_record(config: Config, dataset: str, name: str, label: str, seed: int) -> Path:
    """Return the record of an attack on a published checkpoint."""
    return record_file(foreign_folder(config, dataset, name), "best-test", label, seed)


def published_outcome(record: Path) -> Path:
    """Return the small file that says whether there is a published checkpoint's record, or why not.

    The workflow does not try again while it is there.
    """
    return record.parents[1] / f"{record.stem}.json"


# --- images and published checkpoints


def prepared_file(config: Config, dataset: str) -> Path:
    """Return the prepared images of a data set; the .json of that name says what they are."""
    return config.data.folder / "prepared" / f"{dataset}.npz"


def extra_source(data: Data, name: str) -> Path:
    """Return where the published file of extra images is looked for."""
    extra = extra_facts(name)
    given: Path | None = getattr(data, extra.setting)
    return data.folder / extra.file if given is None else given


def zoo_folder(data: Data) -> Path:
    """Return the folder of published checkpoints."""
    return data.folder / "zoo" if data.zoo is None else data.zoo


def zoo_file(zoo: Path, dataset: str, name: str) -> Path:
    """Return where RobustBench's layout has a published checkpoint in a zoo."""
    return zoo / dataset / "Linf" / f"{name}.pt"


def zoo_files(zoo: Path, dataset: str, name: str) -> list[Path]:
    """Return the files of a published checkpoint that are there: one, or an ensemble's."""
    single = zoo_file(zoo, dataset, name)
    if single.is_file():
        return [single]
    members = list(single.parent.glob(f"{single.name}_m*.pt"))
    return sorted(members, key=lambda path: (len(path.name), path.name))


def zoo_card(zoo: Path, dataset: str, name: str) -> Path:
    """Return where the model card of an exported checkpoint lies, as RobustBench's do."""
    return zoo / "model_info" / dataset / "Linf" / f"{name}.json"
