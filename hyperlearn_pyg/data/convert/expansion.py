from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data.convert._space import NodeSpace
from hyperlearn_pyg.data.convert._sparse import (
    Oversize,
    binary_incidence,
    check_choice,
    check_mask,
    check_pairs,
    to_edges,
    within_limit,
)


def clique_expansion(
    data: MultiModalHeteroData,
    relation: str,
    *,
    weight: Literal["count", "normalized"] = "count",
    max_size: int | None = None,
    oversize: Oversize = "error",
    mask: Tensor | None = None,
) -> dict[EdgeType, tuple[Tensor, Tensor]]:
    r"""Tie all items that share a hyperedge of a relation, pair by pair.

    .. math:: A_{ij} = \sum_{e \ni i, j} c_e, \qquad c_e = 1 \text{ or } \frac{1}{|e| - 1}, \qquad A_{ii} = 0

    With :math:`\mathbf{H}_a` the incidence of modality :math:`a`, the block of two modalities is the sparse product
    :math:`\mathbf{H}_a \mathbf{C} \mathbf{H}_b^\top`: only pairs that meet are ever held. An item that fills several
    slots of a hyperedge counts once. Hyperedge weights are not read.

    Args:
        data: the data.
        relation: the relation; it may be ragged.
        weight: ``"count"``, the number of hyperedges that two items share, or ``"normalized"``, each of them divided by
            its size less one, so that the edges of an item sum to the number of its hyperedges of two items or more
            (Zhou, Huang and Schölkopf, NeurIPS 2006; Agarwal et al., CVPR 2005).
        max_size: largest number of items of a hyperedge; one of ``n`` items makes up to ``n (n - 1)`` edges.
        oversize: what becomes of larger ones: ``"error"``, or ``"drop"`` to leave them out.
        mask: bool ``[E]``, the hyperedges to read, for instance ``data.relation(name).mask("train")``.

    Returns:
        edge type -> (``edge_index [2, M]``, ``edge_weight [M]``), sorted by source. Within a modality
        ``(a, "clique_RELATION", a)`` holds both directions of an edge and no loops; between two modalities
        ``(a, "clique_RELATION", b)`` holds each edge once, from the modality of the earlier slot.

    Raises:
        ValueError: no such relation, a hyperedge above ``max_size``, or, without it, more pairs than memory can hold.
    """
    check_choice(weight, "weight", ("count", "normalized"))
    view = data.relation(relation)
    members = binary_incidence(view, mask)
    size = sum((np.bincount(m.indices, minlength=len(view)) for m in members.values()), np.zeros(len(view), dtype=int))
    keep = within_limit(size, max_size, oversize, "max_size", f"hyperedge {{}} of '{relation}' has too many items")
    scale = keep / np.maximum(size - 1, 1) if weight == "normalized" else keep.astype(float)
    device = view.incidence(0).device
    names = list(members)
    _check_blocks(view, list(members.values()), keep, max_size)
    out = {}
    for i, a in enumerate(names):
        for b in names[i:]:
            block = sp.csr_array(members[a] @ (members[b] @ sp.diags_array(scale)).T)
            out[a, f"clique_{relation}", b] = to_edges(block, device, loops=a != b)
    return out


def star_expansion(
    data: MultiModalHeteroData, relation: str, *, undirected: bool = True, mask: Tensor | None = None
) -> Data:
    """Return the bipartite graph of items and hyperedges of a relation as one homogeneous graph.

    Args:
        data: the data.
        relation: the relation; it may be ragged.
        undirected: hold each membership in both directions, or else only from the item to the hyperedge.
        mask: bool ``[E]``, the hyperedges to read; the others stay as isolated nodes.

    Returns:
        Data with the nodes of each modality of the relation in turn, then its hyperedges. ``edge_index``,
        ``node_type [N]`` and ``edge_type`` count the names in ``_node_type_names`` and ``_edge_type_names``, as PyG's
        ``HeteroData.to_homogeneous`` does, so that ``to_heterogeneous()`` leads back. ``node_index [N]`` is the
        position of a node in its type. ``edge_weight`` is there where memberships have it (ones elsewhere); ``x`` where
        every modality has features of one width, with zeros for hyperedges that have none.

    Raises:
        ValueError: no such relation.
    """
    view = data.relation(relation)
    space = NodeSpace.of(data, [*dict.fromkeys(view.modalities), relation])
    edge_index, slot, weight = _star_edges(data, view, space, mask)
    names = list(view.slots)
    if undirected:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        slot, weight = torch.cat([slot, slot + view.order]), weight.repeat(2)
        names += [(relation, f"rev_{name}", modality) for modality, name, _ in view.slots]
    out = Data(edge_index=edge_index, edge_type=slot, num_nodes=space.num_nodes)
    out.node_type, out.node_index = space.node_type(edge_index.device), space.node_index(edge_index.device)
    if any("edge_weight" in data[slot] for slot in view.slots):
        out.edge_weight = weight
    x = space.features(data)
    if x is not None:
        out.x = x
    out._node_type_names, out._edge_type_names = list(space.names), names
    return out


def _star_edges(
    data: MultiModalHeteroData, view: Relation, space: NodeSpace, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the memberships ``[2, nnz]`` in the numbering of ``space``, the slot of each, and its weight."""
    keep = None if mask is None else check_mask(mask, view)
    offset = space.offsets
    edges, slots, weights = [], [], []
    for slot, edge_type in enumerate(view.slots):
        edge_index = view.incidence(slot)
        weight = data[edge_type].get("edge_weight")
        weight = torch.ones(edge_index.size(1), device=edge_index.device) if weight is None else weight
        if keep is not None:
            chosen = keep.to(edge_index.device)[edge_index[1]]
            edge_index, weight = edge_index[:, chosen], weight[chosen]
        edges.append(edge_index + edge_index.new_tensor([[offset[edge_type[0]]], [offset[view.name]]]))
        slots.append(edge_index.new_full((edge_index.size(1),), slot))
        weights.append(weight)
    return torch.cat(edges, dim=1), torch.cat(slots), torch.cat(weights)


def line_graph(
    data: MultiModalHeteroData,
    relation: str,
    *,
    max_degree: int | None = None,
    oversize: Oversize = "error",
    mask: Tensor | None = None,
) -> Data:
    r"""Return the graph whose nodes are the hyperedges of a relation, joined where they share items.

    The weights are :math:`\mathbf{H}^\top \mathbf{H}` without its diagonal: the number of items
    shared, of whatever modality; an item that fills several slots of a hyperedge counts once.

    Args:
        data: the data.
        relation: the relation; it may be ragged.
        max_degree: largest number of hyperedges of an item; one in ``d`` hyperedges makes up to ``d (d - 1)`` edges.
        oversize: what becomes of items in more hyperedges: ``"error"``, or ``"drop"`` not to join by them.
        mask: bool ``[E]``, the hyperedges to read; the others stay as isolated nodes.

    Returns:
        Data with ``num_nodes`` the number of hyperedges, ``edge_index [2, M]`` (both directions, no loops) and
        ``edge_weight [M]``. Attributes of the hyperedges are in ``data[relation]``, in the same order.

    Raises:
        ValueError: no such relation, an item above ``max_degree``, or more pairs than memory can hold (without
            ``max_degree``: than 2^27), which the degrees tell before anything is multiplied.
    """
    view = data.relation(relation)
    product, parts = sp.csr_array((len(view), len(view))), []
    pairs, largest = 0.0, 0
    for modality, members in binary_incidence(view, mask).items():
        degree = np.diff(members.indptr)
        what = f"item {{}} of '{modality}' is in too many hyperedges of '{relation}'"
        keep = within_limit(degree, max_degree, oversize, "max_degree", what)
        parts.append(members[np.flatnonzero(keep)])
        pairs += float(np.square(degree[keep].astype(float)).sum())
        largest = max(largest, int(degree[keep].max(initial=0)))
    pairs = min(pairs, float(len(view)) ** 2)  # of all modalities, before the first product
    check_pairs(pairs, max_degree, "max_degree", f"the line graph of '{relation}'", largest)
    for members in parts:
        product = product + members.T @ members
    edge_index, edge_weight = to_edges(sp.csr_array(product), view.incidence(0).device, loops=False)
    return Data(edge_index=edge_index, edge_weight=edge_weight, num_nodes=len(view))


def _check_blocks(view: Relation, members: list[sp.csr_array], keep: NDArray[np.bool_], max_size: int | None) -> None:
    """Refuse a clique expansion of too many pairs, those of all pairs of modalities together."""
    sizes = [np.bincount(m.indices, minlength=len(view)) * keep.astype(float) for m in members]
    pairs = 0.0
    for i, (left, a) in enumerate(zip(sizes, members, strict=True)):
        for right, b in zip(sizes[i:], members[i:], strict=True):
            pairs += min(float(left @ right), float(a.shape[0]) * float(b.shape[0]))
    largest = int(max((size.max(initial=0) for size in sizes), default=0))
    check_pairs(pairs, max_size, "max_size", f"the clique expansion of '{view.name}'", largest)
