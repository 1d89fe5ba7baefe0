from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import _rows

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")


def component_labels(data: MultiModalHeteroData) -> dict[str, Tensor]:
    """Return the connected component of each item and each hyperedge.

    Two items are connected where a hyperedge or an edge of any type ties them, whatever its direction. An item in none
    and an empty hyperedge are components of their own.

    Returns:
        Node type -> numbers of components, int64 ``[N]``: positions in what :meth:`connected_components` returns.
    """
    labels, _ = _components(data)
    return labels


def connected_components(data: D) -> list[D]:
    """Return the connected components, each as a data object with all node and edge types.

    The components, and the items within each, stand in the order in which PyG meets them: edge by edge, then what has
    no edge. The work is proportional to the size of ``data`` and the number of components.
    """
    labels, first = _components(data)
    count = max((int(label.max()) + 1 for label in labels.values() if label.numel()), default=0)
    nodes, position = {}, {}
    for name, label in labels.items():
        order = torch.from_numpy(np.lexsort((first[name], label.cpu().numpy()))).to(label.device)
        sizes = torch.bincount(label, minlength=count)
        nodes[name] = order.split(sizes.tolist())
        position[name] = torch.empty_like(order)
        start = (sizes.cumsum(0) - sizes)[label[order]]
        position[name][order] = torch.arange(order.numel(), device=order.device) - start
    edges: dict[EdgeType, tuple[Tensor, ...]] = {}
    for edge_type, edge_index in data.collect("edge_index", True).items():
        label = labels[edge_type[0]][edge_index[0]]
        edges[edge_type] = label.argsort(stable=True).split(torch.bincount(label, minlength=count).tolist())
    out = []
    for number in range(count):
        part = copy.copy(data)
        for name, members in nodes.items():
            _rows.select_nodes(part[name], members[number], labels[name].numel())
        for edge_type, kept in edges.items():
            _rows.take_edges(part[edge_type], kept[number], position[edge_type[0]], position[edge_type[2]])
        _rows.forget_graphs(part)
        out.append(part)
    return out


def largest_components(data: D, num_components: int = 1) -> D:
    """Return the part that is the largest connected components, items and hyperedges in the order they have.

    Args:
        num_components: how many to keep. A component is the larger the more items it has; of two of one size the one
            with more hyperedges goes before, then the one of the lower number.

    Raises:
        ValueError: ``num_components`` is less than 1.
    """
    if num_components < 1:
        raise ValueError(f"'num_components' must be at least 1 (got {num_components})")
    labels, _ = _components(data)
    sets = set(data.hyperedge_types)
    count = max((int(label.max()) + 1 for label in labels.values() if label.numel()), default=0)
    items, hyperedges = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for name, label in labels.items():
        size = items if name not in sets else hyperedges
        size += torch.bincount(label, minlength=count).cpu().numpy()
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.from_numpy(np.lexsort((-hyperedges, -items))[:num_components])] = True
    return data.subgraph({name: kept.to(label.device)[label] for name, label in labels.items()})


def isolated_items(data: MultiModalHeteroData) -> dict[str, Tensor]:
    """Return which items are in no hyperedge and no edge; an edge from an item to itself does not count.

    Returns:
        Modality -> mask, bool ``[N]``.
    """
    masks = {}
    for name in data.modalities:
        size = _rows.num_nodes(data, name)
        mask = torch.ones(size, dtype=torch.bool)
        for edge_type, edge_index in data.collect("edge_index", True).items():
            mask = mask.to(edge_index.device)
            rows = [row for row, end in zip(edge_index, (edge_type[0], edge_type[2]), strict=True) if end == name]
            if len(rows) == 2:
                rows = [row[rows[0] != rows[1]] for row in rows]
            for row in rows:
                mask[row] = False
        masks[name] = mask
    return masks


def has_isolated_nodes(data: MultiModalHeteroData) -> bool:
    """Tell whether some item is in no hyperedge and no edge.

    Empty hyperedges are no items and do not count. Without hyperedge sets the answer is PyG's.
    """
    if not data.hyperedge_types:
        return bool(HeteroData.has_isolated_nodes(data))
    return any(bool(mask.any()) for mask in isolated_items(data).values())


def _components(data: MultiModalHeteroData) -> tuple[dict[str, Tensor], dict[str, npt.NDArray[np.int64]]]:
    """Return the labels, and where in PyG's walk over the edges each node is met first."""
    sizes = {name: _rows.num_nodes(data, name) for name in data.node_types}
    offset = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    total, device = sum(sizes.values()), torch.device("cpu")
    ends = [np.zeros((2, 0), dtype=np.int64)]
    for edge_type, edge_index in data.collect("edge_index", True).items():
        device = edge_index.device
        shift = np.array([[offset[edge_type[0]]], [offset[edge_type[2]]]])
        ends.append(torch.as_tensor(edge_index).cpu().numpy() + shift)
    edges = np.concatenate(ends, axis=1)
    adjacency = sp.coo_matrix((np.ones(edges.shape[1], dtype=np.int8), tuple(edges)), shape=(total, total))
    count, label = sp.csgraph.connected_components(adjacency, directed=False)
    walk = np.concatenate([edges.T.reshape(-1), np.arange(total)])
    first = np.empty(total, dtype=np.int64)
    first[walk[::-1]] = np.arange(len(walk))[::-1]  # of several, the last is written: the earliest
    earliest = np.full(count, len(walk))
    np.minimum.at(earliest, label, first)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(earliest)] = np.arange(count)
    label = rank[label]
    parts = {name: slice(offset[name], offset[name] + size) for name, size in sizes.items()}
    labels = {name: torch.from_numpy(label[part].copy()).to(device) for name, part in parts.items()}
    return labels, {name: first[part] for name, part in parts.items()}
