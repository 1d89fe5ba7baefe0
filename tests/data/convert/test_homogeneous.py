from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_homogeneous_hypergraph, to_homogeneous_hypergraph

pytestmark = [
    pytest.mark.filterwarnings("ignore:The node types .* are isolated:UserWarning"),
    pytest.mark.filterwarnings("ignore:the homogeneous hypergraph has no place:UserWarning"),
]


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_round_trip(arbitrary: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    there = to_homogeneous_hypergraph(data)
    assert there.validate()
    assert there.modalities == ["node"]
    assert there["node"].num_nodes == sum(data[m].num_nodes for m in data.modalities)
    assert there["hyperedge"].num_nodes == sum(data[n].num_nodes for n in data.hyperedge_types)
    back = from_homogeneous_hypergraph(there)
    assert back.validate()
    assert back.node_types == [*data.modalities, *data.hyperedge_types]
    assert back.edge_types == [slot for n in data.hyperedge_types for slot in data.relation(n).slots]
    for name in data.node_types:
        for key, value in back[name].items():
            expected = data[name][key]
            assert torch.equal(value, expected) if isinstance(value, Tensor) else value == expected
    for slot in back.edge_types:
        assert torch.equal(back[slot].edge_index, data[slot].edge_index)
        weight = data[slot].get("edge_weight")
        if weight is not None:
            assert torch.equal(back[slot].edge_weight, weight)


def test_all_that_is_shared_goes_round(same: Any) -> None:
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.ones(2, 3), item_id=["a", "b"])
    data.add_modality("film", x=torch.zeros(1, 3), item_id=["a"])
    data.add_hyperedges("rates", {"user": [0, 1, 1], "film": [0, 0, 0]}, value=[1.0, 2.0, 3.0], weight=[1, 1, 2])
    data.add_hyperedges("views", {"film": [[0]], "user": [[0, 1]]}, value=[1.0], weight=[1])
    there = to_homogeneous_hypergraph(data)
    assert there["node"].item_id == ["user/a", "user/b", "film/a"]
    assert there["node"].x.shape == (3, 3)
    assert there["node"].node_type.tolist() == [0, 0, 1]
    assert there["hyperedge"].hyperedge_type.tolist() == [0, 0, 0, 1]
    assert there["hyperedge"].value.tolist() == [1, 2, 3, 1]
    assert there["node", "member", "hyperedge"].edge_index.tolist() == [
        [0, 1, 1, 2, 2, 2, 2, 0, 1],
        [0, 1, 2, 0, 1, 2, 3, 3, 3],
    ]
    same(from_homogeneous_hypergraph(there), data)


def test_some_relations(small: MultiModalHeteroData) -> None:
    there = to_homogeneous_hypergraph(small, relations=["visits", "rates"])
    assert there.hyperedge_type_names == ["visits", "rates"]
    assert there["hyperedge"].num_nodes == 5
    assert from_homogeneous_hypergraph(there).hyperedge_types == ["visits", "rates"]
    with pytest.raises(ValueError, match="there is no relation 'nothing'"):
        to_homogeneous_hypergraph(small, relations=["nothing"])


def test_a_hypergraph_with_node_types_alone() -> None:
    data = MultiModalHeteroData().add_modality("v", num_nodes=4, y=torch.tensor([5, 6, 7, 8]))
    data.add_hyperedges("e", {"v": [[0, 1], [3], []]}, value=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="'node_type' of modality 'v' is missing"):
        from_homogeneous_hypergraph(data)
    data["v"].node_type = torch.tensor([1, 0, 1, 1])
    out = from_homogeneous_hypergraph(data)
    assert out.modalities == ["node_type_0", "node_type_1"]
    assert out["node_type_1"].y.tolist() == [5, 7, 8]
    view = out.relation("hyperedge")
    assert [view.incidence(i).tolist() for i in range(2)] == [[[0], [0]], [[0, 2], [0, 1]]]
    assert view.value.tolist() == [1, 2, 3]  # type: ignore[union-attr]
    data["e"].hyperedge_type = torch.tensor([0, 0, 1])
    assert from_homogeneous_hypergraph(data).hyperedge_types == ["hyperedge_type_0"]
    data.node_type_names = ["a"]
    with pytest.raises(ValueError, match=r"'node_type' \(names: \['a'\]\): index 1 at position 0 is out of range"):
        from_homogeneous_hypergraph(data)


def test_what_is_left_out_is_said(small: MultiModalHeteroData) -> None:
    small.name = "a graph"
    with pytest.warns(UserWarning, match="the homogeneous hypergraph has no place for") as record:
        to_homogeneous_hypergraph(small)
    text = str(record[0].message)
    assert record[0].filename == __file__
    for part in ("edges ('user', 'knn', 'user')", "'x' of 'user'", "'value' of 'rates'", "'name' of the data"):
        assert part in text
    assert "item_id" not in text
    with pytest.raises(ValueError, match=r"'relations' must be a list of names \(got 'rates'\): write \['rates'\]"):
        to_homogeneous_hypergraph(small, relations="rates")


def test_errors(small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match="has one modality and one hyperedge set of one slot"):
        from_homogeneous_hypergraph(small)
    there = to_homogeneous_hypergraph(small)
    there["node", "member", "hyperedge"].slot[0] = 1
    with pytest.raises(
        ValueError, match=r"membership 0 is of slot \('film', 'member', 'rates'\), but its item is of 'user'"
    ):
        from_homogeneous_hypergraph(there)
    there.slot_names[0][0] = "tag"
    with pytest.raises(ValueError, match="names no modality of"):
        from_homogeneous_hypergraph(there)
    there = to_homogeneous_hypergraph(small)
    there["node"].node_type = there["node"].node_type.float()
    with pytest.raises(ValueError, match="'node_type' must be a tensor of integers"):
        from_homogeneous_hypergraph(there)


def test_size_zero() -> None:
    there = to_homogeneous_hypergraph(MultiModalHeteroData())
    assert there["node"].num_nodes == there["hyperedge"].num_nodes == 0
    assert from_homogeneous_hypergraph(there).node_types == []


def test_a_batch_of_them_is_right(small: MultiModalHeteroData) -> None:
    there = to_homogeneous_hypergraph(small)
    batch = Batch.from_data_list([there, there])
    assert torch.equal(
        batch["node", "member", "hyperedge"].edge_index[:, 19:],
        there["node", "member", "hyperedge"].edge_index + torch.tensor([[7], [8]]),
    )


def test_to_homogeneous_of_pyg_keeps_its_meaning(small: MultiModalHeteroData) -> None:
    plain = HeteroData.from_dict(small.to_dict())
    ours, theirs = small.to_homogeneous(), plain.to_homogeneous()
    assert torch.equal(ours.edge_index, theirs.edge_index)
    assert type(ours) is type(theirs)
