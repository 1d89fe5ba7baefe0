"""Data sets, in PyG's style."""

from __future__ import annotations

from hyperlearn_pyg.datasets.synthetic import SyntheticMultiModal, SyntheticRelation

__all__ = ["SyntheticMultiModal", "SyntheticRelation"]
