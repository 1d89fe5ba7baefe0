from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data.hypergraph_data import HyperGraphData

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import check_bound, check_count
from hyperlearn_pyg.data._members import slot_edge_type
from hyperlearn_pyg.data.convert._space import count_nodes, named_relations, rowed, validated, warn_of_loss
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE, edges_and_globals, homogeneous
from hyperlearn_pyg.data.relation import role_of

#: What an attribute of the hyperedges is called in HyperGraphData; any other gets the prefix ``edge_``.
_EDGE_KEYS = {"x": "edge_attr", "weight": "edge_weight", "hyperedge_type": "edge_type"}
_BACK = {
    **{name: key for key, name in _EDGE_KEYS.items()},
    "hyperedge_attr": "x",
    "hyperedge_weight": "weight",
    "hyperedge_type": "hyperedge_type",
}
_COUNTS = ("edge_index", "num_nodes", "num_hyperedges")


def to_hypergraph_data(data: MultiModalHeteroData, *, relations: Sequence[str] | None = None) -> HyperGraphData:
    """Return PyG's ``HyperGraphData``, in which all items are nodes of one kind.

    Args:
        data: the data; edges that are not memberships are left out. Unless it has one modality and one relation of one
            slot, it is first put through :func:`~hyperlearn_pyg.data.convert.to_homogeneous_hypergraph`.
        relations: the relations to take; :obj:`None` for all.

    Returns:
        Data with ``edge_index [2, nnz]`` (item above hyperedge), ``num_nodes`` and ``num_hyperedges``. Attributes of
        items keep their names; of hyperedges, ``x`` becomes ``edge_attr``, ``weight`` ``edge_weight``,
        ``hyperedge_type`` ``edge_type``, and any other gets the prefix ``edge_``; of memberships, the prefix
        ``incidence_``. :func:`from_hypergraph_data` is the inverse, but for what is left out.

    Warns:
        UserWarning: something of the data is left out; the text lists what.
        UserWarning: PyG 2.8 will miscount: it takes the number of hyperedges from the largest index, and the number of
            nodes too where both numbers agree. Batches of such data are wrong; batches of ``MultiModalHeteroData`` are
            not.

    Raises:
        ValueError: no such relation, a string for the list of relations, a missing count.
    """
    chosen = data.hyperedge_types if relations is None else named_relations(relations)
    slots = [slot for name in chosen for slot in data.relation(name).slots]
    if len(data.modalities) != 1 or len(slots) != 1 or role_of(slots[0]) is not None:
        data, lost = homogeneous(data, chosen)
        slots = [slot_edge_type(NODE, HYPEREDGE)]
    else:
        lost = edges_and_globals(data, attributes=False)
    warn_of_loss(lost, "HyperGraphData", 2)
    modality, _, name = slots[0]
    size, count = int(data[modality].num_nodes), int(data[name].num_nodes)
    out = HyperGraphData(edge_index=data[slots[0]].edge_index, num_nodes=size, num_hyperedges=count)
    out.update({key: value for key, value in data[modality].items() if key != "num_nodes"})
    out.update({_EDGE_KEYS.get(k, f"edge_{k}"): value for k, value in data[name].items() if k != "num_nodes"})
    for key, value in data[slots[0]].items():
        if key != "edge_index":
            out["incidence_weight" if key == "edge_weight" else f"incidence_{key}"] = value
    out.update(dict(data._global_store.items()))
    _warn_of_miscounts(out.edge_index, size, count)
    return out


def from_hypergraph_data(
    hypergraph: HyperGraphData,
    *,
    modality: str = NODE,
    relation: str = HYPEREDGE,
    num_nodes: int | None = None,
    num_hyperedges: int | None = None,
) -> MultiModalHeteroData:
    """Read PyG's ``HyperGraphData`` as data with one modality and one relation; tensors are shared.

    Attributes go to the hyperedges where their name begins with ``edge_`` or ``hyperedge_`` (``edge_attr`` becomes
    ``x``, ``edge_weight`` ``weight``), or where only the number of hyperedges fits their rows; to the memberships where
    it begins with ``incidence_``; to the items where the number of items fits their rows; else to the data as a whole.
    PyG's properties ``num_nodes`` and ``num_edges`` are not read, since they miscount isolated nodes and empty
    hyperedges.

    Args:
        hypergraph: the data.
        modality: the name of the modality.
        relation: the name of the hyperedge set.
        num_nodes: the number of items; by default ``num_nodes`` where it was set, else the rows of ``x``, ``pos`` or
            ``node_type``.
        num_hyperedges: the number of hyperedges; by default ``num_hyperedges``, else the rows of an attribute
            ``edge_*`` or ``hyperedge_*``, else, as in PyG, the largest index and one.

    Raises:
        ValueError: no ``edge_index``, a number that nothing tells, or an index beyond it.
    """
    store = hypergraph._store
    index = store.get("edge_index")
    if not isinstance(index, Tensor) or index.dim() != 2 or index.size(0) != 2:
        raise ValueError(f"'edge_index' of HyperGraphData must be of shape [2, nnz] (got {_form(index)})")
    size = count_nodes(store, num_nodes, "HyperGraphData")
    count = _count_hyperedges(store, index, num_hyperedges)
    check_bound(index[0], size, "'edge_index' of HyperGraphData, row 0 (nodes)")
    check_bound(index[1], count, "'edge_index' of HyperGraphData, row 1 (hyperedges)")
    data = MultiModalHeteroData().add_modality(modality, num_nodes=size)
    data.add_hyperedges(relation, {modality: index}, num_hyperedges=count)
    members = data[slot_edge_type(modality, relation)]
    for key, value in store.items():
        if key in _COUNTS:
            continue
        name = key.removeprefix("hyperedge_").removeprefix("edge_")
        if key.startswith("incidence_"):
            members["edge_weight" if key == "incidence_weight" else key[len("incidence_") :]] = value
        elif key.endswith("_names"):
            setattr(data, key, value)
        elif name != key:
            data[relation][_BACK.get(key, name)] = value
        elif rowed(value, size):
            data[modality][key] = value
        elif rowed(value, count):
            data[relation][key] = value
        else:
            setattr(data, key, value)
    return validated(data)


def _count_hyperedges(store: Any, index: Tensor, given: int | None) -> int:
    if given is not None:
        return check_count(given, "'num_hyperedges'")
    if store.get("num_hyperedges") is not None:
        return int(store["num_hyperedges"])
    for key, value in store.items():
        if key.startswith(("edge_", "hyperedge_")) and key != "edge_index" and isinstance(value, Tensor):
            return int(value.size(0))
    return int(index[1].max()) + 1 if index.size(1) else 0


def _warn_of_miscounts(index: Tensor, size: int, count: int) -> None:
    largest = [int(row.max()) + 1 if row.numel() else -1 for row in index]
    if largest[1] == count and (size != count or largest[0] == size):
        return
    warnings.warn(
        f"PyG's HyperGraphData will miscount these {size} nodes and {count} hyperedges (it reads {largest} off the "
        "largest indices): pass the counts to layers yourself, and batch MultiModalHeteroData instead",
        stacklevel=3,
    )


def _form(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
