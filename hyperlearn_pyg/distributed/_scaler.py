from __future__ import annotations

from typing import Any

import torch
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler


class RanksGradScaler(ShardedGradScaler):
    """Scales losses; where a gradient of one rank overflows, all ranks skip the step and lower the scale.

    Fused optimizers, too: torch's own class lets each rank decide alone for these.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._unscaled: set[int] = set()

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, and ask all ranks whether theirs are finite."""
        super().unscale_(optimizer)
        self._unscaled.add(id(optimizer))

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Take the step where the gradients of all ranks are finite."""
        if self.is_enabled() and id(optimizer) not in self._unscaled:
            self.unscale_(optimizer)
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Set the scale of the next step."""
        super().update(new_scale)
        self._unscaled.clear()
