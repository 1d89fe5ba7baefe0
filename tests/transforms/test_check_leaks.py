from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.nn.models.inputs import Tuples
from hyperlearn_pyg.nn.models.start import mean_value, start_biases, start_factors
from hyperlearn_pyg.transforms import (
    CliqueExpansion,
    CoOccurrenceGraph,
    KNNGraph,
    ProjectedHyperedges,
    RandomRelationSplit,
    StarExpansion,
    check_leaks,
)

Make = Callable[..., MultiModalHeteroData]

GRAPHS = T.Compose(
    [
        CoOccurrenceGraph("r", "a", k=2),
        CoOccurrenceGraph("sets", "b", k=2),
        ProjectedHyperedges("r", "a", levels=True, weight="value"),
        ProjectedHyperedges("sets", "b", min_size=1),
        CliqueExpansion(["r", "pairs", "sets"]),
    ]
)


def small(seed: int) -> MultiModalHeteroData:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 60),
        "tags": SyntheticRelation(("user", "item", "tag"), 50, valued=False),
    }
    return SyntheticMultiModal({"user": 12, "item": 10, "tag": 4}, relations, num_features=3, seed=seed)[0]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=3), st.integers(0, 25), st.integers(0, 99))
def test_no_graph_depends_on_held_out_tuples(make_data: Make, sizes: list[int], count: int, seed: int) -> None:
    data = make_data(tuple(sizes), count, seed)
    for slot in data.relation("sets").slots:
        data[slot].edge_weight = torch.rand(data[slot].edge_index.size(1))
    assert check_leaks(RandomRelationSplit(seed=seed)(data), GRAPHS, seed=seed)
    assert check_leaks(RandomRelationSplit(seed=seed)(data), StarExpansion("r"), seed=seed)


@pytest.mark.parametrize("preset", ["default", "paper", "links"])
def test_no_bias_and_no_start_of_the_model_depends_on_held_out_tuples(preset: str) -> None:
    data = small(0)
    data = CoOccurrenceGraph("tags", "user", k=3)(data)

    def made(data: MultiModalHeteroData) -> Any:
        model = HyperLearn.from_data(data, rank=3, preset=preset)
        inputs = model.prepare(data, splits=("train",))
        levels = {name: spec.boundaries for name, spec in model.relations.items()}
        return model, levels, {name: branch.edge_index for name, branch in inputs.branches.items()}

    assert check_leaks(data, made)
    assert check_leaks(data, lambda data: HyperLearn.from_data(data, rank=3, preset=preset))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.sampled_from(["tuple", "item", "time"]))
@pytest.mark.filterwarnings("ignore:equal times must not straddle")
def test_start_values_of_any_split(seed: int, by: str) -> None:
    data = small(seed % 5)
    for name in data.hyperedge_types:
        data[name].time = torch.randint(9, (data[name].num_nodes,), generator=torch.Generator().manual_seed(seed))
    data = RandomRelationSplit(by=by, modality="user" if by == "item" else None, seed=seed)(data)

    def made(data: MultiModalHeteroData) -> Any:
        out = []
        for name in data.hyperedge_types:
            view = data.relation(name)
            known = Tuples(view.index, view.value, view.weight).take(view.mask("train").nonzero().view(-1))
            out += [mean_value(known), start_biases(known, view.sizes), start_factors(known, view.sizes, 3)]
        return out

    assert check_leaks(data, made, cold="user" if by == "item" else None, in_time=by == "time")


def test_a_function_that_reads_held_out_tuples_is_found() -> None:
    data = small(0)

    def leaky(key: str) -> Callable[[MultiModalHeteroData], Any]:
        return {
            "tensor": lambda d: {"mean": d["rates"].value.mean()},
            "array": lambda d: [np.bincount(d.relation("rates").index[0].numpy())],
            "number": lambda d: float(d["rates"].value.sum()),
            "data": lambda d: CliqueExpansion("rates")(_without_masks(d)),
            "module": lambda d: HyperLearn.from_data(_without_masks(d), rank=2),
            "length": lambda d: list(range(int(d["rates"].value.sum() * 1000))),
            "keys": lambda d: {int(d["rates"].value.sum() * 1000): 0},
            "type": lambda d: 0 if float(d["rates"].value.max()) > 20 else "0",
            "shape": lambda d: torch.zeros(int(d["rates"].value.sum().abs() * 10)),
            "graph": lambda d: StarExpansion("rates")(_without_masks(d)),
        }[key]

    for key in ("tensor", "array", "number", "data", "module", "length", "keys", "type", "shape", "graph"):
        with pytest.raises(ValueError, match=r"the result of 'make'.* depends on held-out tuples"):
            check_leaks(data, leaky(key))
    assert check_leaks(
        data, lambda d: (d["rates"].value[d["rates"].train_mask].mean(), "text", torch.nan * torch.ones(1))
    )


def _without_masks(data: MultiModalHeteroData) -> MultiModalHeteroData:
    for name in data.hyperedge_types:
        for split in ("train", "val", "test"):
            data[name].pop(f"{split}_mask", None)
    return data


def test_what_make_does_leaves_data_and_generator_alone() -> None:
    data, state = small(0), torch.get_rng_state()
    value = data["rates"].value.clone()
    assert check_leaks(data, lambda d: torch.rand(3))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(value, data["rates"].value)


@pytest.mark.parametrize(
    "transform",
    [
        CoOccurrenceGraph("rates", "user"),
        ProjectedHyperedges("rates", "user", name="who liked it?"),
        CliqueExpansion("rates"),
    ],
)
def test_a_graph_made_before_the_split_is_found(transform: T.BaseTransform) -> None:
    data = transform(small(0))
    assert check_leaks(data)
    later = RandomRelationSplit("rates", seed=3)(data)
    with pytest.raises(ValueError, match=r"was made from .* hyperedges of relation 'rates' that are held out now"):
        check_leaks(later)
    with pytest.raises(ValueError, match="was made from"):
        check_leaks(Batch.from_data_list([data, later]))
    assert check_leaks(transform(later))


def test_a_renamed_graph_counts() -> None:
    for transform, old in ((ProjectedHyperedges("tags", "user", by="tag"), "tags_user_by_tag"), (None, "user")):
        data = (transform or CoOccurrenceGraph("tags", "user"))(small(0)).rename(old, "new name")
        later = RandomRelationSplit("tags", seed=3)(data)
        with pytest.raises(ValueError, match=r"graph or set .*new name.* was made from .* make it after the split"):
            check_leaks(later)


def test_a_graph_moved_by_hand_counts_until_its_mark_is_cleared() -> None:
    data = RandomRelationSplit("rates", seed=3)(CoOccurrenceGraph("rates", "user")(small(0)))
    data["user", "friend", "user"].edge_index = data["user", "cooccurs", "user"].edge_index
    del data["user", "cooccurs", "user"]
    with pytest.raises(
        ValueError, match=r"none of that name .* clear .*del data\['rates'\]\['seen_by_user_cooccurs'\]"
    ):
        check_leaks(data)
    del data["rates"]["seen_by_user_cooccurs"]
    assert check_leaks(data)


def test_a_graph_that_was_removed_does_not_count() -> None:
    data = RandomRelationSplit("tags", seed=3)(ProjectedHyperedges("tags", "user", by="tag")(small(0)))
    assert check_leaks(data.remove_hyperedges("tags_user_by_tag"))


def test_parts_that_overlap_are_found() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2)
    data.add_hyperedges("s", {"a": [[0, 1], [1, 0], [1], []]}, train_mask=[True] + [False] * 3)
    data["s"].test_mask = torch.tensor([False, True, True, False])
    with pytest.raises(ValueError, match=r"'s': 1 tuples are in more than one part, such as that of hyperedge 0"):
        check_leaks(data)
    data["s"].test_mask = torch.tensor([True, False, False, False])
    with pytest.warns(UserWarning, match="'s': 1 hyperedges are in two parts, such as 0"):
        assert not check_leaks(data, raise_on_error=False)


def test_what_splits_promise(make_data: Make) -> None:
    data = RandomRelationSplit(val=0.2, test=0.2)(make_data((6, 4), 40, 0))
    with pytest.raises(ValueError, match="held-out hyperedges name only items of 'a' that have a training tuple"):
        check_leaks(data, cold="a")
    with pytest.raises(ValueError, match="held-out hyperedges are earlier than the last training tuple"):
        check_leaks(data, in_time=True)
    with pytest.raises(ValueError, match="no modality 'z'"):
        check_leaks(data, cold="z")
    cold = RandomRelationSplit(by="item", modality="a", val=0.2, test=0.2)(data)
    assert check_leaks(cold, cold="a")
    role = RandomRelationSplit("pairs", by="item", modality=("a", "to"), val=0.2, test=0.2)(data)
    assert check_leaks(role, cold=("a", "to"))
    time = RandomRelationSplit("r", by="time", val=0.2, test=0.2)(data)
    assert check_leaks(time, in_time=True)


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(make_data: Make, size: int) -> None:
    assert check_leaks(make_data((size, size), size, 0), GRAPHS, cold="a", in_time=True)
    assert check_leaks(MultiModalHeteroData(), KNNGraph())
    assert check_leaks(MultiModalHeteroData(), in_time=True)
    with pytest.raises(ValueError, match=r"'in_time' is True, and no relation has 'time' .*'rates': "):
        check_leaks(small(0), in_time=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=3000)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.integers(0, 40),
    st.sampled_from(["tuple", "item", "time"]),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.integers(0, 10**6),
)
@pytest.mark.filterwarnings("ignore:equal times must not straddle")
def test_no_split_of_anything_leaks(
    make_data: Make, sizes: list[int], count: int, by: str, val: float, test: float, seed: int
) -> None:
    data = make_data(tuple(sizes), count, seed)
    relation, modality = ("r" if by == "time" else None), ("a" if by == "item" else None)
    data = RandomRelationSplit(relation, by=by, modality=modality, val=val, test=test, seed=seed)(data)
    if by == "time":  # the others keep masks that are no split
        data.remove_hyperedges("pairs").remove_hyperedges("sets")
    assert check_leaks(data, KNNGraph(k=2), cold=modality, in_time=by == "time", seed=seed)
    for name in data.hyperedge_types:
        masks = torch.stack([data[name][f"{split}_mask"] for split in ("train", "val", "test")])
        assert masks.sum(dim=0).le(1).all()
        assert by == "time" or masks.sum(dim=0).eq(1).all()
        data = CoOccurrenceGraph(name, "a", k=2)(data)
        if data.relation(name).order > 1:
            slot = data.relation(name).roles[0]
            data = ProjectedHyperedges(name, ("a", slot) if slot else "a", name=f"by_{name}", min_size=1)(data)
    assert check_leaks(data, CliqueExpansion(data.hyperedge_types[0]), seed=seed)
