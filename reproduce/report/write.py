"""Where the page is written."""

from pathlib import Path

from reproduce import paths
from reproduce.config import Config
from reproduce.files import write_text
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
