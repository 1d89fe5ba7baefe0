from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperlearn_pyg.datasets import Tate
from hyperlearn_pyg.errors import InputError


def test_form(fake: Callable[[str], Any]) -> None:
    dataset = fake("tate").load()
    data = dataset[0]
    made, depicts = data.relation("made"), data.relation("depicts")
    assert data.validate()
    assert repr(dataset) == "Tate()"
    assert data.hyperedge_types == ["made", "depicts"]
    assert made.modalities == ("artwork", "artist", "class", "decade")
    assert made.index.t().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 1]]
    assert depicts.index.t().tolist() == [[0, 0], [0, 1], [2, 1]]
    assert data["decade"].item_id == ["1790", "1800"]
    assert data["class"].item_id == ["painting"]
    assert data["artist"].item_id == ["38", "558"]
    assert data["artist"].item_label == ["Male", "unknown"]
    assert data["artist"].x.tolist() == [[-1, 0, 1], [1, 0, 0]]
    assert data["artwork"].item_id == ["A1", "A2", "A3"]
    assert data["artwork"].item_name[0] == "A ‘Title’"
    assert data["artwork"].item_label == ["painting", "painting", "relief"]
    assert data["artwork"].x.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert (data["subject"].item_name, data["subject"].item_label) == (["angel", "man"], ["religion", "people"])


def test_without_turner(fake: Callable[[str], Any]) -> None:
    tate = fake("tate")
    dataset = tate.load(turner=False)
    data = dataset[0]
    assert repr(dataset) == "Tate(turner=False)"
    assert data["artwork"].item_id == ["A1", "A3"]
    assert data["artist"].item_id == ["38"]
    assert data.relation("made").index.tolist() == [[0], [0], [0], [0]]
    assert data.relation("depicts").index.tolist() == [[0, 0, 1], [0, 1, 1]]
    assert len(tate.load()[0].relation("made")) == 3


def test_no_rows(fake: Callable[[str], Any]) -> None:
    tate = fake("tate")
    for name, content in tate.files.items():
        tate.write(name, content.split(b"\n")[0])
    data = tate.load()[0]
    assert data.validate()
    assert [data[m].num_nodes for m in data.modalities] == [0] * 5


def person(number: int, role: str = "artist") -> dict[str, Any]:
    return {"id": number, "mda": f"Name {number}", "gender": "Female", "birthYear": 1900, "role": role}


def term(number: int, name: str, *children: Any) -> dict[str, Any]:
    return {"id": number, "name": name, **({"children": list(children)} if children else {})}


def repository(root: Path) -> Path:
    """Write what Tate's repository holds, in small: three artworks, one artist with a file, one without."""
    man, angel, alone = term(195, "man"), term(5, "angel"), term(9, "alone")
    artworks = {
        "a/000/a00001-1.json": {
            "acno": "A00001",
            "classification": "painting",
            "medium": "Oil",
            "width": "343",
            "height": "467",
            "contributors": [person(7), person(8), person(9, "after")],
            "dateRange": {"startYear": 1785},
            "title": "A\ttitle ‘x’\nin two lines",
            "movements": [{"id": 293, "name": "Bauhaus"}],
            "subjects": term(1, "subject", term(91, "people", term(95, "adults", man)), term(2, "religion", angel)),
        },
        "a/000/a00002-2.json": {"acno": "A00002", "title": "Bare", "dateRange": None, "classification": "relief"},
        "n/001/n00003-3.json": {"acno": "N00003", "title": "", "subjects": term(1, "subject", alone, man)},
    }
    files = {f"artworks/{name}": entry for name, entry in artworks.items()}
    files["artists/n/name-7-7.json"] = {**person(7), "birthYear": None}
    for name, entry in files.items():
        path = root / "raw" / "collection" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entry), encoding="utf-8")
    return root


def test_the_tables_are_made_from_the_repository(tmp_path: Path) -> None:
    data = Tate(repository(tmp_path))[0]
    assert data.validate()
    assert data["artwork"].item_id == ["A00001", "A00002", "N00003"]
    assert data["artwork"].item_name == ["A title ‘x’ in two lines", "Bare", ""]
    assert data["artist"].item_name == ["Name 7", "Name 8"]
    assert data.relation("made").index.tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert data["subject"].item_id == ["195", "5", "9"]
    assert data["subject"].item_label == ["people", "religion", ""]
    assert data.relation("depicts").index.tolist() == [[0, 0, 2, 2], [0, 1, 2, 0]]
    lines = (tmp_path / "raw" / "artworks.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "A00001\t7 8\tpainting\tOil\t1785\t343\t467\t195 5\t293\tA title ‘x’ in two lines"
    assert (tmp_path / "raw" / "artists.tsv").read_text().splitlines()[1:] == [
        "7\tName 7\tFemale\t",
        "8\tName 8\tFemale\t1900",
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"acno": "A",\n "x"', r"a00002-2\.json', line 2: is no intact JSON"),
        (b"[1]", "must hold an object .got list"),
        (b"\xff", "no intact JSON"),
        (b'{"acno": ["A"]}', "'acno' must be a text or a number .got list"),
    ],
)
def test_damaged_entries(tmp_path: Path, content: bytes, text: str) -> None:
    root = repository(tmp_path)
    (root / "raw" / "collection" / "artworks" / "a" / "000" / "a00002-2.json").write_bytes(content)
    with pytest.raises(InputError, match=text):
        Tate(root)
    assert not list(root.glob("raw/*.tsv"))
    assert not (root / "processed").exists()


def test_the_tables_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'artworks\.tsv', .* not found .* git clone --depth 1 https://github.com/tate"
    ):
        Tate(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_real_tables(linked: Callable[[str], Path]) -> None:
    root = linked("tate")
    data = Tate(root)[0]
    made, depicts = data.relation("made"), data.relation("depicts")
    assert data.validate()
    assert [row.unique().numel() for row in made.index] == [61_721, 3_151, 9, 48]
    assert made.sizes == (69_202, 3_151, 9, 48)
    assert len(made) == 62_152
    assert (len(depicts), depicts.sizes[1]) == (361_385, 16_455)
    assert depicts.index[0].unique().numel() == 58_801
    turner = data["artist"].item_id.index("558")
    assert int((made.index[1] == turner).sum()) == 37_622  # of his 37,930 works those with class and year
    assert bool(data["artwork"].x[:, :2].mean(0).abs().lt(1e-4).all())
    rest = Tate(root, turner=False)[0].relation("made")
    assert (len(rest), rest.sizes[1], rest.index[0].unique().numel()) == (24_530, 3_150, 24_260)
