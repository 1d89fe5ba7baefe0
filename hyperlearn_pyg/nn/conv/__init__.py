"""Convolutional layers on hypergraphs."""

from __future__ import annotations

from hyperlearn_pyg.nn.conv.all_deep_sets_conv import AllDeepSetsConv
from hyperlearn_pyg.nn.conv.all_set_transformer_conv import AllSetTransformerConv
from hyperlearn_pyg.nn.conv.cheb_hypergraph_conv import ChebHypergraphConv
from hyperlearn_pyg.nn.conv.hetero_hypergraph_conv import HeteroHypergraphConv
from hyperlearn_pyg.nn.conv.hgnn_conv import HGNNConv
from hyperlearn_pyg.nn.conv.hgnnp_conv import HGNNPConv
from hyperlearn_pyg.nn.conv.hnhn_conv import HNHNConv
from hyperlearn_pyg.nn.conv.hypergraph_conv import HypergraphConv
from hyperlearn_pyg.nn.conv.unigat_conv import UniGATConv
from hyperlearn_pyg.nn.conv.unigcn_conv import UniGCNConv
from hyperlearn_pyg.nn.conv.unigin_conv import UniGINConv
from hyperlearn_pyg.nn.conv.unisage_conv import UniSAGEConv

__all__ = [
    "AllDeepSetsConv",
    "AllSetTransformerConv",
    "ChebHypergraphConv",
    "HGNNConv",
    "HGNNPConv",
    "HNHNConv",
    "HeteroHypergraphConv",
    "HypergraphConv",
    "UniGATConv",
    "UniGCNConv",
    "UniGINConv",
    "UniSAGEConv",
]
