"""A small module with buffers of all kinds, data of each rank, and how a plain loop trains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DOUBLE = torch.float64
ROWS, WIDTH, CLASSES = 12, 4, 3


def net(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    hidden = torch.nn.Sequential(torch.nn.Linear(WIDTH, 5, bias=False), torch.nn.BatchNorm1d(5), torch.nn.Tanh())
    return torch.nn.Sequential(hidden, torch.nn.Dropout(0.2), torch.nn.Linear(5, CLASSES)).to(DOUBLE)


def data_of(rank: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(50 + rank)
    x = torch.randn(ROWS, WIDTH, dtype=DOUBLE, generator=generator) + rank
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def sgd(module: torch.nn.Module, rate: float = 0.3) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=rate, momentum=0.5)


def loss_of(module: torch.nn.Module, rank: int, step: int) -> Tensor:
    """Loss on a rank's own data; what is dropped depends on rank and step alone."""
    x, y = data_of(rank)
    torch.manual_seed(1000 * rank + step)
    return torch.nn.functional.cross_entropy(module(x), y)


def one_step(module: torch.nn.Module, optimizer: Any, rank: int, step: int) -> None:
    optimizer.zero_grad()
    loss_of(module, rank, step).backward()
    optimizer.step()


def values(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def floats(module: torch.nn.Module) -> list[Tensor]:
    return [value for value in module.state_dict().values() if value.is_floating_point()]


def said(call: Any) -> tuple[str, str, tuple[int, ...]]:
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "ranks", ())
    return "", "", ()
