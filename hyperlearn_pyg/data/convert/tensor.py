from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.convert._space import with_modalities
from hyperlearn_pyg.data.convert._sparse import check_choice
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE
from hyperlearn_pyg.data.tuples import tuple_ids

#: What to do with a tuple that a relation holds several times.
Duplicates = Literal["error", "sum", "mean", "first", "last"]
_DUPLICATES = ("error", "sum", "mean", "first", "last")


def to_sparse_tensor(data: MultiModalHeteroData, relation: str, *, duplicates: Duplicates = "error") -> Tensor:
    """Return a relation of order k as a sparse tensor with k dimensions.

    Args:
        data: the data.
        relation: the relation, with one member in each slot.
        duplicates: what becomes of a tuple that is there several times: ``"error"``, or the ``"sum"``, the ``"mean"``,
            the ``"first"`` or the ``"last"`` of its values.

    Returns:
        COO tensor ``[N_1, ..., N_k]``, coalesced, of the values (ones for a 0/1 relation).

    Raises:
        ValueError: no such relation, a ragged one, a tuple that is there twice, or a tensor of 2^63 cells or more,
            which torch cannot number.
    """
    check_choice(duplicates, "duplicates", _DUPLICATES)
    view = data.relation(relation)
    index, sizes = view.index, view.sizes
    if math.prod(sizes) >= 2**63:
        raise ValueError(f"relation '{relation}' spans {sizes} items: a sparse tensor of torch has no 2^63 cells")
    values = torch.ones(len(view), device=index.device) if view.value is None else view.value
    ids, order = torch.sort(tuple_ids(index, sizes), stable=True)
    new = torch.ones_like(ids, dtype=torch.bool)
    new[1:] = ids[1:] != ids[:-1]
    if duplicates == "error" and not bool(new.all()):
        at = int((~new).nonzero()[0])
        raise ValueError(
            f"relation '{relation}' holds the tuple {index[:, order[at]].tolist()} at {int(order[at - 1])} and at "
            f"{int(order[at])} ({int((~new).sum())} such): pass duplicates='sum', 'mean', 'first' or 'last'"
        )
    kept = _merge(values[order], new, duplicates)
    return torch.sparse_coo_tensor(index[:, order[new]], kept, sizes, is_coalesced=True, check_invariants=False)


def _merge(values: Tensor, new: Tensor, duplicates: Duplicates) -> Tensor:
    """Return one value for each run of tuples; ``new`` marks the first of each."""
    if duplicates in ("error", "first"):
        return values[new]
    if duplicates == "last":
        return values[torch.cat([new[1:], new[:1]])]  # where the next begins; the last of all ends
    run = new.cumsum(0) - 1
    total = values.new_zeros(int(new.sum())).index_add(0, run, values)
    return total if duplicates == "sum" else total / torch.bincount(run)


def from_sparse_tensor(
    tensor: Tensor,
    modalities: Sequence[Slot],
    *,
    relation: str = HYPEREDGE,
    value: bool = True,
    data: MultiModalHeteroData | None = None,
) -> MultiModalHeteroData:
    """Make a relation of order k of a sparse tensor with k dimensions: one hyperedge for each entry that is stored.

    Args:
        tensor: ``[N_1, ..., N_k]``, in COO layout or another, or dense (then one hyperedge for each cell that is not
            zero). Entries of an uncoalesced tensor stay apart, in their order.
        modalities: the slot of each dimension: a modality or a pair (modality, role).
        relation: the name of the hyperedge set.
        value: keep the values, or else make a 0/1 relation.
        data: data to which modalities that it lacks and the relation are added, in a copy; those that it has must be
            of the right size. :obj:`None` for new data.

    Raises:
        ValueError: dimensions and slots that do not agree in number or size, dense dimensions, values that are not
            finite, or a name that is taken.
    """
    coo = tensor if tensor.layout == torch.sparse_coo else tensor.to_sparse_coo()
    if coo.dense_dim() or coo.sparse_dim() != len(modalities):
        raise ValueError(
            f"'modalities' must name a slot for each dimension of the tensor, all sparse (got {len(modalities)} for "
            f"shape {list(coo.shape)} with {coo.sparse_dim()} sparse dimensions)"
        )
    out = with_modalities(data, dict(zip(modalities, coo.shape, strict=True)), relation)
    return out.add_hyperedges(
        relation, coo._indices(), modalities=list(modalities), value=coo._values() if value else None
    )
