"""Mini-batches: tuples of relations with negatives, and sampled neighbourhoods, in plain PyTorch."""

from __future__ import annotations

from hyperlearn_pyg.loader.negative import NegativeSampler, degree_weights
from hyperlearn_pyg.loader.neighbor_loader import HypergraphNeighborLoader
from hyperlearn_pyg.loader.neighbor_sampler import HypergraphNeighborSampler, TupleSamplerInput
from hyperlearn_pyg.loader.relation_batch import RelationBatch
from hyperlearn_pyg.loader.relation_loader import RelationLoader

__all__ = [
    "HypergraphNeighborLoader",
    "HypergraphNeighborSampler",
    "NegativeSampler",
    "RelationBatch",
    "RelationLoader",
    "TupleSamplerInput",
    "degree_weights",
]
