"""Records read as data: the inverse of ``_records.to_records``, also for hypergraphs of other origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import check_attribute
from hyperlearn_pyg.data._members import Slot, slot_edge_type
from hyperlearn_pyg.data.convert._records import HYPEREDGE_ID, ITEM_ID, VERSION, Records
from hyperlearn_pyg.data.convert._space import validated
from hyperlearn_pyg.data.convert.hetero import hyperedges_to_edges
from hyperlearn_pyg.data.convert.homogeneous import NODE

_MISSING: Any = object()
#: Attributes that PyG reads for itself.
_RESERVED = ("num_nodes", "edge_index", "batch", "ptr", ITEM_ID, HYPEREDGE_ID)


def from_records(records: Records) -> MultiModalHeteroData:
    """Return the data of records; items and hyperedges keep their order within their modality and relation.

    Raises:
        ValueError: a fault that ``add_modality``, ``add_hyperedges`` or ``validate`` finds, or a header of a later
            version.
    """
    header = checked_header(records.header)
    modalities = list(dict.fromkeys([*header["modalities"], *records.modality])) or [NODE]
    node_type, place = _group(records.modality, modalities)
    data = MultiModalHeteroData()
    for i, name in enumerate(modalities):
        chosen = np.flatnonzero(node_type == i).tolist()
        data.add_modality(name, num_nodes=len(chosen))
        schema = header["modalities"].get(name)
        ids = _ids([records.node_id[j] for j in chosen], f"{name}/" if len(modalities) > 1 else "", schema, ITEM_ID)
        if schema is None:
            _check_distinct([records.node_id[j] for j in chosen], name)
        _fill(data, name, [records.node_attrs[j] for j in chosen], ids, schema)
    _add_relations(data, records, header["relations"], modalities, node_type, place)
    for name, schema in header["relations"].items():
        if "edge_type" in schema:
            hyperedges_to_edges(data, data.relation(name), tuple(schema["edge_type"]), {})
    for key, value in header["attributes"].items():
        setattr(data, key, _decode(value))
    return validated(data)


def _add_relations(
    data: MultiModalHeteroData,
    records: Records,
    schemas: dict[str, Any],
    modalities: list[str],
    node_type: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
) -> None:
    relations = list(dict.fromkeys([*schemas, *records.relation]))
    edge_type, rank = _group(records.relation, relations)
    edge, node = np.array(records.edge, dtype=np.int64), np.array(records.node, dtype=np.int64)
    role = np.array(["" if r is None else r for r in records.role], dtype=object)
    weight = np.array([np.nan if w is None else w for w in records.weight], dtype=np.float64)
    for i, name in enumerate(relations):
        chosen = np.flatnonzero(edge_type == i).tolist()
        schema = schemas.get(name)
        at = np.flatnonzero(edge_type[edge] == i)
        owner = [modalities[t] for t in node_type[node[at]].tolist()]
        members, weights = _members(
            list(zip(owner, role[at].tolist(), strict=True)), place[node[at]], rank[edge[at]], weight[at], schema
        )
        members = members or {modalities[0]: torch.empty(2, 0, dtype=torch.long)}
        data.add_hyperedges(name, members, num_hyperedges=len(chosen))
        for slot, values in weights.items():
            data[slot_edge_type(slot, name)].edge_weight = values
        ids = _ids([records.edge_id[j] for j in chosen], f"{name}/" if len(relations) > 1 else "", schema, HYPEREDGE_ID)
        _fill(data, name, [records.edge_attrs[j] for j in chosen], ids, schema)


def checked_header(header: dict[str, Any] | None) -> dict[str, Any]:
    if header is None:
        return {"modalities": {}, "relations": {}, "attributes": {}}
    if header.get("version") != VERSION:
        raise ValueError(
            f"the header is of version {header.get('version')!r}, expected {VERSION}: read it with the version of "
            "hyperlearn_pyg that wrote it, or do without the header"
        )
    for key in ("modalities", "relations", "attributes"):
        if not isinstance(header.get(key), dict) or not all(isinstance(v, dict) for v in header[key].values()):
            raise ValueError(f"the header must have an object '{key}' (got {header.get(key)!r})")
    return header


def _group(types: Sequence[str], names: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the position of the type of each entry in ``names``, and its position among those of its type."""
    number = {name: i for i, name in enumerate(names)}
    code = np.array([number[name] for name in types], dtype=np.int64)
    order = np.argsort(code, kind="stable")
    first = np.searchsorted(code[order], code[order])
    place = np.empty_like(code)
    place[order] = np.arange(len(code)) - first
    return code, place


def _members(
    slots: list[tuple[str, str]],
    item: npt.NDArray[np.int64],
    hyperedge: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
    schema: dict[str, Any] | None,
) -> tuple[dict[Slot, Tensor], dict[Slot, Tensor]]:
    """Return slot -> memberships and, where there are any, slot -> weights."""
    known = {(m, role or ""): dtype for m, role, dtype in (schema or {}).get("slots", [])}
    names = list(dict.fromkeys([*known, *slots]))
    code, _ = _group([f"{m}\0{role}" for m, role in slots], [f"{m}\0{role}" for m, role in names])
    members: dict[Slot, Tensor] = {}
    weights: dict[Slot, Tensor] = {}
    for i, (modality, role) in enumerate(names):
        at = np.flatnonzero(code == i)
        slot: Slot = (modality, role) if role else modality
        members[slot] = torch.from_numpy(np.stack([item[at], hyperedge[at]]))
        given = ~np.isnan(weight[at])
        dtype = known.get((modality, role))
        if dtype is not None or given.any():
            values = torch.from_numpy(np.where(given, weight[at], 1.0))
            weights[slot] = values.to(_dtype(dtype or "float32"))
    return members, weights


def _ids(ids: list[Any], prefix: str, schema: dict[str, Any] | None, key: str) -> dict[str, Any]:
    """Return the identifiers as an attribute: as they were given, or those of a foreign hypergraph as strings."""
    if schema is not None:
        return {key: [str(i).removeprefix(prefix) for i in ids]} if key in schema.get("rows", {}) else {}
    if ids == list(range(len(ids))) and all(type(i) is int for i in ids):
        return {}
    return {key: [str(i) for i in ids]}


def _check_distinct(ids: list[Any], name: str) -> None:
    """Refuse identifiers of a foreign hypergraph that differ, but not as strings."""
    seen: dict[str, Any] = {}
    for i in ids:
        if seen.setdefault(str(i), i) is not i:
            first = seen[str(i)]
            raise ValueError(
                f"'item_id' of '{name}' must differ: {first!r} ({type(first).__name__}) and {i!r} ({type(i).__name__}) "
                "are one and the same as strings, which names of items are here: rename one of them"
            )


def _fill(
    data: MultiModalHeteroData,
    name: str,
    rows: list[dict[str, Any]],
    ids: dict[str, Any],
    schema: dict[str, Any] | None,
) -> None:
    """Write the attributes of the nodes of one type to its store."""
    store = data[name]
    where = f"of '{name}'"
    for key, value in ids.items():
        store[key] = check_attribute(key, value, f"'{key}' {where}", size=len(rows))
    known = (schema or {}).get("rows", {})
    for key in dict.fromkeys([*known, *(key for row in rows for key in row)]):
        values = [row.get(key, _MISSING) for row in rows]
        if key in known:
            if key not in ids or _MISSING not in values:
                store[key] = _typed(values, known[key], f"'{key}' {where}")
            continue
        column = _inferred(values)
        try:
            if key in _RESERVED:
                raise ValueError
            store[key] = check_attribute(key, column, f"'{key}' {where}", size=len(rows))
        except ValueError:  # a name that means something else here
            store[f"attr_{key}"] = column
    for key, value in (schema or {}).get("other", {}).items():
        store[key] = _decode(value)


def _typed(values: list[Any], form: Any, where: str) -> Any:
    """Return a column in the type and shape that the header says."""
    if any(value is _MISSING for value in values):
        at = next(i for i, value in enumerate(values) if value is _MISSING)
        raise ValueError(f"{where} is missing at position {at}, and the header says that all have it")
    if form is None:
        return values
    dtype, shape = form
    try:
        return torch.tensor(values, dtype=_dtype(dtype)).reshape(len(values), *shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{where} must hold entries of type {dtype} and shape {shape} ({error})") from error


def _inferred(values: list[Any]) -> Any:
    """Return a column as a tensor where all are numbers, bools or lists of numbers of one length; else as a list."""
    plain: list[Any] = [None if value is _MISSING else value for value in values]
    kinds = {type(value) for value in plain}
    if kinds <= {int, float} or kinds == {bool}:
        dtype = torch.bool if kinds == {bool} else torch.long if kinds == {int} else torch.float32
        try:
            return torch.tensor(plain, dtype=dtype)
        except (OverflowError, RuntimeError, ValueError):  # an integer beyond 64 bits
            return plain
    lengths = {len(value) for value in plain} if kinds == {list} else set()
    if len(lengths) == 1 and lengths != {0} and {type(e) for value in plain for e in value} <= {int, float}:
        return torch.tensor(plain, dtype=torch.float32)
    return plain


def _dtype(name: Any) -> torch.dtype:
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no dtype of torch")
    return dtype


def _decode(value: dict[str, Any]) -> Any:
    if "tensor" in value:
        return torch.tensor(value["tensor"], dtype=_dtype(value["dtype"])).reshape(value["shape"])
    return value["value"]
