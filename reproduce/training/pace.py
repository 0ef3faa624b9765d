"""How a run is cut into pieces and batches."""

from dataclasses import dataclass

from reproduce.config import CompileMode
from reproduce.distributed import ALONE, Group
from reproduce.training.stopping import StopReason


@dataclass(frozen=True)
class Pace:
    """How a run is cut into pieces and batches, and how and by how many processes it is done.

    Attributes
    ----------
    eval_batch : int
        Images at once when the network is measured.
    save_minutes : float
        After how long the state is saved within an epoch.
    stop : callable
        Gives a reason to stop, or None.
    group : Group
        The processes.
    compile_mode : str or None
        What the network is compiled for; None where it is not compiled.
    """

    eval_batch: int
    save_minutes: float
    stop: StopReason
    group: Group = ALONE
    compile_mode: CompileMode | None = None
