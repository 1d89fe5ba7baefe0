from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperlearn_pyg.datasets import NaryKB, checksums
from hyperlearn_pyg.errors import InputError


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("facts").load()
    data = dataset[0]
    fact = data.relation("fact")
    assert data.validate()
    assert repr(dataset) == "NaryKB('JF17K-4')"
    assert fact.modalities == ("relation", "entity", "entity", "entity", "entity")
    assert fact.roles == (None, "arg1", "arg2", "arg3", "arg4")
    assert data["relation"].item_id == ["award", "plays", "wins"]
    assert data["entity"].item_id == ["a", "b", "c", "d", "e"]
    assert fact.index.t().tolist() == [[1, 0, 1, 2, 3], [0, 1, 0, 1, 3], [1, 0, 0, 0, 0], [2, 4, 0, 1, 2]]
    masks = [fact.mask(split).tolist() for split in ("train", "val", "test")]
    assert masks == [[True, True, False, False], [False, False, True, False], [False, False, False, True]]


def test_three_entities_and_gz(fake: Callable[[str], Any]) -> None:
    import gzip

    facts = fake("facts")
    for split in ("train", "valid", "test"):
        facts.write(f"WikiPeople-3/{split}.txt.gz", gzip.compress(b"P1 Q1 Q2 +1978-00\n"))
    dataset = facts.load(name="WikiPeople-3")
    assert dataset.raw_file_names[0] == "WikiPeople-3/train.txt.gz"
    assert dataset[0].relation("fact").order == 4
    assert len(facts.load()[0].relation("fact")) == 4  # beside it


def test_unknown_name_and_no_checksum(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'name' must be one of .* Did you mean 'JF17K-4'\?"):
        NaryKB(tmp_path, "JF17K-5")
    with pytest.raises(InputError, match=r"'JF17K-3/train\.txt' not found .* published at 'https.*no checksum"):
        NaryKB(tmp_path / "new", "JF17K-3")
    assert not (tmp_path / "new").exists()


def test_download(fake: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = fake("facts")
    monkeypatch.setattr(NaryKB, "url", (tmp_path / "raw").as_uri())
    with pytest.raises(InputError, match=r"'getd/JF17K-4/train\.txt' has the sha256 checksum"):
        NaryKB(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    from hyperlearn_pyg._io import sha256

    for name in facts.files:
        digest = sha256(tmp_path / "raw" / name)
        monkeypatch.setitem(checksums.CHECKSUMS, f"getd/{name}", ("sha256", digest))
    (tmp_path / "new" / "raw" / "JF17K-4").mkdir(parents=True)
    (tmp_path / "new" / "raw" / "JF17K-4" / "test.txt").write_text("r a b c d\n")  # is there: not fetched
    data = NaryKB(tmp_path / "new")[0]
    assert len(data.relation("fact")) == 4
    assert "r" in data["relation"].item_id


@pytest.mark.parametrize(
    ("name", "relations", "entities", "splits"),
    [
        ("JF17K-4", 23, 6_536, (7_607, 951, 951)),
        ("WikiPeople-3", 66, 12_270, (20_656, 2_582, 2_582)),
        ("WikiPeople-4", 50, 9_528, (12_150, 1_519, 1_519)),
    ],
)
def test_the_real_files(
    linked: Callable[[str], Path], name: str, relations: int, entities: int, splits: tuple[int, ...]
) -> None:
    root = linked("getd")
    data = NaryKB(root, name)[0]
    fact = data.relation("fact")
    assert data.validate()
    assert fact.sizes == (relations, *(entities,) * int(name[-1]))
    assert tuple(int(fact.mask(split).sum()) for split in ("train", "val", "test")) == splits
    assert len(fact) == sum(splits) == fact.index.unique(dim=1).size(1)
    trained = fact.index[1:, fact.mask("train")].unique().numel()
    assert entities - trained == (41 if name == "JF17K-4" else 0)
    for split in ("train", "valid", "test"):
        checksums.verify(root / "raw" / name / f"{split}.txt", f"getd/{name}/{split}.txt")
