"""The first screen: what was reproduced, and how far it agrees with the paper."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reproduce.claims.evidence import Claim
from reproduce.claims.statements import context
from reproduce.config.schema import Config
from reproduce.experiments.grids import Experiment
from reproduce.registry import METHODS, dataset_facts, parse_architecture
from reproduce.report.format import CLAIM_MEANINGS, CLAIM_VERDICTS, NUMBER_VERDICTS, count, label
from reproduce.results.protocol import table_deviations
from reproduce.tables.diff import DIFF_COLUMNS, JUDGED, VERDICTS
from reproduce.tables.layout import LONG

# damaged files that are named; more fill a page and help nobody
_MOST_DAMAGED = 40
_LARGEST = 8
# what two rows of comparisons share that are of one number of the paper, and of the same networks
_SAME = ["dataset", "architecture", "attack", "metric", "paper", "ours"]


def summarise(
    config: Config,
    status: pd.DataFrame,
    diffs: Mapping[str, pd.DataFrame],
    claims: Sequence[Claim],
    missing: list[str],
    damaged: list[str],
) -> dict[str, Any]:
    """Count what is there and what agrees.

    `status` is the frame of the same name, `diffs` has the comparison of each table by name.
    """
    numbers = each_number_once(diffs)
    verdicts, heard = numbers["verdict"].tolist(), [claim.verdict for claim in claims]
    judged = numbers[numbers["verdict"].isin(JUDGED)]
    changed = [*context(config)["deviations"]]
    changed += [line for name in diffs for line in table_deviations(config, name)]
    is_run, done = status["kind"] == "run", status["state"] == "done"
    tiles = [
        (f"{(is_run & done).sum()} of {is_run.sum()}", "networks trained"),
        (f"{(~is_run & done).sum()} of {(~is_run).sum()}", "evaluations done"),
    ]
    if len(judged):
        numbers_judged = count(len(judged), "number")
        text = f"points apart on average, over {numbers_judged}"
        tiles.append((f"{judged['difference'].abs().mean():.2f}", text))
    if claims:
        text = f"claims hold here, {heard.count('fails')} fail, "
        text += f"{heard.count('too little data')} have too little data"
        tiles.append((f"{heard.count('holds')} of {len(claims)}", text))
    others = [
        (verdicts.count("no paper value"), "without a counterpart in the paper"),
        (verdicts.count("not judged"), "without a verdict (lambdas, hours, two readings)"),
    ]
    farthest = judged["difference"].abs().sort_values(ascending=False, kind="stable").index
    more = len(damaged) - _MOST_DAMAGED
    return {
        "preset": config.preset,
        "headline": _headline(verdicts, changed, bool((~is_run & done).any())),
        "tiles": tiles,
        "numbers": _shares(NUMBER_VERDICTS, VERDICTS, verdicts),
        "claims": _shares(CLAIM_VERDICTS, CLAIM_MEANINGS, heard),
        "not_judged": "; ".join(f"{count(n, 'number')} {text}" for n, text in others if n),
        "deviations": changed,
        "missing": missing,
        "damaged": [*damaged[:_MOST_DAMAGED], *([f"and {more} more"] if more > 0 else [])],
        "gaps": judged.loc[farthest[:_LARGEST]].to_dict("records"),
    }


def missing_parts(
    experiments: Sequence[Experiment],
    status: pd.DataFrame,
    figures: Mapping[str, Sequence[str]],
    claims: Sequence[Claim],
) -> list[str]:
    """List what is not there yet; `figures` has by name what each figure lacks."""
    lines: dict[str, str] = {}
    for experiment in experiments:
        rows = status.loc[[*experiment.cells, *experiment.items]]
        parts = []
        for kind, word, what in (
            ("run", "network", "not trained"),
            ("evaluation", "evaluation", "not done"),
        ):
            of_kind = rows[rows["kind"] == kind]
            if left := (of_kind["state"] != "done").sum():
                parts.append(f"{left} of {count(len(of_kind), word)} {what}")
        if parts:
            lines[experiment.name] = ", ".join(parts)
    lines |= {name: lack[0] for name, lack in figures.items() if lack and name not in lines}
    listed = [f"{label(name)}: {text}" for name, text in lines.items()]
    if undecided := sum(claim.verdict == "too little data" for claim in claims):
        listed.append(f"{undecided} of {count(len(claims), 'claim')}: too little data to judge")
    return listed


def each_number_once(diffs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables' comparisons, each number of the paper where it comes first.

    Networks that Table 3 ends with are some of Table 1: where the paper prints the same number of
    both, and ours are equal too, it counts once.
    """
    seen, numbers = set[tuple[Any, ...]](), [pd.DataFrame(columns=["table", *DIFF_COLUMNS])]
    for name, diff in diffs.items():
        # two readings of a number are one
        rows = diff.drop_duplicates(DIFF_COLUMNS[: DIFF_COLUMNS.index("paper")]).assign(table=name)
        keys = list(rows[_SAME].fillna(-1.0).itertuples(index=False, name=None))
        is_new = pd.Series([key not in seen for key in keys], rows.index, dtype=bool)
        numbers.append(rows[is_new | rows["paper"].isna()])
        seen |= set(keys)
    return pd.concat([rows for rows in numbers if len(rows)] or numbers, ignore_index=True)


def where(row: Mapping[str, Any]) -> str:
    """Say which number a row of a comparison is of."""
    known, shape = METHODS.get(row["method"]), parse_architecture(row["architecture"])
    parts = [
        dataset_facts(row["dataset"]).title,
        f"{shape.title} width {shape.width:g}",
        row["method"] if known is None else known.title,
        "" if math.isnan(row["lambda"]) else f"λ = {row['lambda']:g}",
        row["attack"],
        LONG.get(row["metric"], row["metric"]).removesuffix(" (%)").lower(),
    ]
    return f"{label(row['table'])}: {', '.join(filter(None, parts))}"


def _shares(
    looks: Mapping[str, tuple[str, str]], meanings: Mapping[str, str], verdicts: Sequence[str]
) -> list[dict[str, Any]]:
    """Count verdicts; those that do not occur are left out."""
    return [
        {"name": name, "count": verdicts.count(name), "kind": kind, "meaning": meanings[name]}
        for name, (kind, _) in looks.items()
        if name in verdicts
    ]


def _headline(verdicts: list[str], changed: list[str], evaluated: bool) -> str:
    """Say in one sentence how far the results agree, and not more than they allow."""
    agree, noise, differ, few = map(verdicts.count, JUDGED)
    judged = agree + noise + differ + few
    if not evaluated:
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
