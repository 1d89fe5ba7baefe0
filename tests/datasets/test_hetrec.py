from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlearn_pyg.datasets import HetRecLastFM
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.transforms import RandomRelationSplit

DAY = 86_400


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("lastfm").load()
    data = dataset[0]
    assert data.validate()
    assert repr(dataset) == "HetRecLastFM()"
    assert data.modalities == ["user", "artist", "tag"]
    assert data["user"].item_id == ["2", "4", "8"]
    assert (data["artist"].item_id, data["artist"].item_name) == (["7", "1", "9"], ["Sigur Rós", 'The "B"', "artist 9"])
    assert (data["tag"].item_id, data["tag"].item_name) == (["3", "5"], ["español", "pop"])
    assert data.relation("tagged").index.tolist() == [[0, 0, 1], [0, 2, 1], [0, 1, 1]]
    assert data["tagged"].time.tolist() == [14_335 * DAY, 0, DAY]
    assert data.relation("listens").index.tolist() == [[0, 1], [0, 1]]
    assert data["listens"].value.tolist() == [30, 2]
    assert data["user", "friend", "user"].edge_index.tolist() == [[0, 2], [2, 0]]
    assert not any(key.endswith("_mask") for key in data["tagged"])


def test_two_files_are_one_table(fake: Callable[[str], Any]) -> None:
    lastfm = fake("lastfm")
    head, *rows = lastfm.files["user_taggedartists.dat"].split(b"\r\n")
    lastfm.write("user_taggedartists.dat", b"\r\n".join([head, rows[0], b"", b""]))  # as the copy ends
    lastfm.write("user_taggedartists_2.dat", b"\r\n".join([head, *rows[1:]]))
    parts = lastfm.load()[0]
    assert parts.relation("tagged").index.tolist() == [[0, 0, 1], [0, 2, 1], [0, 1, 1]]
    lastfm.write("user_taggedartists_2.dat", b"\r\n".join([head, *rows]))
    with pytest.raises(InputError, match=r"_2\.dat', line 2: the same as .*taggedartists\.dat', line 2: remove one"):
        lastfm.load(force_reload=True)


def test_without_rows(fake: Callable[[str], Any]) -> None:
    lastfm = fake("lastfm")
    for name, content in lastfm.files.items():
        lastfm.write(name, content.split(b"\n")[0] + b"\n")
    data = lastfm.load()[0]
    assert data.validate()
    assert [data[m].num_nodes for m in data.modalities] == [0, 0, 0]
    assert [len(data.relation(name)) for name in data.hyperedge_types] == [0, 0]


def test_a_seeded_split_as_the_docstring_says(fake: Callable[[str], Any]) -> None:
    data = fake("lastfm").load(transform=RandomRelationSplit("tagged", val=0.0, test=0.34, seed=0))[0]
    assert int(data["tagged"].test_mask.sum()) == 1
    assert int(data["tagged"].train_mask.sum()) == 2


@pytest.mark.slow
def test_the_real_files(linked: Callable[[str], Path]) -> None:
    data = HetRecLastFM(linked("hetrec-lastfm"))[0]
    assert data.validate()
    tagged = data.relation("tagged")
    assert tagged.sizes == (1_892, 18_022, 11_946)
    assert len(tagged) == 186_478
    assert [row.unique().numel() for row in tagged.index] == [1_892, 12_523, 9_749]
    assert len(data.relation("listens")) == 92_834
    friends = data["user", "friend", "user"].edge_index
    assert friends.size(1) == 25_434
    assert torch.equal(friends.unique(dim=1), friends.flip(0).unique(dim=1))
    assert data["artist"].item_name[0] == "MALICE MIZER"
    assert sum(name.startswith("artist ") for name in data["artist"].item_name[17_632:]) == 390
    assert "fran\xe7ais" in " ".join(data["tag"].item_name)
    assert int((data["tagged"].time < 1_104_537_600).sum()) == 5  # before 2005
