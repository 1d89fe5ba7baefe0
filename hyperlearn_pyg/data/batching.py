"""Batches of hypergraphs that do not all hold the same stores.

PyG's ``collate`` takes the stores and attributes of the first graph for those of all: what only a later graph holds is
lost, and where a later graph lacks something, the slices shift. Here the graphs are brought to common stores before
(a store of no rows stands for one that is missing) and each gets its own back after ``separate``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import batch as pyg_batch
from torch_geometric.data import in_memory_dataset as pyg_in_memory
from torch_geometric.data.collate import collate as pyg_collate
from torch_geometric.data.separate import separate as pyg_separate
from torch_geometric.data.storage import BaseStorage, NodeStorage
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

#: A store of a data object: a node type, an edge type, or None for the attributes of the graph.
Key: TypeAlias = str | EdgeType | None
#: The stores of a graph in order, each with its attributes.
Layout: TypeAlias = list[tuple[Key, list[str]]]
#: Where the layouts of the graphs that differ from their batch stand among the slices.
LAYOUTS = "_layouts"


def collate(
    cls: type,
    data_list: Iterable[Any],
    increment: bool = True,
    add_batch: bool = True,
    follow_batch: Iterable[str] | None = None,
    exclude_keys: Iterable[str] | None = None,
) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    """Do what PyG's ``collate`` does; hypergraphs may lack stores that others of the list hold.

    Args:
        cls: the class of the batch.
        data_list: the graphs.
        increment: shift indices by the counts of the graphs before.
        add_batch: give item and hyperedge stores ``batch`` and ``ptr``.
        follow_batch: attributes that get a ``batch`` and ``ptr`` of their own.
        exclude_keys: attributes to leave out.

    Raises:
        ValueError: a store that has rows lacks an attribute that it has in another graph, or has it of another dtype
            or with other sizes.
    """
    data_list = data_list if isinstance(data_list, list | tuple) else list(data_list)
    follow_batch, exclude_keys = set(follow_batch or ()), set(exclude_keys or ())
    layouts: dict[int, Layout] = {}
    ours = bool(data_list) and all(isinstance(data, MultiModalHeteroData) for data in data_list)
    aligned: Sequence[Any] = data_list
    if ours:
        aligned, layouts = _align(data_list, exclude_keys)
        _check_dtypes(aligned, data_list, exclude_keys)
    try:
        out, slices, incs = pyg_collate(cls, aligned, increment, add_batch, follow_batch, exclude_keys)
    except (RuntimeError, IndexError):
        if ours:
            _check_sizes(aligned, data_list, exclude_keys)
        raise
    if layouts:
        slices[LAYOUTS] = layouts
    return out, slices, incs


def separate(cls: type, batch: Any, idx: int, slice_dict: Any, inc_dict: Any = None, decrement: bool = True) -> Any:
    """Take graph ``idx`` out of what :func:`collate` made, as PyG's ``separate`` does, with the stores it had."""
    if not isinstance(batch, MultiModalHeteroData):
        return pyg_separate(cls, batch, idx, slice_dict, inc_dict, decrement)
    # PyG's collate notes nothing of a store that holds only 'num_nodes', and its separate then fails on it.
    slices = {**{key: {} for key in (*batch.node_types, *batch.edge_types)}, **slice_dict}
    compressed = [
        (store._key, attr)
        for store in batch.node_stores
        for attr, value in store.items()
        if isinstance(value, Tensor) and value.layout == torch.sparse_csr and attr in slices[store._key]
    ]
    for key, attr in compressed:  # PyG cannot take rows out of these
        slices[key] = {name: entry for name, entry in slices[key].items() if name != attr}
    data = pyg_separate(cls, batch, idx, slices, inc_dict, decrement)
    for key, attr in compressed:
        start, end = (int(entry) for entry in slice_dict[key][attr][idx : idx + 2])
        data[key][attr] = _csr_rows(batch[key][attr], start, end)
    layout = slice_dict.get(LAYOUTS, {}).get(int(idx))
    return data if layout is None else _restore(data, layout)


def _csr_rows(value: Tensor, start: int, end: int) -> Tensor:
    """Return the rows ``[start, end)`` of a matrix in compressed form."""
    rows = value.crow_indices()[start : end + 1]
    part = slice(int(rows[0]), int(rows[-1]))
    size = (end - start, *value.shape[1:])
    return torch.sparse_csr_tensor(rows - rows[0], value.col_indices()[part], value.values()[part], size)


def _align(data_list: Sequence[Any], excluded: Collection[str]) -> tuple[Sequence[Any], dict[int, Layout]]:
    """Return the graphs with the stores of all, and the layouts of those that did not look like the batch."""
    forms = map(_form, data_list)
    first = next(forms)
    if all(form == first for form in forms):
        return data_list, {}
    union: dict[Key, dict[str, tuple[int, BaseStorage]]] = {}
    for number, data in enumerate(data_list):
        for store in data.stores:
            attributes = union.setdefault(store._key, {})
            for attr in store.keys():  # noqa: SIM118
                attributes.setdefault(attr, (number, store))
    # PyG puts the node types before the edge types.
    order = sorted(union, key=lambda key: 0 if key is None else 1 if isinstance(key, str) else 2)
    filled, layouts = [], {}
    for number, data in enumerate(data_list):
        layout: Layout = [(store._key, list(store.keys())) for store in data.stores]
        same = [key for key, _ in layout] == order and all(union[key].keys() == set(attrs) for key, attrs in layout)
        if not same:
            layouts[number] = layout
            data = _fill(data, number, union, excluded)
        filled.append(data)
    return filled, layouts


def _form(data: MultiModalHeteroData) -> list[Any]:
    """Return what two graphs have in common that hold the same attributes in the same stores in the same order.

    Called for each graph of a batch, so it goes past the methods of the stores.
    """
    nodes, edges = data._node_store_dict, data._edge_store_dict
    stores = (data._global_store, *nodes.values(), *edges.values())
    return [*nodes, *edges, *[store.__dict__["_mapping"].keys() for store in stores]]


def _fill(
    data: MultiModalHeteroData,
    number: int,
    union: Mapping[Key, Mapping[str, tuple[int, BaseStorage]]],
    excluded: Collection[str],
) -> MultiModalHeteroData:
    """Return a shallow copy that holds every attribute of every store of ``union``."""
    data = copy.copy(data)
    present = {store._key for store in data.stores}
    for key, attributes in union.items():
        store = data._global_store if key is None else data[key]
        rows = _num_rows(store) if key in present else 0
        for attr, (other, template) in attributes.items():
            if attr in store:
                continue
            if attr == "num_nodes" and rows is not None:
                store[attr] = rows
                continue
            if rows != 0 and attr not in excluded:
                raise ValueError(
                    f"graphs of one batch must hold the same attributes: {_where(key, attr)} is in graph {other}, but "
                    f"not in graph {number}. Set it there too, or leave it out of the batch: exclude_keys=['{attr}']"
                )
            store[attr] = _empty(template[attr], attr, template)
    return data


def _where(key: Key, attr: str) -> str:
    return f"'{attr}'" if key is None else f"'{attr}' of '{key}'" if isinstance(key, str) else f"'{attr}' of {key}"


def _check_dtypes(aligned: Sequence[Any], data_list: Sequence[Any], excluded: Collection[str]) -> None:
    """Refuse tensors of one attribute that differ in dtype: PyG would promote them without a word.

    Called for each batch, so it goes past the methods of the stores.
    """
    for key, mappings in _columns(aligned).items():
        for attr, value in mappings[0].items():
            if not isinstance(value, Tensor) or attr in excluded:
                continue
            dtype = value.dtype
            for mapping in mappings:
                other = mapping[attr]
                if isinstance(other, Tensor) and other.dtype != dtype:
                    _refuse(data_list, key, attr, "dtype", "Convert it")


def _check_sizes(aligned: Sequence[Any], data_list: Sequence[Any], excluded: Collection[str]) -> None:
    """Name the first attribute whose tensors cannot be joined, once PyG has failed to."""
    for key, mappings in _columns(aligned).items():
        for attr, value in mappings[0].items():
            if not isinstance(value, Tensor) or attr in excluded:
                continue
            store = aligned[0]._global_store if key is None else aligned[0][key]
            dim = aligned[0].__cat_dim__(attr, value, store)
            tensors = [entry for entry in (mapping[attr] for mapping in mappings) if isinstance(entry, Tensor)]
            if any(_joined(entry, dim) != _joined(value, dim) for entry in tensors):
                _refuse(data_list, key, attr, "shape", "Bring all to the same width", dim)


def _refuse(data_list: Sequence[Any], key: Key, attr: str, what: str, way_out: str, dim: Any = None) -> None:
    """Name the first two graphs whose tensors differ in dtype or shape."""
    held = [
        (number, store[attr])
        for number, data in enumerate(data_list)
        for store in data.stores
        if store._key == key and isinstance(store.get(attr), Tensor)
    ]
    kind = [value.dtype if what == "dtype" else _joined(value, dim) for _, value in held]
    at = next((i for i, entry in enumerate(kind) if entry != kind[0]), 0)
    said = [(i, list(value.shape) if what == "shape" else value.dtype) for i, value in (held[0], held[at])]
    (first, expected), (other, got) = said
    raise ValueError(
        f"graphs of one batch must hold attributes of the same {what}: {_where(key, attr)} is {expected} in graph "
        f"{first}, but {got} in graph {other}. {way_out}, or leave it out of the batch: exclude_keys=['{attr}']"
    )


def _columns(data_list: Sequence[Any]) -> dict[Key, list[Mapping[str, Any]]]:
    """Return the attributes of each store, graph by graph."""
    columns: dict[Key, list[Mapping[str, Any]]] = {}
    columns[None] = [data._global_store.__dict__["_mapping"] for data in data_list]
    for part in ("_node_store_dict", "_edge_store_dict"):
        stores = [data.__dict__[part] for data in data_list]
        for key in stores[0]:
            columns[key] = [entry[key].__dict__["_mapping"] for entry in stores]
    return columns


def _joined(value: Tensor, dim: Any) -> list[int | None]:
    """Return the shape, None for the dimensions along which the tensors are joined."""
    sizes: list[int | None] = list(value.shape)
    for d in () if dim is None else dim if isinstance(dim, tuple) else (dim,):
        if -len(sizes) <= d < len(sizes):
            sizes[d] = None
    return sizes


def _num_rows(store: BaseStorage) -> int | None:
    if isinstance(store, NodeStorage):
        return store.num_nodes if store.can_infer_num_nodes else None
    return store.num_edges if hasattr(store, "num_edges") else None


def _empty(value: Any, attr: str, store: BaseStorage) -> Any:
    """Return what stands for ``value`` in a store of no rows: of the same kind, without rows where it has any."""
    if isinstance(value, Tensor):
        dim = store._parent().__cat_dim__(attr, value, store)
        if value.dim() == 0 or dim is None:
            return torch.zeros_like(value)
        if value.layout == torch.strided:
            return value.narrow(dim, 0, 0)
        shape = list(value.shape)
        for d in dim if isinstance(dim, tuple) else (dim,):
            shape[d] = 0
        return torch.zeros(shape, dtype=value.dtype, layout=value.layout, device=value.device)
    if isinstance(value, Mapping):
        return {name: _empty(entry, name, store) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_empty(entry, attr, store) for entry in value] if value and isinstance(value[0], Tensor) else []
    if isinstance(value, np.ndarray):
        return value[:0]
    return type(value)() if isinstance(value, bool | int | float | str) else value


def _restore(data: MultiModalHeteroData, layout: Layout) -> MultiModalHeteroData:
    """Leave of ``data`` the stores and attributes that ``layout`` names, in its order."""
    stores = {store._key: store for store in data.stores}
    layout = [(key, attrs) for key, attrs in layout if key in stores]  # of a batch, a store may have been removed
    for key, attrs in layout:
        mapping = stores[key]._mapping
        stores[key]._mapping = {attr: mapping[attr] for attr in attrs if attr in mapping}
    keys = [key for key, _ in layout if key is not None]
    data.__dict__["_node_store_dict"] = {key: stores[key] for key in keys if isinstance(key, str)}
    data.__dict__["_edge_store_dict"] = {key: stores[key] for key in keys if not isinstance(key, str)}
    return data


def register() -> None:
    """Put :func:`collate` and :func:`separate` where ``Batch`` and ``InMemoryDataset`` look PyG's up.

    PyG has no other place to take part in ``Batch.from_data_list``: it is called on PyG's own class. Lists of other
    data types go to PyG's functions as they are.
    """
    for module in (pyg_batch, pyg_in_memory):
        module.collate = collate
        module.separate = separate
