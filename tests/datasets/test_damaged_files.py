"""What all loaders of raw files owe: a damaged file is named, nothing stays half-processed, the mended one is read."""

from __future__ import annotations

import gzip
import random
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlearn_pyg.datasets import DHNE, CiteULike, FoursquareCheckins, HetRecLastFM, NaryKB, Tate, WikipediaImageText
from hyperlearn_pyg.errors import InputError

NAMES = ("lastfm", "gps", "movies", "facts", "checkins", "tate", "omniart", "wikipedia", "citeulike")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, **kwargs: Any) -> Any:
        raise OSError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return change


def more(line: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.rstrip(b"\r\n") + b"\n" + line + b"\n"


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(content: bytes) -> bytes:
    return b""


#: Fake, file, damage, what the message says behind the name of the file.
DAMAGES: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("lastfm", "artists.dat", swap("ó".encode(), b"\xf3"), "line 2: is not utf-8 text .* at byte"),
    ("lastfm", "artists.dat", more(b"12\tname\turl"), "line 4: expected 4 fields between .* got 3"),
    ("lastfm", "artists.dat", more(b"x\tname\turl\t"), "line 4, column 'id': expected an integer, got 'x'"),
    ("lastfm", "artists.dat", more(b"7\tname\turl\t"), "line 4, column 'id': '7' stands in line 2 already"),
    ("lastfm", "tags.dat", swap(b"\xf1", "ñ".encode()), "line 2: is UTF-8, expected latin-1"),
    ("lastfm", "tags.dat", swap(b"tagValue", b"value"), r"line 1: expected the columns \['tagID', 'tagValue'\], got"),
    ("lastfm", "tags.dat", swap(b"pop", b"p\0p"), "line 3: holds NUL bytes"),
    ("lastfm", "tags.dat", nothing, "is empty"),
    ("lastfm", "user_artists.dat", swap(b"30", b"many"), "line 2, column 'weight': expected an integer .* got 'many'"),
    ("lastfm", "user_artists.dat", more(b"2\t7\t1"), "line 4: the same as .* line 2: remove one"),
    ("lastfm", "user_friends.dat", more(b"2\t-1"), "line 4, column 'friendID': expected an integer at least 1, got"),
    ("lastfm", "user_friends.dat", more(b"8\t2"), "line 4: the same as"),
    (
        "lastfm",
        "user_taggedartists.dat",
        more(b"2\t7\t4\t1\t1\t2009"),
        "line 5, column 'tagID': 4 is not in 'tags",
    ),
    ("lastfm", "user_taggedartists.dat", more(b"2\t7\t5\t31\t2\t2009"), "line 5: 31.2.2009 is no date"),
    ("lastfm", "user_taggedartists.dat", more(b"2\t7\t5\t1"), "line 5: expected 6 fields"),
    ("gps", "GPS/train_data.npz", half, "no intact .npz file"),
    ("gps", "GPS/test_data.npz", nothing, "no intact .npz file"),
    ("gps", "GPS/test_data.npz", swap(b"test_data", b"best_data"), "(no intact .npz|lacks)"),
    ("movies", "MovieLens/train_data.npz", swap(b"Sci-Fi", b"Sci-Fo"), "Bad CRC-32 for file 'label_name.npy'"),
    ("facts", "JF17K-4/train.txt", more(b"plays a b c"), "line 3: expected 5 fields between white space .* got 4"),
    ("facts", "JF17K-4/valid.txt", more(b"plays \xff b c d"), "line 2: is not utf-8 text"),
    ("facts", "JF17K-4/test.txt", nothing, "is empty"),
    ("facts", "JF17K-4/test.txt", lambda content: b"\n" + content, "line 1: expected 5 fields .* got 0"),
    ("checkins", "dataset_connected_NYC.mat", half, r"no intact MATLAB file .* at byte \d+ of \d+"),
    ("checkins", "dataset_connected_NYC.mat", nothing, "no intact MATLAB file .* at byte 0 of 0"),
    ("checkins", "dataset_connected_NYC.mat", lambda content: b"PK" * 200, "no intact MATLAB file"),
    ("tate", "artworks.tsv", swap(b"38 558", b"38 77"), "line 2, column 'artist_ids': '77' is not in 'artists.tsv'"),
    ("tate", "artworks.tsv", swap(b"5 6", b"5 5"), "line 2, column 'subject_ids': holds an id twice .'5 5'"),
    ("tate", "artworks.tsv", swap(b"1799", b"17th"), "line 2, column 'start_year': expected an integer .* got '17th'"),
    ("tate", "artworks.tsv", swap(b"\t200\t", b"\ttall\t"), "line 2, column 'height_mm': expected a finite number"),
    (
        "tate",
        "artworks.tsv",
        swap(b"\t200\t", b"\t0\t"),
        "line 2, column 'height_mm': expected a size above 0",
    ),
    ("tate", "artworks.tsv", swap(b"acno\t", b"\t"), "line 1: expected the columns"),
    ("tate", "artworks.tsv", half, "line 2: expected 10 fields"),
    ("tate", "artists.tsv", swap(b"Male", b"male"), "line 2, column 'gender': expected one of .* got 'male'"),
    ("tate", "artists.tsv", swap(b"1775", b"-"), "line 3, column 'birth_year': expected an integer"),
    ("tate", "subjects.tsv", swap(b"6\tman", b"\tman"), "line 3, column 'id': is empty, expected an id"),
    ("omniart", "omniart_museum.tsv", swap("ü".encode(), b"\xfc"), "line 4: is not utf-8 text"),
    ("omniart", "omniart_museum.tsv", swap(b"-50", b"50BC"), "line 3, column 'creation_year': expected an integer"),
    ("omniart", "omniart_museum.tsv", swap(b"\n9\t", b"\n7\t"), "line 4, column 'omni_id': '7' stands in line 2"),
    ("omniart", "omniart_museum.tsv", half, "line 3: expected 10 fields .* got 6"),
    ("wikipedia", "raw_features.mat", half, r"lacks .* .it holds \['I_tr'\]"),
    ("wikipedia", "categories.list", nothing, "trainset_txt_img_cat.list', line 1, column 'category'"),
    ("wikipedia", "trainset_txt_img_cat.list", swap(b"2\n", b"3\n"), "line 1, column 'category': .* from 1 to 2, got"),
    ("wikipedia", "trainset_txt_img_cat.list", swap(b"i2", b"i1"), "line 2, column 'image': 'i1' stands in .*line 1"),
    ("wikipedia", "testset_txt_img_cat.list", swap(b"t3", b"t1"), "line 1, column 'text': 't1' stands in .*trainset"),
    ("wikipedia", "testset_txt_img_cat.list", more(b"t4\ti4"), "line 2: expected 3 fields"),
    ("citeulike", "users.dat", swap(b"2 0 2", b"3 0 2"), "line 1: expected 3 ids behind the count, got 2"),
    ("citeulike", "users.dat", swap(b"2 0 2", b"2 0 0"), "line 1: holds an id twice"),
    ("citeulike", "users.dat", swap(b"\n0\n", b"\n\n"), "line 2: is blank, expected a count"),
    ("citeulike", "users.dat", nothing, "is empty"),
    (
        "citeulike",
        "item-tag.dat",
        swap(b"1 1", b"1 2"),
        "line 1, column 'tag': expected an integer from 0 to 1",
    ),
    ("citeulike", "citations.dat", swap(b"1 2", b"1 x"), "line 1, column 'article': expected an integer from 0 to 2"),
    ("citeulike", "tags.dat", more(b"rr_interval"), "line 3, column 'tag': 'rr_interval' stands in line 2 already"),
]


@pytest.mark.parametrize(
    ("name", "file", "damage", "text"), DAMAGES, ids=[f"{d[1]}-{i}" for i, d in enumerate(DAMAGES)]
)
def test_a_damaged_file_is_named(
    fake: Callable[[str], Any], name: str, file: str, damage: Callable[[bytes], bytes], text: str
) -> None:
    data = fake(name)
    damaged = damage(data.files[file])
    assert damaged != data.files[file]
    data.write(file, damaged)
    with pytest.raises(InputError) as caught:
        data.load()
    found = re.search(text, str(caught.value))
    assert found, str(caught.value)
    assert str(data.root / "raw") in str(caught.value)
    assert file in str(caught.value) or file in text or "categories" in file
    assert not (data.root / "processed").exists()
    assert not [path for path in data.root.rglob("*") if path.name.startswith(".")]
    data.write(file, data.files[file])
    assert data.load()[0].validate()


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_after_the_first_reading_keeps_what_was_processed(fake: Callable[[str], Any], name: str) -> None:
    data = fake(name)
    before = data.load()[0]
    file = next(iter(data.files))
    data.write(file, b"")
    assert str(data.load()[0]) == str(before)
    with pytest.raises(InputError):
        data.load(force_reload=True)
    assert str(data.load()[0]) == str(before)


@pytest.mark.parametrize("name", NAMES)
def test_the_processed_form_is_kept_and_transforms_apply(fake: Callable[[str], Any], name: str) -> None:
    data = fake(name)

    def mark(value: Any) -> Any:
        value.marked = torch.tensor([1])
        return value

    first = data.load(pre_transform=mark)
    assert len(first) == 1
    for file in data.files:
        (data.root / "raw" / file).write_bytes(b"not read again")
    again = data.load(pre_transform=mark, transform=lambda value: value.modalities)
    assert again[0] == first[0].modalities
    assert data.load(pre_transform=mark)[0].marked.tolist() == [1]
    path = Path(first.processed_paths[0])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"\.pt' cannot be read .*: delete it or pass 'force_reload=True'"):
        data.load(pre_transform=mark)


@pytest.mark.parametrize("name", NAMES)
def test_files_may_be_gzipped(fake: Callable[[str], Any], name: str) -> None:
    data = fake(name)
    texts = [file for file in data.files if not file.endswith((".npz", ".mat"))]
    plain = str(data.load()[0])
    for file in texts:
        (data.root / "raw" / file).unlink()
        data.write(f"{file}.gz", gzip.compress(data.files[file]))
    dataset = data.load(force_reload=True)
    assert str(dataset[0]) == plain
    assert sum(file.endswith(".gz") for file in dataset.raw_file_names) == len(texts)
    if texts:
        data.write(f"{texts[-1]}.gz", gzip.compress(data.files[texts[-1]])[:-9])
        with pytest.raises(InputError, match=rf"{re.escape(texts[-1])}\.gz' is no intact gzip file"):
            data.load(force_reload=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_asked_for(fake: Callable[[str], Any], name: str) -> None:
    data = fake(name)
    file = list(data.files)[-1]
    (data.root / "raw" / file).unlink()
    with pytest.raises(InputError, match=rf"'{re.escape(file)}' not found in .*(put|Put) "):
        data.load()
    assert not (data.root / "processed").exists()


def test_official_addresses() -> None:
    at = {cls.__name__: cls.url for cls in (HetRecLastFM, NaryKB, FoursquareCheckins, CiteULike, Tate, DHNE)}
    assert at["HetRecLastFM"] == "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip"
    assert at["CiteULike"] == "https://raw.githubusercontent.com/js05212/citeulike-a/master"
    assert all(url.startswith("https://") for url in at.values())
    assert WikipediaImageText.url.startswith("http://www.svcl.ucsd.edu/projects/crossmodal/")


def _fuzz(data: Any, seeds: range) -> int:
    """Damage bytes at random; a file must be read or refused with an ``InputError`` and nothing else."""
    refused = 0
    for seed in seeds:
        draw = random.Random(seed)
        file = draw.choice(sorted(data.files))
        content = bytearray(data.files[file])
        for _ in range(draw.choice((1, 1, 3))):
            at = draw.randrange(len(content))
            kind = draw.randrange(4)
            if kind == 0:
                content[at] = draw.randrange(256)
            elif kind == 1:
                del content[at:]
                content = content or bytearray(b"\n")
            elif kind == 2:
                content[at:at] = draw.choice((b"\t", b"\n", b" ", b"9", b"-", b"\xff", b"\0"))
            else:
                del content[at : at + draw.randrange(1, 8)]
                content = content or bytearray(b"\n")
        data.write(file, bytes(content))
        try:
            assert data.load(force_reload=True)[0].validate()
        except InputError as error:
            refused += bool(str(error))
        data.write(file, data.files[file])
    return refused


@pytest.mark.parametrize("name", NAMES)
def test_damage_at_random(fake: Callable[[str], Any], name: str) -> None:
    assert _fuzz(fake(name), range(12)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_much_damage_at_random(fake: Callable[[str], Any], name: str) -> None:
    assert _fuzz(fake(name), range(12, 612)) > 0
