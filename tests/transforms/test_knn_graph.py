from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from hyperlearn_pyg import _optional
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import KNNGraph, knn_graph


def items(x: torch.Tensor) -> MultiModalHeteroData:
    return MultiModalHeteroData().add_modality("user", x=x).add_modality("tag", num_nodes=2)


def pairs(data: MultiModalHeteroData) -> set[tuple[int, int]]:
    return {(i, j) for i, j in data["user", "knn", "user"].edge_index.t().tolist()}


def reference(x: torch.Tensor, k: int, metric: str) -> set[tuple[int, int]]:
    """Dense and plain, in float64."""
    x = x.double()
    if metric == "cosine":
        unit = x / x.norm(dim=1, keepdim=True)
        distance = 1 - unit @ unit.T
    else:
        distance = (x[:, None] - x[None]).norm(dim=2)
    out = set()
    for i in range(len(x)):
        others = sorted((float(distance[i, j]), j) for j in range(len(x)) if j != i)
        out |= {(i, j) for _, j in others[:k]} | {(j, i) for _, j in others[:k]}
    return out


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 5), st.sampled_from(["cosine", "euclidean"]), st.integers(0, 1000))
def test_equals_the_plain_version(size: int, k: int, metric: str, seed: int) -> None:
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = KNNGraph("user", k=k, metric=metric)(items(x))
    assert pairs(data) == reference(x, k, metric)
    edge_index = data["user", "knn", "user"].edge_index
    assert edge_index.unique(dim=1).shape == edge_index.shape


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    data = items(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    whole = pairs(KNNGraph(k=3, metric=metric)(data))
    monkeypatch.setattr(knn_graph, "_BLOCK", 150)
    assert pairs(KNNGraph(k=3, metric=metric)(data)) == whole


def test_all_modalities_with_features_and_the_input_is_left_alone() -> None:
    before = items(torch.randn(4, 2))
    after = KNNGraph()(before)
    assert after.edge_types == [("user", "knn", "user")]
    assert before.edge_types == []


def test_a_large_offset_does_not_blur_euclidean_neighbours() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [3.5]]) + 4096
    assert pairs(KNNGraph(k=1, metric="euclidean")(items(x))) == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_an_item_without_direction_stays_isolated() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.1], [0.0, 0.0]])
    assert pairs(KNNGraph(k=3)(items(x))) == {(0, 2), (2, 0)}


needs_faiss = pytest.mark.skipif(not _optional.available("faiss"), reason="faiss is not installed")


@needs_faiss
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_index_finds_nearly_all(metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=generator)
    x[::50] = 0
    exact = pairs(KNNGraph("user", k=5, metric=metric)(items(x)))
    transform = KNNGraph("user", k=5, metric=metric, method="faiss", sample=300)
    found = pairs(transform(items(x)))
    assert len(found & exact) > 0.97 * len(exact)
    assert 0.97 < transform.recall["user"] <= 1
    assert f"recall {transform.recall['user']:.4f} of the 5 nearest" in capsys.readouterr().err
    assert not {i for i, j in found if metric == "cosine" and i % 50 == 0}
    assert all(i != j for i, j in found)


@needs_faiss
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_an_index_of_few(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    transform = KNNGraph("user", k=2, method="faiss")
    data = items(torch.ones(size, 2))  # all at one place
    expected = {(i, j) for i in range(size) for j in range(size) if i != j}
    assert pairs(transform(data)) == expected
    assert transform.recall == ({"user": 1.0} if size > 1 else {})


@needs_faiss
def test_recall_counts_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    whole = knn_graph._approximate
    monkeypatch.setattr(knn_graph, "_approximate", lambda *args: whole(*args)[:, ::2])
    monkeypatch.setattr(knn_graph, "_BLOCK", 150)
    transform = KNNGraph(k=4, method="faiss")
    transform(items(x))
    assert transform.recall["user"] == pytest.approx(0.5)


def test_the_threshold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    x, called = torch.randn(6, 2), []

    def approximate(points: Any, rows: torch.Tensor, k: int) -> torch.Tensor:
        called.append(rows.numel())
        return torch.stack([rows, rows.roll(1)])

    monkeypatch.setattr(knn_graph, "_approximate", approximate)
    monkeypatch.setattr(_optional, "available", lambda _: True)
    for threshold, method in ((6, "auto"), (5, "exact")):
        KNNGraph(k=2, threshold=threshold, method=method)(items(x))
    assert called == []
    KNNGraph(k=2, threshold=5)(items(x))
    assert called == [6]
    monkeypatch.setattr(_optional, "available", lambda _: False)
    KNNGraph(k=2, threshold=5)(items(x))
    assert called == [6]
    with pytest.raises(ImportError, match=r"\[knn\]"):
        KNNGraph(method="faiss")


def test_neighbours_stay_within_their_graph() -> None:
    generator = torch.Generator().manual_seed(0)
    graphs = [items(torch.randn(size, 2, generator=generator)) for size in (5, 0, 1, 4)]
    batch = KNNGraph(k=2)(Batch.from_data_list(graphs))
    expected = {(i, j) for i, j in pairs(KNNGraph(k=2)(graphs[0]))}
    expected |= {(i + 6, j + 6) for i, j in pairs(KNNGraph(k=2)(graphs[3]))}
    assert pairs(batch) == expected


def test_sparse_features() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).relu()
    assert pairs(KNNGraph(k=2)(items(x.to_sparse()))) == pairs(KNNGraph(k=2)(items(x)))


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(size: int) -> None:
    data = KNNGraph("user")(items(torch.ones(size, 2)))
    assert data["user", "knn", "user"].edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"k": 0}, "'k' must be at least 1"),
        ({"method": "exct"}, "'method' must be one of.*Did you mean 'exact'"),
        ({"sample": 0}, "'sample' must be at least 1"),
        ({"metric": "manhattan"}, "'metric' must be 'cosine' or 'euclidean'"),
        ({"modality": "usr"}, "no modality 'usr'.*Did you mean 'user'"),
        ({"modality": "tag"}, "modality 'tag' has no features"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        KNNGraph(**kwargs)(items(torch.ones(2, 2)))


def test_no_features_anywhere_is_told() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2, y=torch.zeros(2))
    with pytest.raises(ValueError, match=r"'modality' is None.*no modality has the attribute 'x' .*'a': \['y'\]"):
        KNNGraph()(data)
    assert KNNGraph()(MultiModalHeteroData()).edge_types == []


def test_repr() -> None:
    assert repr(KNNGraph("user", 3)) == "KNNGraph('user', k=3, metric='cosine')"
