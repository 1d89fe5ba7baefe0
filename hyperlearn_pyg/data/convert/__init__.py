"""Conversions of the data object to and from other forms of hypergraphs, graphs, matrices, tables and libraries."""

from __future__ import annotations

from hyperlearn_pyg.data.convert.expansion import clique_expansion, line_graph, star_expansion

__all__ = ["clique_expansion", "line_graph", "star_expansion"]
