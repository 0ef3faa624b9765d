"""What stands where in each table: the paper's rows and columns, filled with samples."""

from reproduce.analysis.layouts.attacks import attacks_layout
from reproduce.analysis.layouts.checkpoints import checkpoints_layout
from reproduce.analysis.layouts.comparison import comparison_layout
from reproduce.analysis.layouts.grid import grid_layout
from reproduce.analysis.layouts.layout import Entry, Layout
from reproduce.analysis.layouts.partial import attack_title, partial_notes
from reproduce.analysis.layouts.tuning import tuning_layout
from reproduce.analysis.results import Results
from reproduce.config import AttackTable, ComparisonTable, Config, Grid, TuningTable
from reproduce.errors import HarnessError
from reproduce.experiments import Experiment

__all__ = ["Entry", "Layout", "attack_title", "checkpoints_layout", "lay_out", "partial_notes"]


def lay_out(config: Config, experiment: Experiment, results: Results) -> Layout:
    """Arrange an experiment's numbers as the paper's table does."""
    match getattr(config.experiments, experiment.name):
        case Grid() as grid:
            return grid_layout(config, grid, experiment.metrics, results)
        case AttackTable() as table:
            return attacks_layout(config, table, results)
        case TuningTable() as tuning:
            return tuning_layout(config, tuning, results)
        case ComparisonTable() as comparison:
            return comparison_layout(config, comparison, results)
    raise HarnessError(f"there is no layout of {experiment.name!r}")
