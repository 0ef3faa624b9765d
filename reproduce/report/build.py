"""The report: everything that the results of a configuration say, on one self-contained page."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reproduce.claims.statements import judge_claims
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_text
from reproduce.examples.files import Example, read_examples
from reproduce.experiments import paths
from reproduce.experiments.cost import PAPER_SPEEDS, load_speeds
from reproduce.experiments.grids import (
    example_evaluations,
    experiment_names,
    find_experiment,
    table_names,
)
from reproduce.lemma.results import QUANTITIES, WAYS, Examination, read_examination
from reproduce.report import format as written
from reproduce.report.pictures import HELD_BY, draw_figures, examples_note, network_title, pictures
from reproduce.report.provenance import (
    costs_section,
    provenance_section,
    read_records,
    read_runs,
)
from reproduce.report.summary import missing_parts, summarise, where
from reproduce.report.tables import checkpoints_section, details, table_section
from reproduce.results.status import status_frame
from reproduce.tables.diff import VERDICTS

T = TypeVar("T")


def write_report(config: Config) -> Path:
    """Write report.html from whatever results exist; equal results give equal pages."""
    path = paths.report_file(config)
    write_text(path, render(build_report(config)))
    return path


def build_report(config: Config) -> dict[str, Any]:
    """Read all results of a configuration and return what the template shows, by section.

    What is missing is said to be missing, and what is damaged is named in the summary.
    """
    damaged = list[str]()
    experiments = [find_experiment(config, name) for name in experiment_names(config)]
    speeds = _readable(lambda: load_speeds(config), PAPER_SPEEDS, damaged)
    status = status_frame(config, [each.name for each in experiments], speeds)
    is_run = status["kind"] == "run"
    runs = read_runs(config, status.index[is_run], damaged)
    records = read_records(config, status.index[~is_run], damaged)
    tables = [
        table_section(config, each) for each in experiments if each.name in table_names(config)
    ]
    diffs = {table["name"]: table["diff"] for table in tables}
    if experiments:
        tables.append(checkpoints_section(config, damaged))
    figures = draw_figures(config, damaged)
    claims = judge_claims(config)
    lemma = _readable(lambda: read_examination(config), None, damaged)
    examples = _readable(lambda: read_examples(config), list[Example](), damaged)
    missing = missing_parts(
        experiments, status, {figure["name"]: figure["missing"] for figure in figures}, claims
    )
    if not examples and example_evaluations(config) is not None:
        missing.append("Adversarial examples: not made")
    damaged = list(dict.fromkeys(damaged))
    return {
        "summary": summarise(config, status, diffs, claims, missing, damaged),
        "tables": tables,
        "figures": figures,
        "claims": claims,
        "lemma": None if lemma is None else exponents(lemma),
        "examples": examples,
        "costs": costs_section(experiments, status, runs, records, speeds),
        "provenance": provenance_section(config, runs, records),
    }


def render(report: dict[str, Any]) -> str:
    """Write the page: every text escaped, style and script inlined, nothing loaded."""
    template = _environment().get_template("template.html.jinja")
    return template.render(report, style=_own("style.css"), script=_own("script.js"))


def _readable(read: Callable[[], T], otherwise: T, damaged: list[str]) -> T:
    """Read something; if it is damaged, name it and return `otherwise`."""
    try:
        return read()
    except HarnessError as error:
        damaged.append(str(error))
        return otherwise


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reproduce.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        *(written.count, written.fixed, written.forest),
        *(written.shade, written.signed, written.with_std),
        *(details, examples_note, network_title, pictures, where),
    ):
        environment.filters[function.__name__] = function
    environment.globals |= {
        "CLAIM_VERDICTS": written.CLAIM_VERDICTS,
        "HELD_BY": HELD_BY,
        "SYMBOLS": written.SYMBOLS,
        "VERDICTS": VERDICTS,
        "hours": written.hours,
        "number": written.number,
    }
    return environment


def _own(name: str) -> Markup:
    """Return a file of this package as it is: our own text, not a result's."""
    text = files("reproduce.report").joinpath(name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704, a file of this package


def exponents(found: Examination) -> pd.DataFrame:
    """Return the exponents of Lemma 4.2, a row for each norm and input dimension."""
    rows = [
        {
            "Largest norm": quantity.title if quantity.covered else f"{quantity.title} *",
            "Input dimension": dimension,
            "Exponent in m": round(fit.width.value, 3),
            "95 % interval (m)": written.minus(f"{fit.width.low:.3f} to {fit.width.high:.3f}"),
            "Exponent in H": round(fit.depth.value, 3),
            "95 % interval (H)": written.minus(f"{fit.depth.low:.3f} to {fit.depth.high:.3f}"),
            "Bound": fit.bound,
            "In m": fit.width.tightness,
            "In H": fit.depth.tightness,
        }
        for way, dimension in WAYS.items()
        for name, quantity in QUANTITIES.items()
        for fit in [found.fits[way, name]]
    ]
    return pd.DataFrame(rows)
