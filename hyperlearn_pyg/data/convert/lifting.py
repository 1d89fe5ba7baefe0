from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import as_index, check_bound, check_count, check_features
from hyperlearn_pyg.data.convert._space import count_nodes, rowed, validated
from hyperlearn_pyg.data.convert._sparse import Oversize, binary, check_choice, check_pairs, within_limit
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE
from hyperlearn_pyg.ops.nearest import nearest


def from_knn(
    data: Data | Tensor,
    k: int = 10,
    *,
    metric: str = "euclidean",
    by: str = "x",
    include_self: bool = True,
    modality: str = NODE,
    relation: str = HYPEREDGE,
) -> MultiModalHeteroData:
    """Lift points to a hypergraph: each with its ``k`` nearest others is a hyperedge (HGNN, Feng et al., AAAI 2019).

    Args:
        data: features ``[N, F]``, or a graph, whose attributes are kept (see :func:`from_k_hop`).
        k: neighbours a node; less where there are fewer nodes.
        metric: ``"euclidean"`` or ``"cosine"``, under which a node whose features are all zero has no neighbours.
        by: the attribute of the graph by which nodes are near, such as ``"pos"``.
        include_self: a node is a member of its own hyperedge.
        modality: the name of the modality.
        relation: the name of the hyperedge set; hyperedge ``i`` is that of node ``i``.

    Raises:
        ValueError: ``k`` or ``metric`` is out of range, features are missing, not finite or not of shape ``[N, F]``, or
            the graph is a batch.
    """
    check_choice(metric, "metric", ("euclidean", "cosine"))
    k = check_count(k, "'k'")
    graph = Data(x=data) if isinstance(data, Tensor) else data
    if graph.get(by) is None:
        raise ValueError(f"the graph has no attribute '{by}' to find neighbours by (attributes: {list(graph.keys())})")
    x = check_features(graph[by], f"'{by}'")
    if isinstance(data, Tensor):
        graph.x = x
    out = _items(graph, modality, x.size(0))
    target, source = nearest(x.to_dense().detach(), k, metric)
    index = torch.stack([source, target])
    if include_self:
        own = torch.arange(x.size(0), device=x.device).expand(2, -1)
        index = torch.cat([own, index], dim=1)
    index = index[:, index[1].argsort(stable=True)]
    return validated(out.add_hyperedges(relation, {modality: index}, num_hyperedges=x.size(0)))


def from_k_hop(
    data: Data | Tensor,
    k: int = 1,
    *,
    num_nodes: int | None = None,
    include_self: bool = True,
    max_size: int | None = None,
    oversize: Oversize = "error",
    modality: str = NODE,
    relation: str = HYPEREDGE,
) -> MultiModalHeteroData:
    """Lift a graph to a hypergraph: each node with those that reach it along at most ``k`` edges is a hyperedge.

    Attributes of the graph with one row a node are those of the items; the edges, with their attributes, are the edge
    type ``(modality, "edge", modality)``; the others are kept as they are.

    Args:
        data: the graph, or its ``edge_index [2, M]``.
        k: number of steps, along the edges (of an undirected graph: in any direction).
        num_nodes: the number of nodes, where ``data`` does not tell it.
        include_self: a node is a member of its own hyperedge.
        max_size: largest number of nodes of a hyperedge.
        oversize: what becomes of larger ones: ``"error"``, or ``"drop"`` to leave them empty.
        modality: the name of the modality.
        relation: the name of the hyperedge set; hyperedge ``i`` is that of node ``i``.

    Raises:
        ValueError: the number of nodes is not told, ``k`` is negative, an index is out of range, a hyperedge is above
            ``max_size`` or, without it, there are more incidences than memory can hold, or the graph is a batch.
    """
    k = check_count(k, "'k'")
    graph = Data(edge_index=as_index(data, "'edge_index'")) if isinstance(data, Tensor) else data
    edge_index = graph.get("edge_index")
    if not isinstance(edge_index, Tensor) or edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError("'edge_index' of the graph must be a tensor of shape [2, M]")
    out = _items(graph, modality, num_nodes)
    size = int(out[modality].num_nodes)
    check_bound(edge_index, size, "'edge_index'")
    reach = _reach(edge_index.as_subclass(Tensor), size, k, max_size)
    member = np.repeat(np.arange(size), np.diff(reach.indptr))
    index = np.stack([reach.indices, member]).astype(np.int64)
    index = index if include_self else index[:, index[0] != index[1]]
    keep = within_limit(
        np.bincount(index[1], minlength=size), max_size, oversize, "max_size", "the hyperedge of node {} is too large"
    )
    index = index[:, keep[index[1]]]
    members = torch.from_numpy(index).to(edge_index.device)
    return validated(out.add_hyperedges(relation, {modality: members}, num_hyperedges=size))


def _reach(edge_index: Tensor, size: int, k: int, max_size: int | None) -> sp.csr_array:
    """Return a matrix with the nodes that reach node ``i`` in its row ``i``, itself included."""
    own = torch.arange(size).expand(2, -1)
    step = binary(torch.cat([edge_index.flip(0).cpu(), own], dim=1), (size, size))
    reach = binary(own, (size, size))
    for _ in range(k):
        degree = np.diff(step.indptr)
        pairs = min(float(degree[reach.indices].sum()), float(size) ** 2)
        check_pairs(pairs, max_size, "max_size", "the hypergraph of neighbourhoods", int(degree.max(initial=0)))
        before = reach.nnz
        reach = sp.csr_array(reach @ step)
        reach.data[:] = 1.0
        if reach.nnz == before:
            break
    reach.sort_indices()
    return reach


def _items(graph: Data, modality: str, num_nodes: int | None = None) -> MultiModalHeteroData:
    """Return data with the nodes and the edges of a graph."""
    if graph.get("batch") is not None or graph.get("ptr") is not None:
        raise ValueError("'data' is a batch: lift each graph, then batch the hypergraphs")
    size = count_nodes(graph._store, num_nodes, "the graph")
    out = MultiModalHeteroData().add_modality(modality, num_nodes=size)
    count = graph.edge_index.size(1) if isinstance(graph.get("edge_index"), Tensor) else None
    for key, value in graph._store.items():
        if key in ("num_nodes", "num_edges"):
            continue
        if count is not None and (key == "edge_index" or (key.startswith("edge_") and rowed(value, count))):
            out[modality, "edge", modality][key] = value
        elif rowed(value, size):
            out[modality][key] = value
        else:
            setattr(out, key, value)
    return out
