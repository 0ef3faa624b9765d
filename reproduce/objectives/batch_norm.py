"""BatchNorm statistics as they would be had a batch passed through the network twice."""

import torch
from torch import Tensor, nn


class RepeatedBatch:
    """Remembers how a forward pass moved the BatchNorm statistics, to move them so again.

    With momentum m a batch of statistics b moves r to (1 - m) r + m b.  If it once moved
    r to s, it moves whatever stands there later, t, to s + (1 - m) (t - r): no second
    forward pass is needed.

    Use it as a context around the forward pass, then call `again`.

    Parameters
    ----------
    model : torch.nn.Module
        In train mode; its BatchNorm layers have a momentum.

    Raises
    ------
    ValueError
        If one averages all batches instead.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        if any(norm.momentum is None for norm in self._norms):
            raise ValueError(
                "BatchNorm without momentum averages all batches; it cannot be repeated"
            )
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    def __enter__(self) -> None:
        self._before = [value.clone() for value in self._statistics()]

    def __exit__(self, *_: object) -> None:
        self._after = [value.clone() for value in self._statistics()]

    def again(self) -> None:
        """Move the statistics as a second pass of the batch would."""
        keep = [1 - (norm.momentum or 0.0) for norm in self._norms for _ in range(2)]
        with torch.no_grad():
            for value, before, after, rest in zip(
                self._statistics(), self._before, self._after, keep, strict=True
            ):
                value.sub_(before).mul_(rest).add_(after)
            for norm in self._norms:
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.add_(1)

    def _statistics(self) -> list[Tensor]:
        pairs = [(norm.running_mean, norm.running_var) for norm in self._norms]
        # `data`, since autograd keeps them for a backward pass in eval mode and would object
        return [value.data for pair in pairs for value in pair if value is not None]
