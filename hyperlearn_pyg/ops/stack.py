from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperlearn_pyg.ops.incidence import _CACHE, Incidence, _check_index


@dataclass(frozen=True)
class Part:
    """Some rows of a sparse matrix: the entries ``index [2, nnz]``, whose rows count from ``offset``."""

    name: str
    index: Tensor
    offset: int
    rows: int


def stacked_incidence(
    parts: Sequence[Part], size: tuple[int, int], *, validate: bool = True, cached: bool = True
) -> Incidence:
    """Return the incidence of all parts, entries in the order of the parts.

    It is built once per tuple of index tensors, as long as all live and none is written to; with ``cached=False``,
    and inside a compiled or exported graph, at each call.

    Args:
        parts: the parts; rows of two parts may coincide.
        size: ``(N, M)`` of the whole.
        validate: check that every entry lies inside its part.
        cached: keep the outcome.

    Raises:
        ValueError: an index of a part is no integer tensor ``[2, nnz]``, or an entry is out of its range.
    """
    compiling = torch.compiler.is_compiling()

    def build() -> Incidence:
        for part in parts:
            try:
                _check_index(part.index, (part.rows, size[1]), validate and not compiling)
            except ValueError as error:
                raise ValueError(f"{part.name}: {error}") from None
        moved = [torch.stack([part.index[0] + part.offset, part.index[1]]) for part in parts]
        index = torch.cat(moved, dim=1) if moved else torch.empty(2, 0, dtype=torch.long)
        return Incidence(index, size, validate=False)

    if compiling or not cached or not parts:
        return build()
    key = (size, tuple((part.offset, part.rows) for part in parts))
    return _CACHE.get(tuple(part.index for part in parts), key, build)
