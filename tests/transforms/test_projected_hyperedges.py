from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import ProjectedHyperedges

Make = Callable[..., MultiModalHeteroData]


def found(data: MultiModalHeteroData, name: str) -> dict[tuple[int, ...], list[int]]:
    """Pattern (and level) -> members."""
    item, hyperedge = data.relation(name).incidence(0)
    keys = data[name].pattern.tolist()
    if "level" in data[name]:
        keys = [[*key, level] for key, level in zip(keys, data[name].level.tolist(), strict=True)]
    return {tuple(key): item[hyperedge == e].tolist() for e, key in enumerate(keys)}


def plain(
    data: MultiModalHeteroData, name: str, slot: int, others: list[int], levels: bool
) -> tuple[dict[tuple[int, ...], list[int]], dict[tuple[int, ...], list[float]]]:
    """The same, tuple by tuple in Python; and the values behind each."""
    view = data.relation(name)
    members: list[list[list[int]]] = [[[] for _ in range(len(view))] for _ in range(view.order)]
    for s in range(view.order):
        for item, e in view.incidence(s).t().tolist():
            members[s][e].append(item)
    train = view.mask("train")
    values = [0.0] * len(view) if view.value is None else view.value.tolist()
    distinct = sorted({v for v, t in zip(values, train.tolist(), strict=True) if t})
    out, behind = defaultdict(set), defaultdict(list)
    for e in train.nonzero().view(-1).tolist():
        for item, *pattern in itertools.product(*(members[s][e] for s in (slot, *others))):
            key = (*pattern, distinct.index(values[e])) if levels else tuple(pattern)
            out[key].add(item)
            behind[key].append(values[e])
    return {key: sorted(items) for key, items in out.items()}, dict(behind)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=3),
    st.integers(0, 30),
    st.sampled_from(["r", "sets", "pairs"]),
    st.booleans(),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_equals_the_plain_version(
    make_data: Make, sizes: list[int], count: int, name: str, levels: bool, min_size: int, seed: int
) -> None:
    data = make_data(tuple(sizes), count, seed)
    view = data.relation(name)
    levels = levels and name == "r"
    slot = ("a", "to") if name == "pairs" else "a"
    at = 1 if name == "pairs" else 0
    others = [s for s in range(view.order) if s != at]
    out = ProjectedHyperedges(name, slot, levels=levels, min_size=min_size, max_size=4, name="new")(data)
    expected, behind = plain(data, name, at, others, levels)
    expected = {key: items for key, items in expected.items() if min_size <= len(items) <= 4}
    assert found(out, "new") == expected
    assert out["new"].count.tolist() == [len(behind[key]) for key in found(out, "new")]
    if name == "r":
        means = [sum(behind[key]) / len(behind[key]) for key in found(out, "new")]
        assert out["new"].mean_value.tolist() == pytest.approx(means)
    assert out.validate()
    assert "new" not in data.node_types
    assert not any(key.startswith("seen_by") for key in data[name])


def test_users_who_rated_a_film_with_four_or_more() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_modality("film", num_nodes=2)
    index = torch.tensor([[0, 1, 2, 3, 0, 0], [0, 0, 0, 0, 1, 0]])
    train = torch.tensor([True, True, True, False, True, True])
    data.add_hyperedges(
        "rates", index, modalities=("user", "film"), value=[5.0, 4.0, 3.0, 5.0, 5.0, 4.0], train_mask=train
    )
    liked = ProjectedHyperedges("rates", "user", min_value=4, weight="value", member_weight="count")(data)
    assert found(liked, "rates_user_by_film") == {(0,): [0, 1]}
    assert liked["rates_user_by_film"].weight.tolist() == pytest.approx([13 / 3])
    assert liked["user", "member", "rates_user_by_film"].edge_weight.tolist() == [2.0, 1.0]
    low = ProjectedHyperedges("rates", "user", max_value=3, min_size=1, weight="inverse", member_weight="value")(data)
    assert found(low, "rates_user_by_film") == {(0,): [2]}
    assert low["rates_user_by_film"].weight.tolist() == [1.0]
    assert low["user", "member", "rates_user_by_film"].edge_weight.tolist() == [3.0]
    counted = ProjectedHyperedges("rates", "film", weight="count", min_size=1)(data)
    assert counted["rates_film_by_user"].weight.tolist() == [3.0, 1.0, 1.0]
    again = ProjectedHyperedges("rates", "user", name="rates_user_by_film")(liked)  # replaces
    assert found(again, "rates_user_by_film") == {(0,): [0, 1, 2]}


def test_levels() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=6).add_modality("b", num_nodes=1)
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 99.0])
    mask = torch.tensor([True] * 5 + [False])  # the sixth must not count as a level
    data.add_hyperedges("r", {"a": range(6), "b": [0] * 6}, value=value, train_mask=mask)

    def of(levels: Any) -> list[list[int]]:
        return list(found(ProjectedHyperedges("r", "a", levels=levels, min_size=1, name="n")(data), "n").values())

    assert of(True) == [[0], [1], [2], [3], [4]]
    assert of([2.0, 4.5]) == [[0, 1], [2, 3], [4]]
    assert of(2) == [[0, 1, 2], [3, 4]]
    assert of(1) == [[0, 1, 2, 3, 4]]
    assert of(False) == [[0, 1, 2, 3, 4]]
    many = torch.arange(101.0)
    data.add_hyperedges("m", {"a": [0] * 101, "b": [0] * 101}, value=many, train_mask=[True] * 101)
    with pytest.raises(ValueError, match="101 distinct training values"):
        ProjectedHyperedges("m", "a", levels=True)(data)


def test_patterns_of_some_slots(make_data: Make) -> None:
    data = make_data((4, 3, 2), 40, 1)
    for by, others in (("b", [1]), (["c", "b"], [2, 1])):
        out = ProjectedHyperedges("r", "a", by, min_size=1)(data)
        name = "r_a_by_" + "_".join([by] if isinstance(by, str) else by)
        assert found(out, name) == plain(data, "r", 0, others, False)[0]
    named = ProjectedHyperedges("pairs", ("a", "from"))(data)
    assert "pairs_from_by_to" in named.hyperedge_types


def test_sizes_beyond_63_bits() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=3)
    for name in "bcd":
        data.add_modality(name, num_nodes=2**31)
    last = 2**31 - 1
    members = {"a": [0, 1, 2], "b": [last, last, 0], "c": [last] * 3, "d": [last] * 3}
    data.add_hyperedges("r", members, train_mask=[True] * 3)
    assert found(ProjectedHyperedges("r", "a", name="n")(data), "n") == {(last, last, last): [0, 1]}


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(make_data: Make, size: int) -> None:
    data = make_data((size, size), size, 0)
    data["r"].train_mask[:] = True
    for levels in (False, True, 3):
        out = ProjectedHyperedges("r", "a", levels=levels, min_size=1, weight="inverse", member_weight="value")(data)
        assert out["r_a_by_b"].num_nodes == size
        assert out.validate()
    data["r"].train_mask[:] = False
    assert ProjectedHyperedges("r", "a", levels=True)(data)["r_a_by_b"].num_nodes == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (("rr", "a"), {}, "no relation 'rr'"),
        (("r", "z"), {}, "relation 'r' has no modality 'z'"),
        (("pairs", "a"), {}, "'a' fills several slots of relation 'pairs'"),
        (("pairs", ("a", "too")), {}, "no slot .*'too'"),
        (("r", "a", "a"), {}, "'by' must name other slots"),
        (("r", "a", []), {}, "'by' must name other slots"),
        (("alone", "a"), {}, "has one slot only"),
        (("alone", "a"), {"min_size": 0}, "'min_size' must be at least 1"),
        (("alone", "a"), {"max_size": 1}, "'min_size' must be at least 1, and at most 'max_size'"),
        (("r", "a"), {"weight": "cout"}, "'weight' must be one of.*Did you mean 'count'"),
        (("r", "a"), {"member_weight": "inverse"}, "'member_weight' must be one of"),
        (("r", "a"), {"levels": 0}, "'levels' must be a bool, at least 1"),
        (("pairs", ("a", "to")), {"levels": True}, "relation 'pairs' has no 'value'"),
        (("pairs", ("a", "to")), {"min_value": 1}, "relation 'pairs' has no 'value'"),
        (("r", "a"), {"name": "b"}, "'b' is already present"),
        (("open", "a"), {}, "'train_mask' is missing from relation 'open'"),
    ],
)
def test_bad_arguments(make_data: Make, args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    data = make_data((3, 3), 4, 0)
    data.add_hyperedges("alone", {"a": [0]}, train_mask=[True]).add_hyperedges("open", {"a": [0], "b": [0]})
    with pytest.raises(ValueError, match=text):
        ProjectedHyperedges(*args, **kwargs)(data)


def test_repr() -> None:
    assert repr(ProjectedHyperedges("r", "a")) == "ProjectedHyperedges('r', 'a', levels=False)"
    assert repr(ProjectedHyperedges("r", "a", "b")) == "ProjectedHyperedges('r', 'a', by='b', levels=False)"
