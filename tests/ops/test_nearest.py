from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.ops import nearest


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 8), st.integers(0, 5), st.sampled_from(["cosine", "euclidean"]), st.integers(0, 1000))
def test_equals_the_plain_version(size: int, k: int, metric: str, seed: int) -> None:
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = x / x.norm(dim=1, keepdim=True)
    distance = 1 - unit @ unit.T if metric == "cosine" else (x[:, None] - x[None]).norm(dim=2)
    expected = []
    for i in range(size):
        others = sorted((float(distance[i, j]), j) for j in range(size) if j != i)
        expected += [[i, j] for _, j in others[:k]]
    assert nearest.nearest(x, k, metric).t().tolist() == expected


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    whole = nearest.nearest(x, 3, "euclidean")
    monkeypatch.setattr(nearest, "BLOCK", 70)
    assert torch.equal(nearest.nearest(x, 3, "euclidean"), whole)


def test_rows_without_a_direction_have_no_neighbours() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.1]])
    assert nearest.nearest(x, 2, "cosine").tolist() == [[0, 2], [2, 0]]
