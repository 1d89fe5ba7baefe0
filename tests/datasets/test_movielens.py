from __future__ import annotations

import gzip
import hashlib
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlearn_pyg.datasets import MovieLens100K, checksums
from hyperlearn_pyg.datasets.movielens import GENRES, OCCUPATIONS, SPLITS
from hyperlearn_pyg.errors import InputError


def film(
    number: int, title: str = "Jalape\xf1o (1995)", date: str = "01-Jan-1995", genres: tuple[int, ...] = (5,)
) -> str:
    flags = "|".join(str(int(i in genres)) for i in range(19))
    return f"{number}|{title}|{date}||http://example.org|{flags}"


FILES = {
    "u.user": ["1|20|M|writer|12345", "2|40|F|artist|T8H1N", "3|60|F|writer|0"],
    "u.item": [film(1), film(2, "Old (1915)", "", (8, 14)), film(3, "unknown", "", ())],
    "u1.base": ["1\t1\t5\t100", "2\t3\t1\t200"],
    "u1.test": ["3\t2\t4\t300"],
}


def write(raw: Path, files: dict[str, list[str]], *, zipped: bool = False) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        content = "".join(f"{line}\n" for line in lines).encode("latin-1")
        if zipped:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (raw / name).write_bytes(content)
    return raw.parent


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = urllib.request.urlopen

    def only_files(url: str, **kwargs: Any) -> Any:
        if not url.startswith("file://"):
            raise OSError("no network in tests")
        return opened(url, **kwargs)

    monkeypatch.setattr(urllib.request, "urlopen", only_files)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, data_dir: Callable[[str], Path]) -> Path:
    root: Path = tmp_path_factory.mktemp("ml-100k")
    (root / "raw").mkdir()
    for path in data_dir("ml-100k").iterdir():
        (root / "raw" / path.name).symlink_to(path)
    return root


@pytest.mark.parametrize("split", SPLITS)
def test_splits_of_the_real_files(root: Path, split: str) -> None:
    data = MovieLens100K(root, split)[0]
    rates = data.relation("rates")
    assert data.validate()
    assert data.modalities == ["user", "film"]
    assert rates.sizes == (943, 1682)
    assert len(rates) == 100_000
    train = 80_000 if split[1].isdigit() else 90_570
    assert int(rates.mask("train").sum()) == train
    assert torch.equal(rates.mask("test"), ~rates.mask("train"))
    assert rates.index.unique(dim=1).size(1) == 100_000
    if train > 80_000:  # ten test ratings a user
        assert torch.bincount(rates.index[0][rates.mask("test")]).eq(10).all()


def test_the_five_tests_of_the_real_files_are_disjoint_and_complete(root: Path) -> None:
    pairs: set[tuple[int, int]] = set()
    for split in SPLITS[:5]:
        rates = MovieLens100K(root, split)[0].relation("rates")
        pairs |= set(zip(*rates.index[:, rates.mask("test")].tolist(), strict=True))  # type: ignore[arg-type]
    assert len(pairs) == 100_000


def test_features_of_the_real_files(root: Path) -> None:
    data = MovieLens100K(root)[0]
    user, item, rates = data["user"], data["film"], data["rates"]
    assert user.x.shape == (943, 1 + 2 + 21)
    assert item.x.shape == (1682, 1 + 19)
    assert user.item_id[:2] == ["1", "2"]
    assert user.item_label[0] == "technician"
    assert item.item_name[0] == "Toy Story (1995)"
    assert item.item_label[0] == "Animation"
    assert user.x[:, 0].mean().abs() < 1e-5
    assert user.x[:, 0].std(correction=0) == pytest.approx(1, abs=1e-4)
    assert user.x[:, 1:3].sum(dim=0).tolist() == [273, 670]
    assert user.x[0, 3 + OCCUPATIONS.index("technician")] == 1
    assert item.x[:, 1 + GENRES.index("Drama")].sum() == 725
    assert item.x[266, 0] == 0  # 'unknown', without a date
    assert sum(any(ord(c) > 127 for c in name) for name in item.item_name) > 0
    assert rates.value.unique().tolist() == [1, 2, 3, 4, 5]
    assert int(rates.time.min()) == 874724710


def test_small_files(tmp_path: Path) -> None:
    data = MovieLens100K(write(tmp_path / "raw", FILES))[0]
    assert data.validate()
    assert data.relation("rates").index.tolist() == [[0, 1, 2], [0, 2, 1]]
    assert data["rates"].value.tolist() == [5, 1, 4]
    assert data["rates"].time.tolist() == [100, 200, 300]
    assert data["rates"].test_mask.tolist() == [False, False, True]
    assert data["film"].item_name == ["Jalape\xf1o (1995)", "Old (1915)", "unknown"]
    assert data["film"].item_label == ["Comedy", "Drama", "unknown"]
    assert data["film"].x[:, 0].tolist() == [1, -1, 0]
    assert data["user"].x[:, 0].tolist() == pytest.approx([-(1.5**0.5), 0, 1.5**0.5])


def test_gz_and_processed_file_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "raw", FILES, zipped=True)
    assert MovieLens100K(root).raw_file_names == ["u.user.gz", "u.item.gz", "u1.base.gz", "u1.test.gz"]
    monkeypatch.setattr(MovieLens100K, "process", lambda self: pytest.fail("processed again"))
    assert len(MovieLens100K(root)[0].relation("rates")) == 3


def test_each_split_has_its_own_processed_file(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", {**FILES, "ua.base": ["1\t1\t5\t1"], "ua.test": ["2\t2\t5\t1"]})
    assert len(MovieLens100K(root)[0].relation("rates")) == 3
    assert len(MovieLens100K(root, "ua")[0].relation("rates")) == 2
    assert len(MovieLens100K(root, "u1")[0].relation("rates")) == 3


def test_transforms(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", FILES)

    def mark(data: Any) -> Any:
        data["film"].marked = torch.ones(3)
        return data

    assert "marked" in MovieLens100K(root, pre_transform=mark)[0]["film"]
    assert "marked" in MovieLens100K(root, transform=mark, force_reload=True)[0]["film"]


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'split' must be one of"):
        MovieLens100K(tmp_path, "u9")


@pytest.mark.parametrize(
    ("name", "lines", "text"),
    [
        (
            "u1.base",
            ["1\t1\t5\t1", "1\t2\t5"],
            r"u1.base', line 2: expected 4 fields .*\(user, film, rating, time\), got 3",
        ),
        ("u1.base", ["1\t1\tgood\t1"], r"line 1, column 'rating': expected an integer from 1 to 5, got 'good'"),
        ("u1.base", ["1\t1\t6\t1"], r"line 1, column 'rating': expected an integer from 1 to 5, got '6'"),
        ("u1.base", ["1\t1\t5\tnow"], r"line 1, column 'time': expected an integer at least 0, got 'now'"),
        ("u1.base", ["1\t1\t5\t1", "9\t8\t5\t1"], r"2 ids that the item files do not hold \(first: line 2: user '9'"),
        ("u1.base", ["1\t1\t5\t1", "1\t1\t4\t1"], r"line 2: this user has rated this film already in .*line 1"),
        ("u1.test", ["2\t3\t1\t200"], r"u1.test', line 1: this user has rated .*u1.base', line 2"),
        ("u1.test", [], r"u1.test' is empty"),
        ("u1.test", ["1\t\x00\t1\t200"], r"u1.test', line 1: holds NUL bytes.*UTF-16"),
        ("u.user", ["1|20|M|writer"], r"u.user', line 1: expected 5 fields .*got 4"),
        ("u.user", ["1|old|M|writer|0"], r"u.user', line 1, column 'age'"),
        ("u.user", ["1|20|X|writer|0"], r"u.user', line 1, column 'gender': unknown gender 'X'"),
        ("u.user", ["1|20|M|writr|0"], r"unknown occupation 'writr'. Did you mean 'writer'"),
        ("u.user", ["1|20|M|writer|0"] * 2, r"u.user', line 2, column 'user': id 1 stands in line 1 already"),
        ("u.user", ["one|20|M|writer|0"], r"u.user', line 1, column 'user': expected an integer"),
        ("u.item", [film(1), film(2).replace("|1|", "|2|", 1)], r"u.item', line 2, column 'Comedy'.*got '2'"),
        ("u.item", [film(1, date="1995")], r"u.item', line 1, column 'release date': expected a date"),
        (
            "u.item",
            [film(1), film(2, "Amélie".encode().decode("latin-1"))],
            r"u.item', line 2: is UTF-8, expected latin-1",
        ),
        (
            "u.item",
            [film(1)[:-10] + "x" * 80],
            r"expected 24 fields between '\|' \(film, title.*, \.\.\.\), got 19: .*\.\.\.'$",
        ),
    ],
)
def test_bad_lines(tmp_path: Path, name: str, lines: list[str], text: str) -> None:
    root = write(tmp_path / "raw", {**FILES, name: lines})
    with pytest.raises(InputError, match=text):
        MovieLens100K(root)
    assert not (root / "processed").exists()


def test_damaged_gz(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", FILES, zipped=True)
    path = root / "raw" / "u1.base.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"u1.base.gz' is no intact gzip file"):
        MovieLens100K(root)


def test_damaged_processed_file(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", FILES)
    MovieLens100K(root)
    (root / "processed" / "u1.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"u1.pt' cannot be read.*force_reload"):
        MovieLens100K(root)
    assert len(MovieLens100K(root, force_reload=True)[0].relation("rates")) == 3


def archive(path: Path, files: dict[str, list[str]]) -> str:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, lines in files.items():
            zipped.writestr(f"ml-100k/{name}", "".join(f"{line}\n" for line in lines).encode("latin-1"))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ml-100k.zip"
    monkeypatch.setitem(checksums.CHECKSUMS, path.name, ("md5", archive(path, FILES)))
    monkeypatch.setattr(MovieLens100K, "url", path.as_uri())
    return path


def test_download(server: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert len(MovieLens100K(root)[0].relation("rates")) == 3
    assert sorted(path.name for path in (root / "raw").iterdir()) == ["u.item", "u.user", "u1.base", "u1.test"]


def test_download_keeps_the_files_that_are_there(server: Path, tmp_path: Path) -> None:
    root = write(tmp_path / "root" / "raw", {"u1.test": ["1\t3\t2\t5"]}, zipped=True)
    assert MovieLens100K(root)[0]["rates"].value.tolist() == [5, 1, 2]
    assert not (root / "raw" / "u1.test").exists()


@pytest.mark.parametrize(
    ("content", "checked", "text"),
    [
        (b"something else", True, "md5 checksum .*, expected"),
        (b"something else", False, "no intact zip archive"),
        (None, False, "does not hold 'ua.base', 'ua.test'"),
    ],
)
def test_bad_archive(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, checked: bool, text: str
) -> None:
    if content is not None:
        server.write_bytes(content)
    if not checked:
        digest = hashlib.md5(server.read_bytes()).hexdigest()
        monkeypatch.setitem(checksums.CHECKSUMS, server.name, ("md5", digest))
    with pytest.raises(InputError, match=text):
        MovieLens100K(tmp_path / "root", "ua")
    assert not (tmp_path / "root").exists()


def test_no_connection_names_the_files_to_put_there(tmp_path: Path) -> None:
    root = write(tmp_path / "raw", {name: FILES[name] for name in ("u.item", "u.user", "u1.base")})
    with pytest.raises(InputError, match=r"'u1.test' not found in .*could not be downloaded .*no network in tests"):
        MovieLens100K(root)
    assert MovieLens100K.url.startswith("https://files.grouplens.org/")
    assert checksums.CHECKSUMS["ml-100k.zip"] == ("md5", "0e33842e24a9c977be4e0107933c0723")
