"""One run of one worker on dealt data: classes of the papers of Cora, ratings of the users of MovieLens-100K."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import _users
import numpy as np
import torch
import torch.nn.functional as F
from _workers import part_of
from node_classification import Task
from torch import Tensor

from hyperlearn_pyg.nn import HypergraphConv

COMMON = {"hidden": 64, "weight_decay": 5e-4, "dropout": 0.5, "epochs": 100}
#: With SGD, to average parameters in every step is to average gradients; with Adam each worker scales its own first.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.3, momentum=0.9, nesterov=True, weight_decay=COMMON["weight_decay"]),
    "adam": partial(torch.optim.Adam, lr=0.01, weight_decay=COMMON["weight_decay"]),
}
HIDDEN = int(COMMON["hidden"])


class Net(torch.nn.Module):
    """A linear map of the words, then two hypergraph convolutions."""

    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.words = torch.nn.Parameter(torch.empty(words, HIDDEN))
        torch.nn.init.xavier_uniform_(self.words)
        self.first, self.second = HypergraphConv(HIDDEN, HIDDEN), HypergraphConv(HIDDEN, classes)

    def forward(self, x: Tensor, hyperedge_index: Tensor) -> Tensor:
        """Return the scores of the classes, of words ``[N, W]`` as a sparse tensor."""
        h = self.first(torch.sparse.mm(x, self.words), hyperedge_index).relu()
        return self.second(F.dropout(h, COMMON["dropout"], self.training), hyperedge_index)


def dealt(task: Task, split: int, size: int, skew: str) -> list[Tensor]:
    """Deal the training nodes of a split over workers, by class; return those of each.

    ``"classes"``: class ``c`` goes to worker ``c`` modulo their number, whole. ``"dirichlet"``: the shares of a class
    are drawn from a Dirichlet distribution of concentration 0.5.
    """
    known = task.train[split].nonzero().flatten()
    if skew != "dirichlet":
        return [known[task.y[known] % size == rank] for rank in range(size)]
    random, parts = np.random.default_rng(split), [[] for _ in range(size)]
    for label in range(task.num_classes):
        nodes = known[task.y[known] == label].numpy()
        ends = (random.dirichlet([0.5] * size).cumsum()[:-1] * len(nodes)).round().astype(int)
        for part, chosen in zip(parts, np.split(random.permutation(nodes), ends), strict=True):
            part.append(chosen)
    return [torch.from_numpy(np.concatenate(part)) for part in parts]


@dataclass
class Job:
    """One run of one worker: its module, its data, and what it counts.

    Attributes:
        task: the data of all.
        split: number of the split, and seed.
        rank, size: this worker among so many.
        skew: how the data are dealt.
        options: of the method; ``rate`` multiplies the learning rate of SGD, ``l2`` is for MovieLens.
        kind: of the optimizer.
        net: what strategies bring together.
        epochs: steps to take.
        syncs: how often the workers waited for one another.
        num_bytes: what this worker sent in training.
    """

    task: Any
    split: int
    rank: int
    size: int
    skew: str
    options: Mapping[str, Any]
    kind: str = "sgd"
    epochs: int = int(COMMON["epochs"])
    syncs: int = 0
    num_bytes: int = 0
    net: Any = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.split)
        options = dict(self.options)
        rate = options.pop("rate", 1.0)
        self.l2, self.options = options.pop("l2", 0.0), options
        self.optimizer = self.make()
        for group in self.optimizer.param_groups:
            group["lr"] *= rate if self.kind == "sgd" else 1.0
        torch.manual_seed(1000 * self.split + self.rank)

    def make(self) -> torch.optim.Optimizer:
        """Make the net, and take what this worker has of the data."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        """Return the scores that the loss is of, in training or not."""
        raise NotImplementedError

    def loss(self, scores: Tensor) -> Tensor:
        """Return the loss on this worker's data."""
        raise NotImplementedError

    def score(self, part: str) -> tuple[float, int]:
        """Return what is summed over ``"validation"`` or ``"test"`` entries, and their number."""
        raise NotImplementedError

    def step(self, change: Callable[[Tensor, Tensor], Tensor] = lambda loss, scores: loss, then: Any = None) -> None:
        """Take one step on all data of this worker; ``then`` is called with the gradients there."""
        self.net.train()
        self.optimizer.zero_grad()
        scores = self.forward()
        change(self.loss(scores), scores).backward()
        if then is not None:
            then()
        else:
            self.optimizer.step()


class NodeJob(Job):
    """Classes of the papers of Cora: the score is the number of right ones."""

    def make(self) -> torch.optim.Optimizer:
        """See :class:`Job`."""
        self.net = Net(self.task.x.size(1), self.task.num_classes)
        self.labels = dealt(self.task, self.split, self.size, self.skew)[self.rank]
        return OPTIMIZERS[self.kind](self.net.parameters())

    def forward(self) -> Tensor:
        """Return the scores of all nodes, in training a part of their words dropped."""
        values = F.dropout(self.task.x[self.task.words], COMMON["dropout"], self.net.training)
        x = torch.sparse_coo_tensor(torch.stack(self.task.words), values, self.task.x.shape, check_invariants=False)
        out: Tensor = self.net(x, self.task.hyperedge_index)
        return out

    def loss(self, scores: Tensor) -> Tensor:
        """Return the loss on this worker's labels."""
        total = F.cross_entropy(scores[self.labels], self.task.y[self.labels], reduction="sum")
        return total / max(len(self.labels), 1)

    def score(self, part: str) -> tuple[float, int]:
        """See :class:`Job`."""
        self.net.eval()
        with torch.no_grad():
            right = self.forward().argmax(1) == self.task.y
        nodes = part_of(self.task, self.split, part)
        return float(right[nodes].sum()), len(nodes)


class UserJob(Job):
    """Ratings of MovieLens: the score is the sum of squared errors, of this worker's users.

    Factors of films are the net; those of the users stay with their worker.
    """

    def make(self) -> torch.optim.Optimizer:
        """See :class:`Job`."""
        self.net, self.users = _users.Table(_users.FILMS), _users.Table(_users.USERS)
        mine = _users.owners(self.split, self.size) == self.rank
        self.parts = {name: part.take(mine[part.index[0]]) for name, part in self.task.parts(self.split).items()}
        self.mean = float(self.parts["train"].value.mean())
        self.epochs = _users.EPOCHS
        return torch.optim.Adam([*self.net.parameters(), *self.users.parameters()], lr=_users.RATE)

    def forward(self) -> Tensor:
        """Return the scores of this worker's ratings."""
        return _users.predict(self.users, self.net, self.parts["train"].index)

    def loss(self, scores: Tensor) -> Tensor:
        """Return the squared error, and the size of what was read."""
        index, value = self.parts["train"]
        error = (scores - (value - self.mean)).square().mean()
        return error + self.l2 * _users.size_of(self.users, self.net, index)

    def score(self, part: str) -> tuple[float, int]:
        """See :class:`Job`."""
        index, value = self.parts[part]
        with torch.no_grad():
            found = (self.mean + _users.predict(self.users, self.net, index)).clamp(1, 5)
        return float((found - value).square().sum()), len(value)
