"""From what the page says to one self-contained file."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reproduce.report.view import Report

_TEMPLATE = "template.html.jinja"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reproduce.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _own(name: str) -> Markup:
    """Return a file of this package as it is: our own text, not a result's."""
    text = files("reproduce.report").joinpath(name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704, it lies beside this module


def render(report: Report) -> str:
    """Write the page: every result's text escaped, style and script inlined.

    Parameters
    ----------
    report : Report
        What it says.

    Returns
    -------
    str
        HTML that loads nothing from anywhere.
    """
    template = _environment().get_template(_TEMPLATE)
    return template.render(report=report, style=_own("style.css"), script=_own("script.js"))
