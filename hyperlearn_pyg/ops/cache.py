from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T")


class TensorCache(Generic[T]):
    """A small cache of what was derived from a tensor, keyed by the tensor itself.

    An entry lives while its tensor lives (weak reference) and holds as long as the tensor was not written to
    (version counter) and has the same shape. The least recently used entry goes first.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[weakref.ref[Tensor], int, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tensor: Tensor, key: Hashable, build: Callable[[], T]) -> T:
        """Return the entry of ``(tensor, key)``, built by ``build()`` where there is none that holds."""
        full_key = (id(tensor), tuple(tensor.shape), key)
        entry = self._entries.get(full_key)
        if entry is not None and entry[0]() is tensor and entry[1] == tensor._version:
            self._entries.move_to_end(full_key)
            return entry[2]
        value = build()
        if tensor.is_inference():  # has no version counter: cannot be watched
            return value
        entries = self._entries
        reference = weakref.ref(tensor, lambda _: entries.pop(full_key, None))
        entries[full_key] = (reference, tensor._version, value)
        entries.move_to_end(full_key)
        while len(entries) > self.capacity:
            entries.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
