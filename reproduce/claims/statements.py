"""The paper's statements: where each stands, what it is tested on, and how."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from reproduce.claims.contrasts import Contrast
from reproduce.claims.evidence import Claim, Evidence, Finding
from reproduce.claims.special import (
    best_lambda,
    identity,
    terms_ratio,
    trends,
    tuning_time,
    war_lambda,
)
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import experiment_names, find_experiment
from reproduce.registry import dataset_facts
from reproduce.results.protocol import deviations

# points of robust accuracy that count as none
MARGIN = 0.5
# the lambdas that the paper holds against the smallest: in general, and best at width 10
_LARGER = {"": 12.0}
_BEST = {"trades": 18.0, "at": 2.0}
# slopes before and after the first drop of the learning rate
_BEFORE = ("stability_fall_before", "robust_rise_before", "natural_rise_before")
_AFTER = ("robust_fall_after", "stability_fall_after", "faster_fall_after")


@dataclass(frozen=True)
class Statement:
    """A statement of the paper: its name, where it stands, what it is tested on and how.

    `experiment` is the table or figure of the configuration; "" for every record.
    """

    name: str
    source: str
    experiment: str
    test: Callable[[Evidence, str], Finding]
    says: str


# a row a statement
# fmt: off
STATEMENTS = (
    Statement("wider-natural", "Table 1, Sections 1 and 6", "table1",
              Contrast("natural_accuracy", "width"),
              "At equal λ a wider network has higher natural accuracy."),
    Statement("wider-stability", "Table 1, Section 5.2", "table1",
              Contrast("perturbation_stability", "width", rises=False),
              "At equal λ a wider network always has lower perturbation stability."),
    Statement("wider-robust", "Figure 3(d), Section 3.2", "figure3",
              Contrast("best_robust_accuracy", "width", rises=False, pairs="last",
                       threshold=-MARGIN),
              "At equal λ the widest network is no more robust than the next narrower one."),
    Statement("wider-robust-untuned", "Table 1, Sections 1 and 3.2", "table1",
              Contrast("robust_accuracy", "width", rises=False, pairs="last",
                       only="smallest lambda", threshold=-MARGIN),
              "At each method's smallest λ the widest network is no more robust than the next."),
    Statement("lambda-stability", "Table 1, Section 5.2", "table1",
              Contrast("perturbation_stability", "lambda"),
              "At equal width a larger λ always gives higher perturbation stability."),
    Statement("lambda-natural", "Table 1, Section 3.2", "table1",
              Contrast("natural_accuracy", "lambda", rises=False),
              "At equal width a larger λ costs natural accuracy."),
    Statement("best-lambda", "Table 1, Section 5.2", "table1", best_lambda,
              "The best λ increases with width (9, 12, 18 for widths 1, 5, 10 in the paper)."),
    Statement("best-lambda-gain", "Table 1, Section 5.2", "table1",
              Contrast("robust_accuracy", "lambda", pairs="chosen", only="widest", chosen=_BEST),
              "On the widest network the paper's best λ is more robust than the smallest λ."),
    Statement("best-lambda-transfers", "Table 2, Section 5.3", "table2", best_lambda,
              "The best λ increases with width on other data and networks too."),
    Statement("lambda-transfers", "Table 2, Section 5.3", "table2",
              Contrast("robust_accuracy", "lambda", pairs="chosen", only="widest", chosen=_LARGER),
              "On the widest networks a larger λ is more robust, under every attack."),
    Statement("wider-regularization", "Figure 1, Section 1", "figure1",
              Contrast("robust_regularization", "width", pairs="ends"),
              "At equal λ robust regularisation is larger on wider networks during training."),
    Statement("wider-risk", "Figure 1, Section 1", "figure1",
              Contrast("natural_risk", "width", rises=False, pairs="ends"),
              "At equal λ natural risk is smaller on wider networks during training."),
    Statement("wider-lipschitz", "Figure 4, Section 4.2", "figure4",
              Contrast("lipschitz", "width", pairs="ends"),
              "The local Lipschitz constant grows with width during training."),
    Statement("stability-falls", "Figure 3, Section 3.2 (1)", "figure3",
              partial(trends, metrics=_BEFORE),
              "Perturbation stability falls during training, unlike robust and natural accuracy."),
    Statement("overfitting", "Figure 3, Section 3.2 (3)", "figure3",
              partial(trends, metrics=_AFTER, explained=True),
              "After the learning rate drops robust accuracy falls, because stability does."),
    Statement("exp-schedule", "Section 5.1, Appendix C", "figure3",
              Contrast("late_fall", "schedule", methods=("trades-step",), against=("trades",)),
              "A learning rate halved every epoch prevents the over-fitting of the step schedule."),
    Statement("war-lambda", "Table 3, Section 5.4", "table3", war_lambda,
              "WAR ends with a λ near the best one of the search by hand."),
    Statement("war-robustness", "Table 3, Section 5.4", "table3",
              Contrast("robust_accuracy", "method", methods=("war",), against=("manual",)),
              "WAR's robust accuracy is slightly better than that of the search by hand."),
    Statement("war-not-worse", "Table 3, Section 5.4", "table3",
              Contrast("robust_accuracy", "method", methods=("war",), against=("manual",),
                       threshold=-MARGIN),
              "WAR is not less robust than the search by hand, by half a point or more."),
    Statement("untuned-lambda", "Table 3, Section 5.4", "table3",
              Contrast("robust_accuracy", "method", only="widest", threshold=MARGIN,
                       methods=("war",), against=("untuned",)),
              "On the widest network WAR is more robust than untuned λ, by half a point or more."),
    Statement("tuning-time", "Table 3, Section 5.4", "table3", tuning_time,
              "On the widest network WAR takes about a quarter of the time of the search by hand."),
    Statement("terms-ratio", "Section 5.4", "table3", terms_ratio,
              "At its best λ every network has roughly the same ratio of the two terms."),
    Statement("war-trades", "Table 4, Section 5.5", "table4",
              Contrast("robust_accuracy", "method", methods=("war",),
                       against=("trades", "Zhang2019Theoretically")),
              "Under AutoAttack WAR is more robust than TRADES on the same network."),
    Statement("war-rst", "Table 4, Section 5.5", "table4",
              Contrast("robust_accuracy", "method", methods=("rst-war",),
                       against=("rst", "Carmon2019Unlabeled")),
              "With extra images, under AutoAttack, WAR is more robust than RST."),
    Statement("wider-war-rst", "Table 4, Section 5.5", "table4",
              Contrast("robust_accuracy", "width", methods=("rst-war",)),
              "With extra images and WAR, under AutoAttack, a wider network is more robust."),
    Statement("awp-lambda", "Table 6, Appendix F", "table6",
              Contrast("robust_accuracy", "lambda", pairs="chosen", chosen=_LARGER),
              "Adversarial weight perturbation gains robust accuracy from a larger λ (12 over 6)."),
    Statement("imagenet-natural", "Table 5, Appendix E", "table5",
              Contrast("top5_natural_accuracy", "width"),
              "On ImageNet a wider network (Fast-AT) has higher natural accuracy (top 5)."),
    Statement("imagenet-stability", "Table 5, Appendix E", "table5",
              Contrast("perturbation_stability", "width", rises=False),
              "On ImageNet a wider network (Fast-AT) has lower perturbation stability."),
    Statement("identity", "Equation 3.1, Figure 2", "", identity,
              "An image is robust exactly if it is correctly classified and stable."),
)
# fmt: on


def judge_claims(config: Config) -> list[Claim]:
    """Test every claim of the paper on whatever results exist.

    Claims on what the configuration leaves out are among them, as "too little data".
    """
    evidence = Evidence(config)
    return [judge_one(evidence, statement) for statement in STATEMENTS]


def judge_one(evidence: Evidence, statement: Statement) -> Claim:
    """Test one statement."""
    name = statement.experiment
    if name and evidence.grid(name) is None:
        found = Finding(f"Not in this configuration: experiments.{name} is null.")
    else:
        try:
            found = statement.test(evidence, name)
        except HarnessError as error:  # records that do not belong together cost their claim alone
            found = Finding(f"{error}.", missing=(str(error),))
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
    tree = json.loads(TypeAdapter(Sequence[Claim]).dump_json(claims))
    write_json(paths.claims_file(config), {**context(config), "claims": tree})
