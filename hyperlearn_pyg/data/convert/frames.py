from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._checks import NUMBERS, STRINGS, check_attribute
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.convert._space import rowed
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.errors import InputError, did_you_mean

#: Columns of the long form of a relation.
LONG = ("hyperedge", "slot", "item", "incidence_weight")


class Frames(NamedTuple):
    """Data as pandas frames.

    Args:
        items: modality -> one row an item: ``item_id`` and other strings, ``x_0``, ``x_1``, ..., further attributes.
        relations: relation -> its hyperedges. With one member in each slot: one row a hyperedge, a column for each slot
            (``user``, or ``user.follower`` where there is a role) and one for each attribute. Else, and where
            memberships have weights, the long form: one row a membership with the columns ``hyperedge``, ``slot``
            (categorical, all slots named), ``item``, where there are weights ``incidence_weight``, and the attributes
            of the hyperedge repeated; a hyperedge without a member has one row without slot and item.
        edges: edge type -> one row an edge: ``source``, ``target`` and the attributes.

    Items are named by ``item_id`` where their modality has it, else by position.
    """

    items: dict[str, pd.DataFrame]
    relations: dict[str, pd.DataFrame]
    edges: dict[EdgeType, pd.DataFrame]


def to_frames(data: MultiModalHeteroData) -> Frames:
    """Return the data as pandas frames, one for each modality, relation and graph.

    Attributes with one row an item, hyperedge or edge become columns: one for numbers and strings, ``name_0``,
    ``name_1``, ... for tensors ``[N, F]``. Others (of more dimensions, or of no rows) are left out.
    In the form with one row a hyperedge, memberships lose any other order than that of the hyperedges.

    Raises:
        ValueError: an attribute has the name of a slot, or a missing count.
    """
    items = {}
    for name in data.modalities:
        size = int(data[name].num_nodes)
        items[name] = pd.DataFrame(_columns(data[name], size), index=pd.RangeIndex(size))
    relations = {name: _relation_frame(data, data.relation(name)) for name in data.hyperedge_types}
    edges = {}
    for edge_type in data.edge_types:
        store = data[edge_type]
        if not is_membership(edge_type) and isinstance(store.get("edge_index"), Tensor):
            ends = zip(("source", "target"), (edge_type[0], edge_type[2]), store.edge_index, strict=True)
            columns = {column: _names(data, modality, row) for column, modality, row in ends}
            edges[edge_type] = pd.DataFrame({**columns, **_columns(store, store.edge_index.size(1))})
    return Frames(items, relations, edges)


def from_frames(
    items: Mapping[str, pd.DataFrame] | Frames,
    relations: Mapping[str, pd.DataFrame] | None = None,
    edges: Mapping[EdgeType, pd.DataFrame] | None = None,
    *,
    dtype: torch.dtype | None = torch.float32,
) -> MultiModalHeteroData:
    """Build data of pandas frames in the forms that :func:`to_frames` gives, of which this is the inverse.

    Args:
        items: modality -> one row an item. The columns ``item_id``, ``item_name``, ``item_label`` are read as strings,
            ``x_0``, ``x_1``, ... as features (and so for any name with such numbers); other columns of numbers or bools
            as tensors, of other things as lists. Or the :class:`Frames` that :func:`to_frames` gives, alone.
        relations: relation -> its hyperedges, wide or long (with the columns ``hyperedge``, ``slot`` and ``item``). In
            the wide form the columns that are called as a modality, or ``modality.role``, are the slots, in their
            order; the others are attributes. Items are named by ``item_id`` where the modality has it, else by
            position. In the long form hyperedges are numbered from 0; attributes are read from the first row of each.
        edges: edge type -> one row an edge, with the columns ``source`` and ``target``.
        dtype: type of all floating-point numbers; :obj:`None` to leave them as they are in the frames.

    Raises:
        InputError: a column that is missing, an item that is not there, an empty cell (relation, row and column named).
        ValueError: a fault that ``add_modality`` or ``add_hyperedges`` finds, or frames beside :class:`Frames`.

    Warns:
        UserWarning: a wide relation has one slot, and another of its columns is called nearly as a modality.
    """
    if isinstance(items, Frames):
        if relations is not None or edges is not None:
            raise ValueError("'relations' and 'edges' are in the Frames already: pass the Frames alone, or its parts")
        items, relations, edges = items
    data = MultiModalHeteroData()
    for name, frame in items.items():
        data.add_modality(name, num_nodes=len(frame))
        _set_attributes(data, name, f"modality '{name}'", frame, dtype)
    for name, frame in (relations or {}).items():
        if set(LONG[:3]) <= set(frame.columns):
            _add_long(data, name, frame, dtype)
        else:
            _add_wide(data, name, frame, dtype)
    for edge_type, frame in (edges or {}).items():
        where = f"edges {edge_type}"
        for column in ("source", "target"):
            if column not in frame:
                raise InputError(f"{where}: column '{column}' is missing (columns: {list(frame.columns)})")
        source = _positions(data, edge_type[0], frame["source"], where)
        data[edge_type].edge_index = torch.stack([source, _positions(data, edge_type[2], frame["target"], where)])
        _set_attributes(data, edge_type, where, frame.drop(columns=["source", "target"]), dtype)
    return data


def _relation_frame(data: MultiModalHeteroData, view: Relation) -> Any:
    store = data[view.name]
    columns = _columns(store, len(view))
    names = [m if role is None else f"{m}.{role}" for m, role in zip(view.modalities, view.roles, strict=True)]
    taken = set(columns) & {*names, *LONG}
    if taken:
        raise ValueError(f"relation '{view.name}': attributes {sorted(taken)} are called as columns of its frame")
    weighted = any("edge_weight" in data[slot] for slot in view.slots)
    if view.is_uniform and not weighted:
        rows = zip(names, view.modalities, view.index, strict=True)
        slots = {column: _names(data, modality, row) for column, modality, row in rows}
        return pd.DataFrame({**slots, **columns}, index=pd.RangeIndex(len(view)))
    parts = [_slot_rows(data, view, i) for i in range(view.order)]
    hyperedge = np.concatenate([part[0] for part in parts])
    empty = np.setdiff1d(np.arange(len(view)), hyperedge)
    sizes = [len(part[0]) for part in parts]
    code: Any = np.repeat([*range(view.order), -1], [*sizes, len(empty)])
    item = pd.concat(
        [pd.Series(part[1], dtype=object) for part in parts] + [pd.Series([None] * len(empty), dtype=object)]
    )
    where = np.concatenate([hyperedge, empty])
    out: dict[str, Any] = {
        LONG[0]: where,
        LONG[1]: pd.Categorical.from_codes(code, pd.Index(names)),
        LONG[2]: item,
    }
    if weighted:
        out[LONG[3]] = np.concatenate([part[2] for part in parts] + [np.ones(len(empty), dtype=np.float32)])
    return pd.DataFrame({**out, **{key: np.asarray(column)[where] for key, column in columns.items()}})


def _slot_rows(data: MultiModalHeteroData, view: Relation, slot: int) -> tuple[Any, Any, Any]:
    item, hyperedge = view.incidence(slot)
    weight = data[view.slots[slot]].get("edge_weight")
    values = np.ones(item.numel(), dtype=np.float32) if weight is None else weight.detach().cpu().numpy()
    return hyperedge.cpu().numpy(), _names(data, view.modalities[slot], item), values


def _names(data: MultiModalHeteroData, modality: str, index: Tensor) -> Any:
    ids = data[modality].get("item_id")
    position = index.cpu().numpy()
    return position if ids is None else np.array(ids, dtype=object)[position]


def _columns(store: Any, size: int) -> dict[str, Any]:
    """Return the attributes of a store that have ``size`` rows as columns."""
    out: dict[str, Any] = {}
    for key, value in store.items():
        if key in ("edge_index", "num_nodes") or not rowed(value, size):
            continue
        if isinstance(value, list):
            out[key] = pd.Series(value, dtype=object)
        elif value.dim() == 1:
            out[key] = value.detach().cpu().numpy()
        elif value.dim() == 2:
            out.update({f"{key}_{i}": column for i, column in enumerate(value.detach().cpu().numpy().T)})
    return out


def _set_attributes(
    data: MultiModalHeteroData, key: str | EdgeType, where: str, frame: pd.DataFrame, dtype: torch.dtype | None
) -> None:
    """Write columns of a frame to a store; ``x_0``, ``x_1``, ... are put side by side."""
    size = len(frame)
    names = [str(column) for column in frame.columns]
    blocks = _blocks(names)
    for name, columns in blocks.items():
        parts = [_values(frame.iloc[:, names.index(column)], f"{where}, column '{column}'", name) for column in columns]
        whole = parts[0]
        if columns != [name]:
            whole = torch.stack([torch.as_tensor(part) for part in parts], dim=1)
            whole = whole if name != "x" or whole.is_floating_point() else whole.to(dtype or torch.float32)
        if dtype is not None and isinstance(whole, Tensor) and whole.is_floating_point():
            whole = whole.to(dtype)
        data[key][name] = check_attribute(name, whole, f"'{name}' of {where}", size=size)


def _blocks(names: list[str]) -> dict[str, list[str]]:
    """Return attribute -> columns: those called ``a_0``, ``a_1``, ... without a gap belong to ``a``."""
    out: dict[str, list[str]] = {}
    for name in names:
        stem, _, number = name.rpartition("_")
        if stem and number == "0" and stem not in names:
            count = next(i for i in range(len(names) + 1) if f"{stem}_{i}" not in names)
            out[stem] = [f"{stem}_{i}" for i in range(count)]
    grouped = {column for columns in out.values() for column in columns}
    return {**{name: [name] for name in names if name not in grouped}, **out}


def _values(column: pd.Series, where: str, name: str) -> Any:
    """Return a column as a tensor, or as a list where it holds no numbers."""
    if name in STRINGS or not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        missing = np.flatnonzero(column.isna().to_numpy())
        if name in STRINGS and len(missing):
            raise InputError(f"{where}: cell at row {missing[0]} is empty ({len(missing)} such): fill in or leave out")
        return column.astype(str).tolist() if name in STRINGS else column.tolist()
    if column.isna().any():
        at = int(np.flatnonzero(column.isna().to_numpy())[0])
        raise InputError(f"{where}: cell at row {at} is empty ({int(column.isna().sum())} such): fill in or leave out")
    return torch.from_numpy(np.array(column.to_numpy()))


def _positions(data: MultiModalHeteroData, modality: str, column: pd.Series, where: str) -> Tensor:
    """Return the positions of the items that a column names."""
    if modality not in data.modalities:
        raise InputError(f"{where}: unknown modality '{modality}'.{did_you_mean(modality, data.modalities)}")
    where = f"{where}, column '{column.name}'"
    if column.isna().any():
        raise InputError(f"{where}: cell at row {int(np.flatnonzero(column.isna().to_numpy())[0])} is empty")
    ids, size = data[modality].get("item_id"), int(data[modality].num_nodes)
    if ids is None:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        found = np.where((numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < size), numbers, -1).astype(
            np.int64
        )
    else:
        found = pd.Index(ids, dtype=object).get_indexer(pd.Index(column.astype(str), dtype=object))
    wrong = np.flatnonzero(found < 0)
    if len(wrong):
        name = column.iloc[int(wrong[0])]
        expected = f"a position in [0, {size})" if ids is None else f"an 'item_id' of modality '{modality}'"
        hint = "" if ids is None else did_you_mean(str(name), ids[:10_000])
        shown = repr(name) if isinstance(name, str) else str(name)
        raise InputError(f"{where}: {shown} at row {wrong[0]} is not {expected} ({len(wrong)} such).{hint}")
    return torch.from_numpy(np.asarray(found, dtype=np.int64))


def _slot_of(data: MultiModalHeteroData, column: Any) -> Slot | None:
    """Return the slot that a column ``user`` or ``user.follower`` is, if it is one."""
    if column in data.modalities:
        return str(column)
    modality, dot, role = str(column).partition(".")
    return (modality, role) if dot and role and modality in data.modalities else None


def _add_wide(data: MultiModalHeteroData, name: str, frame: pd.DataFrame, dtype: torch.dtype | None) -> None:
    slots = {column: slot for column in frame.columns if (slot := _slot_of(data, column)) is not None}
    if not slots:
        raise InputError(
            f"relation '{name}': no column is called as a modality {data.modalities} or 'modality.role' (columns: "
            f"{list(frame.columns)}).{''.join(_misspelt(data, frame.columns, [])[:1])}"
        )
    if len(slots) == 1 and (hints := _misspelt(data, frame.columns, list(slots))):
        warnings.warn(
            f"relation '{name}' has one slot alone, {next(iter(slots))!r}:{''.join(hints)} Rename the column, else it "
            "is an attribute of the hyperedges",
            UserWarning,
            stacklevel=3,
        )
    members: dict[Slot, Any] = {}
    for column, slot in slots.items():
        modality = slot if isinstance(slot, str) else slot[0]
        members[slot] = _positions(data, modality, frame[column], f"relation '{name}'")
    data.add_hyperedges(name, members, num_hyperedges=len(frame))
    _set_attributes(data, name, f"relation '{name}'", frame.drop(columns=list(slots)), dtype)


def _misspelt(data: MultiModalHeteroData, columns: Iterable[Any], slots: list[Any]) -> list[str]:
    """Return a remark on each column that is no slot and no attribute with a meaning, but called nearly as a slot."""
    free = [name for name in data.modalities if name not in slots]
    out = []
    for column in map(str, columns):
        if column not in (*map(str, slots), *STRINGS, *NUMBERS, "time", "hyperedge_id") and column[-5:] != "_mask":
            hint = did_you_mean(column.partition(".")[0], free)
            out += [f" column {column!r} is no modality.{hint}"] if hint else []
    return out


def _add_long(data: MultiModalHeteroData, name: str, frame: pd.DataFrame, dtype: torch.dtype | None) -> None:
    where = f"relation '{name}'"
    numbers = pd.to_numeric(frame["hyperedge"], errors="coerce").to_numpy(dtype=float)
    if not bool(((numbers >= 0) & (numbers == np.floor(numbers))).all()):
        at = int(np.flatnonzero(~((numbers >= 0) & (numbers == np.floor(numbers))))[0])
        raise InputError(f"{where}, column 'hyperedge': row {at} is no number of a hyperedge from 0 on")
    hyperedge = numbers.astype(np.int64)
    present, first = np.unique(hyperedge, return_index=True)
    if len(present) and present[-1] >= len(present):
        gap = int(np.setdiff1d(np.arange(present[-1]), present)[0])
        raise InputError(f"{where}, column 'hyperedge': {gap} has no row; one without members has a row without 'slot'")
    slot = frame["slot"].astype("category")
    members: dict[Slot, Any] = {}
    weights: dict[Slot, Any] = {}
    for column in slot.cat.categories:
        key = _slot_of(data, column)
        if key is None:
            hint = did_you_mean(str(column), data.modalities)
            raise InputError(f"{where}, column 'slot': {column!r} is no modality and no 'modality.role'.{hint}")
        rows = np.flatnonzero((slot == column).to_numpy())
        item = _positions(data, key if isinstance(key, str) else key[0], frame["item"].iloc[rows], where)
        members[key] = torch.stack([item, torch.from_numpy(hyperedge[rows])])
        if LONG[3] in frame:
            weights[key] = torch.from_numpy(np.array(frame[LONG[3]].iloc[rows].to_numpy()))
            weights[key] = weights[key] if dtype is None else weights[key].to(dtype)
    data.add_hyperedges(name, members, num_hyperedges=len(present), incidence_weight=weights or None)
    rest = frame.drop(columns=[column for column in LONG if column in frame]).iloc[first]
    _set_attributes(data, name, where, rest, dtype)
