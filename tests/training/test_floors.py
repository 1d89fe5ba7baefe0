from __future__ import annotations

import math

import pytest
import torch

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.datasets import SyntheticMultiModal
from hyperlearn_pyg.training.floors import floors


def ratings(**attrs: torch.Tensor) -> MultiModalHeteroData:
    data = MultiModalHeteroData()
    data.add_modality("user", num_nodes=3)
    data.add_modality("film", num_nodes=2)
    index = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1]])
    return data.add_hyperedges("rates", index, modalities=("user", "film"), **attrs)


def masks(*splits: int) -> dict[str, torch.Tensor]:
    names = ("train_mask", "val_mask", "test_mask")
    return {name: torch.tensor([s == i for s in splits]) for i, name in enumerate(names)}


def test_global_mean_by_hand():
    data = ratings(value=torch.tensor([1.0, 3.0, 5.0, 7.0]), **masks(0, 1, 2, 2))
    row = floors(data)["global mean"]
    assert row["published"] is False
    assert row["test"]["rmse"] == pytest.approx(math.sqrt((3**2 + 5**2) / 2))  # validation entries are known
    assert row["test"]["mae"] == pytest.approx(4)
    assert row["test"]["relations"]["rates"]["rmse"] == row["test"]["rmse"]
    assert floors(data, "val")["global mean"]["val"]["mae"] == pytest.approx(2)


def test_the_value_of_the_scored_entries_is_not_read():
    values = torch.tensor([1.0, 3.0, 5.0, 7.0])
    shifted = values + torch.tensor([0, 0, 100.0, 100.0])
    one, other = (
        floors(ratings(value=v, **masks(0, 0, 2, 2)))["item biases"]["test"]["mae"] for v in (values, shifted)
    )
    assert other == pytest.approx(one + 100)


def test_planted_biases_beat_the_mean_and_counts_beat_chance():
    found = floors(SyntheticMultiModal()[0])
    assert found["item biases"]["test"]["rmse"] < found["global mean"]["test"]["rmse"]
    assert 0.5 < found["item counts"]["test"]["relations"]["tags"]["auc"] < 1
    assert floors(SyntheticMultiModal()[0]) == found


def test_no_entry_and_no_relation():
    assert floors(ratings(value=torch.ones(4), **masks(0, 0, 0, 0))) == {}
    assert floors(MultiModalHeteroData()) == {}
