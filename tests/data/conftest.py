from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


@pytest.fixture
def assert_same() -> Callable[[HeteroData, HeteroData], None]:
    """Compare two data objects: stores, their order, attributes, types and values."""

    def same(left: Any, right: Any) -> bool:
        if isinstance(left, torch.Tensor):
            if not isinstance(right, torch.Tensor) or (left.dtype, left.layout) != (right.dtype, right.layout):
                return False
            return torch.equal(*(t.to_dense() if t.layout != torch.strided else t for t in (left, right)))
        return type(left) is type(right) and left == right

    def check(left: HeteroData, right: HeteroData) -> None:
        assert type(left) is type(right)
        assert left.node_types == right.node_types
        assert left.edge_types == right.edge_types
        for a, b in zip(left.stores, right.stores, strict=True):
            assert a._key == b._key
            assert a._parent() is left
            assert set(a) == set(b), a._key
            for key in a:
                assert same(a[key], b[key]), (a._key, key, a[key], b[key])

    return check


@pytest.fixture
def town() -> MultiModalHeteroData:
    """Every case in small: an isolated item, an empty hyperedge, ragged slots, roles, masks, weights, a graph."""
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.arange(10.0).view(5, 2).clone(), item_id=list("abcde"))
    data.add_modality("film", num_nodes=3, item_id=["x", "y", "z"], item_label=["u", "v", "u"])
    data.add_modality("tag", x=torch.eye(2))
    data.add_hyperedges(
        "rates",
        torch.tensor([[0, 0, 1], [0, 2, 2]]),
        modalities=("user", "film"),
        value=[1.0, 2.0, 3.0],
        train_mask=[True, False, True],
        incidence_weight=torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    )
    data.add_hyperedges("visits", {"user": [[0, 1, 2], [], [3]], "film": [[1], [], [0, 1]]}, weight=[1, 2, 3])
    data.add_hyperedges("follows", {("user", "follower"): [0, 1], ("user", "followee"): [2, 0]}, time=[5.0, 6.0])
    data.add_hyperedges("marks", {"tag": [0], "user": [1], "film": [2]})
    data["user", "knn", "user"].edge_index = torch.tensor([[0, 1, 3], [1, 0, 3]])
    data["user", "knn", "user"].edge_weight = torch.tensor([0.1, 0.2, 0.3])
    data.year = 2026
    return data
