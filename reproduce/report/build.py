"""Everything the page says, from whatever results exist."""

from reproduce.claims.statements import judge_claims
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import experiment_names, find_experiment, table_names
from reproduce.report.checkpoints import checkpoints_view
from reproduce.report.claims import claim_view
from reproduce.report.costs import costs_view
from reproduce.report.figures import figure_views
from reproduce.report.lemma import lemma_view
from reproduce.report.pictures import gallery_view
from reproduce.report.provenance import provenance_view
from reproduce.report.summaries import read_summaries
from reproduce.report.summary import summary_view
from reproduce.report.tables import collect_table, table_view
from reproduce.report.view import Report
from reproduce.results.plan import PAPER_SPEEDS, Speeds, load_speeds, plan


def build_report(config: Config) -> Report:
    """Read all results of a configuration and say what the page is to say of them.

    What is missing is said to be missing, what is damaged is named; neither fails.
    """
    names = experiment_names(config)
    experiments = [find_experiment(config, name) for name in names]
    tables = [e for e in experiments if e.name in table_names(config)]
    collected = [collect_table(config, experiment) for experiment in tables]
    found = read_summaries(config, experiments)
    damaged = [problem for one in collected for problem in one.results.problems]
    damaged += found.problems
    checkpoints = [checkpoints_view(config, damaged)] if experiments else []
    figures = figure_views(config, damaged)
    claims = tuple(claim_view(claim) for claim in judge_claims(config))
    lemma = lemma_view(config, damaged)
    gallery = gallery_view(config, damaged)
    speeds = _speeds(config, damaged)
    costs = costs_view(config, experiments, found, speeds)
    plans = plan(config, names, speeds)
    named = list(dict.fromkeys(damaged))
    return Report(
        summary_view(config, plans, collected, figures, claims, gallery, named),
        (*(table_view(config, one) for one in collected), *checkpoints),
        figures,
        claims,
        lemma,
        gallery,
        costs,
        provenance_view(config, found),
    )


def _speeds(config: Config, damaged: list[str]) -> Speeds:
    """Return the speeds hours are planned by; a measurement that cannot be read is named."""
    try:
        return load_speeds(config)
    except HarnessError as error:
        damaged.append(str(error))
        return PAPER_SPEEDS
