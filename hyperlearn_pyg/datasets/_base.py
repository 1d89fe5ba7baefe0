from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import InMemoryDataset

from hyperlearn_pyg._io import new_folders, save_torch
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._files import find_plain_or_gz
from hyperlearn_pyg.errors import InputError

Transform = Callable[[Any], Any] | None


class RawFilesDataset(InMemoryDataset, ABC):
    """One data object, read from raw files and stored whole or not at all; the base of the public data sets.

    A subclass names its ``files`` and ``processed_file_names``, fetches what is missing in :meth:`download`, and gives
    the data object in :meth:`read`.

    Args:
        root: folder of the data set. Files that lie in ``root/raw``, plain or with ``.gz``, are not downloaded.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        InputError: a file is missing or damaged, a raw one or the processed one. Nothing half-processed stays behind.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
    ) -> None:
        with new_folders(Path(root, "raw"), Path(root, "processed")):
            super().__init__(os.fspath(root), transform, pre_transform, log=False, force_reload=force_reload)
        try:
            self.load(self.processed_paths[0], data_cls=MultiModalHeteroData)
        except (RuntimeError, EOFError, AssertionError, pickle.UnpicklingError) as error:
            raise InputError(
                f"'{self.processed_paths[0]}' cannot be read ({error}): delete it or pass 'force_reload=True'"
            ) from error

    @property
    @abstractmethod
    def files(self) -> Sequence[str]:
        """The files that are needed, under their plain names below ``root/raw``."""

    @property
    def raw_file_names(self) -> list[str]:
        """The files that are needed, under the names they have in ``root/raw``, plain or with ``.gz``."""
        return [os.path.relpath(self.raw_file(name), self.raw_dir) for name in self.files]

    def raw_file(self, name: str) -> Path:
        """Return where a file lies, plain or with ``.gz``, or where it is to be put."""
        return find_plain_or_gz(self.raw_dir, name) or Path(self.raw_dir, name)

    @abstractmethod
    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the raw files."""

    def process(self) -> None:
        """Read the raw files and store the data object, whole or not at all."""
        data = self.read()
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        stored, slices = self.collate([data])  # what InMemoryDataset.save writes
        save_torch((stored.to_dict(), slices, type(stored)), self.processed_paths[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.settings())})"

    def settings(self) -> list[str]:
        """The arguments that tell this data set from others of its class, as they stand in its ``repr``."""
        return []
