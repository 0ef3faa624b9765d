"""Every number of a table compared with the paper's."""

import math
from dataclasses import replace

import pandas as pd

from reproduce.config.grids import AttackTable
from reproduce.config.schema import Config
from reproduce.core.files import write_text
from reproduce.evaluation.records import ALL_METRICS
from reproduce.experiments import paths
from reproduce.experiments.grids import Experiment, find_experiment, repeated_evaluations
from reproduce.paper.published import published
from reproduce.registry import METHODS, dataset_facts, extra_of
from reproduce.results.frames import Results, collect
from reproduce.results.protocol import deviations, table_deviations
from reproduce.results.statistics import Sample, difference_interval
from reproduce.tables.layout import KEYS, Layout, rows_with
from reproduce.tables.layouts import lay_out

# the paper's ± is over three training seeds (Table 1) or three attack seeds (Table 2)
PAPER_SEEDS = 3
# percentage points within which a number counts as reproduced
TOLERANCE = 1.0

# what each verdict means; docs/diff.md has the same table
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

_KEYS = [*KEYS, "metric"]
DIFF_COLUMNS = [*_KEYS, "paper", "paper_std", "ours", "ours_std", "seeds", "images"]
DIFF_COLUMNS += ["difference", "interval", "verdict", "note"]


def build_diff(config: Config, experiment: Experiment, results: Results) -> pd.DataFrame:
    """Compare every number of an experiment with the paper's; a row for each of two readings.

    Numbers are in percent, `difference` is ours minus the paper's, `interval` the half width of
    Welch's 95 % interval of it, NaN where too few training seeds tell how far runs lie apart.
    """
    frame = _with_paper(lay_out(config, experiment, results), experiment.name)
    one_run = isinstance(getattr(config.experiments, experiment.name), AttackTable)
    spread = _spread_of_runs(config, frame, experiment.name) if one_run else frame
    samples = spread[["ours", "ours_std", "seeds", "paper", "paper_std"]]
    welch = [
        difference_interval(Sample(ours, std, n), Sample(paper, paper_std, PAPER_SEEDS))
        for ours, std, n, paper, paper_std in samples.itertuples(index=False, name=None)
    ]
    is_metric = frame["metric"].isin(ALL_METRICS)
    interval = frame["subset"].fillna(pd.Series(welch, dtype=float)).where(is_metric)
    difference = frame["ours"] - frame["paper"]
    concerned = list(frame[["dataset", "attack", "method"]].itertuples(index=False, name=None))
    reasons = {key: _reasons(config, experiment.name, results, *key) for key in set(concerned)}
    same_weights = frame["method"].isin([item.name for item in experiment.published])
    # the first that is true is the verdict
    conditions = [
        (frame["paper"].isna(), "no paper value"),
        (frame["seeds"] == 0, "missing"),
        (~is_metric, "not judged"),
        (pd.Series([bool(reasons[key]) for key in concerned]), "not a reproduction"),
        # it can be read in two ways
        (frame.duplicated(_KEYS, keep=False), "not judged"),
        (frame["subset"].notna(), "subset"),
        (difference.abs() <= TOLERANCE, "agrees"),
        (interval.isna() & ~same_weights, "too few seeds"),
        (difference.abs() <= interval, "within noise"),
    ]
    verdict = pd.Series("differs", frame.index)
    for condition, name in reversed(conditions):
        verdict = verdict.mask(condition, name)
    frame = frame.assign(difference=difference, interval=interval, verdict=verdict)
    if one_run:
        shown = frame["verdict"].isin(JUDGED)
        frame.loc[shown, "note"] = frame["interval"].isna().map({True: _STARTS, False: _RUNS})
    return frame[DIFF_COLUMNS]


def _with_paper(layout: Layout, table: str) -> pd.DataFrame:
    """Return the numbers of a layout that the paper may have, and its numbers.

    `subset` is the half width of what attacking a part of the images leaves.
    """
    rows = []
    for entry in (entry for row in layout.rows for entry in row.entries):
        if entry.key is not None:
            low, high = entry.interval or (math.nan, math.nan)
            rows.append((*entry.key, *entry.sample, entry.images, (high - low) / 2))
    columns = [*_KEYS, "ours", "ours_std", "seeds", "images", "subset"]
    frame = pd.DataFrame(rows, columns=columns).astype({"lambda": float})
    # all metrics of a network one below the other
    order = frame.groupby(list(KEYS), sort=False, dropna=False).ngroup().argsort(kind="stable")
    paper = published(table).rename(columns={"mean": "paper", "std": "paper_std"})
    return frame.iloc[order].merge(paper, on=_KEYS, how="left").fillna({"note": ""})


def _spread_of_runs(config: Config, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return Table 2's numbers with the deviation of Table 1's, ours and the paper's; NaN if none.

    Both sides are one training run, which is as uncertain as several lie apart.
    """
    repeated = repeated_evaluations(config, name)
    if not repeated:
        return frame.assign(ours_std=math.nan, paper_std=math.nan)
    first = replace(find_experiment(config, "table1"), evaluations=repeated)
    runs = _with_paper(lay_out(config, first, collect(config, first)), "table1")
    runs["ours_std"] *= runs["seeds"] ** 0.5
    runs["paper_std"] *= PAPER_SEEDS**0.5
    return frame[_KEYS].merge(runs, on=_KEYS, how="left")


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
    caveats = [
        f"the {name} images ({train} training, {test} test) are not verified as the official ones"
        for name, official, train, test in _data_sets(results)
        if not official
    ]
    runs = results.frame.drop_duplicates("model")
    tf32 = runs["training_precision"].str.contains("tf32").fillna(value=False)
    if tf32.any():
        caveats.append(
            f"{tf32.sum()} of {len(runs)} training runs computed in TF32, which the paper's V100 "
            "lacks"
        )
    imported = runs.loc[runs["imported_from"] != "", "imported_from"].value_counts(sort=False)
    return caveats + [
        f"{count} of {len(runs)} training runs are those of the publication {name}"
        for name, count in imported.items()
    ]


def _data_sets(results: Results) -> list[tuple[str, bool, int, int]]:
    """Return name, whether official, and numbers of images of the data sets behind results."""
    columns = ["dataset", "official_data", "train_images", "test_images"]
    seen = set(results.frame[columns].itertuples(index=False, name=None))
    for item, record in results.published.items():
        data = record.info["data"]
        seen.add((item.dataset, data["official"], data["train"], data["test"]))
    return sorted(seen)


def _reasons(
    config: Config, table: str, results: Results, dataset: str, attack: str, method: str
) -> list[str]:
    """Say why one attack's numbers of one method may not be called a reproduction."""
    # both other strategies of tuning train with TRADES; a published checkpoint has no method
    trained = "trades" if method in ("untuned", "manual") else method
    reasons = deviations(config, [attack], [trained] if trained in METHODS else [], [dataset])
    reasons += table_deviations(config, table, method)
    facts = dataset_facts(dataset)
    for name, _, train, test in _data_sets(results):
        if name == dataset and (train, test) != (facts.train, facts.test):
            reasons.append(
                f"{dataset} has {train} training and {test} test images here, "
                f"officially {facts.train} and {facts.test}"
            )
    extra = rows_with(results.frame, {"dataset": dataset, "method": method})["extra_images"]
    for images in sorted(set(extra) - {0}):
        if images != (known := extra_of(dataset).images):
            reasons.append(f"{dataset} has {images} extra images here, published are {known}")
    return reasons
