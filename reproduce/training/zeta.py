"""Zeta of width adjusted regularisation, measured from the trained thin network."""

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.files import sha256_of_file
from reproduce.runs import problem_with, read_run
from reproduce.specs import thin_cell, training_spec
from reproduce.traces import read_trace


def find_zeta(config: Config, cell: Cell) -> float | None:
    """Return the ratio that a cell's lambda is steered to; None if its lambda is constant.

    Measured, it is the mean natural risk over the mean robust regularisation in the
    last epoch of the thin network's training.

    Raises
    ------
    HarnessError
        If the thin network is not trained with these settings, its trace is damaged, or
        its robust regularisation vanished.
    """
    spec, thin = training_spec(config, cell), thin_cell(config, cell)
    if spec.war is None:
        return None
    if thin is None:
        return float(spec.war.zeta)
    folder = paths.cell_folder(config, thin)
    run = read_run(folder)
    problem = problem_with(config, training_spec(config, thin), run)
    if run is None or problem is not None:
        raise HarnessError(
            f"{cell}: zeta is measured from {thin}, which {problem}; run `reproduce train {thin}` "
            "first, or set war.zeta to a number"
        )
    path = paths.trace_file(folder)
    if sha256_of_file(path) != run.trace:
        raise HarnessError(f"{path} is damaged; `reproduce train {thin}` makes it again")
    trace = read_trace(path, thin)
    last = trace[trace["epoch"] == trace["epoch"].max()].mean()
    if not last["robust_regularization"] > 0:
        raise HarnessError(f"{cell}: the robust regularisation of {thin} vanished; set war.zeta")
    return float(last["natural_risk"] / last["robust_regularization"])
