from __future__ import annotations

import json

import node_classification as nc
import numpy as np
import pytest
import torch
import torch.nn.functional as F


@pytest.fixture(scope="module")
def task():
    """Three classes of twenty nodes; hyperedges within the classes, words that tell little."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat_interleave(20)
    x = ((torch.rand(60, 30, generator=generator) < 0.2) | (F.one_hot(y, 30) > 0)).float()
    node = torch.arange(60).repeat(2)
    edge = torch.cat([torch.arange(60) // 4, 15 + torch.arange(60) // 20])
    train = torch.zeros(2, 60, dtype=torch.bool)
    train[:, ::5] = True
    return nc.Task(F.normalize(x, p=1, dim=1), x.nonzero(as_tuple=True), y, torch.stack([node, edge]), 3, train, ~train)


@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_smoothing_equals_the_dense_product(task, normalization):
    h = torch.zeros(60, 18, dtype=torch.double)
    h[task.hyperedge_index[0], task.hyperedge_index[1]] = 1
    d, b = h.sum(1), h.sum(0)
    row = torch.diag(1 / d) @ h @ torch.diag(1 / b) @ h.t()
    dense = row if normalization == "row" else torch.diag(d**0.5) @ row @ torch.diag(d**-0.5)
    np.testing.assert_allclose(nc.smooth(task, normalization, 2), dense @ dense @ task.x.double())
    np.testing.assert_array_equal(nc.smooth(task, normalization, 0), task.x)


def test_dropout_of_words_keeps_zeros_and_the_mean(task):
    torch.manual_seed(0)
    drawn = torch.stack([nc.drop_words(task, 0.5) for _ in range(2000)])
    assert ((drawn == 0) | (drawn == 2 * task.x)).all()
    torch.testing.assert_close(drawn.mean(0), task.x, rtol=0.2, atol=0)


def test_floors_use_the_hypergraph(task):
    rows = [nc.ridge_row(name, task, "co-authorship", **floor) for name, floor in nc.FLOORS.items()]
    assert all(len(row.test) == len(row.seconds) == 2 for row in rows)
    assert np.mean(rows[2].test) > np.mean(rows[0].test)
    assert rows[1].extra["penalty"] == [1.0, 1.0]


@pytest.mark.parametrize("name", nc.LAYERS)
def test_every_layer_trains(task, name):
    row = nc.layer_row(name, task, "co-authorship", 3)
    assert len(row.test) == 2
    assert all(0 <= score <= 100 for score in row.test)
    assert row.extra["parameters"] > 0


def test_a_run_is_repeatable(task):
    runs = [nc.train(nc.LAYERS["UniSAGEConv"], task, 0, 20, 0.01) for _ in range(2)]
    assert runs[0][0] == runs[1][0] > 60


def test_whole_run(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nc, "LAYERS", {name: nc.LAYERS[name] for name in ("UniGCNConv",)})
    threads = torch.get_num_threads()
    nc.main(["--quick", "--data", str(data_dir("hypergcn").parent), "--out", str(tmp_path)])
    torch.set_num_threads(threads)
    files = sorted(tmp_path.iterdir())
    assert [path.suffix for path in files] == [".json", ".md"]
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert {row["model"] for row in content["rows"]} == {*nc.FLOORS, "UniGCNConv"}
    assert "difference" in files[1].read_text(encoding="utf-8")
    assert "UniGCNConv" in capsys.readouterr().out
