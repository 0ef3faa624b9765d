"""What choosing a checkpoint on the test set is worth, as a table of the page."""

from dataclasses import replace

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.report.tables import arrange, notes_of, number_of, unusable
from reproduce.report.view import Number, Table
from reproduce.tables.checkpoints import Choices, read_choices
from reproduce.tables.layouts import Column, Row, checkpoints_layout
from reproduce.tables.write import checkpoints_notes


def checkpoints_view(config: Config, damaged: list[str]) -> Table:
    """Write the table of checkpoints out.

    Parameters
    ----------
    config : Config
        The configuration.
    damaged : list of str
        Takes the runs that could not be used, with the reason.
    """
    choices = read_choices(config)
    damaged += choices.problems
    layout = checkpoints_layout(config, choices)

    def number(row: int, column: int) -> Number:
        seeds = _seeds(choices, layout.rows[row], layout.columns[column])
        return number_of(layout, row, column, seeds, {})

    title = "What choosing on the test set is worth"
    shown = range(len(layout.columns))
    table = arrange(config, "checkpoints", title, layout, shown, number)
    notes = checkpoints_notes(config, replace(choices, problems=()), layout)
    return replace(table, notes=notes_of([*notes, *unusable(len(choices.problems), "run")]))


def _seeds(choices: Choices, row: Row, column: Column) -> list[tuple[str, float]]:
    """Return the single values behind an entry, each with its seed."""
    keys = row.keys
    kind = Cell(keys["dataset"], keys["architecture"], keys["method"], keys["lambda"], 0)
    found = choices.of(kind, keys["metric"])
    if not len(found):
        return []
    best, is_difference, other = column.key.partition(" minus ")
    if is_difference:
        values = found["percent"][best] - found["percent"][other]
    elif column.key.startswith("epoch of "):
        values = found["epoch"][column.key.removeprefix("epoch of ")]
    else:
        values = found["percent"][column.key]
    return [(f"seed {seed}", float(value)) for seed, value in values.items()]
