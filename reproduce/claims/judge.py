"""Every claim judged, and the file of the verdicts."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

from reproduce import paths
from reproduce.catalogue import dataset_facts
from reproduce.claims.contrasts import Contrast, judge
from reproduce.claims.evidence import Claim, Evidence, Finding
from reproduce.claims.statements import STATEMENTS, Statement
from reproduce.config import Config
from reproduce.deviations import deviations
from reproduce.errors import HarnessError
from reproduce.experiments import experiment_names, find_experiment
from reproduce.files import write_json


def judge_claims(config: Config) -> list[Claim]:
    """Test every claim of the paper on whatever results exist.

    Claims on what the configuration leaves out are among them, as "too little data".
    """
    evidence = Evidence(config)
    return [judge_one(evidence, statement) for statement in STATEMENTS]


def judge_one(evidence: Evidence, statement: Statement) -> Claim:
    """Test one statement."""
    name, test = statement.experiment, statement.test
    if name and evidence.grid(name) is None:
        text = f"Not in this configuration: experiments.{name} is null."
        found = Finding("too little data", text)
    else:
        try:
            found = (
                judge(test, evidence, name) if isinstance(test, Contrast) else test(evidence, name)
            )
        except HarnessError as error:  # records that do not belong together cost their claim alone
            found = Finding("too little data", f"{error}.", missing=(str(error),))
    return Claim(statement.name, statement.says, statement.source, **vars(found))


def context(config: Config) -> dict[str, Any]:
    """Say what the claims were judged on: preset, data sets, deviations from the paper."""
    items = [find_experiment(config, name) for name in experiment_names(config)]
    cells = [cell for item in items for cell in item.cells]
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    methods = list(dict.fromkeys(cell.method for cell in cells))
    attacks = list(dict.fromkeys(e.attack for item in items for e in item.evaluations))
    return {
        "preset": config.preset,
        "datasets": [dataset_facts(name).title for name in datasets],
        "deviations": deviations(config, attacks, methods, datasets),
    }


def write_claims(config: Config, claims: Sequence[Claim]) -> None:
    """Write verdicts and effects as JSON; a number that is not there is null."""
    tree = {**context(config), "claims": [asdict(claim) for claim in claims]}
    write_json(paths.claims_file(config), _without_nan(tree))


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and isnan(tree) else tree
