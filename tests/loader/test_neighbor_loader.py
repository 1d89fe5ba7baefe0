from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, SequentialSampler, WeightedRandomSampler
from torch_geometric.nn import GraphConv, HeteroConv, SAGEConv
from torch_geometric.utils import trim_to_layer

from hyperlearn_pyg import HypergraphConv, MultiModalHeteroData
from hyperlearn_pyg.data.relation import is_membership
from hyperlearn_pyg.loader import HypergraphNeighborLoader, NegativeSampler
from hyperlearn_pyg.nn.conv import HeteroHypergraphConv

MakeData = Callable[..., MultiModalHeteroData]
TAGS = ("user", "film", "tag")
ALL = [-1]
NEGATIVES = NegativeSampler(torch.zeros(2, 1).long(), (2, 2))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def batches(data: MultiModalHeteroData, *args: Any, **kwargs: Any) -> list[MultiModalHeteroData]:
    return list(HypergraphNeighborLoader(data, *args, **kwargs))


# Full fan-out: the seeds' outputs are those of all the data ---------------------------------------------------------


def hypergraph_stack(normalization: str, depth: int) -> Callable[[MultiModalHeteroData], Tensor]:
    torch.manual_seed(0)
    layers = [HypergraphConv(4, 4, normalization=normalization).double() for _ in range(depth)]

    def run(data: MultiModalHeteroData) -> Tensor:
        x = data["user"].x
        slot = data["user", "member:guest", "party"]
        for layer in layers:
            size = data["party"].num_nodes
            x = layer(x, slot.edge_index, num_edges=size, incidence_weight=slot.edge_weight).tanh()
        return x

    return run


def hetero_stack(normalization: str, depth: int) -> Callable[[MultiModalHeteroData], Tensor]:
    torch.manual_seed(0)
    layers = [
        HeteroHypergraphConv(dict.fromkeys(TAGS, 4), 4, normalization=normalization).double() for _ in range(depth)
    ]

    def run(data: MultiModalHeteroData) -> Tensor:
        x_dict = {m: data[m].x for m in TAGS}
        for layer in layers:
            x_dict = {m: x.tanh() for m, x in layer(x_dict, data.relation("tags")).items()}
        return x_dict["user"]

    return run


def pyg_stack(graphs: bool, depth: int) -> Callable[[MultiModalHeteroData], Tensor]:
    """PyG's layers on the memberships and on the same turned round, two a round trip, perhaps on a graph of users."""
    torch.manual_seed(0)
    slots = [("user", "member", "tags"), ("film", "member", "tags"), ("tag", "member", "tags")]
    into = {t: SAGEConv((4, 4), 4) for t in slots}
    back = {(t[2], "back", t[0]): SAGEConv((4, 4), 4, aggr="add") for t in slots}
    graph = {("user", "knows", "user"): GraphConv(4, 4)} if graphs else {}
    layers = [HeteroConv({**into, **back, **graph}).double() for _ in range(2 * depth)]

    def run(data: MultiModalHeteroData) -> Tensor:
        x_dict = {m: data[m].x for m in TAGS}
        x_dict["tags"] = data["tags"].value[:, None].expand(-1, 4)
        index = {t: data[t].edge_index for t in (*slots, *graph)}
        index |= {(t[2], "back", t[0]): data[t].edge_index.flip(0) for t in slots}
        weight = {t: data[t].edge_weight for t in graph}
        for layer in layers:
            x_dict = {m: x.tanh() for m, x in layer(x_dict, index, edge_weight_dict=weight).items()}
        return x_dict["user"]

    return run


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["row", "symmetric", "hetero row", "hetero symmetric", "pyg", "pyg and graph"])
def test_with_full_fan_out_seeds_get_the_outputs_of_all_the_data(
    make_data: MakeData, kind: str, depth: int, disjoint: bool
) -> None:
    data = make_data()
    if kind.startswith("pyg"):
        run = pyg_stack("graph" in kind, depth)
    else:
        make = hetero_stack if kind.startswith("hetero") else hypergraph_stack
        run = make("symmetric" if "symmetric" in kind else "row", depth)
    # Symmetric normalisation reads the degrees of the senders: half a hop more. An edge between items takes a hop.
    hops = ALL * (2 * depth if "graph" in kind else depth) + ([(-1, 0)] if "symmetric" in kind else [])
    full = run(data)
    seen = []
    for batch in batches(data, hops, "user", batch_size=4, disjoint=disjoint, shuffle=True, seed=1):
        size = batch["user"].batch_size
        seeds = batch["user"].n_id[:size]
        close(run(batch)[:size], full[seeds])
        seen += seeds.tolist()
    assert sorted(seen) == list(range(30))


def test_what_layers_no_longer_need_can_be_trimmed(make_data: MakeData) -> None:
    data, depth = make_data(), 3
    del data["tags"].weight
    full = hetero_stack("row", depth)(data)
    torch.manual_seed(0)
    layers = [HeteroHypergraphConv(dict.fromkeys(TAGS, 4), 4).double() for _ in range(depth)]
    for batch in batches(data, {"tags": ALL * depth, "default": [0] * depth}, "user", batch_size=3):
        x_dict: dict[str, Tensor] = {m: batch[m].x for m in TAGS}
        index = {t: batch[t].edge_index for t in batch.relation("tags").slots}
        nodes = {m: batch[m].num_sampled_nodes for m in (*TAGS, "tags")}
        edges = {t: batch[t].num_sampled_edges for t in index}
        for number, layer in enumerate(layers):
            x_dict, index, _ = trim_to_layer(number, nodes, edges, x_dict, index)
            count = sum(nodes["tags"][: depth + 1 - number])
            x_dict = {m: x.tanh() for m, x in layer(x_dict, index, num_edges=count).items()}
        close(x_dict["user"][:3], full[batch["user"].n_id[:3]])


def test_a_batch_of_a_batch_keeps_the_numbers_of_the_data(make_data: MakeData) -> None:
    data = make_data()
    (outer,) = batches(data, [3], ("user", [4, 7, 9]), batch_size=3)
    (inner,) = batches(outer, [-1], ("user", [1]))
    assert inner["user"].n_id[0] == 7
    assert inner["user"].item_id == [f"user{i}" for i in inner["user"].n_id.tolist()]


def test_one_hop_less_is_not_enough(make_data: MakeData) -> None:
    data, run = make_data(), hetero_stack("row", 2)
    batch = batches(data, ALL, "user", batch_size=2)[0]
    assert not torch.allclose(run(batch)[:2], run(data)[:2])


@pytest.mark.parametrize("disjoint", [False, True])
def test_tuples_left_out_are_as_if_they_were_not_there(make_data: MakeData, disjoint: bool) -> None:
    data, run = make_data(), hetero_stack("row", 2)
    for batch in batches(data, ALL * 2, input_tuples="tags", batch_size=1 if disjoint else 5, disjoint=disjoint):
        mask = torch.ones(60, dtype=torch.bool)
        mask[batch["tags"].tuple_id] = False
        rest = without(data, mask)
        local, item = batch["tags"].hyperedge_label_index[0], data.relation("tags").index[0, ~mask]
        close(run(batch)[local], run(rest)[item])


def without(data: MultiModalHeteroData, keep: Tensor) -> MultiModalHeteroData:
    out = MultiModalHeteroData()
    for m in data.modalities:
        out.add_modality(m, x=data[m].x)
    index = data.relation("tags").index[:, keep]
    return out.add_hyperedges("tags", index, modalities=TAGS, weight=data["tags"].weight[keep])


# What a batch holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("fan_out", [[2, 1], [-1, 3], [(1, 0)], []])
def test_everything_in_a_batch_is_that_of_the_data(make_data: MakeData, fan_out: list[Any], disjoint: bool) -> None:
    data = make_data()
    for batch in batches(data, fan_out, ("film", torch.tensor([3, 7, 1])), batch_size=2, disjoint=disjoint):
        assert type(batch) is MultiModalHeteroData
        for name in data.node_types:
            store, n_id = batch[name], batch[name].n_id
            assert store.num_nodes == n_id.numel() == sum(store.num_sampled_nodes)
            assert ("batch" in store) == disjoint
            for key in ("x", "value", "weight", "time", "train_mask", "val_mask", "test_mask"):
                if key in data[name]:
                    assert torch.equal(store[key], data[name][key][n_id])
            if "item_id" in data[name]:
                assert store.item_id == [data[name].item_id[i] for i in n_id.tolist()]
        for edge_type in data.edge_types:
            store, e_id = batch[edge_type], batch[edge_type].e_id
            ends = batch[edge_type[0]].n_id, batch[edge_type[2]].n_id
            local = torch.stack([end[row] for end, row in zip(ends, store.edge_index, strict=True)])
            assert torch.equal(local, data[edge_type].edge_index[:, e_id])
            assert store.edge_index.size(1) == sum(store.num_sampled_edges)
            if "edge_weight" in data[edge_type]:
                assert torch.equal(store.edge_weight, data[edge_type].edge_weight[e_id])
            if not disjoint:
                assert e_id.unique().numel() == e_id.numel()
            else:
                groups = batch[edge_type[0]].batch[store.edge_index[0]], batch[edge_type[2]].batch[store.edge_index[1]]
                assert torch.equal(*groups)
        if not disjoint:
            batch.validate()


def test_seeds_come_first_and_know_where_they_come_from(make_data: MakeData) -> None:
    data = make_data()
    index = torch.tensor([9, 4, 17])
    first, second = batches(data, [2], ("film", index), batch_size=2)
    assert first["film"].n_id[:2].tolist() == [9, 4]
    assert second["film"].n_id[:1].tolist() == [17]
    assert (first["film"].batch_size, second["film"].batch_size) == (2, 1)
    assert (first["film"].input_id.tolist(), second["film"].input_id.tolist()) == ([0, 1], [2])
    mask = torch.zeros(20, dtype=torch.bool)
    mask[index] = True
    (batch,) = batches(data, [2], ("film", mask), batch_size=9)
    assert batch["film"].n_id[:3].tolist() == batch["film"].input_id.tolist() == [4, 9, 17]
    data["film"].train_mask = mask
    (batch,) = batches(data, [2], ("film", "train"), batch_size=9)
    assert batch["film"].input_id.tolist() == [4, 9, 17]
    (batch,) = batches(data, [2], ("film", [3]), batch_size=9)
    assert batch["film"].n_id[:1].tolist() == [3]


def test_a_seed_named_twice_stands_once_or_has_two_subgraphs(make_data: MakeData) -> None:
    data = make_data()
    given = ("user", torch.tensor([5, 2, 5, 5]))
    (batch,) = batches(data, ALL, given, batch_size=4)
    assert (batch["user"].batch_size, batch["user"].input_id.tolist()) == (2, [0, 1])
    assert batch["user"].n_id.unique().numel() == batch["user"].num_nodes
    (batch,) = batches(data, ALL, given, batch_size=4, disjoint=True)
    assert batch["user"].batch_size == 4
    assert batch["user"].n_id[:4].tolist() == [5, 2, 5, 5]
    assert batch["user"].batch[:4].tolist() == [0, 1, 2, 3]


def test_tuples_as_seeds_carry_their_members_and_labels(make_data: MakeData) -> None:
    data = make_data()
    relation = data.relation("tags")
    ids = []
    for batch in batches(data, [2], input_tuples=("tags", "train"), batch_size=6, shuffle=True, seed=0):
        store = batch["tags"]
        assert torch.equal(store.input_id, store.tuple_id)
        assert torch.equal(store.hyperedge_label, relation.value[store.tuple_id])
        assert torch.equal(store.hyperedge_label_weight, relation.weight[store.tuple_id])
        assert store.batch_size == store.tuple_id.numel()
        for m, row, item in zip(TAGS, store.hyperedge_label_index, relation.index[:, store.tuple_id], strict=True):
            assert torch.equal(batch[m].n_id[row], item)
            assert int(row.max()) < item.unique().numel()  # the members stand first
        assert not set(store.n_id.tolist()) & set(store.tuple_id.tolist())
        ids += store.tuple_id.tolist()
    assert sorted(ids) == data["tags"].train_mask.nonzero().view(-1).tolist()


def test_tuples_of_a_ragged_relation(make_data: MakeData) -> None:
    data = make_data()
    seen = 0
    for batch in batches(data, [2], input_tuples="party", batch_size=5):
        assert batch["party"].hyperedge_label.tolist() == [1.0] * batch["party"].batch_size
        for slot in data.relation("party").slots:
            item, position = batch[slot].hyperedge_label_index
            found = torch.stack([batch["user"].n_id[item], batch["party"].tuple_id[position]])
            full = data[slot].edge_index
            inside = torch.isin(full[1], batch["party"].tuple_id)
            assert sorted(found.t().tolist()) == sorted(full[:, inside].t().tolist())
            seen += item.numel()
    assert seen == sum(data[slot].edge_index.size(1) for slot in data.relation("party").slots)


def test_tuples_that_are_no_hyperedges(make_data: MakeData) -> None:
    data = make_data()
    members = torch.tensor([[0, 29], [3, 19], [1, 5]])
    label = torch.tensor([1.0, 0.0])
    (batch,) = batches(data, [3], input_tuples=("tags", members), input_label=label, batch_size=2)
    store = batch["tags"]
    assert torch.equal(store.hyperedge_label, label)
    assert "tuple_id" not in store
    for m, row, item in zip(TAGS, store.hyperedge_label_index, members, strict=True):
        assert torch.equal(batch[m].n_id[row], item)


def test_negatives_are_seeds_too(make_data: MakeData) -> None:
    data = make_data()
    relation = data.relation("tags")
    negatives = NegativeSampler(relation.index, relation.sizes)
    known = set(map(tuple, relation.index.t().tolist()))
    for disjoint in (False, True):
        loader = HypergraphNeighborLoader(
            data, [2], input_tuples="tags", negatives=negatives, num_negatives=3, batch_size=8, disjoint=disjoint
        )
        batch = next(iter(loader))
        store = batch["tags"]
        assert list(store.hyperedge_negative_index.shape) == [3, 8, 3]
        rows = torch.stack([batch[m].n_id[i] for m, i in zip(TAGS, store.hyperedge_negative_index, strict=True)])
        drawn = rows[:, store.hyperedge_negative_mask]
        assert drawn.size(1) == 24
        assert not known & set(map(tuple, drawn.t().tolist()))
        if disjoint:
            for m, i in zip(TAGS, store.hyperedge_negative_index, strict=True):
                assert torch.equal(batch[m].batch[i], torch.arange(8)[:, None].expand(8, 3))


def test_hyperedges_with_the_same_members_are_left_out_where_asked() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_modality("b", num_nodes=2)
    data.add_hyperedges("r", torch.tensor([[0, 0, 1, 0], [1, 1, 1, 0]]), modalities=("a", "b"))
    for leave_out, left in ((True, [1, 2, 3]), ("same", [2, 3]), (False, [0, 1, 2, 3])):
        (batch,) = batches(data, ALL, input_tuples=("r", [0]), leave_out=leave_out)
        assert sorted(batch["r"].n_id.tolist()) == left
    given = ("r", torch.tensor([[0], [1]]))
    assert sorted(batches(data, ALL, input_tuples=given, leave_out="same")[0]["r"].n_id.tolist()) == [2, 3]
    assert sorted(batches(data, ALL, input_tuples=given)[0]["r"].n_id.tolist()) == [0, 1, 2, 3]
    ragged = MultiModalHeteroData().add_modality("a", num_nodes=2).add_hyperedges("r", {"a": [[0, 1], [1]]})
    with pytest.raises(ValueError, match="not one member in every slot"):
        batches(ragged, ALL, input_tuples="r", leave_out="same")


def test_messages_come_from_the_named_split_alone(make_data: MakeData) -> None:
    data = make_data()
    for batch in batches(data, ALL * 3, input_tuples=("tags", "test"), message_hyperedges="train", batch_size=7):
        assert bool(batch["tags"].train_mask.all())
        assert batch["party"].num_nodes > 0  # without masks all of it is training
    mask = data["tags"].val_mask
    for batch in batches(data, ALL * 2, "user", message_hyperedges={"tags": mask, "party": "train"}, batch_size=30):
        assert sorted(batch["tags"].n_id.tolist()) == mask.nonzero().view(-1).tolist()


# Randomness, workers ------------------------------------------------------------------------------------------------


def same(a: list[MultiModalHeteroData], b: list[MultiModalHeteroData]) -> bool:
    return all(
        torch.equal(x[t].e_id, y[t].e_id) and torch.equal(x[t].edge_index, y[t].edge_index)
        for x, y in zip(a, b, strict=True)
        for t in x.edge_types
    )


def test_batches_depend_on_seed_and_epoch_not_on_workers(make_data: MakeData) -> None:
    data = make_data()

    def loader(**kwargs: Any) -> HypergraphNeighborLoader:
        return HypergraphNeighborLoader(data, [2, 2], "user", batch_size=8, shuffle=True, **kwargs)

    one, two, other = loader(seed=3), loader(seed=3, num_workers=2, persistent_workers=True), loader(seed=4)
    first, second = list(one), list(one)
    assert not same(first, second)
    assert same(first, list(two))
    assert same(second, list(two))
    assert not same(first, list(other))
    one.set_epoch(0)
    assert same(first, list(one))
    torch.manual_seed(0)
    third = list(loader())
    torch.manual_seed(0)
    assert same(third, list(loader(num_workers=1)))
    assert same(list(loader(generator=torch.Generator())), list(loader(generator=torch.Generator())))


def test_filtering_in_the_main_process_gives_the_same(make_data: MakeData) -> None:
    data = make_data()
    kwargs: dict[str, Any] = {"input_tuples": "tags", "batch_size": 16, "seed": 0}
    here = batches(data, [2], filter_per_worker=False, **kwargs)
    there = batches(data, [2], filter_per_worker=True, **kwargs)
    assert same(here, there)
    assert here[0]["user"].item_id == there[0]["user"].item_id


def test_transforms_see_the_finished_batch(make_data: MakeData) -> None:
    def transform(batch: MultiModalHeteroData) -> MultiModalHeteroData:
        assert isinstance(batch["user"].item_id, list)
        batch.seen = batch["tags"].hyperedge_label.numel()
        return batch

    calls: list[Any] = []

    def of_output(out: Any) -> Any:
        calls.append(out)
        return out

    kwargs: dict[str, Any] = {"transform": transform, "transform_sampler_output": of_output}
    out = batches(make_data(), [2], input_tuples="tags", batch_size=40, **kwargs)
    assert [batch.seen for batch in out] == [40, 20]
    assert len(calls) == 2


def test_samplers_of_the_user_give_the_order(make_data: MakeData) -> None:
    data = make_data()
    order = WeightedRandomSampler([0.0] * 29 + [1.0], 4)
    (batch,) = batches(data, [2], "user", sampler=order, batch_size=4)
    assert batch["user"].n_id[: batch["user"].batch_size].tolist() == [29]
    lists = BatchSampler(SequentialSampler(range(30)), 20, drop_last=True)
    loader = HypergraphNeighborLoader(data, [2], "user", batch_sampler=lists, seed=0)
    assert [batch["user"].batch_size for batch in loader] == [20]
    assert len(loader) == 1
    loader = HypergraphNeighborLoader(data, [2], "user", batch_size=7, drop_last=True)
    assert len(list(loader)) == len(loader) == 4
    batch = loader([4, 2])
    assert batch["user"].n_id[:2].tolist() == [4, 2]
    assert repr(loader) == "HypergraphNeighborLoader()"


def test_a_sampler_may_be_shared(make_data: MakeData) -> None:
    data = make_data()
    sampler = HypergraphNeighborLoader(data, [2], "user").node_sampler
    (batch,) = batches(data, input_nodes="film", neighbor_sampler=sampler, batch_size=20)
    assert batch["film"].batch_size == 20


# Sizes 0 and 1, faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_data(size: int) -> None:
    data = MultiModalHeteroData().add_modality("a", x=torch.ones(size, 1)).add_modality("b", num_nodes=0)
    data.add_hyperedges("r", {"a": torch.empty(2, 0).long(), "b": torch.empty(2, 0).long()}, num_hyperedges=size)
    data["a", "near", "a"].edge_index = torch.empty(2, 0).long()
    for kwargs in ({"input_nodes": "a"}, {"input_nodes": "r"}, {"input_tuples": "r"}):
        for disjoint in (False, True):
            found = batches(data, [2, -1], **kwargs, disjoint=disjoint, shuffle=True)
            assert len(found) == size
            for batch in found:
                assert batch["b"].num_nodes == 0
                batch.validate()


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({}, "pass one of"),
        ({"input_nodes": "user", "input_tuples": "tags"}, "pass one of"),
        ({"input_nodes": "usr"}, "Did you mean 'user'"),
        ({"input_nodes": 3}, "must be a name"),
        ({"input_nodes": ("user", "train")}, "no 'train_mask'"),
        ({"input_nodes": ("user", torch.ones(3, dtype=torch.bool))}, "must have 30 entries"),
        ({"input_nodes": ("user", torch.tensor([30]))}, "out of range"),
        ({"input_nodes": ("user", torch.ones(2, 2).long())}, "one dimension"),
        ({"input_nodes": "user", "input_time": torch.ones(30)}, "time_attr"),
        ({"input_nodes": "user", "input_time": torch.ones(3), "time_attr": "time"}, "'input_time' must be of shape"),
        ({"input_nodes": "user", "time_attr": "time"}, "'input_time' is missing"),
        ({"input_nodes": "user", "time_attr": "tim"}, "no store"),
        ({"input_nodes": "user", "temporal_strategy": "last"}, "time_attr"),
        ({"input_nodes": "user", "temporal_strategy": "first"}, "'uniform' or 'last'"),
        ({"input_nodes": "user", "shuffle": True, "sampler": SequentialSampler(range(30))}, "exclude"),
        ({"input_nodes": "user", "input_label": torch.ones(30)}, "'input_label' goes with"),
        ({"input_nodes": "user", "negatives": NEGATIVES}, "'negatives' goes with"),
        ({"input_tuples": "party", "negatives": NEGATIVES}, "one member in every slot"),
        ({"input_tuples": "tags", "leave_out": "all"}, "'leave_out' must be"),
        ({"input_tuples": "tag"}, "there is no relation"),
        ({"input_tuples": ("tags", torch.ones(2, 2).long())}, "one row a slot"),
        ({"input_tuples": ("tags", torch.full((3, 1), 25))}, "out of range"),
        ({"input_tuples": "tags", "input_label": torch.ones(3)}, "'input_label' must have 60 rows"),
        ({"input_tuples": ("tags", "valid")}, "no 'valid_mask'"),
        ({"input_nodes": "user", "message_hyperedges": {"tag": "train"}}, "Did you mean"),
        ({"input_nodes": "user", "message_hyperedges": {"tags": torch.ones(3)}}, "bool mask of shape"),
        ({"input_nodes": "user", "message_hyperedges": "tune"}, "no 'tune_mask'"),
    ],
)
def test_faults_are_told(make_data: MakeData, kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        batches(make_data(), [2], **kwargs)


def test_an_unknown_argument_is_told(make_data: MakeData) -> None:
    for wrong, right in (("batchsize", "batch_size"), ("num_worker", "num_workers"), ("num_neighbor", "num_neighbors")):
        with pytest.raises(TypeError, match=f"no argument '{wrong}' of HypergraphNeighborLoader.*mean '{right}'"):
            HypergraphNeighborLoader(make_data(), [2], "user", **{wrong: 3})


def test_memberships_are_the_only_edges_walked_both_ways(make_data: MakeData) -> None:
    data = make_data()
    index = data["user", "knows", "user"].edge_index
    target = int(index[1, 0])
    (batch,) = batches(data, {"default": [0], ("user", "knows", "user"): [-1]}, ("user", [target]))
    assert sorted(batch["user", "knows", "user"].e_id.tolist()) == (index[1] == target).nonzero().view(-1).tolist()
    assert all(batch[t].edge_index.size(1) == 0 for t in data.edge_types if is_membership(t))
