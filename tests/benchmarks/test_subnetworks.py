from __future__ import annotations

import pytest
import subnetworks
import torch
import torch.nn.functional as F
from node_classification import Task


@pytest.fixture(scope="module")
def task() -> Task:
    """Three classes of 200 nodes, with hyperedges and words that tell much."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3).repeat_interleave(200)
    x = (torch.rand(600, 30, generator=generator) < 0.1) | (F.one_hot(y, 30) > 0)
    node, edge = torch.arange(600), torch.arange(600) // 4
    train = torch.zeros(1, 600, dtype=torch.bool)
    train[:, ::20] = True
    x = F.normalize(x.float(), p=1, dim=1)
    return Task(x, x.nonzero(as_tuple=True), y, torch.stack([node, edge]), 3, train, ~train)


@pytest.mark.parametrize("name", subnetworks.METHODS)
def test_every_method_learns_in_one_process(task: Task, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subnetworks, "STEPS", 12)
    method, job = subnetworks.METHODS[name], subnetworks.Job(task, 0, 1, subnetworks.METHODS[name].options)
    torch.manual_seed(0)
    net = method.make(30, 3)
    method.train(job, net)
    assert subnetworks.accuracy(net, task, 0, "test") > 80
    assert job.taken == 12
    assert job.parameters == sum(p.numel() for p in net.parameters())


def test_validation_and_test_nodes_share_none_and_no_label(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    class Marks(torch.nn.Module):
        """Right on one node alone."""

        def __init__(self, node: int) -> None:
            super().__init__()
            self.node = node

        def forward(self, x: torch.Tensor, hyperedge_index: torch.Tensor) -> torch.Tensor:
            wrong = F.one_hot((task.y + 1) % 3, 3).float()
            wrong[self.node] = F.one_hot(task.y, 3)[self.node].float()
            return wrong

    seen = {"validation": 0, "test": 0}
    for node in range(0, 600, 7):
        found = {part: subnetworks.accuracy(Marks(node), task, 0, part) > 0 for part in seen}
        assert sum(found.values()) == (0 if task.train[0, node] else 1)
        seen = {part: count + found[part] for part, count in seen.items()}
    assert min(seen.values()) > 20
