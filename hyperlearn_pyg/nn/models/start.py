from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor

from hyperlearn_pyg.nn.models.inputs import Tuples
from hyperlearn_pyg.ops.kruskal import hadamard_gram, mttkrp

#: Matrices with a side of at most so many rows are decomposed through their Gram matrix.
_GRAM = 400
#: Singular values below this share of the largest one count as zero.
_VANISHES = 1e-7


def mean_value(tuples: Tuples) -> Tensor:
    """Return the (weighted) mean of the values, a scalar; zero for no entries, no weight or a 0/1 relation."""
    if tuples.value is None or len(tuples) == 0:
        return torch.zeros(())
    if tuples.weight is None:
        return tuples.value.mean()
    mass = tuples.weight.sum()
    return torch.where(mass > 0, (tuples.value * tuples.weight).sum() / mass, 0.0)


def start_biases(tuples: Tuples, sizes: Sequence[int], *, strength: float = 5.0, sweeps: int = 10) -> list[Tensor]:
    r"""Return regularised item biases of a valued relation, one ``[N_s]`` per slot.

    Coordinate descent on :math:`\sum_e (x_e - \mu - \sum_s b_s[i_s])^2 + \lambda \sum_s \lVert b_s \rVert^2`
    (Koren, Bell and Volinsky, Computer 2009, eq. 4, without the factors).

    Args:
        tuples: training entries.
        sizes: number of items of each slot.
        strength: the ridge :math:`\lambda`, in entries.
        sweeps: number of rounds over the slots.
    """
    if tuples.value is None:
        return [torch.zeros(n) for n in sizes]
    weight = torch.ones_like(tuples.value) if tuples.weight is None else tuples.weight
    rest = tuples.value - mean_value(tuples).to(tuples.value)
    biases = [tuples.value.new_zeros(n) for n in sizes]
    counts = [b.index_add(0, i, weight) for b, i in zip(biases, tuples.index, strict=True)]
    for _ in range(sweeps):
        for slot, index in enumerate(tuples.index):
            rest = rest + biases[slot][index]
            total = torch.zeros_like(biases[slot]).index_add(0, index, rest * weight)
            biases[slot] = total / (counts[slot] + strength)
            rest = rest - biases[slot][index]
    return biases


def start_factors(tuples: Tuples, sizes: Sequence[int], rank: int, *, sweeps: int = 5, seed: int = 0) -> list[Tensor]:
    """Return start factors ``[N_s, rank]`` of each slot from the training entries alone.

    Order 1: small random columns. Order 2: the truncated SVD of the centred matrix of values (of ones for a 0/1
    relation), each side times the root of the singular values. Higher orders: sparse higher-order SVD, then
    ``sweeps`` rounds of CP-ALS over all cells (Kolda and Bader 2009, sections 3.4 and 4.4). The full tensor is never
    formed.

    Args:
        tuples: training entries.
        sizes: number of items of each slot.
        rank: number of columns; where a mode has no more singular vectors, small random columns fill up.
        sweeps: rounds of CP-ALS.
        seed: seed of the start of the singular solver and of the random columns.
    """
    value = torch.ones(len(tuples)) if tuples.value is None else tuples.value - mean_value(tuples).to(tuples.value)
    value = value.to(device="cpu", dtype=torch.float64)
    index = tuples.index.cpu()
    if len(sizes) == 1:
        return _svd(index[0], torch.zeros_like(index[0]), value, (sizes[0], 1), rank, seed)[:1]
    if len(sizes) == 2:
        return _svd(index[0], index[1], value, (sizes[0], sizes[1]), rank, seed)
    generator = torch.Generator().manual_seed(seed)
    factors = [_stir(_mode_vectors(index, value, sizes, s, rank, seed), generator) for s in range(len(sizes))]
    for _ in range(sweeps):
        for slot in range(len(sizes)):
            others = [f for s, f in enumerate(factors) if s != slot]
            gram = hadamard_gram(others)  # the ridge makes it regular; least squares by pivots differ from run to run
            gram.diagonal().add_(gram.diagonal().mean().clamp(min=1e-30), alpha=1e-6)
            factors[slot] = torch.linalg.solve(gram, mttkrp(factors, index, slot, value).t()).t()
    return _balance(factors)


def _stir(factors: Tensor, generator: torch.Generator) -> Tensor:
    """Add a little noise: vectors of sparse modes may have no tuple in common, and ALS would end at zero."""
    noise = torch.randn(factors.shape, dtype=factors.dtype, generator=generator)
    return factors + 1e-2 * factors.square().mean().sqrt() * noise


def _balance(factors: Sequence[Tensor]) -> list[Tensor]:
    """Give every column the same norm in each mode."""
    norms = torch.stack([f.norm(dim=0).clamp(min=1e-12) for f in factors])
    target = norms.log().mean(0).exp()
    return [(f / n * target).float() for f, n in zip(factors, norms, strict=True)]


def _mode_vectors(index: Tensor, value: Tensor, sizes: Sequence[int], slot: int, rank: int, seed: int) -> Tensor:
    """Leading left singular vectors of one unfolding; its columns are renumbered, so that it stays small."""
    column = torch.zeros_like(index[0])
    for other, size in enumerate(sizes):
        if other != slot:
            column = torch.unique(column * size + index[other], return_inverse=True)[1]
    width = int(column.max()) + 1 if column.numel() else 1
    return _svd(index[slot], column, value, (sizes[slot], width), rank, seed)[0].double()


def _svd(row: Tensor, col: Tensor, value: Tensor, size: tuple[int, int], rank: int, seed: int) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    sides = [torch.from_numpy(rng.normal(scale=1e-2, size=(n, rank))) for n in size]
    matrix = csr_matrix((value.numpy(), (row.numpy(), col.numpy())), shape=size)
    if matrix.data.any():
        left, sigma, right = _leading(matrix, min(rank, *size), rng)
        for side, vectors in zip(sides, (left, right), strict=True):
            side[:, : len(sigma)] = torch.from_numpy(vectors * np.sqrt(sigma))
    return [side.float() for side in sides]


def _leading(matrix: Any, count: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Leading singular vectors (as columns) and values, largest first, without those that vanish.

    Small sides go through the dense Gram matrix: ARPACK draws vectors of its own, beyond any seed, where the matrix
    has fewer singular values than are asked for.
    """
    small = min(matrix.shape)
    if small > _GRAM:
        left, sigma, right = svds(matrix, k=min(count, small - 1), v0=rng.normal(size=small))
        order = np.argsort(-sigma)
        left, sigma, right = left[:, order], sigma[order], right[order].T
        keep = sigma > _VANISHES * sigma[0]
        return left[:, keep], sigma[keep], right[:, keep]
    wide = matrix if matrix.shape[0] == small else matrix.T
    values, vectors = np.linalg.eigh((wide @ wide.T).toarray())
    sigma = np.sqrt(np.maximum(values[::-1][:count], 0.0))
    keep = sigma > _VANISHES * sigma[0]
    one, sigma = vectors[:, ::-1][:, :count][:, keep], sigma[keep]
    other = wide.T @ one / sigma
    return (one, sigma, other) if wide is matrix else (other, sigma, one)
