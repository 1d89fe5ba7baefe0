"""Decoders: Kruskal models that score tuples of items."""

from __future__ import annotations

from hyperlearn_pyg.nn.decoder.cp import CPDecoder
from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder
from hyperlearn_pyg.nn.decoder.pairwise import PairwiseDecoder

__all__ = ["CPDecoder", "KruskalDecoder", "PairwiseDecoder"]
