from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Batch

from hyperlearn_pyg.data import MultiModalHeteroData, Summary


def test_modalities(town: MultiModalHeteroData) -> None:
    town["tag"].x = torch.tensor([[0.0, math.nan], [1.0, math.nan]])
    table = town.describe().modalities
    assert table.loc["user"].to_dict() == {
        "items": 5,
        "features": 2,
        "without_features": 0,
        "missing_values": 0,
        "degree_min": 0,
        "degree_mean": pytest.approx((5 + 4 + 2 + 1) / 5),
        "degree_max": 5,
        "isolated": 1,
    }
    assert table.loc["film", "without_features"] == 3
    assert table.loc["tag", ["without_features", "missing_values"]].tolist() == [1, 2]


def test_relations(town: MultiModalHeteroData) -> None:
    table = town.describe().relations
    rates = table.loc["rates"]
    assert (rates.slots, rates.order, rates.hyperedges, rates.memberships) == ("user, film", 2, 3, 6)
    assert (rates.uniform, rates.density, rates.incidence_density) == (True, 3 / 15, 6 / 24)
    assert (rates.train, rates.value_mean, rates["empty"]) == (2, 2.0, 0)
    assert rates.val is pd.NA
    visits = table.loc["visits"]
    assert (visits.members_min, visits.members_mean, visits.members_max, visits["empty"]) == (0, 7 / 3, 4, 1)
    assert not visits.uniform
    assert math.isnan(visits.density)
    assert table.loc["follows", "slots"] == "user:follower, user:followee"


def test_density_counts_a_tuple_once() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_hyperedges("r", {"a": [0, 0, 0]})
    assert data.describe().relations.loc["r", "density"] == 0.5


def test_slots_and_edges(town: MultiModalHeteroData) -> None:
    told = town.describe()
    slot = told.slots.loc[("visits", 0)]
    assert (slot.modality, slot.role, slot.memberships, slot.unused) == ("user", "", 4, 1)
    assert (slot.members_min, slot.members_max, slot.degree_min, slot.degree_max) == (0, 3, 0, 1)
    assert told.slots.loc[("follows", 1), "role"] == "followee"
    assert told.edges.loc["user, knn, user"].to_dict() == {"edges": 3, "density": 3 / 25, "self_loops": 1}


def test_text(town: MultiModalHeteroData) -> None:
    text = repr(town.describe())
    for word in ("modalities", "relations", "slots", "edges", "user:follower", "missing_values"):
        assert word in text
    assert "<NA>" not in text
    assert "NaN" not in text
    text = town.summary()
    assert "rates" in text
    assert "user, knn, user" in text
    assert len(text) < len(repr(town.describe()))


def test_it_is_frozen(town: MultiModalHeteroData) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        town.describe().edges = None  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 1])
def test_small(size: int) -> None:
    data = MultiModalHeteroData()
    assert repr(data.describe()) == data.summary() == ""
    data.add_modality("a", x=torch.ones(size, 0)).add_hyperedges("r", {"a": list(range(size))}, value=torch.ones(size))
    told = data.describe()
    assert told.modalities.loc["a", "items"] == size
    assert told.modalities.loc["a", "without_features"] == size
    assert told.relations.loc["r", "hyperedges"] == size
    assert "r" in repr(told)
    assert "r" in data.summary()
    assert told.edges.empty
    assert Summary.from_dataset([data]).items.loc["max", "a"] == size


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_features_and_a_batch(town: MultiModalHeteroData) -> None:
    town["tag"].x = torch.eye(2).to_sparse()
    assert town.describe().modalities.loc["tag", "without_features"] == 0
    table = Batch.from_data_list([town, town]).describe().relations
    assert table.loc["rates", "hyperedges"] == 6


def test_summary_of_a_data_set(town: MultiModalHeteroData) -> None:
    other = town.modality_subgraph(["film"])
    told = Summary.from_dataset([town, other, town])
    assert told.num_graphs == 3
    assert told.items["user"].to_dict() == {
        "mean": pytest.approx(10 / 3),
        "std": pytest.approx(np.std([5, 0, 5], ddof=1)),
        "min": 0,
        "quantile25": 2.5,
        "median": 5,
        "quantile75": 5,
        "max": 5,
    }
    assert told.memberships.loc["max", "visits"] == 7
    assert told.hyperedges.loc["min", "follows"] == 0
    text = repr(told)
    assert text.startswith("list (#graphs=3)")
    assert "user, knn, user" in text
    with pytest.raises(ValueError, match="holds no graph"):
        Summary.from_dataset([])


def test_summary_of_plain_graphs() -> None:
    empty: Any = Summary.from_dataset([MultiModalHeteroData()])
    assert repr(empty) == "list (#graphs=1)"
