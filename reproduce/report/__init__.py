"""One page with everything: tables beside the paper's, figures, claims, costs, provenance."""

from reproduce.report.build import build_report
from reproduce.report.page import render
from reproduce.report.write import write_report

__all__ = ["build_report", "render", "write_report"]
