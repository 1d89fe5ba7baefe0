from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hyperlearn_pyg import _optional
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert._records import (
    HEADER,
    INCIDENCES,
    MODALITY,
    RELATION,
    Records,
    group_of,
    named,
    to_records,
)
from hyperlearn_pyg.data.convert._records_in import from_records
from hyperlearn_pyg.data.convert._sparse import check_choice
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE

#: What hypergraphx itself writes into the metadata of a hypergraph.
_OWN = ("weighted", "type")
#: Attribute with the place of an edge among all: hypergraphx keeps empty edges apart.
_POSITION = "position"


def to_hypergraphx(
    data: MultiModalHeteroData,
    *,
    relations: Sequence[str] | None = None,
    duplicates: Literal["error", "merge"] = "error",
) -> Any:
    """Return the data as a weighted ``hypergraphx.Hypergraph``.

    Nodes are called as :func:`to_xgi` says. In hypergraphx an edge is known by its nodes alone, so that no two edges
    can have the same members. The metadata of an edge are its ``relation``, ``id``, ``position`` among the edges, its
    attributes and, where there are roles, weights of memberships or repeated items, ``incidences``: a list of
    ``[node, role, weight]``. The attribute ``weight`` becomes the weight of the edge, one where it has none.

    Args:
        data: the data.
        relations: the relations to take; :obj:`None` for all, and for the edges within modalities.
        duplicates: what becomes of hyperedges with the same members: ``"error"``, or ``"merge"`` to add up their
            weights and to keep the metadata of the first.

    Raises:
        ImportError: hypergraphx is not installed.
        ValueError: hyperedges with the same members, no such relation, or an attribute without plain values.
    """
    check_choice(duplicates, "duplicates", ("error", "merge"))
    hypergraphx = _optional.require("hypergraphx")
    records = to_records(data, relations)
    out = hypergraphx.Hypergraph(weighted=True, hypergraph_metadata={HEADER: records.header})
    for node, group, attrs in zip(records.node_id, records.modality, records.node_attrs, strict=True):
        out.add_node(node, named(attrs, group, (MODALITY, group)))
    seen: dict[tuple[Any, ...], Any] = {}
    rows = zip(records.edge_id, records.relation, records.edge_attrs, records.edge_members(), strict=True)
    for position, (edge, group, attrs, (members, incidences)) in enumerate(rows):
        more = () if incidences is None else ((INCIDENCES, incidences),)
        metadata = named(attrs, group, (RELATION, group), ("id", edge), (_POSITION, position), *more)
        key = tuple(sorted(members))
        if not key:
            out.add_empty_edge(edge, metadata)
            continue
        first = seen.setdefault(key, edge)
        if first != edge and duplicates == "error":
            raise ValueError(
                f"hyperedges {first!r} and {edge!r} have the same members {key}, by which hypergraphx knows an edge: "
                "pass duplicates='merge', or choose 'relations'"
            )
        out.add_edge(key, weight=float(metadata.get("weight", 1.0)), metadata=None if first != edge else metadata)
    return out


def from_hypergraphx(hypergraph: Any, *, modality: str = MODALITY, relation: str = RELATION) -> MultiModalHeteroData:
    """Read a ``hypergraphx.Hypergraph``: the inverse of :func:`to_hypergraphx`.

    Memberships come back in the order of the edges. Hypergraphs of other origin are read as :func:`from_hif` says;
    if any weight is not one, the weights are ``weight``.

    Args:
        hypergraph: the hypergraph, undirected.
        modality: the attribute of nodes that names their modality.
        relation: the attribute of edges that names their relation.

    Raises:
        ValueError: an attribute that does not fit, or a hypergraph of another class.
    """
    if not hasattr(hypergraph, "_empty_edges"):
        raise ValueError(f"'hypergraph' must be a hypergraphx.Hypergraph (got {type(hypergraph).__name__})")
    header = hypergraph.get_hypergraph_metadata().get(HEADER)
    out = Records(header)
    for node in hypergraph.get_nodes():
        attrs = dict(hypergraph.get_node_metadata(node))
        out.modality.append(group_of(attrs, modality, NODE, f"node {node!r}"))
        out.node_id.append(node)
        out.node_attrs.append(attrs)
    node_at = {node: i for i, node in enumerate(out.node_id)}
    edges = [(edge, dict(hypergraph.get_edge_metadata(edge))) for edge in hypergraph.get_edges()]
    weights = [hypergraph.get_weight(edge) for edge, _ in edges]
    weighted = header is None and any(weight != 1 for weight in weights)
    for (_, attrs), weight in zip(edges, weights, strict=True):
        if weighted or "weight" in attrs:
            attrs["weight"] = float(weight)
    names: list[Any] = [None] * len(edges)
    for name, attributes in hypergraph._empty_edges.items():
        names.append(name)
        edges.append(((), {**(attributes or {}), **({"weight": 1.0} if weighted else {})}))
    order = range(len(edges))
    if all(_POSITION in attrs for _, attrs in edges):
        order = sorted(order, key=lambda i: edges[i][1][_POSITION])  # type: ignore[assignment]
    for i in order:
        members, attrs = edges[i]
        name = names[i] if names[i] is not None else i
        if header is not None:
            name = attrs.pop("id", name)
            attrs.pop(_POSITION, None)
        incidences = None if header is None else attrs.pop(INCIDENCES, None)
        group = group_of(attrs, relation, HYPEREDGE, f"edge {members}")
        out.add_edge(name, group, attrs, [(node_at[node], None) for node in members], incidences, node_at)
    return from_records(out)
