"""Conversions of the data object to and from other forms of hypergraphs, graphs, matrices, tables and libraries."""

from __future__ import annotations

from hyperlearn_pyg.data.convert.expansion import clique_expansion, line_graph, star_expansion
from hyperlearn_pyg.data.convert.frames import Frames, from_frames, to_frames
from hyperlearn_pyg.data.convert.hetero import from_hetero, to_hetero_data
from hyperlearn_pyg.data.convert.hif import from_hif, to_hif
from hyperlearn_pyg.data.convert.homogeneous import from_homogeneous_hypergraph, to_homogeneous_hypergraph
from hyperlearn_pyg.data.convert.hypergraph_data import from_hypergraph_data, to_hypergraph_data
from hyperlearn_pyg.data.convert.hypergraphx_hypergraph import from_hypergraphx, to_hypergraphx
from hyperlearn_pyg.data.convert.incidence import from_incidence, to_incidence
from hyperlearn_pyg.data.convert.lifting import from_k_hop, from_knn
from hyperlearn_pyg.data.convert.networkx_graph import from_networkx, to_networkx
from hyperlearn_pyg.data.convert.tensor import from_sparse_tensor, to_sparse_tensor
from hyperlearn_pyg.data.convert.xgi_hypergraph import from_xgi, to_xgi

__all__ = [
    "Frames",
    "clique_expansion",
    "from_frames",
    "from_hetero",
    "from_hif",
    "from_homogeneous_hypergraph",
    "from_hypergraph_data",
    "from_hypergraphx",
    "from_incidence",
    "from_k_hop",
    "from_knn",
    "from_networkx",
    "from_sparse_tensor",
    "from_xgi",
    "line_graph",
    "star_expansion",
    "to_frames",
    "to_hetero_data",
    "to_hif",
    "to_homogeneous_hypergraph",
    "to_hypergraph_data",
    "to_hypergraphx",
    "to_incidence",
    "to_networkx",
    "to_sparse_tensor",
    "to_xgi",
]
