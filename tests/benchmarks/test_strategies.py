from __future__ import annotations

import pytest
import strategies as bench
import torch
import torch.nn.functional as F
from node_classification import Task


@pytest.fixture(scope="module")
def task():
    """Three classes of twenty nodes; hyperedges within the classes, words that tell little."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat_interleave(20)
    x = ((torch.rand(60, 30, generator=generator) < 0.2) | (F.one_hot(y, 30) > 0)).float()
    node = torch.arange(60).repeat(2)
    edge = torch.cat([torch.arange(60) // 4, 15 + torch.arange(60) // 20])
    train = torch.zeros(1, 60, dtype=torch.bool)
    train[:, ::3] = True
    return Task(F.normalize(x, p=1, dim=1), x.nonzero(as_tuple=True), y, torch.stack([node, edge]), 3, train, ~train)


@pytest.mark.parametrize("skew", bench.SKEWS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_label_is_dealt_once(task, skew, size):
    parts = bench.dealt(task, 0, size, skew)
    assert len(parts) == size
    assert sorted(torch.cat(parts).tolist()) == task.train[0].nonzero().flatten().tolist()
    if skew == "classes":
        assert all(set((task.y[part] % size).tolist()) <= {rank} for rank, part in enumerate(parts))


@pytest.mark.parametrize("name", bench.METHODS)
def test_alone_every_method_learns_the_same(task, name, monkeypatch):
    monkeypatch.setitem(bench.COMMON, "epochs", 3)
    monkeypatch.setattr(bench, "VALIDATION", 10)
    method, jobs = bench.METHODS[name], []
    for train, options in ((bench.alone, {}), (method.train, method.options)):
        jobs.append(bench.Job(task, 0, 0, 1, "classes", options))
        train(jobs[-1])
    states = [job.net.state_dict() for job in jobs]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert jobs[1].num_bytes == 0
    assert 0 <= jobs[1].accuracy("test") <= 100


def test_a_worker_without_labels_learns_nothing(task, monkeypatch):
    job = bench.Job(task, 0, 3, 4, "classes", {})
    before = job.net.state_dict()["words"].clone()
    assert len(job.labels) == 0
    loss = job.loss(job.forward())
    assert loss.item() == 0
    loss.backward()
    assert job.net.words.grad.abs().sum() == 0
    assert torch.equal(job.net.words, before)


def test_validation_and_test_nodes_are_apart(task, monkeypatch):
    monkeypatch.setattr(bench, "VALIDATION", 10)
    job = bench.Job(task, 0, 0, 1, "classes", {})
    job.net.forward = lambda x, index: F.one_hot(task.y, 3).float()
    assert job.accuracy("validation") == job.accuracy("test") == 100
