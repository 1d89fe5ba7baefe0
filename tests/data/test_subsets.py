from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, HeteroData
from torch_geometric.transforms import ToUndirected

from hyperlearn_pyg.data import MultiModalHeteroData


def test_items_and_hyperedges_in_one_call(town: MultiModalHeteroData) -> None:
    mask = torch.tensor([True, True, False, False, False])
    out = town.subgraph({"user": mask, "film": torch.tensor([2, 0]), "rates": torch.tensor([2, 1, 0])})
    assert out.validate()
    assert out.relation("rates").index.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert out["rates"].value.tolist() == [3.0, 2.0, 1.0]
    assert out["rates"].train_mask.tolist() == [True, False, True]
    # The memberships keep the order they have in 'data', and so do their weights.
    assert out["user", "member", "rates"].edge_index.tolist() == [[0, 0, 1], [2, 1, 0]]
    assert out["user", "member", "rates"].edge_weight.tolist() == [1.0, 2.0, 3.0]
    assert out["film"].item_id == ["z", "x"]
    assert out["film"].item_label == ["u", "u"]
    assert out["user"].item_id == ["a", "b"]
    assert out["user", "knn", "user"].edge_weight.tolist() == [pytest.approx(0.1), pytest.approx(0.2)]
    assert out["tag"].x is town["tag"].x
    assert out.year == 2026
    assert town["user"].num_nodes == 5
    assert town.validate()


@pytest.mark.parametrize(
    ("rule", "rates", "visits", "follows", "marks"),
    [
        ("keep", 3, 3, 2, 1),
        ("drop", 1, 2, 0, 1),  # the empty visit and that of user 3 lose nothing
        (0, 3, 3, 2, 1),
        (1, 3, 3, 2, 1),
        (2, 1, 3, 0, 1),
        (3, 1, 3, 0, 1),
        (4, 1, 2, 0, 1),
        ({"rates": "drop", "visits": 4}, 1, 2, 2, 1),
        ({}, 3, 3, 2, 1),
    ],
)
def test_a_hyperedge_that_loses_members(
    town: MultiModalHeteroData, rule: Any, rates: int, visits: int, follows: int, marks: int
) -> None:
    out = town.subgraph({"user": [1, 2, 3, 4]}, hyperedges=rule)
    assert out.validate()
    counts = {"rates": rates, "visits": visits, "follows": follows, "marks": marks}
    if rule == 2:
        assert out["rates"].value.tolist() == [3.0]
    assert {name: len(out.relation(name)) for name in out.hyperedge_types} == counts


def test_a_lost_member_and_chosen_hyperedges(town: MultiModalHeteroData) -> None:
    out = town.subgraph({"user": [1], "rates": torch.tensor([2, 0])}, hyperedges="drop")
    assert out["rates"].value.tolist() == [3.0]
    out = town.subgraph({"user": [1], "rates": torch.tensor([True, True, False])}, hyperedges="drop")
    assert len(out.relation("rates")) == 0
    assert out.validate()


def test_subset_of_nothing_and_of_all(town: MultiModalHeteroData, assert_same: Any) -> None:
    assert_same(town.subgraph({}), town)
    assert_same(town.subgraph({name: torch.arange(town[name].num_nodes) for name in town.node_types}), town)
    out = town.subgraph({name: [] for name in town.node_types}, hyperedges="drop")
    assert out.validate()
    assert out.num_nodes == 0
    assert out["user"].x.shape == (0, 2)
    assert out["user"].item_id == []
    assert_same(out.subgraph({name: [] for name in town.node_types}), out)
    assert MultiModalHeteroData().subgraph({}).node_types == []


@pytest.mark.parametrize(
    ("subset", "rule", "text"),
    [
        ({"usr": [0]}, "keep", "no node type 'usr'.*Did you mean 'user'"),
        ({"user": [5]}, "keep", r"index 5 at position 0 is out of range \[0, 5\)"),
        ({"user": [-1]}, "keep", "index -1"),
        ({"user": [1, 1]}, "keep", "names index 1 2 times"),
        ({"user": [True]}, "keep", r"must be of shape \[5\]"),
        ({"user": [[0]]}, "keep", r"must be of shape \[n\]"),
        ({"user": torch.ones(2)}, "keep", "integer indices"),
        ({"user": [0]}, "lose", "'keep', 'drop' or a number"),
        ({"user": [0]}, -1, "'keep', 'drop' or a number"),
        ({"user": [0]}, True, "'keep', 'drop' or a number"),
        ({"user": [0]}, {"rate": "drop"}, "'hyperedges' names 'rate'.*Did you mean 'rates'"),
    ],
)
def test_bad_subset(town: MultiModalHeteroData, subset: Any, rule: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        town.subgraph(subset, hyperedges=rule)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Sparse invariant checks")
def test_attributes_of_every_kind() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=3).add_modality("b", x=torch.eye(2).to_sparse_csr())
    data["a"].update({"sparse": torch.eye(3).to_sparse(), "array": torch.eye(3).numpy(), "pair": (1, 2, 3), "k": 7})
    data.add_hyperedges("r", {"a": [0, 1], "b": [1, 0]})
    data["a", "member", "r"].note = ["p", "q"]
    data["a", "member", "r"].num_edges = 2
    out = data.subgraph({"a": [1, 2], "b": [1]})
    assert out["a"].sparse.to_dense().tolist() == torch.eye(3)[1:].tolist()
    assert out["a"].array.tolist() == torch.eye(3)[1:].tolist()
    assert (out["a"].pair, out["a"].k) == ((2, 3), 7)
    assert out["b"].x.layout == torch.sparse_csr
    assert out["b"].x.to_dense().tolist() == [[0.0, 1.0]]
    assert out["a", "member", "r"].note == ["q"]
    assert out["a", "member", "r"].num_edges == 1


def test_subset_of_a_batch(town: MultiModalHeteroData) -> None:
    batch = Batch.from_data_list([town, town])
    out = batch.subgraph({"film": torch.tensor([0, 2, 4])})
    assert out["film"].item_id == ["x", "z", "y"]
    assert out["film"].batch.tolist() == [0, 0, 1]
    assert out["film"].ptr.tolist() == [0, 2, 3]
    assert out.num_graphs == 2
    with pytest.raises(RuntimeError, match=r"rows or attributes were added or dropped.*before batching"):
        out.to_data_list()
    assert batch.to_data_list()[1]["film"].item_id == ["x", "y", "z"]


def test_hyperedge_subgraph(town: MultiModalHeteroData) -> None:
    out = town.hyperedge_subgraph({"rates": [2], "visits": [], "follows": torch.tensor([False, False])})
    assert out.validate()
    assert out["user"].num_nodes == 5
    assert out["rates"].value.tolist() == [3.0]
    out = town.hyperedge_subgraph({"rates": [0], "visits": [], "follows": [], "marks": []}, remove_isolated=True)
    assert out["user"].item_id == ["a", "b"]  # the graph ties both; the loop of user 3 ties it to none
    assert out["film"].item_id == ["x"]
    assert out["tag"].num_nodes == 0
    assert out.validate()
    with pytest.raises(ValueError, match="no relation 'user'"):
        town.hyperedge_subgraph({"user": [0]})


def test_modality_subgraph(town: MultiModalHeteroData, assert_same: Any) -> None:
    out = town.modality_subgraph(["film", "user"])
    assert out.modalities == ["user", "film"]
    assert out.relation("marks").modalities == ("user", "film")
    assert len(out.relation("marks")) == 1
    assert out.validate()
    assert len(town.modality_subgraph(["film", "user"], hyperedges="drop").relation("marks")) == 0
    out = town.modality_subgraph(["film"], hyperedges={"visits": 1})
    assert out.hyperedge_types == ["rates", "visits", "marks"]  # 'follows' has no slot left
    assert [len(out.relation(name)) for name in out.hyperedge_types] == [3, 3, 1]
    assert out.edge_types == [("film", "member", name) for name in out.hyperedge_types]
    assert town.modality_subgraph(["tag"]).node_types == ["tag", "marks"]
    assert_same(town.modality_subgraph(["user", "film", "tag"]), town)
    assert town.modality_subgraph([]).node_types == []
    for bad in (["flim"], "film"):
        with pytest.raises(ValueError, match=r"no modality 'flim'.*'film'|must be a list"):
            town.modality_subgraph(bad)


def test_other_edges_of_a_modality_go_with_it(town: MultiModalHeteroData) -> None:
    data = ToUndirected()(town)
    out = data.modality_subgraph(["film"])
    assert all(edge_type[0] != "user" != edge_type[2] for edge_type in out.edge_types)
    assert ("rates", "rev_member", "film") in out.edge_types
    assert out.validate()


@st.composite
def _case(draw: st.DrawFn) -> tuple[MultiModalHeteroData, dict[str, torch.Tensor]]:
    data = MultiModalHeteroData()
    sizes = {name: draw(st.integers(0, 4)) for name in "ab"}
    for name, size in sizes.items():
        data.add_modality(name, x=torch.arange(float(size)).view(-1, 1), item_id=[str(i) for i in range(size)])
    count = draw(st.integers(0, 4))
    members = {
        name: draw(st.lists(st.lists(st.integers(0, size - 1), max_size=3) if size else st.just([]), min_size=count,
                            max_size=count))
        for name, size in sizes.items()
    }  # fmt: skip
    data.add_hyperedges("r", members, value=torch.arange(float(count)))
    chosen = {}
    for name in ("a", "b", "r"):
        if draw(st.booleans()):
            chosen[name] = torch.tensor(draw(st.permutations(range(data[name].num_nodes)))).long()
            chosen[name] = chosen[name][: draw(st.integers(0, data[name].num_nodes))]
    return data, chosen


def _members(data: MultiModalHeteroData) -> dict[float, list[list[str]]]:
    """Value of a hyperedge -> the ids of its members in each slot, sorted."""
    out: dict[float, list[list[str]]] = {value: [[], []] for value in data["r"].value.tolist()}
    for slot, name in enumerate("ab"):
        for item, hyperedge in data.relation("r").incidence(slot).t().tolist():
            out[data["r"].value[hyperedge].item()][slot].append(data[name].item_id[item])
    return {value: [sorted(slot) for slot in slots] for value, slots in out.items()}


def check_against_lists(data: MultiModalHeteroData, chosen: dict[str, torch.Tensor], rule: Any) -> None:
    """The slow obvious version on lists of ids."""
    out = data.subgraph(chosen, hyperedges=rule)
    out.validate()
    kept = {
        name: [data[name].item_id[i] for i in chosen[name]] if name in chosen else data[name].item_id for name in "ab"
    }
    expected = {}
    for value, slots in _members(data).items():
        left = [[i for i in slot if i in kept[name]] for slot, name in zip(slots, "ab", strict=True)]
        if left != slots and (rule == "drop" or (isinstance(rule, int) and sum(map(len, left)) < rule)):
            continue
        if "r" in chosen and value not in data["r"].value[chosen["r"]].tolist():
            continue
        expected[value] = left
    assert _members(out) == expected
    assert {name: out[name].item_id for name in "ab"} == kept
    assert [x for (x,) in out["a"].x.tolist()] == [float(i) for i in kept["a"]]


@settings(deadline=None, max_examples=25)
@given(_case(), st.sampled_from(["keep", "drop", 1, 2]))
def test_subgraph_of_any_structure(case: tuple[Any, Any], rule: Any) -> None:
    check_against_lists(*case, rule)


@pytest.mark.slow
@settings(deadline=None, max_examples=3000)
@given(_case(), st.sampled_from(["keep", "drop", 0, 1, 2, 3]))
def test_subgraph_of_any_structure_at_length(case: tuple[Any, Any], rule: Any) -> None:
    check_against_lists(*case, rule)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_plain_data_as_pyg(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outs = []
    subset = {"p": torch.randperm(4, generator=generator)[:2], "q": torch.rand(3, generator=generator) < 0.5}
    x, index = torch.rand(4, 2, generator=generator), torch.randint(3, (2, 7), generator=generator)
    for cls in (HeteroData, MultiModalHeteroData):
        data = cls()
        data["p"].x, data["q"].num_nodes, data["s"].num_nodes = x, 3, 3
        for edge_type in (("p", "to", "p"), ("p", "to", "q"), ("q", "to", "s")):
            data[edge_type].edge_index = index
            data[edge_type].edge_attr = torch.arange(7.0)
        outs.append(data.subgraph(subset).to_dict())
    assert repr(outs[0]) == repr(outs[1])


@pytest.mark.parametrize("method", ["subgraph", "hyperedge_subgraph"])
def test_a_subset_of_nothing_named(town: MultiModalHeteroData, method: str) -> None:
    with pytest.raises(ValueError, match=r"mapping from node type to indices.*got Tensor.*write {'user': ...}"):
        getattr(town, method)(torch.tensor([0]))


def test_relations_forget_the_graphs_of_modalities_that_go() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_modality("b", num_nodes=2)
    data = data.add_hyperedges("r", torch.tensor([[0, 1], [1, 0]]), modalities=("a", "b"))
    for name in ("a", "b"):
        data[name, "knn", name].edge_index = torch.tensor([[0], [1]])
        data["r"][f"seen_by_{name}_knn"] = torch.ones(2, dtype=torch.bool)
    out = data.modality_subgraph(["a"])
    assert "seen_by_a_knn" in out["r"]
    assert "seen_by_b_knn" not in out["r"]
    assert "seen_by_b_knn" in data["r"]
