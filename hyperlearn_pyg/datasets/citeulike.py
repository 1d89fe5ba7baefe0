from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.datasets._base import RawFilesDataset
from hyperlearn_pyg.datasets._files import fetch_file, read_lines, to_int
from hyperlearn_pyg.datasets._rows import read_items
from hyperlearn_pyg.errors import InputError


class CiteULike(RawFilesDataset):
    """citeulike-a: who keeps which articles, which tags they have, which cite each other; three relations of order two.

    ==========================  =========  =============================================
    relation                    number     items
    ==========================  =========  =============================================
    collects (user, article)    204,986    5,551 users, 16,980 articles
    tagged (article, tag)       239,253    46,391 tags
    cites (article, article)    89,418     slots ``article:citing``, ``article:cited``
    ==========================  =========  =============================================

    The readme of the source counts 204,987 pairs of user and article; the file holds 204,986. Every citation stands in
    the file in both directions, so who cites whom is not known; 96 are of an article by itself. 3,461 articles have no
    tag. ``item_id`` of tags is the tag, of users and articles the number of the line, from 0.

    To give the citations to a model as a graph within articles instead of a relation::

        data["article", "cites", "article"].edge_index = data.relation("cites").index

    There is no official split, so none is set (the literature draws P positives a user, and reports Recall@M):

        >>> from hyperlearn_pyg.transforms import RandomRelationSplit
        >>> dataset = CiteULike(root, transform=RandomRelationSplit("collects", seed=0))  # doctest: +SKIP

    Source: H. Wang, B. Chen and W.-J. Li, Collaborative Topic Regression with Social Regularization for Tag
    Recommendation, IJCAI 2013 (https://github.com/js05212/citeulike-a). No licence is stated; its authors ask to be
    cited.

    Args:
        root: folder of the data set. ``users.dat``, ``item-tag.dat``, ``citations.dat`` and ``tags.dat`` that lie in
            ``root/raw``, plain or with ``.gz``, are not downloaded again.
        transform: applied at each access.
        pre_transform: applied once, before the data is stored.
        force_reload: process again although the processed file is there.

    Raises:
        InputError: a missing, damaged or malformed file (with line), a number that does not agree with how many follow
            it, an id out of range, one that stands twice in a line. Nothing half-processed stays behind.
    """

    url = "https://raw.githubusercontent.com/js05212/citeulike-a/master"

    @property
    def files(self) -> list[str]:
        """The four files."""
        return ["users.dat", "item-tag.dat", "citations.dat", "tags.dat"]

    @property
    def processed_file_names(self) -> str:
        """One file."""
        return "citeulike-a.pt"

    def download(self) -> None:
        """Fetch the files that are missing from the authors' repository and check them."""
        for name in self.files:
            fetch_file(f"{self.url}/{name}", self.raw_dir, name, f"citeulike-a/{name}")

    def read(self) -> MultiModalHeteroData:
        """Return the data object, read from the four files."""
        users, item_tag, citations, tags = (self.raw_file(name) for name in self.files)
        names = list(read_items(tags, ("tag",), header=False))
        tagged, articles = _read_lists(item_tag, "tag", len(names))
        cites, citing = _read_lists(citations, "article", articles)
        if citing != articles:
            raise InputError(f"'{citations}' has {citing} lines, '{item_tag}' {articles}: both have one an article")
        collects, readers = _read_lists(users, "article", articles)
        data = MultiModalHeteroData()
        for modality, size in (("user", readers), ("article", articles)):
            data.add_modality(modality, num_nodes=size, item_id=[str(i) for i in range(size)])
        data.add_modality("tag", num_nodes=len(names), item_id=names)
        data.add_hyperedges("collects", collects, modalities=("user", "article"))
        data.add_hyperedges("tagged", tagged, modalities=("article", "tag"))
        data.add_hyperedges("cites", cites, modalities=(("article", "citing"), ("article", "cited")))
        return data


def _read_lists(path: Path, what: str, bound: int) -> tuple[Tensor, int]:
    """Return pairs of line and member ``[2, E]`` of a file of lists, a count before each, and how many lines it has."""
    lines: list[int] = []
    members: list[int] = []
    number = 0
    for number, line in read_lines(path, "utf-8"):
        fields = line.split()
        if not fields:
            raise InputError(f"'{path}', line {number}: is blank, expected a count")
        count = to_int(fields[0], path, number, "count", low=0)
        if count != len(fields) - 1:
            raise InputError(f"'{path}', line {number}: expected {count} ids behind the count, got {len(fields) - 1}")
        ids = [to_int(field, path, number, what, low=0, high=bound - 1) for field in fields[1:]]
        if len(set(ids)) < count:
            raise InputError(f"'{path}', line {number}: holds an id twice")
        lines += [number - 1] * count
        members += ids
    if number == 0:
        raise InputError(f"'{path}' is empty")
    return torch.tensor([lines, members], dtype=torch.long), number
