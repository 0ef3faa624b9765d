"""Where the page is written."""

from pathlib import Path

from reproduce.config.schema import Config
from reproduce.core.files import write_text
from reproduce.experiments import paths
from reproduce.report.build import build_report
from reproduce.report.page import render


def write_report(config: Config) -> Path:
    """Write report.html from whatever results exist; equal results give equal pages.

    Returns
    -------
    Path
        The page.
    """
    path = paths.report_file(config)
    write_text(path, render(build_report(config)))
    return path
