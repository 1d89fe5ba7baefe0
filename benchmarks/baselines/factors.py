from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from baselines.ratings import Array, Ratings


def global_mean(known: Ratings, target: Ratings) -> Array:
    """Predict the mean of the known values."""
    return np.full(len(target), known.value.mean())


def item_biases(known: Ratings, target: Ratings, *, ridge_row: float, ridge_col: float, sweeps: int = 15) -> Array:
    """Predict mean + row bias + column bias; alternating ridge means of the squared error."""
    mean, row, col = _fit_biases(known, ridge_row, ridge_col, sweeps)
    return mean + row[target.row] + col[target.col]


def als(
    known: Ratings,
    target: Ratings,
    *,
    rank: int = 10,
    ridge: float = 12.0,
    smoothness: float = 0.0,
    graphs: Sequence[csr_matrix] = (),
    ridge_biases: tuple[float, float] = (5.0, 2.0),
    sweeps: int = 30,
    passes: int = 2,
    spread: float = 0.1,
    seed: int = 0,
) -> Array:
    r"""Predict biases + factors by alternating least squares, with graph smoothness where asked for.

    :math:`\sum_e (x_e - b_e - a_e^T c_e)^2 + \lambda (\|A\|^2 + \|C\|^2) + s (tr A^T L A + tr C^T L C)` over the
    residuals of :func:`item_biases`; with :math:`s > 0` in the manner of GRALS (Rao et al., NeurIPS 2015), each half
    solved by block Gauss-Seidel over its rows.

    Args:
        known: the entries to fit.
        target: the entries to predict.
        rank: number of factors.
        ridge: :math:`\lambda`.
        smoothness: :math:`s`.
        graphs: normalised adjacency :math:`D^{-1/2} W D^{-1/2}` of rows and of columns, where ``smoothness`` is set.
        ridge_biases: ridges of the row and the column biases.
        sweeps: rounds over both halves.
        passes: Gauss-Seidel passes in each half of a round.
        spread: standard deviation of the random start.
        seed: seed of the random start.
    """
    mean, row, col = _fit_biases(known, *ridge_biases)
    rest = known.value - mean - row[known.row] - col[known.col]
    rng = np.random.default_rng(seed)
    factors: list[Array] = [spread * rng.standard_normal((n, rank)) for n in known.size]
    index = (known.row, known.col)
    places = [_places(index[side], known.size[side]) for side in (0, 1)]
    for _ in range(sweeps):
        for side in (0, 1):
            gram, right = _normal_equations(places[side], factors[1 - side][index[1 - side]], rest)
            if not smoothness:
                factors[side] = _solve(gram + ridge * np.eye(rank), right)
            else:
                inverse: Array = np.linalg.inv(gram + (ridge + smoothness) * np.eye(rank)).astype(np.float64)
                for _ in range(passes):
                    _gauss_seidel(factors[side], inverse, right, graphs[side], smoothness)
    product = (factors[0][target.row] * factors[1][target.col]).sum(1)
    return np.asarray(mean + row[target.row] + col[target.col] + product)


def _fit_biases(known: Ratings, ridge_row: float, ridge_col: float, sweeps: int = 15) -> tuple[float, Array, Array]:
    mean = float(known.value.mean())
    row, col = (np.zeros(n) for n in known.size)
    counts = [np.bincount(i, minlength=n) for i, n in zip((known.row, known.col), known.size, strict=True)]
    for _ in range(sweeps):
        col = np.bincount(known.col, known.value - mean - row[known.row], known.size[1]) / (counts[1] + ridge_col)
        row = np.bincount(known.row, known.value - mean - col[known.col], known.size[0]) / (counts[0] + ridge_row)
    return mean, row, col


def _places(index: np.ndarray, size: int) -> list[np.ndarray]:
    """For each row the positions of its entries."""
    order = np.argsort(index, kind="stable")
    return np.split(order, np.searchsorted(index[order], np.arange(1, size)))


def _normal_equations(places: list[np.ndarray], partners: Array, rest: Array) -> tuple[Array, Array]:
    rank = partners.shape[1]
    gram, right = np.empty((len(places), rank, rank)), np.empty((len(places), rank))
    for n, own in enumerate(places):
        rows = partners[own]
        gram[n], right[n] = rows.T @ rows, rows.T @ rest[own]
    return gram, right


def _solve(matrix: Array, right: Array) -> Array:
    return np.linalg.solve(matrix, right[..., None])[..., 0].astype(np.float64)


def _gauss_seidel(factors: Array, inverse: Array, right: Array, graph: csr_matrix, smoothness: float) -> None:
    for n in range(len(factors)):
        own = slice(graph.indptr[n], graph.indptr[n + 1])
        factors[n] = inverse[n] @ (right[n] + smoothness * (graph.data[own] @ factors[graph.indices[own]]))
