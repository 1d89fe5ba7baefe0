from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


class RandomSource:
    """The random numbers of a transform that draws at every call.

    A whole number starts a generator of its own: the same number gives the same sequence of draws. In the worker
    processes of a loader the number is mixed with the seed that torch gives the worker, so that workers and epochs
    differ while ``torch.manual_seed`` still settles them.

    Args:
        seed: a whole number; a generator to draw from; or :obj:`None` for torch's global one.
    """

    def __init__(self, seed: int | torch.Generator | None) -> None:
        self.seed = seed
        self._own: torch.Generator | None = None
        self._worker: int | None = None

    def rand(self, size: int) -> Tensor:
        """Draw ``[size]`` numbers from ``[0, 1)``."""
        generator = self._generator()
        return torch.rand(size, generator=generator, device=None if generator is None else generator.device)

    def _generator(self) -> torch.Generator | None:
        if not isinstance(self.seed, int):
            return self.seed
        info = get_worker_info()
        worker = None if info is None else int(info.seed)
        if self._own is None or worker != self._worker:
            mixed = self.seed if worker is None else (self.seed * 0x9E3779B97F4A7C15 + worker) % 2**63
            self._own, self._worker = torch.Generator().manual_seed(mixed), worker
        return self._own

    def __repr__(self) -> str:
        return "generator" if isinstance(self.seed, torch.Generator) else repr(self.seed)
