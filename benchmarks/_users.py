"""MovieLens-100K with its users dealt over workers: item factors are shared, ratings and user factors stay."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, Parameter

FACTORS, EPOCHS, RATE = 16, 200, 0.02
USERS, FILMS = 943, 1682


class Ratings(NamedTuple):
    """Entries ``index [2, E]`` (user, film) with values ``[E]``."""

    index: Tensor
    value: Tensor

    def take(self, chosen: Tensor) -> Ratings:
        """Return some of the entries."""
        return Ratings(self.index[:, chosen], self.value[chosen])


class Users(NamedTuple):
    """Split u1, as its authors drew it."""

    known: Ratings
    test: Ratings

    def parts(self, seed: int) -> dict[str, Ratings]:
        """Return training and validation entries, a tenth of the known ones drawn by seed, and the test entries."""
        count = len(self.known.value)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        cut = count // 10
        return {"validation": self.known.take(order[:cut]), "train": self.known.take(order[cut:]), "test": self.test}


def load(folder: Path) -> Users:
    """Read ``u1.base`` and ``u1.test``."""
    files = (np.loadtxt(folder / f"u1.{part}", dtype=np.int64) for part in ("base", "test"))
    known, test = (Ratings(torch.from_numpy(t[:, :2].T - 1), torch.from_numpy(t[:, 2]).float()) for t in files)
    return Users(known, test)


def owners(seed: int, size: int) -> Tensor:
    """Deal the users over workers at random; return the worker of each."""
    return torch.randperm(USERS, generator=torch.Generator().manual_seed(100 + seed)) % size


class Table(Module):
    """A factor vector and a bias for each row."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.factors = Parameter(0.1 * torch.randn(rows, FACTORS))
        self.bias = Parameter(torch.zeros(rows))


def predict(users: Table, films: Table, index: Tensor) -> Tensor:
    """Return the deviations from the mean, of pairs ``[2, E]``."""
    user, film = index
    return (users.factors[user] * films.factors[film]).sum(1) + users.bias[user] + films.bias[film]


def size_of(users: Table, films: Table, index: Tensor) -> Tensor:
    """Return the mean over the entries of the squared norms of what they read."""
    user, film = index
    parts = users.factors[user].square().sum(1) + films.factors[film].square().sum(1)
    return (parts + users.bias[user].square() + films.bias[film].square()).mean()
