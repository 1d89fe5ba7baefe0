from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Maps of more items than this are drawn by PCA; t-SNE takes seconds up to here and minutes beyond.
TSNE_LIMIT = 2000
#: Fewer items than this have no neighbourhoods worth keeping: PCA.
TSNE_LEAST = 30
#: A map shows a seeded sample of at most this many items, so that the page stays light.
POINT_LIMIT = 3000


def sample_rows(vectors: NDArray[np.floating], limit: int = POINT_LIMIT) -> NDArray[np.intp]:
    """Choose the rows of a map: the finite ones, at most ``limit`` of them, the same ones every time.

    Args:
        vectors: Embeddings of shape ``[N, C]``.
        limit: Largest number of rows returned.

    Returns:
        Increasing row numbers of shape ``[n]``.
    """
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if len(finite) <= limit:
        return finite
    return np.sort(np.random.default_rng(0).choice(finite, size=limit, replace=False))


def project(vectors: NDArray[np.floating]) -> tuple[NDArray[np.float64], str]:
    """Lay out embeddings in the plane.

    t-SNE (van der Maaten and Hinton, 2008) on principal components for middling numbers of items, principal
    components alone for many or few.

    Args:
        vectors: Finite embeddings of shape ``[N, C]``; N and C may be 0.

    Returns:
        Coordinates of shape ``[N, 2]`` in [-1, 1], and the name of the method.
    """
    centred = np.asarray(vectors, dtype=np.float64)
    num, channels = centred.shape
    plane = np.zeros((num, 2))
    if num == 0 or channels == 0:
        return plane, "PCA"
    # Huge vectors would overflow in the squares: only the shape of the cloud counts here.
    centred = centred / max(float(np.abs(centred).max()), np.finfo(np.float64).tiny)
    centred = centred - centred.mean(axis=0)
    extent = float(np.abs(centred).max())
    if num < 2 or extent < 1e-12:
        return plane, "PCA"
    centred /= extent
    if TSNE_LEAST <= num <= TSNE_LIMIT and channels > 2:
        return _fit_square(_tsne(centred)), "t-SNE"
    from sklearn.decomposition import PCA

    components = min(2, num, channels)
    plane[:, :components] = PCA(components, svd_solver="full").fit_transform(centred)
    return _fit_square(plane), "PCA"


def _tsne(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(centred) - 1) / 3)
    # Start from a few random directions' worth of spread: PCA start fails where the rank is below 2.
    start = centred[:, np.argsort(-centred.var(axis=0))[:2]] * 1e-4
    start = start + np.random.default_rng(0).normal(scale=1e-5, size=start.shape)
    options = {"perplexity": perplexity, "max_iter": 500, "random_state": 0, "n_jobs": 1}
    layout = TSNE(init=start.astype(np.float32), **options).fit_transform(centred.astype(np.float32))
    return np.asarray(layout, dtype=np.float64)


def _fit_square(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale, one scale for both axes, into [-1, 1]."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    scale = max(float((high - low).max()) / 2, np.finfo(np.float64).tiny)
    fitted: NDArray[np.float64] = (plane - (low + high) / 2) / scale
    return fitted
