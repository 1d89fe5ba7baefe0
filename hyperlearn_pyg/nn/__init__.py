"""Layers, encoders, decoders, losses and models."""

from __future__ import annotations

from hyperlearn_pyg.nn.conv import (
    AllDeepSetsConv,
    AllSetTransformerConv,
    ChebHypergraphConv,
    HeteroHypergraphConv,
    HGNNConv,
    HGNNPConv,
    HNHNConv,
    HypergraphConv,
    UniGATConv,
    UniGCNConv,
    UniGINConv,
    UniSAGEConv,
)
from hyperlearn_pyg.nn.decoder import CPDecoder, KruskalDecoder, PairwiseDecoder
from hyperlearn_pyg.nn.encoder import DiffusionEncoder, EmbeddingEncoder, RelationEncoder
from hyperlearn_pyg.nn.losses import all_cells_squared_error, candidate_loss, masked_squared_error, sampled_loss
from hyperlearn_pyg.nn.models import Branch, HyperLearn, ModelConfig

__all__ = [
    "AllDeepSetsConv",
    "AllSetTransformerConv",
    "Branch",
    "CPDecoder",
    "ChebHypergraphConv",
    "DiffusionEncoder",
    "EmbeddingEncoder",
    "HGNNConv",
    "HGNNPConv",
    "HNHNConv",
    "HeteroHypergraphConv",
    "HyperLearn",
    "HypergraphConv",
    "KruskalDecoder",
    "ModelConfig",
    "PairwiseDecoder",
    "RelationEncoder",
    "UniGATConv",
    "UniGCNConv",
    "UniGINConv",
    "UniSAGEConv",
    "all_cells_squared_error",
    "candidate_loss",
    "masked_squared_error",
    "sampled_loss",
]
