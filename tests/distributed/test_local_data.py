from __future__ import annotations

import gc
import weakref

import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.distributed import local_data


def make_data() -> MultiModalHeteroData:
    relations = {
        "rates": SyntheticRelation(("user", "item"), 60),
        "tags": SyntheticRelation(("user", "item", "tag"), 40, valued=False),
    }
    made = SyntheticMultiModal({"user": 9, "item": 8, "tag": 4}, relations, num_features=3)[0]
    for name in made.modalities:
        for kind in made.intra_edge_types(name):
            del made[kind]
        made[name, "near", name].edge_index = torch.tensor([[0, 1], [1, 2]])
    return made


@pytest.fixture(name="data")
def _data() -> MultiModalHeteroData:
    return make_data()


def test_of_other_modalities_the_counts_alone_are_left(data: MultiModalHeteroData) -> None:
    part = local_data(data, ["user"])
    assert part.modalities == data.modalities
    assert set(part["user"].keys()) == set(data["user"].keys())
    assert part["user"].x is data["user"].x  # nothing is copied
    for name in ("item", "tag"):
        assert list(part[name].keys()) == ["num_nodes"]
        assert part[name].num_nodes == data[name].num_nodes
        assert part.intra_edge_types(name) == []
    assert part.intra_edge_types("user") == data.intra_edge_types("user") != []
    for name in data.hyperedge_types:
        one, other = part.relation(name), data.relation(name)
        assert torch.equal(one.index, other.index)
        assert one.sizes == other.sizes


def test_the_data_stay_as_they_are(data: MultiModalHeteroData) -> None:
    before = data.to_dict()
    local_data(data, [])
    after = data.to_dict()
    assert after.keys() == before.keys()
    assert all(after[key].keys() == before[key].keys() for key in before)
    data.validate()


def test_what_is_left_out_is_freed_with_the_data() -> None:
    data = make_data()
    watched = {name: weakref.ref(data[name].x) for name in ("user", "item")}
    part = local_data(data, ["user"])
    assert part.num_nodes
    del data
    gc.collect()
    assert watched["user"]() is not None
    assert watched["item"]() is None


def test_all_and_none(data: MultiModalHeteroData) -> None:
    whole = local_data(data, data.modalities)
    assert whole.node_types == data.node_types
    assert whole.edge_types == data.edge_types
    assert local_data(data, ()).modalities == data.modalities


def test_an_encoder_built_from_a_part_reads_the_part_alone(data: MultiModalHeteroData) -> None:
    torch.manual_seed(0)
    whole = HyperLearn.from_data(data, 2, hidden=4)
    torch.manual_seed(0)
    part = HyperLearn.from_data(data, 2, hidden=4, only=["item"])
    own = local_data(data, ["item"])
    whole.eval(), part.eval()
    one = whole.encode("item", whole.prepare(data, ("train",)))
    other = part.encode("item", part.prepare(own, ("train",)))
    assert torch.equal(one, other)


def test_unknown_modality(data: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"there is no 'itm'\. Did you mean 'item'"):
        local_data(data, ["itm"])
