from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler

from hyperlearn_pyg.ops.seeds import derive_seed

#: Keys of epochs are below it.
_KEYS = 2**62


class Positions(Sequence[Any]):
    """A data set that hands every index through: an index carries the key of its epoch."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __getitem__(self, index: Any) -> Any:
        return index

    def __len__(self) -> int:
        return self._size


class EpochSampler(Sampler[Any]):
    """Adds a key of the epoch to every index, so that a worker knows the random numbers of a batch.

    An index ``i`` of ``size`` travels as ``key * size + i``. Keys come from ``seed`` and epoch, or, without a seed,
    from ``generator`` (the global one where absent): either way in the main process, so that a batch does not depend
    on the number of workers. Passes are counted, unless the order is fixed: with a seed all passes are then alike.

    Args:
        size: the number of seeds.
        inner: gives indices or batches of them; where absent all in order, or in random order.
        shuffle: random order.
        seed: the seed.
        generator: source of randomness where there is no seed.
    """

    def __init__(
        self,
        size: int,
        inner: Sampler[Any] | BatchSampler | None = None,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.size, self.seed, self.generator = size, seed, generator
        self.epoch = 0
        self._counts = shuffle or inner is not None
        self._order = generator if seed is None else torch.Generator()
        if inner is None:  # torch's RandomSampler refuses to order nothing
            order = RandomSampler(range(size), generator=self._order) if shuffle and size else None
            inner = SequentialSampler(range(size)) if order is None else order
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        if self.seed is None:
            key = int(torch.randint(1, _KEYS, (), generator=self.generator))
        else:
            key = derive_seed(self.seed, self.epoch) % _KEYS + 1
            if self._order is not None:
                self._order.manual_seed(key)
        self.epoch += self._counts
        shift = key * self.size
        for index in self.inner:
            yield [int(i) + shift for i in index] if isinstance(index, list | tuple) else int(index) + shift

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]


def read_batch(index: Any, size: int) -> tuple[torch.Tensor, torch.Generator | None]:
    """Return the indices of a batch ``[B]`` and its source of randomness, :obj:`None` where no epoch gave a key."""
    plain = [int(i) for i in index]
    if not plain or plain[0] < size:
        return torch.tensor(plain, dtype=torch.long), None
    key = plain[0] // size
    position = torch.tensor([i % size for i in plain], dtype=torch.long)
    content = int((position * torch.arange(1, 2 * len(plain), 2)).sum())
    return position, torch.Generator().manual_seed(derive_seed(key, len(plain), int(position[0]), content))
