from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hyperlearn_pyg import _optional
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert._records import (
    HEADER,
    HYPEREDGE_ID,
    ITEM_ID,
    MODALITY,
    RELATION,
    Records,
    group_of,
    named,
    to_records,
)
from hyperlearn_pyg.data.convert._records_in import from_records
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE
from hyperlearn_pyg.errors import InputError


def to_networkx(data: MultiModalHeteroData, *, relations: Sequence[str] | None = None) -> Any:
    """Return the star form as a bipartite ``networkx.MultiGraph``.

    Items are nodes ``(modality, name)`` with the attributes ``bipartite=0`` and ``modality``, hyperedges are nodes
    ``(relation, name)`` with ``bipartite=1`` and ``relation``; names are ``item_id`` and ``hyperedge_id`` where there
    are such, else numbers. Other attributes are plain Python values. An edge stands for a membership; it has
    ``position``, its place among all, and ``role`` and ``weight`` where there are such. Edges within a modality become
    hyperedges of two items.

    Args:
        data: the data.
        relations: the relations to take; :obj:`None` for all, and for the edges within modalities.

    Raises:
        ImportError: networkx is not installed.
        ValueError: no such relation, or an attribute without plain values.
    """
    networkx = _optional.require("networkx")
    records = to_records(data, relations)
    graph = networkx.MultiGraph(**{HEADER: records.header})
    parts = (
        (0, MODALITY, ITEM_ID, records.modality, records.node_id, records.node_attrs),
        (1, RELATION, HYPEREDGE_ID, records.relation, records.edge_id, records.edge_attrs),
    )
    keys: list[list[Any]] = []
    for part, key, id_key, groups, ids, attrs in parts:
        schemas = graph.graph[HEADER]["modalities" if part == 0 else "relations"]
        count: Counter[str] = Counter()
        nodes: list[Any] = []
        for group, name in zip(groups, ids, strict=True):
            own = id_key in schemas[group]["rows"]
            nodes.append(
                (group, (name.removeprefix(f"{group}/") if len(schemas) > 1 else name) if own else count[group])
            )
            count[group] += 1
        graph.add_nodes_from(
            (node, named(a, node[0], ("bipartite", part), (key, node[0]))) for node, a in zip(nodes, attrs, strict=True)
        )
        keys.append(nodes)
    rows = zip(records.node, records.edge, records.role, records.weight, strict=True)
    for position, (node, edge, role, weight) in enumerate(rows):
        more: dict[str, Any] = {} if role is None else {"role": role}
        more = more if weight is None else {**more, "weight": weight}
        graph.add_edge(keys[0][node], keys[1][edge], position=position, **more)
    return graph


def from_networkx(graph: Any, *, modality: str = MODALITY, relation: str = RELATION) -> MultiModalHeteroData:
    """Read a bipartite networkx graph as hyperedges: the inverse of :func:`to_networkx`.

    Nodes with ``bipartite=0`` are items, those with ``bipartite=1`` hyperedges (networkx's convention); edges join the
    two. Of graphs of other origin, items without ``modality`` are of the modality ``node``, hyperedges without
    ``relation`` of the relation ``hyperedge``, the names of nodes become ``item_id`` and ``hyperedge_id``, and
    attributes are read as :func:`from_hif` says.

    Args:
        graph: the graph, of any class of networkx.
        modality: the attribute of items that names their modality.
        relation: the attribute of hyperedges that names their relation.

    Raises:
        InputError: a node without ``bipartite``, or an edge that does not join an item with a hyperedge.
    """
    out = Records(graph.graph.get(HEADER))
    several = None if out.header is None else [len(out.header[key]) > 1 for key in ("modalities", "relations")]
    at: dict[Any, tuple[int, int]] = {}
    for node, attributes in graph.nodes(data=True):
        attrs = dict(attributes)
        part = attrs.pop("bipartite", None)
        if part not in (0, 1):
            raise InputError(f"node {node!r}: attribute 'bipartite' must be 0 (item) or 1 (hyperedge) (got {part!r})")
        ids, groups, rows = (
            (out.edge_id, out.relation, out.edge_attrs) if part else (out.node_id, out.modality, out.node_attrs)
        )
        key, default = (relation, HYPEREDGE) if part else (modality, NODE)
        at[node] = (int(part), len(ids))
        groups.append(group_of(attrs, key, default, f"node {node!r}"))
        ids.append(node if several is None else f"{groups[-1]}/{node[1]}" if several[int(part)] else node[1])
        rows.append(attrs)
    edges = list(graph.edges(data=True))
    if all("position" in attrs for _, _, attrs in edges):
        edges.sort(key=lambda edge: edge[2]["position"])
    for left, right, attrs in edges:
        (part, node), (other, edge) = sorted([at[left], at[right]])
        if (part, other) != (0, 1):
            raise InputError(
                f"edge {left!r} - {right!r} joins two {'hyperedges' if part else 'items'}: no bipartite graph"
            )
        out.node.append(node)
        out.edge.append(edge)
        out.role.append(attrs.get("role"))
        out.weight.append(attrs.get("weight"))
    return from_records(out)
