from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyperlearn_pyg.report.projection import project, sample_rows


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 12), st.integers(0, 4)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_matrix_lands_in_the_square(vectors: np.ndarray) -> None:
    plane, _ = project(vectors)
    assert plane.shape == (len(vectors), 2)
    assert np.isfinite(plane).all()
    assert np.abs(plane).max(initial=0) <= 1 + 1e-9


@pytest.mark.parametrize(("num", "channels", "method"), [(10, 8, "PCA"), (60, 8, "t-SNE"), (60, 2, "PCA")])
def test_method_follows_size(num: int, channels: int, method: str) -> None:
    assert project(np.random.default_rng(0).normal(size=(num, channels)))[1] == method


@pytest.mark.parametrize("channels", [2, 8])
def test_clusters_stay_apart(channels: int) -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(5 * np.eye(2, channels), 40, axis=0) + 0.1 * rng.normal(size=(80, channels))
    plane, _ = project(vectors)
    centres = plane.reshape(2, 40, 2).mean(axis=1)
    spread = np.abs(plane.reshape(2, 40, 2) - centres[:, None]).max()
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_equal_rows_do_not_fail() -> None:
    assert (project(np.ones((50, 8)))[0] == 0).all()
    vectors = np.zeros((50, 8))
    vectors[0, 0] = 1
    assert np.isfinite(project(vectors)[0]).all()


def test_sample_is_finite_sorted_and_repeatable() -> None:
    vectors = np.arange(40.0).reshape(20, 2)
    vectors[3] = np.nan
    assert sample_rows(vectors).tolist() == [i for i in range(20) if i != 3]
    few = sample_rows(vectors, 5)
    assert len(few) == 5
    assert (np.diff(few) > 0).all()
    assert (few == sample_rows(vectors, 5)).all()
