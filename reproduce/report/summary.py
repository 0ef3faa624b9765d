"""The first screen: what was reproduced, and how far it agrees with the paper."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from reproduce.claims.evidence import Claim
from reproduce.claims.statements import context
from reproduce.config.grids import Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import example_evaluations, war_cells
from reproduce.registry import METHODS, dataset_facts, parse_architecture
from reproduce.report.format import CLAIM_VERDICTS, NUMBER_VERDICTS, count, label
from reproduce.results.protocol import table_deviations
from reproduce.results.status import Plan
from reproduce.tables.diff import DIFF_COLUMNS, JUDGED

# damaged files that are named; more fill a page and help nobody
_MOST_DAMAGED = 40
_LARGEST = 8
_METRICS = {
    "robust_accuracy": "robust accuracy",
    "natural_accuracy": "natural accuracy",
    "perturbation_stability": "stability",
    "top5_natural_accuracy": "top-5 natural accuracy",
}


def summarise(
    config: Config,
    plans: Sequence[Plan],
    diffs: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Sequence[str]],
    claims: Sequence[Claim],
    has_examples: bool,
    damaged: Sequence[str],
) -> dict[str, Any]:
    """Count what is there and what agrees.

    `plans` ends with the sum of all experiments if there are several; `diffs` and `figures` have
    by name the comparison of each table and what each figure lacks.
    """
    numbers = each_number_once(config, diffs)
    verdicts = numbers["verdict"].tolist()
    judged = numbers[numbers["verdict"].isin(JUDGED)]
    changed: list[str] = context(config)["deviations"]
    changed = changed + [line for name in diffs for line in table_deviations(config, name)]
    done = plans[-1] if plans else Plan("all", 0, 0, 0, 0, 0.0, 0.0, 0)
    farthest = judged["difference"].abs().sort_values(ascending=False, kind="stable").index
    more = len(damaged) - _MOST_DAMAGED
    return {
        "preset": config.preset,
        "headline": _headline(verdicts, changed, done),
        "tiles": _tiles(done, judged, claims),
        "numbers": _shares(NUMBER_VERDICTS, verdicts),
        "claims": _shares(CLAIM_VERDICTS, [claim.verdict for claim in claims]),
        "not_judged": _not_judged(verdicts),
        "deviations": changed,
        "missing": _missing(config, plans, figures, claims, has_examples),
        "damaged": [*damaged[:_MOST_DAMAGED], *([f"and {more} more"] if more > 0 else [])],
        "gaps": judged.loc[farthest[:_LARGEST]].to_dict("records"),
    }


def where(row: Mapping[str, Any]) -> str:
    """Say which number a row of a comparison is of."""
    known, shape = METHODS.get(row["method"]), parse_architecture(row["architecture"])
    parts = [
        dataset_facts(row["dataset"]).title,
        f"{shape.title} width {shape.width:g}",
        row["method"] if known is None else known.title,
        "" if math.isnan(row["lambda"]) else f"λ = {row['lambda']:g}",
        row["attack"],
        _METRICS.get(row["metric"], row["metric"]),
    ]
    return f"{label(row['table'])}: {', '.join(filter(None, parts))}"


def _shares(known: Mapping[str, tuple[str, str, str]], verdicts: list[str]) -> list[dict[str, Any]]:
    """Count verdicts; those that do not occur are left out."""
    return [
        {"name": name, "count": verdicts.count(name), "kind": kind, "meaning": meaning}
        for name, (kind, _, meaning) in known.items()
        if name in verdicts
    ]


def _tiles(done: Plan, judged: pd.DataFrame, claims: Sequence[Claim]) -> list[tuple[str, str]]:
    """Say what was done of what was planned, and how far what was judged agrees."""
    tiles = [
        (f"{done.trained} of {done.cells}", "networks trained"),
        (f"{done.evaluated} of {done.evaluations}", "evaluations done"),
    ]
    if len(judged):
        distance, numbers = judged["difference"].abs().mean(), count(len(judged), "number")
        tiles.append((f"{distance:.2f}", f"points apart on average, over {numbers}"))
    if claims:
        verdicts = [claim.verdict for claim in claims]
        text = (
            f"claims hold here, {verdicts.count('fails')} fail, "
            f"{verdicts.count('too little data')} have too little data"
        )
        tiles.append((f"{verdicts.count('holds')} of {len(claims)}", text))
    return tiles


def _headline(verdicts: list[str], changed: list[str], done: Plan) -> str:
    """Say in one sentence how far the results agree, and not more than they allow."""
    agree, noise, differ, few = map(verdicts.count, JUDGED)
    judged = agree + noise + differ + few
    if not done.evaluated:
        return "No result is there yet: this page shows what the configuration asks for."
    if judged:
        return (
            f"Of {judged} numbers that can be held against the paper's, {agree} lie within one "
            f"point of it, {noise} more within the noise of the seeds, {differ} differ, and {few} "
            "lie farther apart with too few seeds to tell."
        )
    if changed:
        return (
            "These numbers are no reproduction of the paper's: the settings leave its protocol in "
            f"{count(len(changed), 'place')}, so none is judged against the paper."
        )
    return "None of the numbers that are there can be held against the paper's."


def _not_judged(verdicts: list[str]) -> str:
    """Say how many numbers the bar leaves out."""
    own, shown = verdicts.count("no paper value"), verdicts.count("not judged")
    parts = [f"{count(own, 'number')} here have no counterpart in the paper"] if own else []
    if shown:
        what = "(lambdas, hours, two readings) stand beside the paper's without a verdict"
        parts.append(f"{shown} {what}")
    return f"{'; '.join(parts)}." if parts else ""


def _missing(
    config: Config,
    plans: Sequence[Plan],
    figures: Mapping[str, Sequence[str]],
    claims: Sequence[Claim],
    has_examples: bool,
) -> list[str]:
    """List what is not there yet; what several parts need is listed with each."""
    lines: dict[str, str] = {}
    for plan in plans[:-1] if len(plans) > 1 else plans:
        networks, attacks = plan.cells - plan.trained, plan.evaluations - plan.evaluated
        parts = [f"{networks} of {count(plan.cells, 'network')} not trained"] if networks else []
        if attacks:
            parts.append(f"{attacks} of {count(plan.evaluations, 'evaluation')} not done")
        if parts:
            lines[plan.name] = ", ".join(parts)
    lines |= {name: lack[0] for name, lack in figures.items() if lack and name not in lines}
    listed = [f"{label(name)}: {text}" for name, text in lines.items()]
    if not has_examples and example_evaluations(config) is not None:
        listed.append("Adversarial examples: not made")
    undecided = sum(claim.verdict == "too little data" for claim in claims)
    if undecided:
        listed.append(f"{undecided} of {count(len(claims), 'claim')}: too little data to judge")
    return listed


def each_number_once(config: Config, diffs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables' comparisons, each number of the paper where it comes first.

    A strategy of tuning in Table 3 ends with a lambda, and its networks are those that Table 1
    has at this lambda: where the paper prints the same number of both, it is one and counts
    once.  Numbers of other tables are over other seeds or of other checkpoints.
    """
    rows: dict[Hashable, dict[Any, Any]] = {}
    for name, diff in diffs.items():
        grid = getattr(config.experiments, name)
        # two readings of a number are one
        once = diff.drop_duplicates(DIFF_COLUMNS[: DIFF_COLUMNS.index("paper")])
        for row in once.assign(table=name).to_dict("records"):
            rows.setdefault(_number(grid, row, diff), row)
    return pd.DataFrame([*rows.values()], columns=["table", *DIFF_COLUMNS])


def _number(grid: Any, row: Mapping[Hashable, Any], diff: pd.DataFrame) -> Hashable:
    """Name the number of the paper that a row is of."""
    seeds, method, lam = row["table"], row["method"], row["lambda"]
    if isinstance(grid, Grid):
        seeds = "training seeds"
    elif isinstance(grid, TuningTable) and row["metric"] == "robust_accuracy":
        seeds, (method, lam) = "training seeds", _trained(grid, row, diff)
    # NaN, of no lambda or no number, is not even equal to itself
    lam, paper = (None if math.isnan(value) else value for value in (lam, row["paper"]))
    where = row["dataset"], row["architecture"], row["attack"], row["metric"]
    return (seeds, method, lam, paper, *where)


def _trained(
    grid: TuningTable, row: Mapping[Hashable, Any], diff: pd.DataFrame
) -> tuple[str, float]:
    """Return method and lambda of the networks that a strategy of tuning ended with."""
    if row["method"] == "war":
        return "war", war_cells(grid, row["architecture"])[0].lam
    if row["method"] == "untuned":
        return "trades", grid.untuned
    same = (diff["architecture"] == row["architecture"]) & (diff["method"] == row["method"])
    ended = diff[same & (diff["metric"] == "lambda")]["ours"].dropna()
    if not len(ended):
        # before the search has ended it is nobody else's number
        return row["method"], math.nan
    return "trades", min(grid.lambdas, key=lambda lam: abs(lam - float(ended.iloc[0])))
