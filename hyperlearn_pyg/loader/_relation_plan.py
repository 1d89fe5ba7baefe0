from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from hyperlearn_pyg.ops.seeds import derive_seed

#: One batch, as it is sent to a worker: the relation's number, the seed of the negatives, which of the split's tuples.
Step = tuple[int, int, NDArray[np.int64]]


@dataclass(frozen=True)
class BatchPlan:
    """Which tuples of which relation make up which batch of a rank; the same on every rank but for the tuples.

    Args:
        counts: the number of tuples of each relation.
        batch_size: tuples in a batch.
        drop_last: full batches only.
        interleave: how the relations alternate.
        rank: the number of this process.
        world_size: the number of processes.
    """

    counts: Sequence[int]
    batch_size: int
    drop_last: bool
    interleave: str
    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"'batch_size' must be at least 1 (got {self.batch_size})")

    @property
    def num_batches(self) -> list[int]:
        """The number of batches of each relation: what the rank with most tuples needs, or with fewest can fill."""
        if self.drop_last:
            return [count // self.world_size // self.batch_size for count in self.counts]
        return [ceil(ceil(count / self.world_size) / self.batch_size) for count in self.counts]

    def schedule(self) -> NDArray[np.int64]:
        """Return the relation of each batch and the number of the batch within it ``[2, batches]``."""
        totals = self.num_batches
        relation = np.repeat(np.arange(len(totals)), totals)
        number = np.concatenate([np.arange(total) for total in totals])
        if self.interleave == "round_robin":
            order = np.lexsort((relation, number))
        else:
            order = np.lexsort((relation, (number + 0.5) / np.repeat(totals, totals)))
        return np.stack([relation, number])[:, order]

    def part(self, relation: int, order: Tensor | None) -> NDArray[np.int64]:
        """Return the tuples of this rank, from an order of all."""
        if order is None:
            return np.arange(self.rank, self.counts[relation], self.world_size)
        out: NDArray[np.int64] = order[self.rank :: self.world_size].numpy()
        return out


class Steps(Sampler[Step]):
    """The batches of one epoch of one rank."""

    def __init__(self, plan: BatchPlan, seed: int, *, shuffle: bool) -> None:
        self.plan, self.seed, self.shuffle = plan, seed, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        return sum(self.plan.num_batches)

    def __iter__(self) -> Iterator[Step]:
        return self._steps(self.epoch)

    def _steps(self, epoch: int) -> Iterator[Step]:
        parts = []
        for relation, count in enumerate(self.plan.counts):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, relation))
            parts.append(self.plan.part(relation, torch.randperm(count, generator=generator) if self.shuffle else None))
        for relation, number in self.plan.schedule().T.tolist():
            at = slice(number * self.plan.batch_size, (number + 1) * self.plan.batch_size)
            seed = derive_seed(self.seed, epoch, relation, number, self.plan.rank)
            yield relation, seed, parts[relation][at]
