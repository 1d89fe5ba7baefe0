from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_sparse_tensor, to_sparse_tensor


@settings(deadline=None, max_examples=25)
@given(draw=st.data(), duplicates=st.sampled_from(["sum", "mean", "first", "last"]))
def test_equals_a_loop_and_goes_round(arbitrary: Any, draw: st.DataObject, duplicates: Any) -> None:
    data = draw.draw(arbitrary(uniform=True))
    for name in data.hyperedge_types:
        view = data.relation(name)
        value = torch.ones(len(view)) if view.value is None else view.value
        cells: dict[tuple[int, ...], list[float]] = {}
        for key, v in zip(view.index.t().tolist(), value.tolist(), strict=True):
            cells.setdefault(tuple(key), []).append(v)
        merge = {"sum": sum, "mean": lambda v: sum(v) / len(v), "first": lambda v: v[0], "last": lambda v: v[-1]}
        tensor = to_sparse_tensor(data, name, duplicates=duplicates)
        assert tensor.shape == view.sizes
        assert tensor.is_coalesced()
        assert tensor.indices().t().tolist() == sorted(map(list, cells))
        found = {tuple(k): v for k, v in zip(tensor.indices().t().tolist(), tensor.values().tolist(), strict=True)}
        assert found == pytest.approx({key: merge[duplicates](v) for key, v in cells.items()}, abs=1e-6)
        slots: Any = [m if r is None else (m, r) for m, r in zip(view.modalities, view.roles, strict=True)]
        back = from_sparse_tensor(tensor, slots, relation=name)
        assert back.relation(name).slots == view.slots
        again = to_sparse_tensor(back, name)
        assert torch.equal(again.indices(), tensor.indices())
        assert torch.equal(again.values(), tensor.values())


def test_forms_that_are_taken(small: MultiModalHeteroData) -> None:
    cells = torch.tensor([[0.0, 2], [3, 0]])
    assert from_sparse_tensor(cells, ("a", "b"))["hyperedge"].value.tolist() == [2, 3]
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2), check_invariants=True)
    assert from_sparse_tensor(twice, ("a", "b"))["hyperedge"].value.tolist() == [1, 2]
    zero_one = from_sparse_tensor(twice, (("a", "x"), ("a", "y")), value=False)
    assert zero_one.relation("hyperedge").value is None
    assert zero_one["a"].num_nodes == 2
    data = from_sparse_tensor(torch.ones(3, 4), ("film", "user"), relation="liked", data=small)
    assert len(data.relation("liked")) == 12
    assert "liked" not in small.node_types
    with pytest.raises(ValueError, match=r"slot 'film' of 'liked' must have 3 items, as modality 'film' \(got 4\)"):
        from_sparse_tensor(torch.ones(4, 4), ("film", "user"), relation="liked", data=small)


def test_duplicates_are_an_error_unless_asked(small: MultiModalHeteroData) -> None:
    small.add_hyperedges("twice", torch.tensor([[0, 1, 0], [1, 2, 1]]), modalities=("user", "film"), value=[1, 2, 3])
    with pytest.raises(ValueError, match=r"holds the tuple \[0, 1\] at 0 and at 2 \(1 such\): pass duplicates='sum'"):
        to_sparse_tensor(small, "twice")
    assert to_sparse_tensor(small, "twice", duplicates="last").to_dense()[0, 1] == 3


def test_errors(small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match="'duplicates' must be one of"):
        to_sparse_tensor(small, "rates", duplicates="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="relation 'visits' has no index"):
        to_sparse_tensor(small, "visits")
    with pytest.raises(ValueError, match=r"must name a slot for each dimension .* \(got 1 for shape \[2, 2\]"):
        from_sparse_tensor(torch.ones(2, 2), ("a",))
    with pytest.raises(ValueError, match="1 sparse dimensions"):
        from_sparse_tensor(torch.ones(2, 2).to_sparse(1), ("a", "b"))
    big = MultiModalHeteroData()
    for name in "abc":
        big.add_modality(name, num_nodes=2**22)
    big.add_hyperedges("r", torch.zeros(3, 1).long(), modalities=("a", "b", "c"))
    with pytest.raises(ValueError, match="no 2\\^63 cells"):
        to_sparse_tensor(big, "r")


def test_size_zero() -> None:
    data = from_sparse_tensor(torch.empty(0, 3), ("a", "b"))
    assert data["a"].num_nodes == 0
    assert len(data.relation("hyperedge")) == 0
    assert to_sparse_tensor(data, "hyperedge").shape == (0, 3)
