from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import CoOccurrenceGraph, co_occurrence_graph


def weights(data: MultiModalHeteroData, modality: str) -> dict[tuple[int, int], float]:
    store = data[modality, "cooccurs", modality]
    return {(i, j): w for (i, j), w in zip(store.edge_index.t().tolist(), store.edge_weight.tolist(), strict=True)}


def random_data(sizes: list[int], count: int, seed: int) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    for name, size in zip("abc", sizes, strict=False):
        data.add_modality(name, num_nodes=size)
    index = torch.stack([torch.randint(size, (count,), generator=generator) for size in sizes])
    mask = torch.rand(count, generator=generator) < 0.7
    return data.add_hyperedges("r", index, modalities=tuple("abc"[: len(sizes)]), train_mask=mask)


def similarity(data: MultiModalHeteroData) -> torch.Tensor:
    """Cosine of the companies of the items of 'a', dense and plain."""
    relation = data.relation("r")
    index = relation.index[:, relation.mask("train")]
    blocks = []
    for slot in range(1, relation.order):
        block = torch.zeros(relation.sizes[0], relation.sizes[slot], dtype=torch.float64)
        for i, j in index[[0, slot]].t().tolist():
            block[i, j] = 1
        blocks.append(block)
    company = torch.nn.functional.normalize(torch.cat(blocks, dim=1), dim=1)
    return company @ company.T


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=3), st.integers(0, 30), st.integers(1, 4), st.integers(0, 99))
def test_equals_the_plain_version(sizes: list[int], count: int, k: int, seed: int) -> None:
    data = random_data(sizes, count, seed)
    dense = similarity(data)
    found = weights(CoOccurrenceGraph("r", "a", k=k)(data), "a")
    for (i, j), w in found.items():
        assert i != j
        assert w == pytest.approx(float(dense[i, j]), abs=1e-6)
        assert found[j, i] == w
    for i in range(sizes[0]):  # the k best of every item are there, whatever the order of ties
        others = sorted((float(dense[i, j]) for j in range(sizes[0]) if j != i and dense[i, j] > 0), reverse=True)[:k]
        mine = sorted((w for (a, _), w in found.items() if a == i), reverse=True)
        assert mine[: len(others)] == pytest.approx(others, abs=1e-6)


def test_held_out_tuples_are_never_read() -> None:
    data = random_data([20, 10, 5], 200, 0)
    before = weights(CoOccurrenceGraph("r", "a")(data), "a")
    held = ~data["r"].train_mask
    for slot in data.relation("r").slots:
        data[slot].edge_index[0, held] = 0
    assert weights(CoOccurrenceGraph("r", "a")(data), "a") == before


def test_the_relation_remembers_what_was_seen() -> None:
    data = CoOccurrenceGraph("r", "a")(random_data([5, 4], 9, 0))
    assert torch.equal(data["r"].seen_by_a_cooccurs, data["r"].train_mask)
    assert data["r"].seen_by_a_cooccurs is not data["r"].train_mask


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data([20, 10, 5], 200, 0)
    whole = weights(CoOccurrenceGraph("r", "a", k=3)(data), "a")
    monkeypatch.setattr(co_occurrence_graph, "_ROWS", 7)
    assert weights(CoOccurrenceGraph("r", "a", k=3)(data), "a") == whole


def test_columns_that_many_share_are_left_out() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=4).add_modality("b", num_nodes=2)
    index = torch.tensor([[0, 1, 2, 3, 0, 1], [0, 0, 0, 0, 1, 1]])
    data.add_hyperedges("r", index, modalities=("a", "b"), train_mask=torch.ones(6, dtype=torch.bool))
    assert len(weights(CoOccurrenceGraph("r", "a", max_degree=None)(data), "a")) == 12
    assert weights(CoOccurrenceGraph("r", "a", max_degree=3)(data), "a") == {(0, 1): 1.0, (1, 0): 1.0}


def test_members_of_one_hyperedge_and_roles() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=4)
    mask = torch.tensor([True, True, False])
    data.add_hyperedges("teams", {"a": [[0, 1], [2], [2, 3]]}, train_mask=mask)
    assert weights(CoOccurrenceGraph("teams", "a")(data), "a") == {(0, 1): 1.0, (1, 0): 1.0}
    data.add_hyperedges("follows", {("a", "from"): [0, 1, 3], ("a", "to"): [2, 2, 2]}, train_mask=mask)
    assert weights(CoOccurrenceGraph("follows", "a")(data), "a") == {(0, 1): 1.0, (1, 0): 1.0}
    data.add_hyperedges("alone", {"a": [0, 1, 2]}, train_mask=mask)
    assert weights(CoOccurrenceGraph("alone", "a")(data), "a") == {}


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(size: int) -> None:
    data = random_data([size, size], size, 0) if size else MultiModalHeteroData().add_modality("a", num_nodes=0)
    if not size:
        data.add_modality("b", num_nodes=0)
        data.add_hyperedges("r", {"a": [], "b": []}, train_mask=[])
    assert weights(CoOccurrenceGraph("r", "a")(data), "a") == {}
    assert CoOccurrenceGraph("r", "a")(data).validate()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("r", "a", 0), "'k' must be at least 1"),
        (("rr", "a"), "no relation 'rr'"),
        (("r", "z"), "relation 'r' has no modality 'z'"),
        (("open", "a"), "'train_mask' is missing from relation 'open'.*RandomRelationSplit"),
    ],
)
def test_bad_arguments(args: tuple[Any, ...], text: str) -> None:
    data = random_data([2, 2], 3, 0).add_hyperedges("open", {"a": [0]})
    with pytest.raises(ValueError, match=text):
        CoOccurrenceGraph(*args)(data)


def test_repr() -> None:
    assert repr(CoOccurrenceGraph("r", "a", 3)) == "CoOccurrenceGraph('r', 'a', k=3)"
