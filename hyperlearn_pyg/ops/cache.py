from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T")


class TensorCache(Generic[T]):
    """A small cache of what was derived from one tensor or several, keyed by the tensors themselves.

    An entry lives while its tensors live (weak references) and holds as long as none was written to (version
    counters) and all have the same shape. The least recently used entry goes first.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[list[weakref.ref[Tensor]], list[int], T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tensor: Tensor | tuple[Tensor, ...], key: Hashable, build: Callable[[], T]) -> T:
        """Return the entry of ``(tensor, key)``, built by ``build()`` where there is none that holds."""
        tensors = (tensor,) if isinstance(tensor, Tensor) else tensor
        full_key = (tuple((id(t), tuple(t.shape)) for t in tensors), key)
        entry = self._entries.get(full_key)
        if entry is not None and self._holds(entry, tensors):
            self._entries.move_to_end(full_key)
            return entry[2]
        value = build()
        if any(t.is_inference() for t in tensors):  # has no version counter: cannot be watched
            return value
        entries = self._entries
        references = [weakref.ref(t, lambda _: entries.pop(full_key, None)) for t in tensors]
        entries[full_key] = (references, [t._version for t in tensors], value)
        entries.move_to_end(full_key)
        while len(entries) > self.capacity:
            entries.popitem(last=False)
        return value

    @staticmethod
    def _holds(entry: tuple[list[weakref.ref[Tensor]], list[int], T], tensors: tuple[Tensor, ...]) -> bool:
        checks = zip(*entry[:2], tensors, strict=True)
        return all(reference() is t and version == t._version for reference, version, t in checks)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
