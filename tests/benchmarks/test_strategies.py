from __future__ import annotations

import _jobs
import _users
import _workers
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
    parts = _jobs.dealt(task, 0, size, skew)
    assert len(parts) == size
    assert sorted(torch.cat(parts).tolist()) == task.train[0].nonzero().flatten().tolist()
    if skew == "classes":
        assert all(set((task.y[part] % size).tolist()) <= {rank} for rank, part in enumerate(parts))


@pytest.mark.parametrize("name", bench.METHODS)
def test_alone_every_method_learns_the_same(task, name, monkeypatch):
    monkeypatch.setattr(_workers, "VALIDATION", 10)
    method, jobs = bench.METHODS[name], []
    for train, options in ((bench.alone, {"rate": method.options.get("rate", 1.0)}), (method.train, method.options)):
        jobs.append(_jobs.NodeJob(task, 0, 0, 1, "classes", options, epochs=3))
        train(jobs[-1])
    states = [job.net.state_dict() for job in jobs]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert jobs[1].num_bytes == 0
    right, count = jobs[1].score("test")
    assert 0 <= right <= count == 30


def test_a_worker_without_labels_learns_nothing(task):
    job = _jobs.NodeJob(task, 0, 3, 4, "classes", {})
    before = job.net.state_dict()["words"].clone()
    assert len(job.labels) == 0
    loss = job.loss(job.forward())
    assert loss.item() == 0
    loss.backward()
    assert job.net.words.grad.abs().sum() == 0
    assert torch.equal(job.net.words, before)


def test_validation_and_test_nodes_are_apart(task, monkeypatch):
    monkeypatch.setattr(_workers, "VALIDATION", 10)
    job = _jobs.NodeJob(task, 0, 0, 1, "classes", {})
    job.net.forward = lambda x, index: F.one_hot(task.y, 3).float()
    assert job.score("validation") == (10, 10)
    assert job.score("test") == (30, 30)
    both = [set(_workers.part_of(task, 0, part).tolist()) for part in ("validation", "test")]
    assert not both[0] & both[1]
    assert both[0] | both[1] == set(task.test[0].nonzero().flatten().tolist())


def ratings(count, seed):
    """Ratings that hang on the user and the film."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in (_users.USERS, _users.FILMS)])
    return _users.Ratings(index, 3 + (index[0] % 3 - 1).float() + (index[1] % 2).float())


def test_users_are_dealt_with_their_ratings_and_factors_of_films_are_learnt():
    users = _users.Users(ratings(4000, 0), ratings(300, 1))
    parts = users.parts(3)
    assert {name: len(part.value) for name, part in parts.items()} == {"validation": 400, "train": 3600, "test": 300}
    jobs = [_jobs.UserJob(users, 3, rank, 2, "users", {"l2": 0.01}) for rank in range(2)]
    for name, part in parts.items():
        held = [set(job.parts[name].index[0].tolist()) for job in jobs]
        assert not held[0] & held[1]
        assert sum(len(job.parts[name].value) for job in jobs) == len(part.value)
    before = [job.score("train") for job in jobs]
    for job in jobs:
        for _ in range(30):
            job.step()
    after = [job.score("train") for job in jobs]
    assert all(new[0] < 0.5 * old[0] for new, old in zip(after, before, strict=True))
    assert "users.factors" not in dict(jobs[0].net.named_parameters())


def test_what_was_chosen_was_among_the_choices():
    for method in bench.METHODS.values():
        for options, grid in ((method.options, method.grid), (method.users or {}, method.users_grid)):
            assert all(options[key] in values for key, values in grid.items())
