"""The slow, obvious versions: dense and in float64, to hold the fast ones against. Not for use beyond a few hundred."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dense_incidence(index: Tensor, size: tuple[int, int], values: Tensor | None = None) -> Tensor:
    r"""Return the sparse matrix of ``index`` as a dense one, ``[N, M]`` in float64; repeated entries add up.

    Args:
        index: entries ``[2, nnz]``: row and column of each.
        size: ``(N, M)``.
        values: value of each entry ``[nnz]``; ones where absent. Gradients flow to it.
    """
    entries = torch.ones(index.size(1), dtype=torch.float64) if values is None else values.double()
    flat = torch.zeros(size[0] * size[1], dtype=torch.float64)
    return flat.index_add(0, index[0].long() * size[1] + index[1].long(), entries).view(size)


def dense_hypergraph_conv(x: Tensor, incidence: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\mathbf{D}^{-1} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{X}`.

    Bai, Zhang and Torr (arXiv:1901.08150), eq. 5, row-normalised; :math:`0^{-1} = 0`.

    Args:
        x: node signals ``[N, C]``, already multiplied with :math:`\mathbf{\Theta}`.
        incidence: :math:`\mathbf{H}`, ``[N, M]``; with attention its entries are the coefficients.
        weight: hyperedge weights ``[M]``; ones where absent.
    """
    w = incidence.new_ones(incidence.size(1)) if weight is None else weight.double()
    edges = _reciprocal(incidence.sum(0))[:, None] * (incidence.t() @ x.double())
    return _reciprocal(incidence @ w)[:, None] * (incidence @ (w[:, None] * edges))


def attention_values(
    x: Tensor, edge_x: Tensor, att: Tensor, index: Tensor, *, mode: str = "node", negative_slope: float = 0.2
) -> Tensor:
    r"""Return the attention coefficient of every entry of an incidence matrix, for one head, by a loop.

    Softmax of :math:`\mathrm{LeakyReLU}(\mathbf{a}^{\top} [\mathbf{x}_i \,\|\, \mathbf{x}_e])` (Bai, Zhang and Torr,
    arXiv:1901.08150, eq. 8) over the nodes of a hyperedge, or the hyperedges of a node.

    Args:
        x: node features after the linear map ``[N, C]``.
        edge_x: hyperedge features after the linear map ``[M, C]``.
        att: the vector :math:`\mathbf{a}`, ``[2 C]``.
        index: entries ``[2, nnz]``.
        mode: ``"node"`` normalises over the nodes of a hyperedge, ``"edge"`` over the hyperedges of a node.
        negative_slope: slope of the leaky ReLU.

    Returns:
        ``[nnz]``.
    """
    raw = [torch.cat([x[i], edge_x[e]]) @ att for i, e in index.t().tolist()]
    score = [torch.where(r > 0, r, negative_slope * r).exp() for r in raw]
    key = index[1 if mode == "node" else 0].tolist()
    total = {k: sum((s for s, other in zip(score, key, strict=True) if other == k), x.new_zeros(())) for k in key}
    return torch.stack([s / total[k] for s, k in zip(score, key, strict=True)]) if score else x.new_zeros(0)


def dense_graph_laplacian(adjacency: Tensor) -> Tensor:
    r"""Return :math:`\mathbf{L} = \mathbf{I} - \mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2}` ``[N, N]``.

    The rows of isolated vertices are zero (Chung, Spectral Graph Theory, 1997).

    Args:
        adjacency: symmetric, non-negative :math:`\mathbf{W}`, ``[N, N]``.
    """
    degree = adjacency.double().sum(1)
    scale = _reciprocal(degree).sqrt()
    return torch.diag((degree > 0).double()) - scale[:, None] * adjacency.double() * scale


def dense_hypergraph_laplacian(incidence: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\mathbf{I} - \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
    \mathbf{D}^{-1/2}` ``[N, N]``.

    The rows of isolated vertices are zero (Zhou, Huang and Schoelkopf, NeurIPS 2006).

    Args:
        incidence: :math:`\mathbf{H}`, ``[N, M]``.
        weight: hyperedge weights ``[M]``; ones where absent.
    """
    w = incidence.new_ones(incidence.size(1)) if weight is None else weight.double()
    degree = incidence @ w
    half = _reciprocal(degree).sqrt()[:, None] * incidence
    return torch.diag((degree > 0).double()) - half @ torch.diag(w * _reciprocal(incidence.sum(0))) @ half.t()


def dense_cp(factors: Sequence[Tensor]) -> Tensor:
    r"""Return the full tensor :math:`[\![A_1, \ldots, A_k]\!]`, ``[N_1, ..., N_k]`` in float64.

    Kolda and Bader, Tensor Decompositions and Applications, SIAM Review 2009, eq. 3.1.

    Args:
        factors: matrices ``[N_m, R]``.
    """
    return khatri_rao(factors).sum(1).view([f.size(0) for f in factors])


def dense_tensor(index: Tensor, value: Tensor | None, sizes: Sequence[int]) -> Tensor:
    """Return the tensor ``[N_1, ..., N_k]`` of tuples ``index [k, E]`` in float64; ones where ``value`` is absent."""
    entries = torch.ones(index.size(1), dtype=torch.float64) if value is None else value.double()
    flat = torch.zeros(index.size(1), dtype=torch.long)
    for row, size in zip(index, sizes, strict=True):
        flat = flat * size + row
    return torch.zeros(math.prod(sizes), dtype=torch.float64).index_add(0, flat, entries).view(list(sizes))


def dense_all_cells(factors: Sequence[Tensor], index: Tensor, value: Tensor, *, unobserved: float) -> Tensor:
    r"""Return :math:`\sum_c w_c (x_c - s_c)^2` over every cell of the tensor, a scalar.

    Args:
        factors: Kruskal columns of each slot ``[N_s, C]``.
        index: observed tuples ``[k, E]``, distinct.
        value: their values ``[E]``.
        unobserved: the weight of the cells not observed, whose target is zero; that of the observed ones is one.
    """
    sizes = [f.size(0) for f in factors]
    weight = torch.where(dense_tensor(index, None, sizes) > 0, 1.0, unobserved)
    return (weight * (dense_tensor(index, value, sizes) - dense_cp(factors)).square()).sum()


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:
    """Return the Khatri-Rao product (column-wise Kronecker) of ``factors``, ``[N_1 * ... * N_k, R]`` in float64."""
    out = torch.ones(1, factors[0].size(1), dtype=torch.float64)
    for factor in factors:
        out = (out[:, None, :] * factor.double()[None]).flatten(0, 1)
    return out


def unfold(tensor: Tensor, mode: int) -> Tensor:
    r"""Return :math:`\mathbf{X}_{(m)}`, ``[N_m, product of the other sizes]``; the last of the others runs fastest."""
    return tensor.movedim(mode, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def unfolding_error(tensor: Tensor, factors: Sequence[Tensor], mode: int, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\lVert \mathbf{X}_{(m)} - \mathbf{A}_m \mathbf{\Omega}_m^{\top} \rVert_F^2`, a scalar.

    :math:`\mathbf{\Omega}_m` is the Khatri-Rao product of the other factors (Arya, Rudinac and Worring, ACM
    Multimedia 2019, the error of one modality's device).

    Args:
        tensor: ``[N_1, ..., N_k]``.
        factors: matrices ``[N_m, R]``.
        mode: the mode ``m``.
        weight: weight of every cell, of the shape of ``tensor``; ones where absent.
    """
    omega = khatri_rao([f for m, f in enumerate(factors) if m != mode])
    error = (unfold(tensor.double(), mode) - factors[mode].double() @ omega.t()).square()
    return error.sum() if weight is None else (unfold(weight.double(), mode) * error).sum()


def _reciprocal(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, 1 / torch.where(degree > 0, degree, 1.0), 0.0)
