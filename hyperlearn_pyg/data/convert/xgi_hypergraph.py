from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from hyperlearn_pyg.data.convert.homogeneous import HYPEREDGE, NODE


def to_xgi(data: MultiModalHeteroData, *, relations: Sequence[str] | None = None) -> Any:
    """Return the data as ``xgi.Hypergraph``.

    Nodes are called by ``item_id`` or by number, with ``modality/`` before it where there are several modalities, and
    have ``modality`` beside their attributes; edges likewise, with ``relation``. In xgi an edge is a set of nodes and
    its memberships have no attributes: where there are roles, weights or repeated items, the edge has the attribute
    ``incidences``, a list of ``[node, role, weight]``. Edges within a modality become edges with two nodes.

    Args:
        data: the data.
        relations: the relations to take; :obj:`None` for all, and for the edges within modalities.

    Raises:
        ImportError: xgi is not installed.
        ValueError: no such relation, or an attribute without plain values.
    """
    xgi = _optional.require("xgi")
    records = to_records(data, relations)
    out = xgi.Hypergraph()
    out[HEADER] = records.header
    out.add_nodes_from(
        (node, named(attrs, group, (MODALITY, group)))
        for node, group, attrs in zip(records.node_id, records.modality, records.node_attrs, strict=True)
    )
    rows = zip(records.edge_id, records.relation, records.edge_attrs, records.edge_members(), strict=True)
    for edge, group, attrs, (members, incidences) in rows:
        more = () if incidences is None else ((INCIDENCES, incidences),)
        out.add_edge(members, edge)
        out.set_edge_attributes({edge: named(attrs, group, (RELATION, group), *more)})
    return out


def from_xgi(hypergraph: Any, *, modality: str = MODALITY, relation: str = RELATION) -> MultiModalHeteroData:
    """Read an ``xgi.Hypergraph``, ``SimplicialComplex`` or ``DiHypergraph``: the inverse of :func:`to_xgi`.

    Memberships come back in the order of the edges. Tail and head of directed edges become the roles ``tail`` and
    ``head``. Hypergraphs of other origin are read as :func:`from_hif` says.

    Args:
        hypergraph: the hypergraph.
        modality: the attribute of nodes that names their modality.
        relation: the attribute of edges that names their relation.

    Raises:
        ImportError: xgi is not installed.
        ValueError: an attribute that does not fit.
    """
    xgi = _optional.require("xgi")
    header = dict(hypergraph._net_attr).get(HEADER)
    out = Records(header)
    for node in hypergraph.nodes:
        attrs = dict(hypergraph.nodes[node])
        out.modality.append(group_of(attrs, modality, NODE, f"node {node!r}"))
        out.node_id.append(node)
        out.node_attrs.append(attrs)
    node_at = {node: i for i, node in enumerate(out.node_id)}
    for edge in hypergraph.edges:
        attrs = dict(hypergraph.edges[edge])
        group = group_of(attrs, relation, HYPEREDGE, f"edge {edge!r}")
        if isinstance(hypergraph, xgi.DiHypergraph):
            tail, head = hypergraph.edges.dimembers(edge)
            members: list[tuple[int, str | None]] = [
                (node_at[n], role) for role, part in (("tail", tail), ("head", head)) for n in part
            ]
        else:
            members = [(node_at[node], None) for node in hypergraph.edges.members(edge)]
        incidences = None if header is None else attrs.pop(INCIDENCES, None)
        out.add_edge(edge, group, attrs, members, incidences, node_at)
    return from_records(out)
