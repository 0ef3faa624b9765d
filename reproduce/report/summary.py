"""The first screen: what was reproduced, and how far it agrees."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reproduce.claims.statements import context
from reproduce.config.schema import Config
from reproduce.experiments.grids import example_evaluations
from reproduce.registry import METHODS, dataset_facts, parse_architecture
from reproduce.report.exhibits import Claim, Figure, Gallery
from reproduce.report.numbers import each_once
from reproduce.report.tables import Collected
from reproduce.report.verdicts import CLAIMS, shade, shares_of_claims, shares_of_numbers
from reproduce.report.view import Gap, Summary, Tile
from reproduce.report.words import count, label, signed, with_std
from reproduce.results.plan import Plan
from reproduce.results.protocol import table_deviations
from reproduce.tables.diff import JUDGED

# of a configuration without experiments
_NOTHING = Plan("all", 0, 0, 0, 0, 0.0, 0.0, 0)
# damaged files that are named; more fill a page and help nobody
_MOST = 40
# rows of the largest differences
_GAPS = 8
_METRICS = {
    "robust_accuracy": "robust accuracy",
    "natural_accuracy": "natural accuracy",
    "perturbation_stability": "stability",
    "top5_natural_accuracy": "top-5 natural accuracy",
}


def summary_view(
    config: Config,
    plans: Sequence[Plan],
    collected: Sequence[Collected],
    figures: Sequence[Figure],
    claims: Sequence[Claim],
    gallery: Gallery | None,
    damaged: Sequence[str],
) -> Summary:
    """Count what is there and what agrees.

    Parameters
    ----------
    config : Config
        The configuration.
    plans : sequence of Plan
        Its experiments; where there are several, the last is all of them.
    collected : sequence of Collected
        Its tables.
    figures, claims, gallery : sequence of Figure, sequence of Claim, Gallery or None
        As the page shows them.
    damaged : sequence of str
        Files that could not be used.
    """
    numbers = each_once(config, collected)
    verdicts = numbers["verdict"].tolist()
    judged = numbers[numbers["verdict"].isin(JUDGED)]
    changed = _deviations(config, collected)
    all_of_it = plans[-1] if plans else _NOTHING
    return Summary(
        config.preset,
        _headline(verdicts, changed, all_of_it),
        tuple(_tiles(all_of_it, judged, claims)),
        shares_of_numbers(verdicts),
        shares_of_claims([claim.verdict for claim in claims]),
        _beside(verdicts),
        tuple(changed),
        tuple(_missing(config, plans, figures, claims, gallery)),
        tuple(_shortened(damaged)),
        tuple(_gap(row) for row in _largest(judged).to_dict("records")),
    )


def _tiles(done: Plan, judged: pd.DataFrame, claims: Sequence[Claim]) -> list[Tile]:
    """Say what was done of what was planned, and how far what was judged agrees."""
    tiles = [
        Tile(f"{done.trained} of {done.cells}", "networks trained"),
        Tile(f"{done.evaluated} of {done.evaluations}", "evaluations done"),
    ]
    if len(judged):
        distance = judged["difference"].abs().mean()
        numbers = count(len(judged), "number")
        tiles.append(Tile(f"{distance:.2f}", f"points apart on average, over {numbers}"))
    if claims:
        held, failed, undecided = (
            sum(claim.verdict == verdict for claim in claims) for verdict in CLAIMS
        )
        said = f"claims hold here, {failed} fail, {undecided} have too little data"
        tiles.append(Tile(f"{held} of {len(claims)}", said))
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


def _beside(verdicts: list[str]) -> str:
    """Say how many numbers the bar leaves out."""
    own, shown = verdicts.count("no paper value"), verdicts.count("not judged")
    words = [
        f"{count(own, 'number')} here have no counterpart in the paper" * bool(own),
        f"{shown} (lambdas, hours, two readings) stand beside the paper's without a verdict"
        * bool(shown),
    ]
    return "; ".join(filter(None, words)) + "." * any(words)


def _deviations(config: Config, collected: Sequence[Collected]) -> list[str]:
    """List what is not the paper's: of settings that anything reads, and of what tables show."""
    found: list[str] = context(config)["deviations"]
    names = [one.experiment.name for one in collected]
    return found + [line for name in names for line in table_deviations(config, name)]


def _missing(
    config: Config,
    plans: Sequence[Plan],
    figures: Sequence[Figure],
    claims: Sequence[Claim],
    gallery: Gallery | None,
) -> list[str]:
    """List what is not there yet; runs that several parts need stand with each."""
    lines = []
    parts = plans[:-1] if len(plans) > 1 else plans
    for plan in parts:
        networks, attacks = plan.cells - plan.trained, plan.evaluations - plan.evaluated
        words = [
            f"{networks} of {count(plan.cells, 'network')} not trained" * bool(networks),
            f"{attacks} of {count(plan.evaluations, 'evaluation')} not done" * bool(attacks),
        ]
        if any(words):
            lines.append(f"{label(plan.name)}: {', '.join(filter(None, words))}")
    listed = {line.partition(":")[0] for line in lines}
    lines += [
        f"{label(figure.name)}: {figure.missing[0]}"
        for figure in figures
        if figure.missing and label(figure.name) not in listed
    ]
    if gallery is None and example_evaluations(config) is not None:
        lines.append("Adversarial examples: not made")
    undecided = sum(claim.verdict == "too little data" for claim in claims)
    if undecided:
        lines.append(f"{undecided} of {count(len(claims), 'claim')}: too little data to judge")
    return lines


def _shortened(lines: Sequence[str]) -> list[str]:
    """Return the first lines of a long list, and how many more there are."""
    more = len(lines) - _MOST
    return [*lines[:_MOST], f"and {more} more"] if more > 0 else list(lines)


def _largest(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that lie farthest from the paper's, the farthest first."""
    distances = judged["difference"].abs().tolist()
    order = sorted(range(len(distances)), key=lambda place: -distances[place])
    return judged.iloc[order[:_GAPS]]


def _gap(row: Mapping[Any, Any]) -> Gap:
    known = METHODS.get(row["method"])
    shape = parse_architecture(row["architecture"])
    words = [
        dataset_facts(row["dataset"]).title,
        f"{shape.title} width {shape.width:g}",
        row["method"] if known is None else known.title,
        "" if math.isnan(row["lambda"]) else f"λ = {row['lambda']:g}",
        row["attack"],
        _METRICS.get(row["metric"], row["metric"]),
    ]
    return Gap(
        label(row["table"]),
        ", ".join(filter(None, words)),
        with_std(row["paper"], row["paper_std"]),
        with_std(row["ours"], row["ours_std"]),
        signed(row["difference"]),
        shade(row["verdict"], row["difference"]),
        row["verdict"],
    )
