"""Checkpoints of trainings that several ranks write together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hyperlearn_pyg.distributed import checkpoint
from hyperlearn_pyg.distributed.ranks import Ranks
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training.parallel import KEEP

#: Gives the name that a tensor is saved under by this rank; None where it is not saved here.
Named = Callable[[str], str | None]


class RanksWriter(checkpoint.CheckpointWriter):
    """Saves what each rank holds as one checkpoint.

    Args:
        ranks: the ranks.
        folder: of the checkpoints.
        tensor_name: what this rank saves of the tensors.
        optimizer_name: what it saves of the optimizer.
    """

    def __init__(self, ranks: Ranks, folder: Path, tensor_name: Named, optimizer_name: Named) -> None:
        super().__init__(folder, rank=ranks.rank, world_size=ranks.world_size, keep=KEEP)
        self.ranks, self.tensor_name, self.optimizer_name = ranks, tensor_name, optimizer_name

    def save(self, step: int, tensors: Mapping[str, Tensor], **kwargs: Any) -> Path:
        """Save a checkpoint; every rank calls this."""
        ranks = self.ranks
        directory = ranks.tell(str(checkpoint.new_directory(self.folder, step)) if ranks.rank == 0 else None)[0]
        kwargs["optimizer"] = _chosen(kwargs["optimizer"], self.optimizer_name)
        return super().save(step, _chosen(tensors, self.tensor_name), directory=directory, **kwargs)


def _chosen(values: Mapping[str, Any], named: Named) -> dict[str, Any]:
    names = {name: named(name) for name in values}
    return {new: values[name] for name, new in names.items() if new is not None}


def latest_of(ranks: Ranks, folder: Path, names: Iterable[str] | None) -> checkpoint.Checkpoint | None:
    """Read the newest intact checkpoint, which rank 0 chooses; what is wrong is raised on every rank.

    Args:
        ranks: the ranks.
        folder: of the checkpoints.
        names: the tensors to read; None reads all.

    Raises:
        InputError: none is intact.
    """
    found, fault = None, None
    if ranks.rank == 0:
        try:
            found = checkpoint.newest(folder)
        except InputError as error:
            fault = str(error)
    directory, fault = ranks.tell([None if found is None else str(found), fault])[0]
    if fault is not None:
        raise InputError(fault)
    return None if directory is None else checkpoint.load(directory, names)
