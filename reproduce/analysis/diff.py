"""A regenerated table beside the paper's, number by number."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from reproduce import paths
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Sample, difference_interval, sample
from reproduce.catalogue import dataset_facts
from reproduce.config import Config
from reproduce.evaluation import METRICS
from reproduce.experiments import Experiment
from reproduce.files import write_text
from reproduce.paper import published
from reproduce.settings import deviations

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
        not a reproduction
            the settings, or the images, are not the paper's.
    """
    ours = _ours(experiment, results)
    paper = published(experiment.name)
    frame = ours.merge(paper, on=_KEYS, how="left")
    frame = frame.fillna({"note": ""})
    frame["difference"] = frame["ours"] - frame["mean"]
    frame["interval"] = [
        difference_interval(Sample(o, s, n), Sample(m, d, PAPER_SEEDS))
        for o, s, n, m, d in zip(
            frame["ours"],
            frame["ours_std"],
            frame["seeds"],
            frame["mean"],
            frame["std"],
            strict=True,
        )
    ]
    comparable = not diff_notes(config, results)
    frame["verdict"] = [
        _verdict(difference, interval, seeds, mean, comparable)
        for difference, interval, seeds, mean in zip(
            frame["difference"], frame["interval"], frame["seeds"], frame["mean"], strict=True
        )
    ]
    return frame.rename(columns={"mean": "paper", "std": "paper_std"})[DIFF_COLUMNS]


def diff_notes(config: Config, results: Results) -> list[str]:
    """Say why results may not be called a reproduction; empty if they may."""
    notes = deviations(config)
    for dataset, train, test in _seen(results, ["dataset", "train_images", "images"]):
        facts = dataset_facts(dataset)
        if (train, test) != (facts.train, facts.test):
            notes.append(
                f"{dataset} has {train} training and {test} test images here, "
                f"officially {facts.train} and {facts.test}"
            )
    return notes


def diff_caveats(results: Results) -> list[str]:
    """Say what a reader of the verdicts must know; empty if there is nothing."""
    copies = [
        dataset for dataset, official in _seen(results, ["dataset", "official"]) if not official
    ]
    return [f"the {name} images were given as an .npz: not verified by md5" for name in copies]


def _seen(results: Results, columns: list[str]) -> list[tuple[Any, ...]]:
    """Return the different values of some columns."""
    return sorted(set(results.frame[columns].itertuples(index=False, name=None)))


def write_diff(config: Config, experiment: Experiment, frame: pd.DataFrame) -> None:
    """Write a comparison as CSV, numbers to four decimals."""
    text = frame.round(4).to_csv(index=False, lineterminator="\n")
    write_text(paths.diff_file(config, experiment.name), text)


def _verdict(difference: float, interval: float, seeds: int, paper: float, comparable: bool) -> str:
    if math.isnan(paper):
        return "no paper value"
    if not seeds:
        return "missing"
    if not comparable:
        return "not a reproduction"
    if abs(difference) <= TOLERANCE:
        return "agrees"
    return "within noise" if abs(difference) <= interval else "differs"


def _ours(experiment: Experiment, results: Results) -> pd.DataFrame:
    """Return mean, standard deviation and seeds of every planned number, NaN where missing."""
    keys = dict.fromkeys(
        (e.cell.dataset, e.cell.architecture, e.cell.method, e.cell.lam, e.attack)
        for e in experiment.evaluations
    )
    groups = dict(iter(results.frame.groupby(_KEYS[:-1], sort=False)))
    rows = []
    for key in keys:
        for metric in METRICS:
            values: Iterable[float] = groups[key][metric] if key in groups else ()
            entry = sample(list(values))
            rows.append((*key, metric, entry.mean, entry.std, entry.n))
    return pd.DataFrame(rows, columns=[*_KEYS, "ours", "ours_std", "seeds"])
