"""Convolutional layers on hypergraphs."""

from __future__ import annotations

from hyperlearn_pyg.nn.conv.cheb_hypergraph_conv import ChebHypergraphConv
from hyperlearn_pyg.nn.conv.hypergraph_conv import HypergraphConv

__all__ = ["ChebHypergraphConv", "HypergraphConv"]
