"""Decoders: Kruskal models that score tuples of items."""

from __future__ import annotations

from hyperlearn_pyg.nn.decoder.counts import PairCounts
from hyperlearn_pyg.nn.decoder.cp import CPDecoder
from hyperlearn_pyg.nn.decoder.feature_counts import FeatureCounts
from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder
from hyperlearn_pyg.nn.decoder.level import LevelDecoder
from hyperlearn_pyg.nn.decoder.neighbors import CommonNeighbors
from hyperlearn_pyg.nn.decoder.pairwise import PairwiseDecoder
from hyperlearn_pyg.nn.decoder.tucker import TuckerDecoder

__all__ = [
    "CPDecoder",
    "CommonNeighbors",
    "FeatureCounts",
    "KruskalDecoder",
    "LevelDecoder",
    "PairCounts",
    "PairwiseDecoder",
    "TuckerDecoder",
]
