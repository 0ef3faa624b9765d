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
from reproduce.tables.layout import rows_with
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
_OURS = ["ours", "ours_std", "seeds", "images"]
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
        ours = [*_published(config, experiment, results), *_evaluations(experiment, results)]
    frame = pd.DataFrame(ours, columns=[*_KEYS, *_OURS])
    frame = frame.merge(published(experiment.name), on=_KEYS, how="left").fillna({"note": ""})
    frame["difference"] = frame["ours"] - frame["mean"]
    one_run = isinstance(grid, AttackTable)
    spread = _spread_of_runs(config, frame, experiment.name) if one_run else frame
    frame["interval"] = [_half_width(row) for row in spread.itertuples()]
    frame["ambiguous"] = frame.duplicated(_KEYS, keep=False)
    frame["same_weights"] = frame["method"].isin([item.name for item in experiment.published])
    reasons = {
        key: _reasons(config, experiment.name, results, *key)
        for key in set(frame[["dataset", "attack", "method"]].itertuples(index=False, name=None))
    }
    judged = [
        _judge(row, reasons[row.dataset, row.attack, row.method]) for row in frame.itertuples()
    ]
    frame[["interval", "verdict"]] = pd.DataFrame(judged, index=frame.index)
    if one_run:
        shown = frame["verdict"].isin(JUDGED)
        frame.loc[shown, "note"] = frame["interval"].isna().map({True: _STARTS, False: _RUNS})
    return frame.rename(columns={"mean": "paper", "std": "paper_std"})[DIFF_COLUMNS]


def write_diff(config: Config, experiment: Experiment, frame: pd.DataFrame) -> None:
    """Write a comparison as CSV, numbers to four decimals."""
    # columns that were empty in some part have no type of their own yet
    text = frame.infer_objects().round(4).to_csv(index=False, lineterminator="\n")
    write_text(paths.diff_file(config, experiment.name), text)


def diff_notes(config: Config, experiment: Experiment, results: Results) -> list[str]:
    """Say why results may not be called a reproduction; empty if they may."""
    keys = [(e.dataset, e.attack, e.name) for e in experiment.published]
    keys += [(e.cell.dataset, e.attack, e.cell.method) for e in experiment.evaluations]
    found = [_reasons(config, experiment.name, results, *key) for key in dict.fromkeys(keys)]
    return list(dict.fromkeys(reason for reasons in found for reason in reasons))


def diff_caveats(results: Results) -> list[str]:
    """Say what a reader of the verdicts must know; empty if there is nothing."""
    caveats = []
    for name, official, train, test in sorted(_data_sets(results)):
        if not official and dataset_facts(name).storage == "folder":
            held = f"{train} training and {test} test images"
            caveats.append(f"the {name} images are not ILSVRC2012 by names and numbers ({held})")
        elif not official:
            caveats.append(f"the {name} images were given as an .npz: not verified by md5")
    runs = results.frame.drop_duplicates("model")
    count = int(runs["training_precision"].str.contains("tf32").sum())
    if count:
        caveats.append(
            f"{count} of {len(runs)} training runs computed in TF32, which the paper's V100 lacks"
        )
    imported = runs.loc[runs["imported_from"] != "", "imported_from"]
    for name in sorted(set(imported)):
        count = int((imported == name).sum())
        caveats.append(f"{count} of {len(runs)} training runs are those of the publication {name}")
    return list(dict.fromkeys(caveats))


def _data_sets(results: Results) -> set[tuple[str, bool, int, int]]:
    """Return name, whether official, and numbers of images of the data sets behind results."""
    columns = ["dataset", "official_data", "train_images", "test_images"]
    seen = set(results.frame[columns].itertuples(index=False, name=None))
    for item, record in results.published.items():
        data = record.info["data"]
        seen.add((item.dataset, data["official"], data["train"], data["test"]))
    return seen


def _reasons(
    config: Config, table: str, results: Results, dataset: str, attack: str, method: str
) -> list[str]:
    """Say why one attack's numbers of one method may not be called a reproduction."""
    # both other strategies of tuning train with TRADES; a published checkpoint has no method
    trained = "trades" if method in ("untuned", "manual") else method
    reasons = deviations(config, [attack], [trained] if trained in METHODS else [], [dataset])
    reasons += table_deviations(config, table, method)
    facts = dataset_facts(dataset)
    for train, test in sorted({(n, t) for name, _, n, t in _data_sets(results) if name == dataset}):
        if (train, test) != (facts.train, facts.test):
            reasons.append(
                f"{dataset} has {train} training and {test} test images here, "
                f"officially {facts.train} and {facts.test}"
            )
    extra = rows_with(results.frame, dataset=dataset, method=method)["extra_images"]
    for images in sorted(set(extra) - {0}):
        if images != (known := extra_of(dataset).images):
            reasons.append(f"{dataset} has {images} extra images here, published are {known}")
    return reasons


def _spread_of_runs(config: Config, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return Table 2's numbers with the deviation of Table 1's, ours and the paper's; NaN if none.

    Both sides are one training run, which is as uncertain as several lie apart.
    """
    runs = frame.assign(ours_std=math.nan, std=math.nan)
    repeated = repeated_evaluations(config, name)
    if not repeated:
        return runs
    first = replace(find_experiment(config, "table1"), evaluations=repeated)
    rows = _evaluations(first, collect(config, first))
    spread = pd.DataFrame(rows, columns=[*_KEYS, *_OURS]).merge(published("table1"), on=_KEYS)
    spread["ours_std"] *= spread["seeds"] ** 0.5
    spread["std"] *= PAPER_SEEDS**0.5
    return frame[_KEYS].merge(spread, on=_KEYS, how="left")


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
    elif math.isnan(half) and not row.same_weights:
        verdict = "too few seeds"
    else:
        verdict = "within noise" if abs(row.difference) <= half else "differs"
    return half, verdict


# values of `_KEYS` and `_OURS`
_Row = tuple[Any, ...]


def _evaluations(experiment: Experiment, results: Results) -> list[_Row]:
    """Return mean, deviation, seeds and images of every planned number, NaN where missing."""
    keys = dict.fromkeys(
        (e.cell.dataset, e.cell.architecture, e.cell.method, e.cell.lam, e.attack)
        for e in experiment.evaluations
    )
    groups = dict(iter(results.frame.groupby(_KEYS[:-1], sort=False)))
    rows: list[_Row] = []
    for key in keys:
        group = groups.get(key, results.frame.iloc[:0])
        images = int(group["images"].min()) if len(group) else 0
        rows += [
            (*key, metric, *sample(group[metric].tolist()), images) for metric in experiment.metrics
        ]
    return rows


def _published(config: Config, experiment: Experiment, results: Results) -> list[_Row]:
    """Return the same for published checkpoints; the method is RobustBench's id."""
    rows: list[_Row] = []
    for item in experiment.published:
        checkpoint = ZooCheckpoint(item.name, item.dataset, paths.zoo_folder(config.data))
        network = zoo_facts(checkpoint).network or UNKNOWN
        record = results.published.get(item)
        values = {} if record is None else record.metrics.as_dict()
        key = (item.dataset, network, item.name, math.nan, item.attack)
        for metric in experiment.metrics:
            found = sample([values[metric]] if values else [])
            rows.append((*key, metric, *found, values.get("images", 0)))
    return rows


def _strategies(config: Config, grid: TuningTable, results: Results) -> list[_Row]:
    """Return the same for the strategies of tuning lambda; the method is the strategy's name."""
    rows: list[_Row] = []
    for found in compare_strategies(config, grid, results):
        key = (grid.dataset, found.architecture, found.name, math.nan, "pgd20")
        named = {
            "lambda": [*found.lambdas.values()],
            "robust_accuracy": [*found.accuracies.values()],
            "gpu_hours": [] if math.isnan(found.hours) else [found.hours],
        }
        rows += [(*key, metric, *sample(v), found.images) for metric, v in named.items()]
    return rows
