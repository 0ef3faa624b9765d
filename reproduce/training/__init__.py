"""Training a cell: schedules, the step, the state that a stopped run continues from."""

from reproduce.training.run import train_cell

__all__ = ["train_cell"]
