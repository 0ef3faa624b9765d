"""What each table and figure needs: cells, attacks, seeds.  The one place that knows grids."""

from reproduce.experiments.experiment import (
    Evaluation,
    Experiment,
    PublishedEvaluation,
    training_runs,
)
from reproduce.experiments.figures import curve_cells, traced_cells
from reproduce.experiments.find import (
    experiment_names,
    figure_names,
    find_experiment,
    find_table,
    planned_evaluations,
    planned_methods,
    planned_runs,
    repeated_evaluations,
    table_names,
)
from reproduce.experiments.tables import (
    attack_table_cells,
    comparison_evaluations,
    example_evaluations,
    grid_cells,
    published_evaluations,
    searched_cells,
    untuned_cells,
    war_cells,
)

__all__ = [
    "Evaluation",
    "Experiment",
    "PublishedEvaluation",
    "attack_table_cells",
    "comparison_evaluations",
    "curve_cells",
    "example_evaluations",
    "experiment_names",
    "figure_names",
    "find_experiment",
    "find_table",
    "grid_cells",
    "planned_evaluations",
    "planned_methods",
    "planned_runs",
    "published_evaluations",
    "repeated_evaluations",
    "searched_cells",
    "table_names",
    "traced_cells",
    "training_runs",
    "untuned_cells",
    "war_cells",
]
