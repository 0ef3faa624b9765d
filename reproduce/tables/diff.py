"""A regenerated table beside the paper's, number by number."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from reproduce.config.grids import AttackTable, TuningTable
from reproduce.config.schema import Config
from reproduce.core.files import write_text
from reproduce.evaluation.records import ALL_METRICS
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment, find_experiment, repeated_evaluations
from reproduce.paper.published import published
from reproduce.registry import METHODS, dataset_facts, extra_of
from reproduce.results.frames import Results, collect
from reproduce.results.protocol import deviations, table_deviations
from reproduce.results.statistics import Sample, difference_interval, sample, subset_interval
from reproduce.tables.tuning import compare_strategies
from reproduce.zoo.checkpoints import UNKNOWN, ZooCheckpoint, zoo_facts

# the paper's ± is over three training seeds (Table 1) or three attack seeds (Table 2)
PAPER_SEEDS = 3
# percentage points within which a number counts as reproduced
TOLERANCE = 1.0

# what each verdict means; the README has the same table
VERDICTS = {
    "agrees": "within one point of the paper's number",
    "within noise": "farther apart, but the 95 % interval of the difference holds zero",
    "differs": "farther apart, and the interval excludes zero, or both numbers are of the same "
    "weights (a published checkpoint)",
    "too few seeds": "farther apart, and too few training seeds, here or in the paper, to tell "
    "whether other seeds explain it",
    "subset": "only a part of the test images was attacked; the interval is what that leaves",
    "not a reproduction": "the settings, or the images, are not the paper's",
    "missing": "the paper has a number, there is no result yet",
    "not judged": "a lambda, GPU-hours (Table 3), or a number that can be read in two ways in the "
    "source (Table 5)",
    "no paper value": "the paper has no such number, or it cannot be read in the source (Table 2's "
    "PGD column of WideResNet-34-10 on CIFAR-10)",
}
# those that say how near a number is to the paper's
JUDGED = ("agrees", "within noise", "differs", "too few seeds")

# what is known of a number of Table 2, whose seeds are those of the attack
_STARTS = "over random starts on one network, which cannot tell how far training runs lie apart"
_RUNS = "interval from how far the training runs of Table 1 lie apart, here and in the paper"

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
        paper's, `interval` the half width of Welch's 95 % interval of it, NaN where too few
        training seeds tell how far runs lie apart, `verdict` one of `VERDICTS`.  A number of
        the paper that can be read in two ways has a row for each.
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
    single = isinstance(grid, AttackTable)
    runs = _single_runs(config, frame, experiment.name) if single else frame
    frame["interval"] = [_half_width(row) for row in runs.itertuples()]
    frame["ambiguous"] = frame.duplicated(_KEYS, keep=False)
    frame["published"] = frame["method"].isin({item.name for item in experiment.published})
    keys = set(zip(frame["dataset"], frame["attack"], frame["method"], strict=True))
    reasons = {key: _reasons(config, experiment.name, results, *key) for key in keys}
    judged = [
        _judge(row, reasons[row.dataset, row.attack, row.method]) for row in frame.itertuples()
    ]
    frame[["interval", "verdict"]] = pd.DataFrame(judged, index=frame.index)
    if single:
        shown = frame["verdict"].isin(JUDGED)
        frame.loc[shown, "note"] = frame["interval"].isna().map({True: _STARTS, False: _RUNS})
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
    runs = _seen(results.frame, *named, "precision")
    count = sum("tf32" in run[-1] for run in runs)
    if count:
        caveats.append(
            f"{count} of {len(runs)} training runs computed in TF32, which the paper's V100 lacks"
        )
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


def _single_runs(config: Config, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return Table 2's numbers with the deviation of Table 1's, ours and the paper's; NaN if none.

    Both sides are one training run, which is as uncertain as several lie apart.
    """
    runs = frame.assign(ours_std=math.nan, std=math.nan)
    repeated = repeated_evaluations(config, name)
    if not repeated:
        return runs
    first = replace(find_experiment(config, "table1"), evaluations=repeated)
    told = _evaluations(first, collect(config, first)).merge(published("table1"), on=_KEYS)
    told["ours_std"] *= told["seeds"] ** 0.5
    told["std"] *= PAPER_SEEDS**0.5
    return frame[_KEYS].merge(told, on=_KEYS, how="left")


def _half_width(row: Any) -> float:
    """Return the half width of the interval of a difference; NaN where too few runs tell."""
    ours = Sample(row.ours, row.ours_std, row.seeds)
    return difference_interval(ours, Sample(row.mean, row.std, PAPER_SEEDS))


def _judge(row: Any, reasons: list[str]) -> tuple[float, str]:
    """Return the half width of the interval around a difference, and the verdict."""
    total = dataset_facts(row.dataset).test
    left = subset_interval(row.ours, row.images, total) if row.images else None
    half = row.interval if left is None else (left.high - left.low) / 2
    if math.isnan(row.mean):
        verdict = "no paper value"
    elif not row.seeds:
        verdict = "missing"
    elif row.metric not in ALL_METRICS:
        half, verdict = math.nan, "not judged"
    elif reasons:
        verdict = "not a reproduction"
    elif row.ambiguous:
        verdict = "not judged"
    elif left is not None:
        verdict = "subset"
    elif abs(row.difference) <= TOLERANCE:
        verdict = "agrees"
    elif math.isnan(half) and not row.published:
        verdict = "too few seeds"
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
