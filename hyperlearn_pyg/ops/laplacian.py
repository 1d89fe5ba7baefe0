from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import torch
from torch import Tensor

from hyperlearn_pyg.ops.incidence import Incidence, safe_inverse
from hyperlearn_pyg.ops.spmm import spmm


class Laplacian:
    r"""The normalised Laplacian :math:`\mathbf{L} = \mathbf{I} - \mathbf{S}` of a graph or hypergraph, as an operator.

    * graph: :math:`\mathbf{S} = \mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2}` (Chung, Spectral Graph Theory, 1997);
    * hypergraph: :math:`\mathbf{S} = \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
      \mathbf{D}^{-1/2}` (Zhou, Huang and Schoelkopf, NeurIPS 2006).

    The rows of isolated vertices are zero. The spectrum lies in [0, 2] (graph) or [0, 1] (hypergraph).

    Use :meth:`from_graph` or :meth:`from_hypergraph`.
    """

    def __init__(self, inc: Incidence, values: Tensor | None, scale: Tensor, middle: Tensor | None) -> None:
        self.inc = inc
        self.values = values
        self.scale = scale[:, None]
        self.middle = None if middle is None else middle[:, None]
        self.isolated = (scale == 0).to(scale.dtype)[:, None]

    @classmethod
    def from_graph(cls, inc: Incidence, weight: Tensor | None = None) -> Laplacian:
        """Build from the adjacency matrix ``[N, N]`` of an undirected graph (both directions stored).

        Args:
            inc: the adjacency matrix.
            weight: non-negative weight of each edge ``[nnz]``; ones where absent.

        Raises:
            ValueError: the matrix is not square, or a weight is negative.
        """
        if inc.size[0] != inc.size[1]:
            raise ValueError(f"a graph's adjacency matrix must be square (got size {inc.size})")
        _check_sign(weight, "edges")
        degree = _float_degree(inc.row_degree(weight))
        return cls(inc, weight, safe_inverse(degree, 0.5), None)

    @classmethod
    def from_hypergraph(cls, inc: Incidence, weight: Tensor | None = None, values: Tensor | None = None) -> Laplacian:
        """Build from the incidence matrix ``[N, M]``.

        Args:
            inc: the incidence matrix.
            weight: non-negative weight of each hyperedge ``[M]``; ones where absent.
            values: non-negative weight of each incidence ``[nnz]``; ones where absent.

        Raises:
            ValueError: a hyperedge weight is negative.
        """
        _check_sign(weight, "hyperedges")
        middle = safe_inverse(_float_degree(inc.col_degree(values)))
        if weight is None:
            degree = _float_degree(inc.row_degree(values))
        else:
            middle = middle * weight
            degree = spmm(inc, weight[:, None], values).squeeze(1)
        return cls(inc, values, safe_inverse(degree, 0.5), middle)

    @property
    def num_nodes(self) -> int:
        """Number of vertices."""
        return self.inc.size[0]

    def smooth(self, x: Tensor) -> Tensor:
        """Return ``S @ x`` for ``x [N, C]``."""
        scale = self.scale.to(x.dtype)
        out = x * scale
        values = None if self.values is None else self.values.to(x.dtype)
        if self.middle is not None:
            out = spmm(self.inc, out, values, transpose=True) * self.middle.to(x.dtype)
        return spmm(self.inc, out, values) * scale

    def matmul(self, x: Tensor) -> Tensor:
        """Return ``L @ x`` for ``x [N, C]``."""
        return self.shifted(x) + x

    def shifted(self, x: Tensor) -> Tensor:
        """Return ``(L - I) @ x`` for ``x [N, C]``: the argument of the Chebyshev polynomials."""
        return -self.smooth(x) - self.isolated.to(x.dtype) * x

    def dirichlet(self, x: Tensor) -> Tensor:
        r"""Return the Dirichlet energy :math:`\frac{1}{2} \mathrm{tr}(\mathbf{X}^{\top} \mathbf{L} \mathbf{X})`."""
        return 0.5 * (x * self.matmul(x)).sum()

    def masked(self, mask: Tensor | None) -> Laplacian:
        """Return the operator with every entry multiplied by ``mask [nnz]``, the degrees as they are."""
        if mask is None:
            return self
        out = copy(self)
        out.values = mask if self.values is None else self.values * mask
        return out

    def to(self, device: torch.device | str) -> Laplacian:
        """Return the same operator on ``device``."""
        if torch.device(device) == self.inc.device:
            return self
        inc = Incidence(self.inc.index.to(device), self.inc.size, validate=False)
        values = None if self.values is None else self.values.to(device)
        middle = None if self.middle is None else self.middle.squeeze(1).to(device)
        return Laplacian(inc, values, self.scale.squeeze(1).to(device), middle)

    def __repr__(self) -> str:
        kind = "graph" if self.middle is None else "hypergraph"
        return f"{type(self).__name__}({kind}, num_nodes={self.num_nodes}, nnz={self.inc.nnz})"


def chebyshev(laplacian: Laplacian, x: Tensor, order: int) -> Iterator[Tensor]:
    r"""Yield :math:`T_0(\hat{L})x, \ldots, T_{K-1}(\hat{L})x` with :math:`\hat{L} = \mathbf{L} - \mathbf{I}`.

    :math:`T_j(\hat{L})x = 2 \hat{L} T_{j-1}(\hat{L})x - T_{j-2}(\hat{L})x` (Defferrard, Bresson and Vandergheynst,
    NeurIPS 2016, with the largest eigenvalue taken as 2).

    Args:
        laplacian: the operator.
        x: ``[N, C]``.
        order: the number ``K >= 1`` of terms.
    """
    if order < 1:
        raise ValueError(f"'order' must be at least 1 (got {order})")
    before, now = x, x
    yield now
    for j in range(1, order):
        step = laplacian.shifted(now)
        before, now = now, (step if j == 1 else 2 * step - before)
        yield now


def _float_degree(degree: Tensor) -> Tensor:
    return degree if degree.is_floating_point() else degree.double()  # exact for signals of either precision


def _check_sign(weight: Tensor | None, what: str) -> None:
    if weight is None or torch.compiler.is_compiling() or not weight.numel():
        return
    if bool((weight < 0).any()):
        raise ValueError(f"'weight' must be non-negative: a normalised Laplacian of signed {what} is not defined")
