from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.experiments import find, ratings


def small() -> MultiModalHeteroData:
    data = MultiModalHeteroData()
    generator = torch.Generator().manual_seed(0)
    for name in ("user", "film"):
        data.add_modality(name, x=torch.rand(30, 4, generator=generator))
        data[name, "knn", name].edge_index = torch.tensor([[0, 1], [1, 0]])
        data[name, "knn", name].edge_weight = torch.ones(2)
    return data


def test_rows_take_away_what_they_say():
    assert "x" not in ratings.no_user_features(small())["user"]
    assert "x" in ratings.no_user_features(small())["film"]
    assert "x" not in ratings.no_film_features(small())["film"]
    changed = ratings.graphs_of_features(small())
    for name in ("user", "film"):
        store = changed[name, "knn", name]
        assert "edge_weight" not in store
        assert store.edge_index.size(1) >= 300  # ten neighbours each, both ways
        assert int(torch.bincount(store.edge_index[0], minlength=30).min()) >= 10


@pytest.mark.parametrize("shift", [0, 1])
def test_graphs_of_another_split_are_refused(shift, monkeypatch, tmp_path):
    def rated(modalities: tuple[str, str], shift: int) -> MultiModalHeteroData:
        data = small() if modalities[1] == "film" else MultiModalHeteroData()
        for name in modalities:
            if name not in data.modalities:
                data.add_modality(name, num_nodes=30)
            data[name, "knn", name].edge_index = torch.tensor([[2, 3], [3, 2]])
            data[name, "knn", name].edge_weight = torch.full((2,), 0.5)
        index = torch.stack([torch.arange(20), (torch.arange(20) * 7 + shift) % 30])
        order = torch.arange(20).flip(0) if shift == 0 and modalities[1] == "item" else torch.arange(20)
        mask = torch.arange(20)[order] < 15
        return data.add_hyperedges(
            "rates", index[:, order], modalities=modalities, value=torch.ones(20), train_mask=mask, test_mask=~mask
        )

    monkeypatch.setattr(ratings, "read_raw", lambda *_: rated(("user", "film"), 0))
    monkeypatch.setattr(ratings, "MontiSplit", lambda path: [rated(("user", "item"), shift)])
    (tmp_path / "mgcnn-movielens").mkdir()
    if shift:
        with pytest.raises(InputError, match="is not u1 of ml-100k"):
            ratings._movielens(tmp_path)
        return
    data = ratings._movielens(tmp_path)
    for name in ("user", "film"):
        assert data[name, "knn", name].edge_index.tolist() == [[2, 3], [3, 2]]
        assert data[name, "knn", name].edge_weight.tolist() == [0.5, 0.5]


def test_the_public_split_has_the_given_graphs():
    base = Path(os.environ.get("HYPERLEARN_DATA", "../shared/data"))
    if not all((base / name).is_dir() for name in ("ml-100k", "mgcnn-movielens")):
        pytest.skip(f"no ml-100k and mgcnn-movielens in '{base}'")
    data = find("movielens-u1").load(base)
    assert data["user", "knn", "user"].edge_index.size(1) == 12_594
    assert data["film", "knn", "film"].edge_index.size(1) == 28_928
