"""From records to tables, and from tables to a comparison with the paper."""

from reproduce.analysis.checkpoints import Choices, read_choices
from reproduce.analysis.diff import (
    DIFF_COLUMNS,
    JUDGED,
    TOLERANCE,
    VERDICTS,
    build_diff,
    diff_caveats,
    diff_notes,
    write_diff,
)
from reproduce.analysis.results import collect
from reproduce.analysis.tables import write_checkpoints, write_table

__all__ = [
    "DIFF_COLUMNS",
    "JUDGED",
    "TOLERANCE",
    "VERDICTS",
    "Choices",
    "build_diff",
    "collect",
    "diff_caveats",
    "diff_notes",
    "read_choices",
    "write_checkpoints",
    "write_diff",
    "write_table",
]
