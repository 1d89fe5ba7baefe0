from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ratings:
    """Entries of a rating matrix: ``row [E]``, ``col [E]``, ``value [E]``, and the matrix's size."""

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    value: Array
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.value)


def ratings_of(data: MultiModalHeteroData, *splits: str, relation: str = "rates") -> Ratings:
    """Take the entries of some splits of a valued relation of order two."""
    view = data.relation(relation)
    if view.value is None or view.order != 2:
        raise ValueError(f"relation {relation!r} must have values and two slots (got order {view.order})")
    at = split_positions(data, relation, splits)
    row, col = view.index[:, at].numpy()
    return Ratings(row, col, view.value[at].double().numpy(), (view.sizes[0], view.sizes[1]))


def clipped_rmse(score: Array, value: Array, low: float = 1.0, high: float = 5.0) -> float:
    """Return the root mean squared error of scores that are first kept inside the scale."""
    return float(np.sqrt(np.mean((np.clip(score, low, high) - value) ** 2)))
