from __future__ import annotations

import os
from pathlib import Path

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset, Transform
from hyperlearn_pyg.datasets._files import fetch_file, read_rows
from hyperlearn_pyg.errors import did_you_mean

KNOWLEDGE_BASES = ("JF17K-3", "JF17K-4", "WikiPeople-3", "WikiPeople-4")
_SPLITS = ("train", "valid", "test")


class NaryKB(RawFilesDataset):
    """Facts of a knowledge base that tie three or four entities by a relation, with the published split.

    =============  =========  ========  =======  ======  ======  ======
    name           relations  entities  facts    train   val     test
    =============  =========  ========  =======  ======  ======  ======
    JF17K-4        23         6,536     9,509    7,607   951     951
    WikiPeople-3   66         12,270    25,820   20,656  2,582   2,582
    WikiPeople-4   50         9,528     15,188   12,150  1,519   1,519
    =============  =========  ========  =======  ======  ======  ======

    ``JF17K-3`` is read from the same form; its counts were not checked here. Of the entities of ``JF17K-4``, 41 occur
    in no training fact.

    Modalities: ``relation`` and ``entity``, in the order of the sorted ``item_id``. Relation ``fact``, of order four
    or five: the slots are ``relation`` and ``entity`` in the roles ``arg1``, ``arg2``, ``arg3`` and, where there is a
    fourth, ``arg4``. ``train_mask``, ``val_mask``, ``test_mask`` in the order of the files. Metrics are the filtered
    MRR and Hits@k of each entity slot.

    Source: Y. Liu, Q. Yao and Y. Li, Generalizing Tensor Decomposition for N-ary Relational Knowledge Bases, WWW 2020,
    whose repository holds the files (MIT). JF17K is from J. Wen et al., IJCAI 2016, and WikiPeople from S. Guan et al.,
    WWW 2019.

    Args:
        root: folder of the data set. Files already in ``root/raw/NAME`` (``train.txt``, ``valid.txt``, ``test.txt``),
            plain or with ``.gz``, are not downloaded again. Those of ``JF17K-3`` are never: no checksum of them is
            known here.
        name: which knowledge base.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        ValueError: an unknown name.
        InputError: a missing, damaged or malformed file (with line). Nothing half-processed stays behind.
    """

    url = "https://raw.githubusercontent.com/liuyuaa/GETD/cd81d1c4a3de810c8ff2d4fed600fcd34cd1bc6c/Nary%20code/data"

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "JF17K-4",
        transform: Transform = None,
        pre_transform: Transform = None,
        force_reload: bool = False,
    ) -> None:
        if name not in KNOWLEDGE_BASES:
            hint = did_you_mean(str(name), KNOWLEDGE_BASES)
            raise ValueError(f"'name' must be one of {KNOWLEDGE_BASES} (got {name!r}).{hint}")
        self.name = name
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def files(self) -> list[str]:
        """The three files."""
        return [f"{self.name}/{split}.txt" for split in _SPLITS]

    @property
    def processed_file_names(self) -> str:
        """One file a knowledge base."""
        return f"{self.name}.pt"

    def download(self) -> None:
        """Fetch the files that are missing from the authors' repository and check them."""
        for name in self.files:
            fetch_file(f"{self.url}/{name}", self.raw_dir, name, f"getd/{name}")

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the three files."""
        roles = [f"arg{i}" for i in range(1, int(self.name[-1]) + 1)]
        parts = [_read_facts(self.raw_file(name), ["relation", *roles]) for name in self.files]
        facts = [fact for part in parts for fact in part]
        relations = sorted({fact[0] for fact in facts})
        entities = sorted({entity for fact in facts for entity in fact[1:]})
        data = MultiModalHeteroData()
        numbers = []
        for modality, ids in (("relation", relations), ("entity", entities)):
            data.add_modality(modality, num_nodes=len(ids), item_id=ids)
            numbers.append({name: i for i, name in enumerate(ids)})
        index = [[numbers[0][fact[0]], *(numbers[1][entity] for entity in fact[1:])] for fact in facts]
        which = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
        data.add_hyperedges(
            "fact",
            torch.tensor(index, dtype=torch.long).view(-1, 1 + len(roles)).t().contiguous(),
            modalities=("relation", *(("entity", role) for role in roles)),
            train_mask=which == 0,
            val_mask=which == 1,
            test_mask=which == 2,
        )
        return data

    def settings(self) -> list[str]:
        """The name, as it stands in the ``repr``."""
        return [repr(self.name)]


def _read_facts(path: Path, columns: list[str]) -> list[list[str]]:
    return [fields for _, fields in read_rows(path, separator=None, columns=columns, encoding="utf-8")]
