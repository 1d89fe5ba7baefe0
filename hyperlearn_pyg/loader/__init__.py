"""Mini-batches: tuples of relations with negatives, in plain PyTorch."""

from __future__ import annotations

from hyperlearn_pyg.loader.negative import NegativeSampler, degree_weights
from hyperlearn_pyg.loader.relation_batch import RelationBatch
from hyperlearn_pyg.loader.relation_loader import RelationLoader

__all__ = ["NegativeSampler", "RelationBatch", "RelationLoader", "degree_weights"]
