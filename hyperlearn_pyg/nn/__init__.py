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
from hyperlearn_pyg.nn.decoder import (
    CPDecoder,
    KruskalDecoder,
    LevelDecoder,
    PairCounts,
    PairwiseDecoder,
    TuckerDecoder,
)
from hyperlearn_pyg.nn.encoder import (
    DiffusionEncoder,
    EmbeddingEncoder,
    LevelConvEncoder,
    PartnerEncoder,
    RelationEncoder,
)
from hyperlearn_pyg.nn.losses import (
    all_cells_squared_error,
    candidate_loss,
    full_softmax_loss,
    level_cross_entropy,
    masked_squared_error,
    row_norms,
    sampled_loss,
    with_batch_items,
)
from hyperlearn_pyg.nn.models import Branch, HyperLearn, ModelConfig, ResidualEncoder, ResidualHypergraphStack

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
    "LevelConvEncoder",
    "LevelDecoder",
    "ModelConfig",
    "PairCounts",
    "PairwiseDecoder",
    "PartnerEncoder",
    "RelationEncoder",
    "ResidualEncoder",
    "ResidualHypergraphStack",
    "TuckerDecoder",
    "UniGATConv",
    "UniGCNConv",
    "UniGINConv",
    "UniSAGEConv",
    "all_cells_squared_error",
    "candidate_loss",
    "full_softmax_loss",
    "level_cross_entropy",
    "masked_squared_error",
    "row_norms",
    "sampled_loss",
    "with_batch_items",
]
