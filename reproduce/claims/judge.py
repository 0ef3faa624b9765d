"""The paper's claims in their order, and their verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from reproduce import paths
from reproduce.catalogue import dataset_facts
from reproduce.claims.best_lambda import best_lambda
from reproduce.claims.claim import Claim, Finding
from reproduce.claims.evidence import Evidence
from reproduce.claims.identity import identity
from reproduce.claims.lambdas import awp_lambda, lambda_stability, lambda_transfers
from reproduce.claims.overfitting import overfitting, stability_falls
from reproduce.claims.terms import wider_lipschitz, wider_regularization, wider_risk
from reproduce.claims.war import war_lambda, war_robustness
from reproduce.claims.width import (
    imagenet_natural,
    imagenet_stability,
    wider_natural,
    wider_stability,
)
from reproduce.config import Config
from reproduce.deviations import deviations
from reproduce.errors import HarnessError
from reproduce.experiments import experiment_names, find_experiment
from reproduce.files import write_json


@dataclass(frozen=True)
class _Statement:
    """A statement of the paper: where it stands, what it is tested on, and how."""

    name: str
    statement: str
    source: str
    # the experiment that the configuration must have; None for whatever there is
    experiment: str | None
    test: Callable[[Evidence], Finding]


_STATEMENTS = (
    _Statement(
        "wider-natural",
        "At equal λ a wider network has higher natural accuracy.",
        "Table 1, Sections 1 and 6",
        "table1",
        wider_natural,
    ),
    _Statement(
        "wider-stability",
        "At equal λ a wider network always has lower perturbation stability.",
        "Table 1, Section 5.2",
        "table1",
        wider_stability,
    ),
    _Statement(
        "lambda-stability",
        "At equal width a larger λ always gives higher perturbation stability.",
        "Table 1, Section 5.2",
        "table1",
        lambda_stability,
    ),
    _Statement(
        "best-lambda",
        "The λ of the highest robust accuracy does not fall with width (9, 12, 18 for widths 1, "
        "5, 10 in the paper).",
        "Table 1, Section 5.2",
        "table1",
        best_lambda,
    ),
    _Statement(
        "lambda-transfers",
        "On the widest network of every data set and family a larger λ than the smallest gives "
        "higher robust accuracy, under every attack.",
        "Table 2, Section 5.3",
        "table2",
        lambda_transfers,
    ),
    _Statement(
        "wider-regularization",
        "At equal λ robust regularisation is larger on wider networks during training.",
        "Figure 1, Section 1",
        "figure1",
        wider_regularization,
    ),
    _Statement(
        "wider-risk",
        "At equal λ natural risk is smaller on wider networks during training.",
        "Figure 1, Section 1",
        "figure1",
        wider_risk,
    ),
    _Statement(
        "wider-lipschitz",
        "The local Lipschitz constant grows with width during training.",
        "Figure 4, Section 4.2",
        "figure4",
        wider_lipschitz,
    ),
    _Statement(
        "stability-falls",
        "Perturbation stability falls during training, unlike robust and natural accuracy.",
        "Figure 3, Section 3.2 (1)",
        "figure3",
        stability_falls,
    ),
    _Statement(
        "overfitting",
        "After the learning rate drops robust accuracy falls, and it falls because stability does, "
        "not natural accuracy.",
        "Figure 3, Section 3.2 (3)",
        "figure3",
        overfitting,
    ),
    _Statement(
        "war-lambda",
        "WAR ends with a λ near the best one of the search by hand.",
        "Table 3, Section 5.4",
        "table3",
        war_lambda,
    ),
    _Statement(
        "war-robustness",
        "WAR's robust accuracy is not below that of the search by hand.",
        "Table 3, Section 5.4",
        "table3",
        war_robustness,
    ),
    _Statement(
        "awp-lambda",
        "Adversarial weight perturbation gains robust accuracy from a larger λ (12 over 6).",
        "Table 6, Appendix F",
        "table6",
        awp_lambda,
    ),
    _Statement(
        "imagenet-natural",
        "On ImageNet a wider network trained with Fast-AT has higher natural accuracy (top 5).",
        "Table 5, Appendix E",
        "table5",
        imagenet_natural,
    ),
    _Statement(
        "imagenet-stability",
        "On ImageNet a wider network trained with Fast-AT has lower perturbation stability.",
        "Table 5, Appendix E",
        "table5",
        imagenet_stability,
    ),
    _Statement(
        "identity",
        "An image is robust exactly if it is correctly classified and stable.",
        "Equation 3.1, Figure 2",
        None,
        identity,
    ),
)


def judge_claims(config: Config) -> list[Claim]:
    """Test every claim of the paper on whatever results exist.

    Claims on what the configuration leaves out are among them, as "too little data".
    """
    evidence = Evidence(config)
    return [_judge(evidence, item) for item in _STATEMENTS]


def _judge(evidence: Evidence, item: _Statement) -> Claim:
    names = experiment_names(evidence.config)
    if item.experiment is not None and item.experiment not in names:
        found = Finding(
            "too little data", f"Not in this configuration: experiments.{item.experiment} is null."
        )
    else:
        try:
            found = item.test(evidence)
        except HarnessError as error:  # records that do not belong together cost their claim alone
            found = Finding("too little data", f"{error}.", missing=(str(error),))
    return Claim(item.name, item.statement, item.source, **vars(found))


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
