from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from hyperlearn_pyg.data.init_config import write_config
from hyperlearn_pyg.datasets.tables import TableDataset
from hyperlearn_pyg.errors import InputError

CONFIGS = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "configs"
CONFIG = """
[modality.user]
file = "users.csv"
id = "id"
features = { age = "numeric" }
graph = { knn = 2 }
[modality.film]
graph = { cooccurrence = "rates", k = 2 }
[relation.rates]
file = "rates.csv"
value = "r"
columns = { user = "u", film = "f" }
[relation.sees]
file = "rates.csv"
split = "s"
columns = { user = "u", film = "f" }
[split]
test = 0.25
val = 0.25
seed = 3
[model]
rank = 8
[train]
epochs = 2
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "users.csv").write_text("id,age\n" + "".join(f"{i},{i * i}\n" for i in range(5)))
    rows = "".join(f"{i % 5},f{i % 4},{i % 3},{['train', 'val', 'test'][i % 3]}\n" for i in range(20))
    (tmp_path / "rates.csv").write_text("u,f,r,s\n" + rows)
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


def test_masks_graphs_and_tables_of_the_trainer(config):
    dataset = TableDataset(config)
    data = dataset[0]
    assert len(dataset) == 1
    rates, sees = data.relation("rates"), data.relation("sees")
    assert [int(rates.mask(split).sum()) for split in ("train", "val", "test")] == [10, 5, 5]
    assert sees.mask("val").tolist() == [i % 3 == 1 for i in range(20)]
    for relation in (rates, sees):
        parts = torch.stack([relation.mask(split) for split in ("train", "val", "test")])
        assert (parts.sum(dim=0) == 1).all()
    assert data["user", "knn", "user"].edge_index.size(1) > 0
    assert data["film", "cooccurs", "film"].edge_index.size(1) > 0
    assert dataset.config.model == {"rank": 8}
    assert dataset.config.train == {"epochs": 2}
    assert dataset.feature_names == {"user": ["age"]}
    assert data.validate()


def test_the_seed_and_nothing_else_decides_the_split(config):
    first, again = TableDataset(config)[0], TableDataset(config)[0]
    config.write_text(CONFIG.replace("seed = 3", "seed = 4"))
    other = TableDataset(config)[0]
    assert torch.equal(first["rates"].test_mask, again["rates"].test_mask)
    assert not torch.equal(first["rates"].test_mask, other["rates"].test_mask)
    assert torch.equal(first["sees"].test_mask, other["sees"].test_mask)


def test_held_out_tuples_do_not_reach_the_co_occurrence_graph(config):
    graph = TableDataset(config)[0]["film", "cooccurs", "film"]
    config.write_text(CONFIG.replace('cooccurrence = "rates"', 'cooccurrence = "sees"'))
    (config.parent / "rates.csv").write_text("u,f,r,s\n0,a,1,train\n0,b,1,train\n1,b,1,train\n1,c,1,test\n0,c,1,val\n")
    graph = TableDataset(config)[0]["film", "cooccurs", "film"]
    assert graph.edge_index.T.tolist() == [[0, 1], [1, 0]]


def test_root_and_transform(config, tmp_path):
    (tmp_path / "sub").mkdir()
    moved = config.rename(tmp_path / "sub" / "c.toml")
    with pytest.raises(InputError, match=r"users\.csv' not found"):
        TableDataset(moved)
    data = TableDataset(moved, root=tmp_path, transform=lambda data: data["user"].num_nodes)[0]
    assert data == 5


def test_lastfm(data_dir):
    start = time.perf_counter()
    dataset = TableDataset(CONFIGS / "lastfm.toml", root=data_dir("hetrec-lastfm"))
    seconds = time.perf_counter() - start
    data = dataset[0]
    assert [data[m].num_nodes for m in ("user", "artist", "tag")] == [1892, 12523, 9749]
    tagged = data.relation("tagged")
    assert tagged.modalities == ("user", "artist", "tag")
    assert len(tagged) == 186_478
    assert tagged.value is None
    assert data["user", "linked", "user"].edge_index.size(1) == 25_434
    assert data["tag"].item_name[data["tag"].item_id.index("1")] == "metal"
    assert dataset.notes[0].startswith("modality 'artist': 390 ids added")
    assert data.validate()
    assert seconds < 60  # a second on an idle machine


def test_tate(data_dir):
    dataset = TableDataset(CONFIGS / "tate.toml", root=data_dir("tate"))
    data = dataset[0]
    made = data.relation("made")
    assert made.modalities == ("artwork", "artist", "class", "decade")
    assert made.sizes == (24_260, 3150, 9, 48)
    assert len(made) == 24_530
    assert "558" not in data["artist"].item_id
    assert data["decade"].item_id == sorted(data["decade"].item_id)
    assert data["artwork"].x.shape == (24_260, len(dataset.feature_names["artwork"]))
    assert "birth_year missing" in dataset.feature_names["artist"]
    assert data.validate()
    years = [int(data["decade"].item_id[i]) for i in made.index[3].tolist()]
    assert min(years) >= 1540
    assert int(made.mask("test").sum()) == 2453


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hetrec-lastfm", "tate"])
def test_drafts_of_real_files_load(data_dir, tmp_path, name):
    files = [f for f in sorted(data_dir(name).iterdir()) if f.suffix in (".gz", ".dat") and "_2" not in f.name]
    write_config(files, tmp_path / "c.toml")
    data = TableDataset(tmp_path / "c.toml")[0]
    expected = {"hetrec-lastfm": ("user_taggedartist", 108_469), "tate": ("artwork_subject", 361_385)}[name]
    assert len(data.relation(expected[0])) == expected[1]
