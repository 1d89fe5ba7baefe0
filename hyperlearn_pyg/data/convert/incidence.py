from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._checks import as_tensor, check_finite
from hyperlearn_pyg.data._members import Slot, slot_edge_type
from hyperlearn_pyg.data.convert._space import NodeSpace, with_modalities
from hyperlearn_pyg.data.convert._sparse import check_choice
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE
from hyperlearn_pyg.errors import did_you_mean

#: The forms of an incidence matrix.
Layout = Literal["dense", "coo", "csr", "csc", "scipy_coo", "scipy_csr", "scipy_csc"]
_LAYOUTS = ("dense", "coo", "csr", "csc", "scipy_coo", "scipy_csr", "scipy_csc")


def to_incidence(
    data: MultiModalHeteroData, relation: str, *, slot: int | Slot | None = None, layout: Layout = "csr"
) -> Any:
    """Return the incidence matrix of a relation: items by hyperedges.

    Entries are the weights of the memberships (``edge_weight``), ones where there are none; an item that is a member
    of a hyperedge several times has the sum.

    Args:
        data: the data.
        relation: the relation; it may be ragged.
        slot: the slot, by position or as a modality or a pair (modality, role); :obj:`None` for all slots stacked over
            the modalities: rows are the items of the first slot's modality, then those of the next modality.
        layout: ``"dense"``, ``"coo"``, ``"csr"`` or ``"csc"`` for a tensor, and with ``scipy_`` before one of the last
            three for SciPy.

    Returns:
        ``[N, E]`` in the layout asked for; of a slot, ``N`` is the number of items of its modality.

    Raises:
        ValueError: no such relation, slot or layout.
    """
    check_choice(layout, "layout", _LAYOUTS)
    view = data.relation(relation)
    slots = range(view.order) if slot is None else [_position(view, slot)]
    space = NodeSpace.of(data, [*dict.fromkeys(view.modalities[s] for s in slots)])
    parts, weights = [], []
    for s in slots:
        edge_index, weight = view.incidence(s), data[view.slots[s]].get("edge_weight")
        parts.append(edge_index + edge_index.new_tensor([[space.offsets[view.modalities[s]]], [0]]))
        weights.append(torch.ones(edge_index.size(1), device=edge_index.device) if weight is None else weight)
    index, values = torch.cat(parts, dim=1), torch.cat(weights)
    size = (space.num_nodes, len(view))
    if layout.startswith("scipy"):
        row, col = index.cpu().numpy()
        matrix = sp.csr_array((values.detach().cpu().numpy(), (row, col)), shape=size)
        return matrix.asformat(layout.removeprefix("scipy_"))
    tensor = torch.sparse_coo_tensor(index, values, size, check_invariants=False).coalesce()
    return tensor if layout == "coo" else tensor.to_dense() if layout == "dense" else _compressed(tensor, layout)


def from_incidence(
    matrix: Any,
    *,
    relation: str = HYPEREDGE,
    sizes: Mapping[str, int] | None = None,
    data: MultiModalHeteroData | None = None,
) -> MultiModalHeteroData:
    """Make a relation of an incidence matrix, or of one for each slot.

    Entries that are stored (of a dense matrix: those that are not zero) are memberships. Unless all are one, they are
    kept as ``edge_weight``, in the type of a tensor, or in torch's default type for arrays and SciPy. Hyperedges
    without an entry are empty, items without one isolated.

    Args:
        matrix: ``[N, E]``: a tensor, dense or sparse (COO, CSR, CSC), an array, nested lists, a frame of pandas,
            or any SciPy sparse matrix; or a mapping from slot, a modality or a pair (modality, role), to such a matrix.
        relation: the name of the hyperedge set.
        sizes: for a single matrix, modality -> number of its rows, in the order in which they are stacked; :obj:`None`
            for one modality, ``node``.
        data: data to which modalities that it lacks and the relation are added, in a copy; those that it has must be
            of the right size. :obj:`None` for new data.

    Returns:
        Data with the modalities and the relation.

    Raises:
        ValueError: matrices that do not agree in their columns, sizes that do not add up, entries that are not finite,
            or a name that is taken.
    """
    if isinstance(matrix, Mapping):
        entries = {slot: _entries(m, f"the matrix of slot {slot!r}") for slot, m in matrix.items()}
    else:
        entries = _unstack(_entries(matrix, "the matrix"), sizes)
    if not entries:
        raise ValueError("'matrix' must have at least one slot")
    shapes = {slot: shape for slot, (_, _, shape) in entries.items()}
    if len({columns for _, columns in shapes.values()}) > 1:
        raise ValueError(f"the matrices of '{relation}' must have one number of columns (got {shapes})")
    out = with_modalities(data, {slot: rows for slot, (rows, _) in shapes.items()}, relation)
    weights = {slot: values for slot, (_, values, _) in entries.items() if not bool((values == 1).all())}
    return out.add_hyperedges(
        relation,
        {slot: index for slot, (index, _, _) in entries.items()},
        num_hyperedges=next(iter(shapes.values()))[1],
        incidence_weight=weights or None,
    )


def _compressed(tensor: Tensor, layout: str) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CS[RC] tensor support is in beta", UserWarning)
        return tensor.to_sparse_csr() if layout == "csr" else tensor.to_sparse_csc()


def _position(view: Relation, slot: int | Slot) -> int:
    if isinstance(slot, int):
        view.incidence(slot)  # an error where it is out of range
        return slot % view.order
    edge_type = slot_edge_type(slot, view.name)
    if edge_type not in view.slots:
        pairs = zip(view.modalities, view.roles, strict=True)
        slots = [modality if role is None else (modality, role) for modality, role in pairs]
        hint = did_you_mean(str(slot), map(str, slots))
        raise ValueError(f"relation '{view.name}' has no slot {slot!r} (slots: {slots}).{hint}")
    return view.slots.index(edge_type)


def _entries(matrix: Any, where: str) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Return the stored entries ``[2, nnz]``, their values as floating-point numbers, and the shape."""
    if isinstance(matrix, list | tuple | pd.DataFrame):
        try:
            matrix = np.asarray(matrix, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} must hold numbers, in rows of one length ({error})") from error
    if sp.issparse(matrix):
        coo = sp.coo_array(matrix)
        index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        values, shape = torch.from_numpy(np.ascontiguousarray(coo.data)), coo.shape
    elif isinstance(matrix, Tensor | np.ndarray):
        tensor = as_tensor(matrix, where)
        if tensor.dim() != 2:
            raise ValueError(f"{where} must be of shape [N, E] (got {list(tensor.shape)})")
        if tensor.layout == torch.strided:
            index = tensor.nonzero().t().contiguous()
            values, shape = tensor[index[0], index[1]], tuple(tensor.shape)
        else:
            coo = (tensor if tensor.layout == torch.sparse_coo else tensor.to_sparse_coo()).coalesce()
            index, values, shape = coo.indices(), coo.values(), tuple(coo.shape)
    else:
        raise ValueError(
            f"{where} must be a tensor, an array, nested lists, a frame or a SciPy sparse matrix (got "
            f"{type(matrix).__name__})"
        )
    if not isinstance(matrix, Tensor) or not values.is_floating_point():
        values = values.to(torch.get_default_dtype())
    check_finite(values, where)
    return index, values, (int(shape[0]), int(shape[1]))


def _unstack(entries: tuple[Tensor, Tensor, tuple[int, int]], sizes: Mapping[str, int] | None) -> dict[Slot, Any]:
    """Divide the rows of one matrix among modalities."""
    index, values, (rows, columns) = entries
    if sizes is None:
        return {NODE: entries}
    space = NodeSpace(tuple(sizes), tuple(sizes.values()))
    if space.num_nodes != rows:
        raise ValueError(f"'sizes' must add up to the {rows} rows of the matrix (got {dict(sizes)})")
    out: dict[Slot, Any] = {}
    for name, size in sizes.items():
        start = space.offsets[name]
        chosen = (index[0] >= start) & (index[0] < start + size)
        out[name] = (index[:, chosen] - index.new_tensor([[start], [0]]), values[chosen], (size, columns))
    return out
