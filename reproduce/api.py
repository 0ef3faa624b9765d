"""What `import reproduce` gives: the harness from Python, for notebooks and scripts.

Each function does what the command of its name does, on the same files.  The examples use the
demo on scikit-learn's digits; after `make demo` most of them return at once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.cell import parse_cell
from reproduce.config.fields import Checkpoint
from reproduce.config.load import load_config as _load_config
from reproduce.config.load import override
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths
from reproduce.experiments.grids import find_table
from reproduce.experiments.spec import find_attack

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from reproduce.claims.evidence import Claim
    from reproduce.evaluation.records import Record
    from reproduce.experiments.runs import RunInfo


def load_config(
    source: Path | str | None = None, preset: str | None = None, sets: Sequence[str] = ()
) -> Config:
    """Build a configuration: preset, then a file, then single settings.

    Parameters
    ----------
    source : Path or str, optional
        A file such as config.yaml, or a mapping written as YAML or JSON (it begins with a
        brace).  Without one, the preset as it is.
    preset : {"paper", "short", "mini", "demo"}, optional
        Replaces the file's; "paper" if neither names one.
    sets : sequence of str
        Settings ``key.subkey=value``, the value in YAML.

    Returns
    -------
    Config
        Checked; every setting is an attribute, such as ``config.train.epochs``.

    Raises
    ------
    HarnessError
        One line that names the key, the value and what is allowed.

    Examples
    --------
    >>> import reproduce
    >>> config = reproduce.load_config(preset="demo", sets=["train.epochs=3"])
    >>> config.train.epochs
    3
    """
    return _load_config("{}" if source is None else source, preset, sets)


def train(config: Config, cell: str, *, say: Callable[[str], None] = print) -> "RunInfo":
    """Train one cell, continue it where it was stopped, or return the finished run.

    Parameters
    ----------
    config : Config
        How to train, and where data and results lie.
    cell : str
        Id ``<data set>/<architecture>/<method>/lam-<lambda>/seed-<k>``.
    say : callable
        Gets each line of progress.

    Returns
    -------
    RunInfo
        What run.json says: chosen epochs, final lambda, device hours, checksums.

    Raises
    ------
    HarnessError
        If the id, the settings or the images do not allow it.
    Stopped
        If ``machine.max_minutes`` are over first; the same call continues.

    Examples
    --------
    >>> import reproduce
    >>> small = ["train.epochs=2", "data.train_images=300", "data.test_images=50"]
    >>> config = reproduce.load_config(preset="demo", sets=small)
    >>> run = reproduce.train(
    ...     config, "digits/wrn-10-0.25/trades/lam-6/seed-0", say=lambda line: None
    ... )
    >>> run.checkpoint_epochs["last"]
    2
    """
    from reproduce.data.sources import prepare
    from reproduce.experiments.runs import read_run
    from reproduce.training.train import train_cell

    which = parse_cell(cell)
    prepared = paths.prepared_file(config, which.dataset)
    if not prepared.is_file():
        prepare(config.data, which.dataset, prepared, say)
    train_cell(config, which, say)
    run = read_run(paths.cell_folder(config, which))
    assert run is not None  # noqa: S101  train_cell returns when it is written
    return run


def evaluate(
    config: Config,
    network: "str | Path | nn.Module",
    attack: str = "pgd20",
    *,
    dataset: str | None = None,
    architecture: str | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    images: int | None = None,
    say: Callable[[str], None] = print,
) -> "Record":
    """Attack a cell, a checkpoint file or any network; return what happened to every image.

    Parameters
    ----------
    config : Config
        Settings of the attack, epsilon, and where data and results lie.
    network : str, Path or torch.nn.Module
        Id of a trained cell; a checkpoint file, which needs `architecture` and `dataset`; or a
        network that maps images in [0, 1], shape (N, channels, H, W), to logits, shape
        (N, classes), which needs `dataset`.
    attack : str
        Name of an attack in ``config.eval.attacks``, such as pgd20, cw20, fab, square,
        autoattack.
    dataset : str, optional
        Whose test images are attacked: digits, cifar10, cifar100 or imagenet.
    architecture : str, optional
        Of a checkpoint file, such as wrn-34-10.
    checkpoint : {"best-test", "last", "best-val"}, optional
        Of a cell; ``config.eval.checkpoint`` unless given.
    seed : int
        Of the attack's random start.
    images : int, optional
        Attack only so many test images, classes in proportion.
    say : callable
        Gets each line of progress.

    Returns
    -------
    Record
        Label, prediction and prediction under attack of every image; its ``metrics`` are
        percentages.  It is also written under the results folder, and a second call reads it.

    Raises
    ------
    HarnessError
        If the network, its data set or the attack is not what it should be.

    Examples
    --------
    >>> import reproduce
    >>> from torch import nn
    >>> config = reproduce.load_config(preset="demo")
    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> record = reproduce.evaluate(config, linear, dataset="digits", say=lambda line: None)
    >>> 0 <= record.metrics.robust_accuracy <= record.metrics.natural_accuracy
    True
    """
    from torch import nn

    from reproduce.data.sources import prepare
    from reproduce.evaluation.evaluate import evaluate_cell, evaluate_model
    from reproduce.models.load import ModelSource
    from reproduce.registry import dataset_facts

    find_attack(config, attack)
    if images is not None:
        config = override(config, {f"eval.attacks.{attack}.images": images})
    if isinstance(network, str) and architecture is None and dataset is None:
        chosen = config.eval.checkpoint if checkpoint is None else checkpoint
        return evaluate_cell(config, parse_cell(network), attack, seed, chosen, say)
    if dataset is None:
        raise HarnessError("dataset is missing: whose test images are to be attacked?")
    if checkpoint is not None:
        raise HarnessError("checkpoint picks one of a cell's; a file is one already")
    name = dataset_facts(dataset).name
    if isinstance(network, nn.Module):
        source = ModelSource(name, module=network)
        # other processes could not import a class of a notebook
        config = override(config, {"machine.processes": 1})
    elif architecture is None:
        raise HarnessError("a checkpoint file needs its architecture, such as wrn-34-10")
    else:
        source = ModelSource(name, architecture, Path(network))
    prepared = paths.prepared_file(config, name)
    if not prepared.is_file():
        prepare(config.data, name, prepared, say)
    return evaluate_model(config, source, attack, seed, say)


def load_results(config: Config) -> "pd.DataFrame":
    """Return every number there is: a row a metric of a record, with all that it is of.

    Parameters
    ----------
    config : Config
        Its results folder is read; what was made with other settings is left out.

    Returns
    -------
    pandas.DataFrame
        The columns of results.parquet (docs/results.md), among them ``dataset``,
        ``architecture``, ``method``, ``lambda``, ``training_seed``, ``attack``, ``metric`` and
        ``value`` (percent).

    Examples
    --------
    >>> import reproduce
    >>> frame = reproduce.load_results(reproduce.load_config(preset="demo"))
    >>> keys = ["dataset", "architecture", "method", "lambda", "attack", "metric"]
    >>> means = frame.groupby(keys)["value"].agg(["mean", "std"])
    """
    from reproduce.results.frames import tidy_results

    return tidy_results(config).frame


def make_table(config: Config, name: str) -> "pd.DataFrame":
    """Write a table as CSV, Markdown and LaTeX, from whatever records exist, and return it.

    Parameters
    ----------
    config : Config
        Its grids and its results folder.
    name : str
        table1 to table6, as far as the configuration has them.

    Returns
    -------
    pandas.DataFrame
        The CSV's rows: means and sample deviations over seeds, and the number of seeds.

    Raises
    ------
    HarnessError
        If the configuration has no such table.

    Examples
    --------
    >>> import reproduce
    >>> table = reproduce.make_table(reproduce.load_config(preset="demo"), "table1")
    """
    import pandas as pd

    from reproduce.results.frames import collect
    from reproduce.tables.write import write_table

    experiment = find_table(config, name)
    write_table(config, experiment, collect(config, experiment))
    return pd.read_csv(paths.table_file(config, experiment.name, "csv"))


def diff(config: Config, name: str) -> "pd.DataFrame":
    """Compare a table with the paper's, number by number.

    Parameters
    ----------
    config : Config
        Its grids and its results folder.
    name : str
        table1 to table6, as far as the configuration has them.

    Returns
    -------
    pandas.DataFrame
        A row a number: ``paper`` and ``ours`` with deviations (percent), ``difference`` and the
        half width of its 95 % interval (points), ``verdict`` and ``note``.

    Raises
    ------
    HarnessError
        If the configuration has no such table.

    Examples
    --------
    >>> import reproduce
    >>> found = reproduce.diff(reproduce.load_config(preset="demo"), "table1")
    >>> counts = found["verdict"].value_counts()
    """
    from reproduce.results.frames import collect
    from reproduce.tables.diff import build_diff

    experiment = find_table(config, name)
    return build_diff(config, experiment, collect(config, experiment))


def judge_claims(config: Config) -> "list[Claim]":
    """Test the paper's statements on whatever results exist.

    Parameters
    ----------
    config : Config
        Its grids and its results folder.

    Returns
    -------
    list of Claim
        Each with ``name``, ``statement``, ``verdict`` ("holds", "fails", "too little data"),
        ``summary`` and ``effects`` (estimates with their intervals).

    Examples
    --------
    >>> import reproduce
    >>> claims = reproduce.judge_claims(reproduce.load_config(preset="demo"))
    >>> verdicts = {claim.name: claim.verdict for claim in claims}
    """
    from reproduce.claims.statements import judge_claims as judge

    return judge(config)
