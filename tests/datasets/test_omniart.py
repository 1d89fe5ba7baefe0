from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperlearn_pyg.datasets import OmniArtMuseum
from hyperlearn_pyg.errors import InputError


def test_form(fake: Callable[[str], Any]) -> None:
    omniart = fake("omniart")
    dataset = omniart.load()
    data = dataset[0]
    made = data.relation("made")
    assert data.validate()
    assert repr(dataset) == "OmniArtMuseum()"
    assert made.modalities == ("artwork", "artist", "class", "century")
    assert data["artwork"].item_id == ["7", "9", "10"]
    assert (data["artwork"].item_name, data["artwork"].item_label[2]) == (["a", "ü", "d"], "drawing")
    assert data["artist"].item_id == ["el-greco", "giotto"]
    assert data["century"].item_id == ["14", "16", "17"]
    assert made.index.tolist() == [[0, 1, 2], [0, 0, 1], [1, 1, 0], [1, 2, 0]]
    assert data["class"].item_id == ["drawing", "painting"]


def test_other_slots_and_least_works(fake: Callable[[str], Any]) -> None:
    omniart = fake("omniart")
    dataset = omniart.load(slots=("artist", "school", "year", "country", "medium"), min_works=2)
    data = dataset[0]
    assert repr(dataset) == "OmniArtMuseum(slots=('artist', 'school', 'year', 'country', 'medium'), min_works=2)"
    assert data.modalities == ["artist", "school", "year", "country", "medium"]
    assert (data["artist"].item_id, data["year"].item_id) == (["el-greco"], ["1590", "1601"])
    assert len(omniart.load(min_works=3)[0].relation("made")) == 0
    assert len(omniart.load()[0].relation("made")) == 3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"slots": ("artwork", "artists")}, r"'slots' must be of .* .got 'artists'.* Did you mean 'artist'\?"),
        ({"slots": ("artwork",)}, "two or more different"),
        ({"slots": ("artist", "artist")}, "two or more different"),
        ({"slots": "artist"}, "'slots' must be"),
        ({"min_works": 0}, "'min_works' must be an integer of at least 1"),
        ({"min_works": True}, "'min_works' must be an integer"),
    ],
)
def test_bad_arguments(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        OmniArtMuseum(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_the_table_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'omniart_museum\.tsv' not found .*no longer give it out.*omni_id, artwork"):
        OmniArtMuseum(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_rows(fake: Callable[[str], Any]) -> None:
    omniart = fake("omniart")
    omniart.write("omniart_museum.tsv", omniart.files["omniart_museum.tsv"].split(b"\n")[0])
    assert len(omniart.load()[0].relation("made")) == 0


@pytest.mark.slow
def test_the_real_table(linked: Callable[[str], Path]) -> None:
    root = linked("omniart")
    for settings, artworks, artists in (({}, 53_750, 10_273), ({"min_works": 10}, 33_043, 954)):
        slots = ("artwork", "artist", "school", "class", "century", "country")
        data = OmniArtMuseum(root, slots=slots, **settings)[0]
        made = data.relation("made")
        assert data.validate()
        assert (len(made), made.sizes[:2]) == (artworks, (artworks, artists))
        assert made.index[0].unique().numel() == artworks
        assert int(made.index[1].bincount().min()) >= settings.get("min_works", 1)
    assert OmniArtMuseum(root)[0].relation("made").order == 4
