"""How a run is cut into pieces and batches."""

from dataclasses import dataclass

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
    compiled : bool
        Whether the network is compiled.
    graphs : bool
        Whether steps and validation are recorded as CUDA graphs.
    """

    eval_batch: int
    save_minutes: float
    stop: StopReason
    group: Group = ALONE
    compiled: bool = False
    graphs: bool = False
