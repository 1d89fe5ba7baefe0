"""Pure functions of tensors: incidence structure, sparse products, Laplacians, CP scores."""

from __future__ import annotations

from hyperlearn_pyg.ops.incidence import Incidence, incidence
from hyperlearn_pyg.ops.kruskal import cp_score, gram_norm
from hyperlearn_pyg.ops.laplacian import Laplacian, chebyshev
from hyperlearn_pyg.ops.spmm import sddmm, spmm

__all__ = ["Incidence", "Laplacian", "chebyshev", "cp_score", "gram_norm", "incidence", "sddmm", "spmm"]
