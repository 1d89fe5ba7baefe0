"""HyperLearn for PyTorch Geometric: learning on multimodal, relational data as one hypergraph."""

from __future__ import annotations

__version__ = "0.1.0"
