from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data.hypergraph_data import HyperGraphData

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import (
    from_homogeneous_hypergraph,
    from_hypergraph_data,
    to_homogeneous_hypergraph,
    to_hypergraph_data,
)

INDEX = torch.tensor([[0, 1, 2, 1, 3], [0, 0, 0, 1, 1]])


@settings(deadline=None, max_examples=25)
@given(draw=st.data())
def test_round_trip(arbitrary: Any, same: Any, draw: st.DataObject) -> None:
    data = draw.draw(arbitrary())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        flat = to_homogeneous_hypergraph(data)
        there = to_hypergraph_data(data)
        again = to_hypergraph_data(flat)
    assert isinstance(there, HyperGraphData)
    back = from_hypergraph_data(again)
    same(back, flat)
    if "node_type" in there:
        same(from_hypergraph_data(there), flat)
    assert from_homogeneous_hypergraph(back).edge_types == [
        slot for n in data.hyperedge_types for slot in data.relation(n).slots
    ]


def test_where_attributes_go(same: Any) -> None:
    hyper = HyperGraphData(
        x=torch.ones(4, 2),
        edge_index=INDEX,
        edge_attr=torch.zeros(2, 3),
        y=torch.tensor([1, 0]),
        hyperedge_weight=torch.tensor([1.0, 2.0]),
        edge_value=torch.tensor([3.0, 4.0]),
        incidence_weight=torch.rand(5),
        name="a graph",
    )
    data = from_hypergraph_data(hyper, modality="paper", relation="cites")
    assert data["paper"].num_nodes == 4
    assert set(data["cites"]) == {"num_nodes", "x", "y", "weight", "value"}
    assert torch.equal(data["paper", "member", "cites"].edge_weight, hyper.incidence_weight)
    assert data.name == "a graph"
    there = to_hypergraph_data(data)
    assert there.edge_attr.shape == (2, 3)
    assert there.num_nodes == 4
    assert there.num_hyperedges == 2
    assert there.edge_weight.tolist() == [1, 2]
    same(from_hypergraph_data(there, modality="paper", relation="cites"), data)


def test_counts_that_pyg_gets_wrong() -> None:
    """Node 4 is isolated and hyperedges 2 to 4 are empty; both numbers are five."""
    data = MultiModalHeteroData().add_modality("v", num_nodes=5).add_hyperedges("e", {"v": INDEX}, num_hyperedges=5)
    with pytest.warns(UserWarning, match=r"will miscount these 5 nodes and 5 hyperedges \(it reads \[4, 2\]"):
        there = to_hypergraph_data(data)
    assert int(there.num_edges) == 2  # the defect
    assert from_hypergraph_data(there)["hyperedge"].num_nodes == 5
    same_number = HyperGraphData(edge_index=INDEX[:, :3], num_nodes=1 + int(INDEX[1, :3].max()) + 3)
    assert from_hypergraph_data(same_number)["node"].num_nodes == 4
    empty = MultiModalHeteroData().add_modality("v", num_nodes=2).add_hyperedges("e", {"v": []})
    with pytest.warns(UserWarning, match="will miscount"):
        there = to_hypergraph_data(empty)
    with pytest.raises(ValueError, match="empty"):
        _ = there.num_nodes  # the defect
    assert from_hypergraph_data(there)["node"].num_nodes == 2


def test_what_is_left_out_is_said(small: MultiModalHeteroData) -> None:
    with pytest.warns(UserWarning, match=r"HyperGraphData has no place for edges .*'value' of 'rates'") as record:
        to_hypergraph_data(small)
    assert record[0].filename == __file__
    data = MultiModalHeteroData().add_modality("v", num_nodes=4).add_hyperedges("e", {"v": INDEX}, num_hyperedges=2)
    data.name = "a graph"
    assert to_hypergraph_data(data).name == "a graph"
    data["v", "near", "v"].edge_index = INDEX[:, :1]
    with pytest.warns(UserWarning, match=r"has no place for edges \('v', 'near', 'v'\): left out"):
        to_hypergraph_data(data)
    with pytest.raises(ValueError, match=r"write \['e'\]"):
        to_hypergraph_data(data, relations="e")


def test_counts_are_asked_for() -> None:
    hyper = HyperGraphData(edge_index=INDEX)
    with pytest.raises(ValueError, match="'num_nodes' of HyperGraphData is missing"):
        from_hypergraph_data(hyper)
    data = from_hypergraph_data(hyper, num_nodes=6, num_hyperedges=3)
    assert (data["node"].num_nodes, data["hyperedge"].num_nodes) == (6, 3)
    hyper.edge_attr = torch.ones(4, 1)
    assert from_hypergraph_data(hyper, num_nodes=6)["hyperedge"].num_nodes == 4
    with pytest.raises(ValueError, match=r"row 0 \(nodes\): index 3 at position 4 is out of range \[0, 3\)"):
        from_hypergraph_data(hyper, num_nodes=3)
    with pytest.raises(ValueError, match=r"row 1 \(hyperedges\)"):
        from_hypergraph_data(hyper, num_nodes=4, num_hyperedges=1)
    with pytest.raises(ValueError, match=r"must be of shape \[2, nnz\] \(got NoneType\)"):
        from_hypergraph_data(HyperGraphData(x=torch.ones(1, 1)))
    empty = HyperGraphData(edge_index=INDEX[:, :0])
    assert from_hypergraph_data(empty, num_nodes=0)["hyperedge"].num_nodes == 0
