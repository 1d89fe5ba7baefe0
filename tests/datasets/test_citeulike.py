from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlearn_pyg.datasets import CiteULike, checksums
from hyperlearn_pyg.errors import InputError


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("citeulike").load()
    data = dataset[0]
    assert data.validate()
    assert repr(dataset) == "CiteULike()"
    assert data.modalities == ["user", "article", "tag"]
    assert data["tag"].item_id == ["ucsc-browser", "rr_interval"]
    assert data.relation("collects").index.tolist() == [[0, 0, 2], [0, 2, 1]]
    assert data.relation("tagged").index.tolist() == [[0, 2, 2], [1, 0, 1]]
    cites = data.relation("cites")
    assert cites.index.tolist() == [[0, 2, 2], [2, 0, 2]]
    assert (cites.modalities, cites.roles) == (("article", "article"), ("citing", "cited"))
    data["article", "cites", "article"].edge_index = cites.index  # as the docstring shows
    assert data.validate()
    assert data.intra_edge_types("article") == [("article", "cites", "article")]


def test_lines_without_members(fake: Callable[[str], Any]) -> None:
    citeulike = fake("citeulike")
    for name in ("users.dat", "item-tag.dat", "citations.dat"):
        citeulike.write(name, b"0\n")
    data = citeulike.load()[0]
    assert data.validate()
    assert [len(data.relation(name)) for name in data.hyperedge_types] == [0, 0, 0]
    assert [data[m].num_nodes for m in data.modalities] == [1, 1, 2]


def test_files_that_do_not_agree(fake: Callable[[str], Any]) -> None:
    citeulike = fake("citeulike")
    citeulike.write("citations.dat", b"0\n")
    with pytest.raises(InputError, match=r"citations\.dat' has 1 lines, '.*item-tag\.dat' 3"):
        citeulike.load()


def test_the_real_files(linked: Callable[[str], Path]) -> None:
    root = linked("citeulike-a")
    data = CiteULike(root)[0]
    assert data.validate()
    assert [data[m].num_nodes for m in data.modalities] == [5_551, 16_980, 46_391]
    counts = {name: len(data.relation(name)) for name in data.hyperedge_types}
    assert counts == {"collects": 204_986, "tagged": 239_253, "cites": 89_418}
    index = data.relation("cites").index
    assert torch.equal(index.unique(dim=1), index.flip(0).unique(dim=1))
    assert int((index[0] == index[1]).sum()) == 96
    assert 16_980 - data.relation("tagged").index[0].unique().numel() == 3_461
    for name in ("users.dat", "item-tag.dat", "citations.dat", "tags.dat"):
        checksums.verify(root / "raw" / name, f"citeulike-a/{name}")
