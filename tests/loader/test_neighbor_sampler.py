from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.loader import LinkLoader
from torch_geometric.sampler import HeteroSamplerOutput, NodeSamplerInput, NumNeighbors
from torch_geometric.transforms import ToUndirected

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.loader import HypergraphNeighborLoader, HypergraphNeighborSampler, TupleSamplerInput

MakeData = Callable[..., MultiModalHeteroData]


@st.composite
def any_data(draw: st.DrawFn) -> MultiModalHeteroData:
    """Any structure: empty modalities, empty hyperedges, isolated items, repeated memberships."""
    data = MultiModalHeteroData()
    sizes = {name: draw(st.integers(0, 5)) for name in ("a", "b")}
    count = draw(st.integers(0, 5))

    def index(rows: int, columns: int, most: int) -> Tensor:
        cell = st.tuples(st.integers(0, max(rows - 1, 0)), st.integers(0, max(columns - 1, 0)))
        cells = draw(st.lists(cell, max_size=most if rows and columns else 0))
        return torch.tensor(cells, dtype=torch.long).view(-1, 2).t().contiguous()

    for name, size in sizes.items():
        data.add_modality(name, num_nodes=size)
    members = {name: index(size, count, 8) for name, size in sizes.items()}
    time = torch.tensor(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)), dtype=torch.long)
    data.add_hyperedges("set", members, num_hyperedges=count, time=time)
    data["a", "near", "a"].edge_index = index(sizes["a"], sizes["a"], 6)
    return data


def sample(
    sampler: HypergraphNeighborSampler, name: str, node: Any, seed: int = 0, **kwargs: Any
) -> HeteroSamplerOutput:
    node = torch.as_tensor(node, dtype=torch.long)
    inputs = NodeSamplerInput(torch.arange(node.numel()), node, input_type=name, **kwargs)
    return sampler.sample_from_nodes(inputs, torch.Generator().manual_seed(seed))


def reached(
    data: MultiModalHeteroData, name: str, seeds: list[int], hops: int, until: float = 9e9
) -> dict[Any, set[int]]:
    """The slow, obvious version of full fan-out: the nodes, and the edges, that are walked to."""
    near = {key: set(seeds) if key == name else set() for key in data.node_types}
    edges: dict[Any, set[int]] = {t: set() for t in data.edge_types}
    front = {key: set(found) for key, found in near.items()}
    for _ in range(hops):
        for half in (data.modalities, data.hyperedge_types):
            new: dict[str, set[int]] = {key: set() for key in near}
            for t in data.edge_types:
                for e, (src, dst) in enumerate(data[t].edge_index.t().tolist()):
                    ways = [(t[2], dst, t[0], src)] + ([(t[0], src, t[2], dst)] if is_membership(t) else [])
                    for start, here, end, there in ways:
                        late = "time" in data[end] and data[end].time[there] > until
                        if start in half and here in front[start] and not late:
                            edges[t].add(e)
                            new[end].add(there)
            for key in half:
                front[key] = set()
            for key, found in new.items():
                front[key] |= found - near[key]
                near[key] |= found
    return {**near, **edges}


@given(any_data(), st.integers(0, 3), st.sampled_from(["a", "b", "set"]), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_full_fan_out_reaches_what_is_near(
    data: MultiModalHeteroData, hops: int, name: str, disjoint: bool, more: st.DataObject
) -> None:
    check_reached(data, hops, name, disjoint, more)


@pytest.mark.slow
@given(any_data(), st.integers(0, 4), st.sampled_from(["a", "b", "set"]), st.booleans(), st.data())
@settings(max_examples=4000, deadline=None)
def test_full_fan_out_reaches_what_is_near_at_length(
    data: MultiModalHeteroData, hops: int, name: str, disjoint: bool, more: st.DataObject
) -> None:
    check_reached(data, hops, name, disjoint, more)


def check_reached(data: MultiModalHeteroData, hops: int, name: str, disjoint: bool, more: st.DataObject) -> None:
    size = data[name].num_nodes
    seeds = more.draw(st.lists(st.integers(0, size - 1), unique=True)) if size else []
    timed = disjoint and more.draw(st.booleans())
    times = more.draw(st.lists(st.integers(0, 4), min_size=len(seeds), max_size=len(seeds)))
    sampler = HypergraphNeighborSampler(data, [-1] * hops, disjoint=disjoint, time_attr="time" if timed else None)
    out = sample(sampler, name, seeds, time=torch.tensor(times) if timed else None)
    assert out.node[name][: len(seeds)].tolist() == seeds
    if not disjoint:
        expected = reached(data, name, seeds, hops)
        for key, found in {**out.node, **out.edge}.items():
            assert len(found) == len(set(found.tolist()))
            assert set(found.tolist()) == expected[key]
        return
    for group, seed in enumerate(seeds):
        expected = reached(data, name, [seed], hops, times[group] if timed else 9e9)
        for key, found in out.node.items():
            assert sorted(found[out.batch[key] == group].tolist()) == sorted(expected[key])
        for key, found in out.edge.items():
            own = out.batch[key[0]][out.row[key]] == group
            assert sorted(found[own].tolist()) == sorted(expected[key])


@given(
    any_data(),
    st.lists(st.tuples(*[st.integers(-1, 2)] * 2), max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_fan_outs_are_kept(
    data: MultiModalHeteroData, hops: list[tuple[int, int]], replace: bool, disjoint: bool, seed: int
) -> None:
    check_fan_outs(data, hops, replace, disjoint, seed)


@pytest.mark.slow
@given(
    any_data(),
    st.lists(st.tuples(*[st.integers(-1, 2)] * 2), max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
@settings(max_examples=4000, deadline=None)
def test_fan_outs_are_kept_at_length(
    data: MultiModalHeteroData, hops: list[tuple[int, int]], replace: bool, disjoint: bool, seed: int
) -> None:
    check_fan_outs(data, hops, replace, disjoint, seed)


def check_fan_outs(
    data: MultiModalHeteroData, hops: list[tuple[int, int]], replace: bool, disjoint: bool, seed: int
) -> None:
    sampler = HypergraphNeighborSampler(data, hops, replace=replace, disjoint=disjoint)
    out = sample(sampler, "a", range(data["a"].num_nodes), seed)
    full = reached(data, "a", list(range(data["a"].num_nodes)), len(hops))
    for key, found in {**out.node, **out.edge}.items():
        assert set(found.tolist()) <= full[key]
    for t, edge in out.edge.items():
        src, dst = out.node[t[0]][out.row[t]], out.node[t[2]][out.col[t]]
        assert torch.equal(torch.stack([src, dst]), data[t].edge_index[:, edge])
        assert len(out.num_sampled_edges[t]) == len(hops)
        assert sum(out.num_sampled_edges[t]) == edge.numel()
        if not replace and not disjoint:
            assert edge.unique().numel() == edge.numel()
    for key, node in out.node.items():
        assert sum(out.num_sampled_nodes[key]) == node.numel()
        assert len(out.num_sampled_nodes[key]) == len(hops) + 1
    if hops and hops[0][0] >= 0:  # a direction that is walked one way only
        most = torch.bincount(out.col["a", "near", "a"][: out.num_sampled_edges["a", "near", "a"][0]])
        assert not most.numel() or int(most.max()) <= hops[0][0]


# Fan-outs -----------------------------------------------------------------------------------------------------------


def counts(data: MultiModalHeteroData, num_neighbors: Any, **kwargs: Any) -> tuple[dict[str, int], dict[Any, int]]:
    out = sample(HypergraphNeighborSampler(data, num_neighbors, **kwargs), "user", [0])
    return {k: v.numel() for k, v in out.node.items()}, {k: v.numel() for k, v in out.edge.items()}


def star() -> MultiModalHeteroData:
    """One user in nine hyperedges with one film and four tags each, and six friends."""
    data = MultiModalHeteroData()
    for name, size in {"user": 7, "film": 9, "tag": 36}.items():
        data.add_modality(name, num_nodes=size)
    tags = torch.stack([torch.arange(36), torch.arange(9).repeat_interleave(4)])
    data.add_hyperedges("sees", {"user": torch.zeros(9).long(), "film": torch.arange(9), "tag": tags})
    data["user", "knows", "user"].edge_index = torch.tensor([[1, 2, 3, 4, 5, 6], [0] * 6])
    return data


def test_a_fan_out_a_hop_a_set_a_modality_an_edge_type() -> None:
    data = star()
    nodes, edges = counts(data, [3])
    assert nodes == {"user": 4, "film": 3, "tag": 9, "sees": 3}
    assert edges["user", "knows", "user"] == 3
    nodes, edges = counts(data, [(5, 2)])
    assert (nodes["sees"], nodes["film"], nodes["tag"], edges["user", "knows", "user"]) == (5, 5, 10, 5)
    assert counts(data, {"default": [0], "sees": [2]})[0] == {"user": 1, "film": 2, "tag": 4, "sees": 2}
    assert counts(data, {"default": [0], "sees": [2], ("tag", "member", "sees"): [(0, 3)]})[0]["tag"] == 6
    assert counts(data, {"user": [1], "tag": [(0, -1)], "film": [0]})[0] == {"user": 2, "film": 0, "tag": 4, "sees": 1}
    assert counts(data, NumNeighbors([3])) == counts(data, [3])
    given = NumNeighbors({("user", "knows", "user"): [2]}, default=[-1])
    assert counts(data, given)[0] == {"user": 3, "film": 9, "tag": 36, "sees": 9}
    assert counts(data, [(4, 0)])[0] == {"user": 1 + 4, "film": 0, "tag": 0, "sees": 4}
    assert counts(data, [])[0] == {"user": 1, "film": 0, "tag": 0, "sees": 0}


def test_with_replacement_a_membership_stands_as_often_as_it_was_drawn() -> None:
    nodes, edges = counts(star(), [(20, -1)], replace=True)
    assert edges["user", "member", "sees"] == 20
    assert edges["user", "knows", "user"] == 20
    assert nodes["film"] == nodes["sees"] <= 9


@pytest.mark.parametrize(
    ("num_neighbors", "text"),
    [
        ({"ses": [1]}, "Did you mean 'sees'"),
        ({("user", "member", "seen"): [1]}, "no edge type"),
        ({"sees": [1]}, "says nothing of"),
        ({"sees": [1], "default": [1, 1]}, "same number of hops"),
        ([-2], "from -1"),
        ([True], "from -1"),
        ([(1, 2, 3)], "from -1"),
        ([1.5], "from -1"),
        (3, "must be a list"),
        (None, "must be a list"),
    ],
)
def test_faults_of_fan_outs_are_told(num_neighbors: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        HypergraphNeighborSampler(star(), num_neighbors)


@pytest.mark.parametrize("replace", [False, True])
def test_hyperedges_are_drawn_uniformly(replace: bool) -> None:
    sampler = HypergraphNeighborSampler(star(), [(2, 0)], replace=replace, disjoint=True)
    out = sample(sampler, "user", [0] * 2000)
    seen = torch.bincount(data_edges(out), minlength=9)
    assert int(seen.sum()) == 4000
    assert chisquare(seen.numpy()).pvalue > 1e-3


def test_hyperedges_beside_the_one_left_out_are_drawn_uniformly() -> None:
    sampler = HypergraphNeighborSampler(star(), [(2, 0)], disjoint=True)
    index = TupleSamplerInput("sees", torch.arange(2000), hyperedge=torch.full((2000,), 4))
    out = sampler.sample_from_tuples(index, generator=torch.Generator().manual_seed(0))
    seen = torch.bincount(data_edges(out), minlength=9)
    assert int(seen[4]) == 0
    assert chisquare(seen[[0, 1, 2, 3, 5, 6, 7, 8]].numpy()).pvalue > 1e-3


def data_edges(out: HeteroSamplerOutput) -> Tensor:
    edge: Tensor = out.edge["user", "member", "sees"]
    return edge


# Time ---------------------------------------------------------------------------------------------------------------


def timed() -> MultiModalHeteroData:
    data = star()
    data["sees"].time = torch.tensor([8, 7, 6, 5, 4, 3, 2, 1, 0])
    return data


def hyperedges(out: HeteroSamplerOutput, group: int) -> list[int]:
    return sorted(out.node["sees"][out.batch["sees"] == group].tolist())


def test_nothing_later_than_the_seed_is_seen() -> None:
    for strict, expected in ((False, [[6, 7, 8], [8], []]), (True, [[7, 8], [], []])):
        sampler = HypergraphNeighborSampler(timed(), [-1], time_attr="time", strict_time=strict)
        assert sampler.disjoint
        out = sample(sampler, "user", [0, 0, 0], time=torch.tensor([2, 0, -1]))
        assert [hyperedges(out, group) for group in range(3)] == expected


def test_the_last_hyperedges() -> None:
    sampler = HypergraphNeighborSampler(timed(), [(2, 0)], time_attr="time", temporal_strategy="last")
    out = sample(sampler, "user", [0, 0], time=torch.tensor([4, 0]))
    assert [hyperedges(out, group) for group in range(2)] == [[4, 5], [8]]


def test_among_what_is_there_in_time_the_law_is_uniform() -> None:
    sampler = HypergraphNeighborSampler(timed(), [(2, 0)], time_attr="time")
    out = sample(sampler, "user", [0] * 2000, time=torch.full((2000,), 4))
    seen = torch.bincount(data_edges(out), minlength=9)
    assert seen[:4].tolist() == [0] * 4
    assert chisquare(seen[4:].numpy()).pvalue > 1e-3


def test_tuples_have_their_own_times() -> None:
    data = timed()
    for strict in (False, True):
        loader = HypergraphNeighborLoader(
            data, [-1], input_tuples=("sees", [2, 6]), time_attr="time", strict_time=strict, batch_size=2
        )
        batch = next(iter(loader))
        found = [batch["sees"].n_id[batch["sees"].batch == group].sort().values.tolist() for group in range(2)]
        assert found == [[3, 4, 5, 6, 7, 8], [7, 8]]
        assert batch["sees"].hyperedge_label_time.tolist() == [6, 2]


def test_items_and_edges_have_times_too() -> None:
    data = star()
    data["film"].time = torch.arange(9)
    data["user", "knows", "user"].time = torch.tensor([0, 1, 2, 3, 4, 5])
    sampler = HypergraphNeighborSampler(data, [-1], time_attr="time")
    out = sample(sampler, "user", [0], time=torch.tensor([2]))
    assert sorted(out.node["film"].tolist()) == [0, 1, 2]
    assert sorted(out.edge["user", "knows", "user"].tolist()) == [0, 1, 2]
    assert out.node["tag"].numel() == 36
    out = sample(sampler, "film", [3, 5])  # their own times
    assert out.metadata[1].tolist() == [3, 5]
    data["film"].time = torch.arange(3)
    with pytest.raises(ValueError, match="'time' of 'film'"):
        HypergraphNeighborSampler(data, [-1], time_attr="time")


# Other edges, PyG's loaders -----------------------------------------------------------------------------------------


def test_memberships_turned_round_leak_nothing_that_is_left_out(make_data: MakeData) -> None:
    data = ToUndirected()(make_data())
    assert ("tags", "rev_member", "user") in data.edge_types
    for disjoint in (False, True):
        sampler = HypergraphNeighborSampler(data, [-1, -1], disjoint=disjoint)
        hyperedge = torch.tensor([5, 5, 9])
        out = sampler.sample_from_tuples(TupleSamplerInput("tags", torch.arange(3), hyperedge=hyperedge))
        if not disjoint:
            assert not {5, 9} & set(out.node["tags"].tolist())
            assert out.edge["tags", "rev_member", "user"].numel() > 0
            continue
        for group, own in enumerate(hyperedge.tolist()):
            assert own not in out.node["tags"][out.batch["tags"] == group].tolist()


def test_pygs_link_loader_takes_the_sampler(make_data: MakeData) -> None:
    data = make_data()
    for name in data.modalities:
        del data[name].item_id  # PyG does not slice lists
    edge_type = ("user", "knows", "user")
    for disjoint in (False, True):
        sampler = HypergraphNeighborSampler(data, [2, 2], disjoint=disjoint)
        loader = LinkLoader(data, sampler, edge_label_index=edge_type, neg_sampling="binary", batch_size=16)
        batch = next(iter(loader))
        assert isinstance(batch, MultiModalHeteroData)
        local = batch[edge_type].edge_label_index[:, :16]
        assert torch.equal(batch["user"].n_id[local], data[edge_type].edge_index[:, :16])
    loader = LinkLoader(
        data, HypergraphNeighborSampler(data, [2]), edge_label_index=(("user", "member", "tags"), None), batch_size=9
    )
    batch = next(iter(loader))
    user, hyperedge = batch["user", "member", "tags"].edge_label_index
    assert torch.equal(batch["tags"].n_id[hyperedge], torch.arange(9))
    assert torch.equal(batch["user"].n_id[user], data.relation("tags").index[0, :9])


def test_links_have_times(make_data: MakeData) -> None:
    data = make_data()
    for name in data.modalities:
        del data[name].item_id
    edge_type = ("user", "member", "tags")
    sampler = HypergraphNeighborSampler(data, [-1], time_attr="time")
    kwargs: dict[str, Any] = {"edge_label_index": edge_type, "batch_size": 60}
    batch = next(iter(LinkLoader(data, sampler, edge_label_time=data["tags"].time, **kwargs)))
    store = batch["tags"]
    own = store.batch >= 0
    own[batch[edge_type].edge_label_index[1]] = False
    assert bool((store.time <= data["tags"].time[store.batch])[own].all())
    with pytest.raises(ValueError, match="go together"):
        next(iter(LinkLoader(data, sampler, **kwargs)))


def test_a_hyperedge_as_seed_takes_its_members_first() -> None:
    out = sample(HypergraphNeighborSampler(star(), [-1]), "sees", [3])
    assert out.node["film"].tolist() == [3]
    assert sorted(out.node["tag"].tolist()) == [12, 13, 14, 15]
    assert out.node["sees"].tolist() == [3]


def test_edges_may_be_an_edge_index(make_data: MakeData) -> None:
    data, edge_type = make_data(), ("user", "knows", "user")
    plain = sample(HypergraphNeighborSampler(data, [2, 2]), "user", [1, 2])
    data[edge_type].edge_index = EdgeIndex(data[edge_type].edge_index, sparse_size=(30, 30))
    other = sample(HypergraphNeighborSampler(data, [2, 2]), "user", [1, 2])
    assert torch.equal(plain.edge[edge_type], other.edge[edge_type])


def test_a_sampler_can_be_pickled_and_shared(make_data: MakeData) -> None:
    data = make_data()
    sampler = HypergraphNeighborSampler(data, [2, 2], share_memory=True)
    assert all(step.adjacency.nbr.is_shared() for step in sampler.graph.steps)
    again = pickle.loads(pickle.dumps(sampler))
    one, two = sample(sampler, "user", [1, 2]), sample(again, "user", [1, 2])
    assert all(torch.equal(one.edge[t], two.edge[t]) for t in data.edge_types)


def test_faults_of_the_data_are_told(make_data: MakeData) -> None:
    data = make_data()
    del data["user", "knows", "user"].edge_index
    with pytest.raises(ValueError, match="has no 'edge_index'"):
        HypergraphNeighborSampler(data, [1])
    data["user", "knows", "user"].edge_index = torch.tensor([[30], [0]])
    with pytest.raises(ValueError, match="outside"):
        HypergraphNeighborSampler(data, [1])
    with pytest.raises(ValueError, match="must be a MultiModalHeteroData"):
        HypergraphNeighborSampler(HeteroData(), [1])
    bare = MultiModalHeteroData()
    bare["a"].x = torch.ones(3, 1)
    with pytest.raises(ValueError, match="num_nodes"):
        HypergraphNeighborSampler(bare, [1])
