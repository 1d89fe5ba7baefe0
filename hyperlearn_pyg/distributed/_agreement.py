from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hyperlearn_pyg.distributed._share import Table
from hyperlearn_pyg.errors import RanksDifferError

if TYPE_CHECKING:
    from hyperlearn_pyg.distributed.ranks import Ranks

_WAYS = {
    "torch": "install the same version everywhere",
    "hyperlearn_pyg": "install the same version everywhere",
    "world size": "start all ranks with one command",
    "plan": "make the plan on one rank, save it, and pass it to all",
    "tuples": "draw the batches with the same seed on every rank, and give a RelationLoader rank=0, world_size=1",
    "seed": "call torch.manual_seed with one number on every rank, or pass seed=",
    "mode": "call train() or eval() on every rank",
}


def agree(ranks: Ranks, values: Mapping[str, Any]) -> None:
    """Check that all ranks have the same values.

    Raises:
        ValueError: two ranks differ; both values are in the message, the same on every rank.
    """
    compare(ranks.tell(dict(values)))


def compare(told: Sequence[Mapping[str, Any]]) -> None:
    """Raise where the ranks told different values."""
    for key, value in told[0].items():
        for rank, other in enumerate(told):
            if other.get(key) != value:
                raise RanksDifferError(
                    f"the ranks differ in {key!r}: rank 0 has {value}, rank {rank} has {other.get(key)}. All must have "
                    f"the same: {_WAYS.get(key, 'build the model alike everywhere')}"
                )


def tables_told(told: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
    """Read the tables of all modalities from what the ranks told: name -> items, width, type."""
    return {
        name: Table(items, width, getattr(torch, dtype))
        for entry in told
        for name, (items, width, dtype) in entry.items()
    }


def tables_to_tell(tables: Mapping[str, Table]) -> dict[str, list[Any]]:
    """Return the tables as plain lists."""
    return {name: [t.items, t.width, str(t.dtype).removeprefix("torch.")] for name, t in tables.items()}
