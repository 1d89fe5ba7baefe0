from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.transforms import RandomRelationSplit

SPLITS = ("train", "val", "test")


def relation(index: torch.Tensor, **attrs: Any) -> MultiModalHeteroData:
    data = MultiModalHeteroData().add_modality("a", num_nodes=5).add_modality("b", num_nodes=5)
    return data.add_hyperedges("r", index, modalities=("a", "b"), **attrs)


def counts(view: Relation) -> list[int]:
    return [int(view.mask(split).sum()) for split in SPLITS]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 60), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 99))
def test_parts_are_disjoint_complete_and_do_not_leak(count: int, val: float, test: float, seed: int) -> None:
    index = torch.randint(5, (2, count), generator=torch.Generator().manual_seed(seed))
    view = RandomRelationSplit("r", val=val, test=test, seed=seed)(relation(index)).relation("r")
    masks = torch.stack([view.mask(split) for split in SPLITS])
    assert masks.sum(dim=0).eq(1).all()
    parts = [set(zip(*index[:, mask].tolist(), strict=True)) for mask in masks]
    distinct = len(set().union(*parts))
    assert sum(map(len, parts)) == distinct
    assert [len(part) for part in parts[1:]] == [round(val * distinct), round(test * distinct)]


def test_seed() -> None:
    data = relation(torch.stack([torch.arange(25) // 5, torch.arange(25) % 5]))
    first, again, other = (RandomRelationSplit("r", seed=seed)(data)["r"].train_mask for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert "train_mask" not in data["r"]


def test_every_relation_and_ragged_ones() -> None:
    data = relation(torch.zeros(2, 4, dtype=torch.long))
    data.add_hyperedges("sets", {"a": [[0, 1], [1, 0], [], [2], [1, 0, 0]]}, train_mask=[True] * 5)
    out = RandomRelationSplit(val=0.25, test=0.25)(data)
    assert out["sets"].train_mask[0] == out["sets"].train_mask[1]  # the same members
    masks = torch.stack([out["sets"][f"{split}_mask"] for split in SPLITS])
    assert masks.sum(dim=0).eq(1).all()
    assert masks[1:, [0, 2, 3, 4]].sum(dim=1).tolist() == [1, 1]  # of the four distinct ones
    assert sum(bool(out["r"][f"{split}_mask"].all()) for split in SPLITS) == 1
    assert out.validate()


def test_several_named_relations_leave_the_others_alone(make_data: Callable[..., MultiModalHeteroData]) -> None:
    data = make_data((4, 3, 2), 20, 0)
    out = RandomRelationSplit(["r", "sets"], seed=5)(data)
    assert not torch.equal(out["r"].train_mask, data["r"].train_mask)
    assert out["pairs"].train_mask is data["pairs"].train_mask


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(0, 40), st.floats(0, 0.45), st.floats(0, 0.45), st.integers(0, 99))
def test_cold_items_have_no_training_tuple(
    make_data: Callable[..., MultiModalHeteroData], size: int, count: int, val: float, test: float, seed: int
) -> None:
    data = make_data((size, 4), count, seed)
    data = RandomRelationSplit(by="item", modality="a", val=val, test=test, seed=seed)(data)
    views = [data.relation(name) for name in ("r", "pairs", "sets")]
    ends = [(view, slot) for view in views for slot, m in enumerate(view.modalities) if m == "a"]
    used = torch.cat([view.incidence(slot)[0] for view, slot in ends]).unique().numel()
    store = data["a"]
    assert [int(store.val_mask.sum()), int(store.test_mask.sum())] == [round(val * used), round(test * used)]
    assert (store.train_mask.int() + store.val_mask.int() + store.test_mask.int()).eq(1).all()
    for view, slot in ends:
        item, hyperedge = view.incidence(slot)
        assert store.train_mask[item[view.mask("train")[hyperedge]]].all()
        assert not store.test_mask[item[view.mask("val")[hyperedge]]].any()
        cold = torch.zeros(len(view), dtype=torch.bool).index_fill(0, hyperedge[~store.train_mask[item]], True)
        assert (cold <= ~view.mask("train")).all()
    assert data.validate()


def test_a_role_holds_out_one_slot_only() -> None:
    data = MultiModalHeteroData().add_modality("u", num_nodes=4)
    data.add_hyperedges("f", {("u", "from"): [0, 1, 2, 3], ("u", "to"): [1, 2, 3, 0]})
    out = RandomRelationSplit("f", by="item", modality=("u", "from"), val=0, test=0.25)(data)
    assert counts(out.relation("f")) == [3, 0, 1]
    both = RandomRelationSplit("f", by="item", modality="u", val=0, test=0.25)(data)
    assert counts(both.relation("f")) == [2, 0, 2]


def test_the_latest_are_the_test() -> None:
    index = torch.stack([torch.arange(20) // 5, torch.arange(20) % 5])
    time = torch.arange(20).flip(0) + 2**60  # more digits than a double has
    view = RandomRelationSplit("r", by="time", val=0.2, test=0.1)(relation(index, time=time)).relation("r")
    assert view.mask("test").nonzero().view(-1).tolist() == [0, 1]
    assert view.mask("val").nonzero().view(-1).tolist() == [2, 3, 4, 5]
    assert counts(view) == [14, 4, 2]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6), max_size=30), st.floats(0, 0.45), st.floats(0, 0.45))
@pytest.mark.filterwarnings("ignore:equal times must not straddle")
def test_equal_times_never_straddle_and_order_holds(time: list[int], val: float, test: float) -> None:
    index = torch.stack([torch.arange(len(time)) // 5 % 5, torch.arange(len(time)) % 5])
    data = relation(index, time=torch.tensor(time).long())
    view = RandomRelationSplit("r", by="time", val=val, test=test)(data).relation("r")
    parts = [[t for t, m in zip(time, view.mask(split).tolist(), strict=True) if m] for split in SPLITS]
    for before, after in ((0, 1), (1, 2), (0, 2)):
        assert not parts[before] or not parts[after] or max(parts[before]) < min(parts[after])
    assert not time or parts[0]


def test_ties_that_move_a_cut_far_are_told() -> None:
    index = torch.stack([torch.arange(20) // 5, torch.arange(20) % 5])
    with pytest.warns(UserWarning, match="'test' holds 0 of 20 tuples"):
        data = RandomRelationSplit("r", by="time", val=0, test=0.2)(relation(index, time=torch.zeros(20)))
    assert counts(data.relation("r")) == [20, 0, 0]
    data = RandomRelationSplit("r", by="time", val=0, test=0.2)(relation(index, time=torch.arange(20) // 3))
    assert counts(data.relation("r")) == [15, 0, 5]  # times 5 and 6: 3 + 2


def test_a_tuple_that_comes_back_is_in_no_part() -> None:
    index = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 0, 0, 0]])
    data = RandomRelationSplit("r", by="time", val=0, test=0.4)(relation(index, time=torch.arange(5)))
    assert data["r"].train_mask.tolist() == [True, True, True, False, False]
    assert data["r"].test_mask.tolist() == [False, False, False, True, False]


def test_several_relations_have_one_cut() -> None:
    data = relation(torch.tensor([[0, 1], [0, 1]]), time=torch.tensor([0, 1]))
    data.add_hyperedges("s", {"a": [0, 1], "b": [0, 1]}, time=torch.tensor([2.0, 3.0]))
    out = RandomRelationSplit(by="time", val=0, test=0.5)(data)
    assert out["r"].train_mask.all()
    assert out["s"].test_mask.all()


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("kwargs", [{}, {"by": "item", "modality": "a"}, {"by": "time", "relation": "r"}])
def test_small_sizes(make_data: Callable[..., MultiModalHeteroData], size: int, kwargs: dict[str, Any]) -> None:
    data = RandomRelationSplit(**kwargs)(make_data((size, size), size, 0))
    assert data["r"].train_mask.tolist() == [True] * size
    assert data.validate()
    assert RandomRelationSplit()(MultiModalHeteroData()).hyperedge_types == []
    assert RandomRelationSplit(by="time")(MultiModalHeteroData()).hyperedge_types == []


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (0.1, 1.0), (float("nan"), 0.1)])
def test_bad_shares(val: float, test: float) -> None:
    with pytest.raises(ValueError, match="'val' and 'test' must be at least 0 with a sum below 1"):
        RandomRelationSplit("r", val=val, test=test)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"relation": "rr"}, "no relation 'rr'"),
        ({"by": "itm"}, "'by' must be one of .*Did you mean 'item'"),
        ({"by": "item"}, "'modality' goes with by='item'"),
        ({"modality": "a"}, "'modality' goes with by='item'"),
        ({"by": "item", "modality": "z"}, "no modality 'z'"),
        ({"by": "item", "modality": "c"}, "modality 'c' is in no relation"),
        ({"by": "item", "modality": "c", "relation": "r"}, "relation 'r' has no modality 'c'"),
        ({"by": "item", "modality": ("a", "x")}, r"modality \('a', 'x'\) is in no relation.*slots"),
        ({"by": "time"}, "relation 'r' has no 'time'"),
        ({"by": "time", "relation": "t"}, "'time' of 't' must be finite.*position 1"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], text: str) -> None:
    data = relation(torch.zeros(2, 1, dtype=torch.long)).add_modality("c", num_nodes=1)
    data.add_hyperedges("t", {"a": [0, 1], "b": [0, 1]}, time=torch.tensor([0.0, 1.0]))
    data["t"].time = torch.tensor([0.0, torch.nan])
    with pytest.raises(ValueError, match=text):
        RandomRelationSplit(**kwargs)(data)


def test_by_role_all_relations_with_that_slot_are_split() -> None:
    data = relation(torch.tensor([[0, 1], [0, 1]]))
    data.add_hyperedges("cites", {("a", "from"): [0, 1, 2, 3], ("a", "to"): [1, 2, 3, 0]})
    out = RandomRelationSplit(by="item", modality=("a", "to"), val=0, test=0.5)(data)
    assert int(out["cites"].test_mask.sum()) == 2
    assert "test_mask" not in out["r"]


def test_repr() -> None:
    assert repr(RandomRelationSplit("rr")) == "RandomRelationSplit('rr', val=0.1, test=0.1, seed=0)"
    cold = RandomRelationSplit(by="item", modality="a")
    assert repr(cold) == "RandomRelationSplit(None, val=0.1, test=0.1, seed=0, by='item', modality='a')"
