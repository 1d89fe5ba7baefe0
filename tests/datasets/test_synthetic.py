from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation


@pytest.fixture(scope="module")
def dataset() -> SyntheticMultiModal:
    return SyntheticMultiModal()


def corr(a: Any, b: Any) -> float:
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


def auc(positive: Tensor, negative: Tensor) -> float:
    rank = torch.cat([positive, negative]).argsort().argsort()[: len(positive)].double() + 1
    n = len(positive)
    return float((rank.sum() - n * (n + 1) / 2) / (n * len(negative)))


def test_default(dataset: SyntheticMultiModal) -> None:
    data = dataset[0]
    assert len(dataset) == 1
    assert data.validate()
    assert data.modalities == ["user", "item", "tag"]
    assert data.hyperedge_types == ["rates", "tags"]
    assert [data[m].num_nodes for m in data.modalities] == [400, 300, 60]
    assert data.relation("tags").order == 3
    assert data.relation("tags").value is None
    assert data["user"].item_id[:2] == ["user0", "user1"]
    assert data["user"].item_name[7] == "User 7"
    assert data["user"].item_label[0] == f"community {dataset.truth['communities']['user'][0]}"


@pytest.mark.parametrize("name", ["rates", "tags"])
def test_tuples_and_masks(dataset: SyntheticMultiModal, name: str) -> None:
    relation = dataset[0].relation(name)
    assert relation.index.unique(dim=1).size(1) == len(relation)
    masks = torch.stack([relation.mask(split) for split in ("train", "val", "test")])
    assert masks.sum(dim=0).eq(1).all()
    assert masks.sum(dim=1).tolist() == [len(relation) - 2 * (len(relation) // 10), *[len(relation) // 10] * 2]
    assert torch.equal(dataset.score(name, relation.index), dataset[0][name].truth)


def test_score_is_the_formula_of_the_docstring(dataset: SyntheticMultiModal) -> None:
    truth = dataset.truth
    i, j, k = 3, 5, 7
    factors = [truth["factors"][m][n].double() for m, n in (("user", i), ("item", j), ("tag", k))]
    expected = truth["mean"]["tags"] + truth["scale"]["tags"] * sum(a * b * c for a, b, c in zip(*factors, strict=True))
    expected += sum(bias[n] for bias, n in zip(truth["biases"]["tags"], (i, j, k), strict=True))
    assert float(dataset.score("tags", torch.tensor([[i], [j], [k]]))) == pytest.approx(float(expected), abs=1e-5)


def test_seed_decides_everything() -> None:
    first, again, other = (SyntheticMultiModal(seed=seed)[0] for seed in (0, 0, 1))
    for key in ("value", "truth", "train_mask"):
        assert torch.equal(first["rates"][key], again["rates"][key])
        assert not torch.equal(first["rates"][key], other["rates"][key])
    assert torch.equal(first["user"].x, again["user"].x)
    assert torch.equal(first.relation("tags").index, again.relation("tags").index)


def test_signal_to_noise(dataset: SyntheticMultiModal) -> None:
    store = dataset[0]["rates"]
    assert store.truth.var() / (store.value - store.truth).var() > 2
    quiet = SyntheticMultiModal(noise=0.0)[0]["rates"]
    assert torch.equal(quiet.value, quiet.truth)


def _design(index: Tensor, sizes: tuple[int, ...]) -> np.ndarray:
    blocks = [np.ones((index.size(1), 1))]
    blocks += [np.eye(size)[row.numpy()] for row, size in zip(index, sizes, strict=True)]
    return np.hstack(blocks)


def _ridge(rows: np.ndarray, value: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(rows.T @ rows + penalty * np.eye(rows.shape[1]), rows.T @ value)


def test_values_can_be_recovered_but_not_by_biases(dataset: SyntheticMultiModal) -> None:
    relation = dataset[0].relation("rates")
    train, test = relation.mask("train"), relation.mask("test")
    design = _design(relation.index, relation.sizes)
    value, truth = relation.value.double().numpy(), dataset[0]["rates"].truth.numpy()[test]
    residual = value - design @ _ridge(design[train], value[train], 1.0)
    assert corr((value - residual)[test], truth) < 0.6
    users, items = relation.index[:, train].numpy()
    factors = np.random.default_rng(0).normal(size=(300, 4))
    for _ in range(10):  # alternating least squares
        left = np.stack([_ridge(factors[items[users == i]], residual[train][users == i], 1.0) for i in range(400)])
        factors = np.stack([_ridge(left[users[items == j]], residual[train][items == j], 1.0) for j in range(300)])
    u, v = relation.index[:, test].numpy()
    assert corr((value - residual)[test] + (left[u] * factors[v]).sum(1), truth) > 0.9


def test_positives_can_be_told_but_not_by_counts(dataset: SyntheticMultiModal) -> None:
    relation = dataset[0].relation("tags")
    train, test = relation.mask("train"), relation.mask("test")
    generator = torch.Generator().manual_seed(0)
    negative = torch.stack([torch.randint(size, (5000,), generator=generator) for size in relation.sizes])
    positive = relation.index[:, test]
    assert auc(dataset.score("tags", positive), dataset.score("tags", negative)) > 0.95
    counts = [torch.bincount(row, minlength=n) for row, n in zip(relation.index[:, train], relation.sizes, strict=True)]

    def popularity(index: Tensor) -> Tensor:
        return sum((c[row] + 1).log() for c, row in zip(counts, index, strict=True))  # type: ignore[return-value]

    assert auc(popularity(positive), popularity(negative)) < 0.9


def test_features_and_graphs_follow_the_communities(dataset: SyntheticMultiModal) -> None:
    data = dataset[0]
    community = dataset.truth["communities"]["user"]
    edge_index = data["user", "linked", "user"].edge_index
    assert (community[edge_index[0]] == community[edge_index[1]]).double().mean() > 0.8
    assert not (edge_index[0] == edge_index[1]).any()
    pairs = {(i, j) for i, j in edge_index.t().tolist()}
    assert {(j, i) for i, j in pairs} == pairs
    distance = torch.cdist(data["user"].x, data["user"].x)
    same = community.view(-1, 1) == community
    assert distance[same].mean() < 0.9 * distance[~same].mean()


def test_any_order_and_roles() -> None:
    relations = {
        "four": SyntheticRelation(("a", "b", "c", "d"), 30, valued=False),
        "follows": SyntheticRelation((("a", "from"), ("a", "to")), 25),
        "one": SyntheticRelation(("a",), 5),
    }
    dataset = SyntheticMultiModal({"a": 5, "b": 2, "c": 3, "d": 1}, relations, num_neighbors=0, rank=2)
    data = dataset[0]
    assert data.validate()
    assert [data.relation(name).order for name in relations] == [4, 2, 1]
    assert data.relation("four").num_hyperedges == 30
    assert data.relation("follows").roles == ("from", "to")
    assert data.edge_types == [slot for name in relations for slot in data.relation(name).slots]


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(size: int) -> None:
    relations = {
        "valued": SyntheticRelation(("a", "b"), size),
        "links": SyntheticRelation(("a", "b"), size, valued=False),
    }
    data = SyntheticMultiModal({"a": size, "b": size}, relations)[0]
    assert data.validate()
    assert len(data.relation("valued")) == len(data.relation("links")) == size


def test_transform() -> None:
    dataset = SyntheticMultiModal(transform=lambda data: data.subgraph({"user": torch.arange(3)}))
    assert dataset[0]["user"].item_id == ["user0", "user1", "user2"]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"rank": 0}, "'rank' must be at least 1"),
        ({"num_communities": 0}, "'num_communities' must be at least 1"),
        ({"noise": -1.0}, "'noise' must be at least 0"),
        ({"modalities": {"user": 3, "itm": 2}}, "unknown modality 'item'.*Did you mean 'itm'"),
        ({"relations": {"r": SyntheticRelation(("tag",), 61)}}, r"must be in \[0, 60\]"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SyntheticMultiModal(**kwargs)


def test_bad_score(dataset: SyntheticMultiModal) -> None:
    with pytest.raises(ValueError, match=r"no relation 'rate'.*Did you mean 'rates'"):
        dataset.score("rate", torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shape \[2, E\]"):
        dataset.score("rates", torch.zeros(3, 1, dtype=torch.long))
