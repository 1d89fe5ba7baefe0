"""HyperLearn for PyTorch Geometric: learning on multimodal, relational data as one hypergraph."""

from __future__ import annotations

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan, ModalityPlanner
from hyperlearn_pyg.nn import HypergraphConv, HyperLearn

__version__ = "0.1.0"

__all__ = [
    "HyperLearn",
    "HypergraphConv",
    "ModalityParallel",
    "ModalityPlan",
    "ModalityPlanner",
    "MultiModalHeteroData",
]
