from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.data.storage import BaseStorage, EdgeStorage, NodeStorage

from hyperlearn_pyg.data._checks import STRINGS

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData


def num_nodes(data: MultiModalHeteroData, name: str) -> int:
    """Return the number of rows of a node type; an error where it has none."""
    size = data[name].num_nodes
    if size is None:
        raise ValueError(f"'num_nodes' of '{name}' is missing: set data['{name}'].num_nodes")
    return int(size)


def positions(subset: Tensor, size: int) -> Tensor:
    """Return for each index its place in ``subset``, -1 where it is not there."""
    position = torch.full((size,), -1, device=subset.device)
    position[subset] = torch.arange(subset.numel(), device=subset.device)
    return position


def forget_graphs(data: MultiModalHeteroData) -> None:
    """Let a batch forget how to give back its graphs, once its rows no longer are theirs: see :func:`get_example`."""
    for key in ("_slice_dict", "_inc_dict"):
        data._global_store.__dict__.pop(key, None)


def get_example(batch: Any, idx: int) -> Any:
    """Return graph ``idx`` of a batch, as PyG's ``Batch.get_example`` does.

    Raises:
        RuntimeError: rows or attributes were added or dropped since the graphs were batched.
    """
    if "_slice_dict" not in batch._global_store.__dict__:
        raise RuntimeError(
            "Cannot reconstruct the graphs of this batch: rows or attributes were added or dropped since they were "
            "batched (by a transform or 'subgraph', for instance), or it never was made by 'Batch.from_data_list'. "
            "Apply transforms to the graphs before batching them"
        )
    return Batch.get_example(batch, idx)


def select(value: Any, index: Tensor, dim: int = 0) -> Any:
    """Return the rows ``index`` of an attribute: a tensor of any layout, an array, a list, a tuple or a frame."""
    if isinstance(value, Tensor):
        index = index.to(value.device)
        if value.layout in (torch.strided, torch.sparse_coo):
            return value.index_select(dim, index)
        return value.to_sparse_coo().index_select(dim, index).to_sparse(layout=value.layout)
    if isinstance(value, np.ndarray):
        return np.take(value, index.cpu().numpy(), axis=dim)
    if isinstance(value, list | tuple):
        return type(value)([value[i] for i in index.tolist()])
    return value[index]


def flat_strings(key: str, value: Any) -> Any:
    """Return one list of strings where a batch holds one for each of its graphs; anything else as it is."""
    if key in STRINGS and isinstance(value, list) and all(isinstance(entry, list) for entry in value):
        return [string for entry in value for string in entry]
    return value


def select_nodes(store: NodeStorage, subset: Tensor, size: int) -> None:
    """Keep the rows ``subset`` of a store of ``size`` rows, in place."""
    batch = store.get("batch")
    for key, value in list(store.items()):
        flat = flat_strings(key, value)
        if key == "num_nodes":
            store.num_nodes = subset.numel()
        elif key == "ptr" and isinstance(batch, Tensor):
            count = torch.bincount(batch[subset.to(batch.device)], minlength=value.numel() - 1)
            store.ptr = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        elif has_rows(store, key, flat, size):
            store[key] = select(flat, subset, store._parent().__cat_dim__(key, flat, store))


def has_rows(store: BaseStorage, key: str, value: Any, size: int) -> bool:
    """Tell whether an attribute has one row a node or an edge, as PyG's ``is_node_attr`` and ``is_edge_attr`` do."""
    if isinstance(value, list | tuple):
        return len(value) == size
    if isinstance(value, Tensor | np.ndarray):
        dim = store._parent().__cat_dim__(key, value, store)
        return value.ndim > 0 and isinstance(dim, int) and value.shape[dim] == size
    return bool(hasattr(value, "num_rows") and value.num_rows == size)


def select_edges(store: EdgeStorage, source: Tensor | None, target: Tensor | None) -> None:
    """Keep the edges both of whose ends have a position (-1: none) and renumber these; None keeps a side as it is."""
    if "edge_index" not in store:
        return
    stays = torch.ones(store.edge_index.size(1), dtype=torch.bool, device=store.edge_index.device)
    for row, position in zip(store.edge_index, (source, target), strict=True):
        if position is not None:
            stays &= position.to(row.device)[row] >= 0
    take_edges(store, stays.nonzero().view(-1), source, target)


def take_edges(store: EdgeStorage, kept: Tensor, source: Tensor | None, target: Tensor | None) -> None:
    """Keep the edges ``kept`` of a store and renumber their ends by position."""
    size = int(store.num_edges)
    for key, value in list(store.items()):
        if key == "edge_index":
            rows = [
                row if position is None else position.to(row.device)[row]
                for row, position in zip(value[:, kept], (source, target), strict=True)
            ]
            store.edge_index = torch.stack(rows)
        elif key == "num_edges":
            store.num_edges = kept.numel()
        elif has_rows(store, key, value, size):
            store[key] = select(value, kept, store._parent().__cat_dim__(key, value, store))
