"""A regenerated table beside the paper's, number by number."""

import math
from typing import Any

import pandas as pd

from reproduce import paths
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import (
    Sample,
    difference_interval,
    sample,
    subset_interval,
)
from reproduce.analysis.tuning import compare_strategies
from reproduce.catalogue import METHODS, dataset_facts, extra_of
from reproduce.config import Config, TuningTable
from reproduce.deviations import deviations, table_deviations
from reproduce.experiments import Experiment
from reproduce.files import write_text
from reproduce.paper import published
from reproduce.records import ALL_METRICS
from reproduce.zoo import ZooCheckpoint
from reproduce.zoo.cards import UNKNOWN, zoo_facts

# the paper's ± is over three training seeds (Table 1) or three attack seeds (Table 2)
PAPER_SEEDS = 3
# percentage points within which a number counts as reproduced
TOLERANCE = 1.0

_KEYS = ["dataset", "architecture", "method", "lambda", "attack", "metric"]
DIFF_COLUMNS = [
    *_KEYS,
    "paper",
    "paper_std",
    "ours",
    "ours_std",
    "seeds",
    "images",
    "difference",
    "interval",
    "verdict",
    "note",
]


def build_diff(config: Config, experiment: Experiment, results: Results) -> pd.DataFrame:
    """Compare every number of an experiment with the paper's.

    Returns
    -------
    pandas.DataFrame
        Columns `DIFF_COLUMNS`; numbers in percent, `difference` is ours minus the
        paper's, `interval` the half width of Welch's 95 % interval of it.  Verdicts:

        agrees
            within `TOLERANCE` points;
        within noise
            farther apart, but the interval holds zero;
        differs
            farther apart, and the interval excludes zero or cannot be computed;
        missing
            the paper has a number, there is no result yet;
        no paper value
            the paper has none, or it cannot be read;
        subset
            only a part of the test images was attacked; `interval` is then the half
            width of the 95 % interval that this leaves;
        for information
            a lambda or a number of GPU-hours: there is no telling how near is near;
        not a reproduction
            the settings, or the images, are not the paper's.
    """
    grid = getattr(config.experiments, experiment.name)
    if isinstance(grid, TuningTable):
        ours = _strategies(config, grid, results)
    else:
        ours = pd.concat(
            [_published(config, experiment, results), _evaluations(experiment, results)]
        )
    frame = ours.merge(published(experiment.name), on=_KEYS, how="left").fillna({"note": ""})
    frame["difference"] = frame["ours"] - frame["mean"]
    keys = set(zip(frame["dataset"], frame["attack"], frame["method"], strict=True))
    reasons = {key: _reasons(config, experiment.name, results, *key) for key in keys}
    judged = [
        _judge(row, reasons[row.dataset, row.attack, row.method]) for row in frame.itertuples()
    ]
    frame[["interval", "verdict"]] = pd.DataFrame(judged, index=frame.index)
    return frame.rename(columns={"mean": "paper", "std": "paper_std"})[DIFF_COLUMNS]


def diff_notes(config: Config, experiment: Experiment, results: Results) -> list[str]:
    """Say why results may not be called a reproduction; empty if they may."""
    keys = dict.fromkeys(
        [(e.dataset, e.attack, e.name) for e in experiment.published]
        + [(e.cell.dataset, e.attack, e.cell.method) for e in experiment.evaluations]
    )
    notes = [reason for key in keys for reason in _reasons(config, experiment.name, results, *key)]
    return list(dict.fromkeys(notes))


def diff_caveats(results: Results) -> list[str]:
    """Say what a reader of the verdicts must know; empty if there is nothing."""
    seen = set(_seen(results.frame, "dataset", "official", "train_images", "test_images"))
    for item, record in results.published.items():
        data = record.info["data"]
        seen.add((item.dataset, data["official"], data["train"], data["test"]))
    caveats = []
    for name, official, train, test in sorted(seen):
        if not official and dataset_facts(name).storage == "folder":
            held = f"{train} training and {test} test images"
            caveats.append(f"the {name} images are not ILSVRC2012 by names and numbers ({held})")
        elif not official:
            caveats.append(f"the {name} images were given as an .npz: not verified by md5")
    named = ("dataset", "architecture", "method", "lambda", "training_seed")
    runs = _seen(results.frame, *named, "imported_from")
    for name in sorted({run[-1] for run in runs} - {""}):
        count = sum(run[-1] == name for run in runs)
        caveats.append(f"{count} of {len(runs)} training runs are those of the publication {name}")
    return list(dict.fromkeys(caveats))


def _reasons(
    config: Config, table: str, results: Results, dataset: str, attack: str, method: str
) -> list[str]:
    """Say why one attack's numbers of one method may not be called a reproduction."""
    # both other strategies of tuning train with TRADES
    trained = "trades" if method in ("untuned", "manual") else method
    # a published checkpoint was trained elsewhere
    methods = [trained] if trained in METHODS else []
    reasons = deviations(config, [attack], methods, [dataset])
    reasons += table_deviations(config, table, method)
    frame = results.frame[results.frame["dataset"] == dataset]
    facts = dataset_facts(dataset)
    for train, test in sorted(
        {*_seen(frame, "train_images", "test_images"), *_sizes(results, dataset)}
    ):
        if (train, test) != (facts.train, facts.test):
            reasons.append(
                f"{dataset} has {train} training and {test} test images here, "
                f"officially {facts.train} and {facts.test}"
            )
    for (images,) in _seen(frame[frame["method"] == method], "extra_images"):
        if images and images != (known := extra_of(dataset).images):
            reasons.append(f"{dataset} has {images} extra images here, published are {known}")
    return reasons


def _sizes(results: Results, dataset: str) -> set[tuple[Any, ...]]:
    """Return the sizes of a data set as published checkpoints were attacked on it."""
    images = [
        record.info["data"] for item, record in results.published.items() if item.dataset == dataset
    ]
    return {(data["train"], data["test"]) for data in images}


def _seen(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Return the different values of some columns."""
    return sorted(set(frame[list(columns)].itertuples(index=False, name=None)))


def write_diff(config: Config, experiment: Experiment, frame: pd.DataFrame) -> None:
    """Write a comparison as CSV, numbers to four decimals."""
    # columns that were empty in some part have no type of their own yet
    text = frame.infer_objects().round(4).to_csv(index=False, lineterminator="\n")
    write_text(paths.diff_file(config, experiment.name), text)


def _judge(row: Any, reasons: list[str]) -> tuple[float, str]:
    """Return the half width of the interval around a difference, and the verdict."""
    left = subset_interval(row.ours, row.images, dataset_facts(row.dataset).test)
    if left is not None:
        half = (left.high - left.low) / 2
    else:
        ours = Sample(row.ours, row.ours_std, row.seeds)
        half = difference_interval(ours, Sample(row.mean, row.std, PAPER_SEEDS))
    if math.isnan(row.mean):
        verdict = "no paper value"
    elif not row.seeds:
        verdict = "missing"
    elif row.metric not in ALL_METRICS:
        half, verdict = math.nan, "for information"
    elif reasons:
        verdict = "not a reproduction"
    elif left is not None:
        verdict = "subset"
    elif abs(row.difference) <= TOLERANCE:
        verdict = "agrees"
    else:
        verdict = "within noise" if abs(row.difference) <= half else "differs"
    return half, verdict


def _evaluations(experiment: Experiment, results: Results) -> pd.DataFrame:
    """Return mean, deviation, seeds and images of every planned number, NaN where missing."""
    keys = dict.fromkeys(
        (e.cell.dataset, e.cell.architecture, e.cell.method, e.cell.lam, e.attack)
        for e in experiment.evaluations
    )
    groups = dict(iter(results.frame.groupby(_KEYS[:-1], sort=False)))
    rows = []
    for key in keys:
        group = groups.get(key)
        images = 0 if group is None else int(group["images"].min())
        for metric in experiment.metrics:
            entry = sample([] if group is None else group[metric].tolist())
            rows.append((*key, metric, entry.mean, entry.std, entry.n, images))
    return pd.DataFrame(rows, columns=[*_KEYS, "ours", "ours_std", "seeds", "images"])


def _published(config: Config, experiment: Experiment, results: Results) -> pd.DataFrame:
    """Return the same for published checkpoints; the method is RobustBench's id."""
    rows = []
    for item in experiment.published:
        checkpoint = ZooCheckpoint(item.name, item.dataset, paths.zoo_folder(config.data))
        network = zoo_facts(checkpoint).network or UNKNOWN
        record = results.published.get(item)
        values = {} if record is None else record.metrics.as_dict()
        for metric in experiment.metrics:
            key = (item.dataset, network, item.name, math.nan, item.attack, metric)
            entry = sample([] if record is None else [values[metric]])
            images = 0 if record is None else len(record.index)
            rows.append((*key, *entry, images))
    return pd.DataFrame(rows, columns=[*_KEYS, "ours", "ours_std", "seeds", "images"])


def _strategies(config: Config, grid: TuningTable, results: Results) -> pd.DataFrame:
    """Return the same for the strategies of tuning lambda; the method is the strategy's name."""
    rows = []
    for found in compare_strategies(config, grid, results):
        key = (grid.dataset, found.architecture, found.name, math.nan, "pgd20")
        hours = sample([] if math.isnan(found.hours) else [found.hours])
        named = {"lambda": found.lam, "robust_accuracy": found.robust, "gpu_hours": hours}
        rows += [(*key, metric, *entry, found.images) for metric, entry in named.items()]
    return pd.DataFrame(rows, columns=[*_KEYS, "ours", "ours_std", "seeds", "images"])
