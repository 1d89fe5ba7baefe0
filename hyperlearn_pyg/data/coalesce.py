from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch_geometric.data.storage import EdgeStorage

from hyperlearn_pyg.data import _rows

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")
#: Edge attributes that add up where edges fall together; of any other the first stays.
SUMMED = ("edge_weight", "edge_attr")


def coalesce(data: D) -> D:
    """Return a copy with sorted edges and memberships, each once.

    Edges within a modality come out as PyG gives them: sorted by source, then target; ``edge_attr`` is the sum over
    those that fall together. Memberships likewise: sorted by item, then hyperedge. ``edge_weight`` is summed too (PyG
    leaves it as it was, of another length): the weighted incidence matrix stays the same. A membership without weight
    that is named twice counts once afterwards. Of any other attribute with one row an edge the first one stays.
    Hyperedges with the same members stay apart.
    """
    out = copy.copy(data)
    for store in out.edge_stores:
        if "edge_index" in store and isinstance(store.edge_index, Tensor):
            _coalesce(store)
            continue
        sparse = {key: value for key, value in store.items("adj", "adj_t") if isinstance(value, Tensor)}
        for key, value in sparse.items():
            store[key] = value.coalesce() if value.layout == torch.sparse_coo else value
        if not sparse:
            store.coalesce()
    _rows.forget_graphs(out)
    return out


def _coalesce(store: EdgeStorage) -> None:
    edge_index, size = store.edge_index, int(store.num_edges)
    order = edge_index[1].argsort(stable=True)
    order = order[edge_index[0][order].argsort(stable=True)]
    index = edge_index[:, order]
    new = torch.ones(index.size(1), dtype=torch.bool, device=index.device)
    new[1:] = (index[:, 1:] != index[:, :-1]).any(dim=0)
    heads = order[new]  # sorting is stable: the first of those that fall together
    group = new.cumsum(0) - 1
    for key, value in list(store.items()):
        if key == "edge_index":
            store.edge_index = index[:, new]
        elif key == "num_edges":
            store.num_edges = heads.numel()
        elif _rows.has_rows(store, key, value, size):
            store[key] = _merge(key, value, order, heads, group, store)


def _merge(key: str, value: Any, order: Tensor, heads: Tensor, group: Tensor, store: EdgeStorage) -> Any:
    if key not in SUMMED or not isinstance(value, Tensor):
        return _rows.select(value, heads, store._parent().__cat_dim__(key, value, store))
    out = value.new_zeros(heads.numel(), *value.shape[1:])
    return out.index_add(0, group, value[order])
