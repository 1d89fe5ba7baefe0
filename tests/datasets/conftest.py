"""Tiny raw files of every public data set that is read from a folder, in the form in which it is published."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from hyperlearn_pyg import datasets


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def with_objects(content: bytes, name: str, lists: list[list[int]]) -> bytes:
    """Add an array of objects to an .npz, as numpy of Python 2 wrote it."""
    array = np.empty(len(lists), dtype=object)
    array[:] = lists
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(f"{name}.npy", stream.getvalue() + pickle.dumps(array, protocol=2))
    return out.getvalue()


def mat(**matrices: Any) -> bytes:
    stream = io.BytesIO()
    savemat(stream, matrices, do_compression=True)
    return stream.getvalue()


def table(*lines: str, end: str = "\n", encoding: str = "utf-8") -> bytes:
    return "".join(f"{line}{end}" for line in lines).encode(encoding)


def tabs(text: str) -> str:
    return text.replace(" ", "\t")


def lastfm() -> dict[str, bytes]:
    """Three users, artists 1 and 7 (and 9, which is tagged only), tags 3 and 5."""
    crlf = {"end": "\r\n"}
    return {
        "artists.dat": table(tabs("id name url pictureURL"), "7\tSigur Rós\tu\tp", '1\tThe "B"\tu\t', encoding="utf-8"),
        "tags.dat": table(tabs("tagID tagValue"), "3\tespañol", "5\tpop", end="\r\n", encoding="latin-1"),
        "user_artists.dat": table(*map(tabs, ("userID artistID weight", "2 7 30", "4 1 2")), **crlf),
        "user_friends.dat": table(*map(tabs, ("userID friendID", "2 8", "8 2")), **crlf),
        "user_taggedartists.dat": table(
            *map(tabs, ("userID artistID tagID day month year", "2 7 3 1 4 2009", "2 9 5 1 1 1970", "4 1 5 2 1 1970")),
            **crlf,
        ),
    }


def gps() -> dict[str, bytes]:
    train, test = [[0, 1, 0], [2, 0, 1], [0, 1, 0]], [[2, 0, 1], [1, 1, 1], [1, 1, 1]]
    sizes = np.array([3, 2, 2])
    return {
        "GPS/train_data.npz": npz(train_data=np.array(train), nums_type=sizes),
        "GPS/test_data.npz": npz(test_data=np.array(test, dtype=float), nums_type=sizes),
    }


def movies() -> dict[str, bytes]:
    sizes, names = np.array([1, 3, 1]), np.array([b"Drama", b"Sci-Fi"])
    train = npz(train_data=np.array([[0.0, 2.0, 0.0]]), nums_type=sizes, label_name=names, idx_label=np.array(1))
    return {
        "MovieLens/train_data.npz": with_objects(train, "labels", [[1], [], [0, 1]]),
        "MovieLens/test_data.npz": npz(test_data=np.array([[0, 0, 0]]), nums_type=sizes),
    }


def facts() -> dict[str, bytes]:
    return {
        "JF17K-4/train.txt": table("plays a b c d", "award\tb\ta\tb\td"),
        "JF17K-4/valid.txt": table("plays a a a a"),
        "JF17K-4/test.txt": table("wins e a b c"),
    }


def checkins() -> dict[str, bytes]:
    return {
        "dataset_connected_NYC.mat": mat(
            selected_checkins=np.array([[1, 168, 90, 4], [3, 1, 17, 9], [1, 168, 90, 4]], dtype=np.int32),
            selected_users_IDs=np.array([[19], [54], [58]], dtype=np.int32),
            friendship_old=np.array([[1, 2], [3, 3]], dtype=np.uint16),
            friendship_new=np.array([[1, 2], [2, 3]], dtype=np.uint16),
            selected_venue_IDs=np.array([["x"], ["y"]], dtype=object),
        )
    }


def tate() -> dict[str, bytes]:
    return {
        "artworks.tsv": table(
            "acno\tartist_ids\tclassification\tmedium\tstart_year\twidth_mm\theight_mm\tsubject_ids\tmovement_ids\ttitle",
            "A1\t38 558\tpainting\tOil\t1799\t100\t200\t5 6\t\tA ‘Title’",
            "A2\t558\tpainting\t\t1801\t100\t(left):\t\t\tSea",
            "A3\t\trelief\t\tno date\t\t\t6\t\t[title not known]",
        ),
        "artists.tsv": table(
            *map(tabs, ("id name gender birth_year", "38 Blake Male 1757", "558 Turner  1775", "9 X  "))
        ),
        "subjects.tsv": table(*map(tabs, ("id name top middle", "5 angel religion imagery", "6 man people adults"))),
    }


def omniart() -> dict[str, bytes]:
    head = "omni_id artwork_name artist_full_name creation_year century school l1_type l3_type country_code dom"
    rows = (
        "7 a el-greco 1590 16 spain painting painting es wga.hu",
        "8 b unknown -50 -1 egypt craft glass eg m",
        "9 ü el-greco 1601 17 spain painting painting es wga.hu",
        "10 d giotto 1300 14 italy drawing ink it wga.hu",
        "11 e giotto 1300 14 italy unknown ink it wga.hu",
    )
    return {"omniart_museum.tsv": table(*map(tabs, (head, *rows)))}


def wikipedia() -> dict[str, bytes]:
    return {
        "raw_features.mat": mat(
            I_tr=np.array([[0.5, 0.5], [1, 0]]), T_tr=np.ones((2, 3)), I_te=np.eye(1, 2), T_te=np.zeros((1, 3))
        ),
        "trainset_txt_img_cat.list": table("t1\ti1\t2", "t2\ti2\t1"),
        "testset_txt_img_cat.list": table("t3\ti3\t2"),
        "categories.list": table("art", "biology"),
    }


def citeulike() -> dict[str, bytes]:
    return {
        "users.dat": table("2 0 2", "0", "1 1"),
        "item-tag.dat": table("1 1", "0", "2 0 1"),
        "citations.dat": b"1 2\n0\n2 0 2",  # as published: no line end behind the last
        "tags.dat": table("ucsc-browser", "rr_interval"),
    }


#: Name of a fake -> files, class, further arguments.
FAKES: dict[str, tuple[Callable[[], dict[str, bytes]], str, dict[str, Any]]] = {
    "lastfm": (lastfm, "HetRecLastFM", {}),
    "gps": (gps, "DHNE", {"name": "GPS"}),
    "movies": (movies, "DHNE", {"name": "MovieLens"}),
    "facts": (facts, "NaryKB", {"name": "JF17K-4"}),
    "checkins": (checkins, "FoursquareCheckins", {}),
    "tate": (tate, "Tate", {}),
    "omniart": (omniart, "OmniArtMuseum", {}),
    "wikipedia": (wikipedia, "WikipediaImageText", {}),
    "citeulike": (citeulike, "CiteULike", {}),
}


class Fake:
    """Writes the raw files of a fake below a folder and loads them."""

    mat = staticmethod(mat)
    npz = staticmethod(npz)
    with_objects = staticmethod(with_objects)
    table = staticmethod(table)

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        files, loader, self.settings = FAKES[name]
        self.files = files()
        self.loader: Any = getattr(datasets, loader)
        for file, content in self.files.items():
            self.write(file, content)

    def write(self, file: str, content: bytes) -> None:
        path = self.root / "raw" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def load(self, **settings: Any) -> Any:
        return self.loader(self.root, **{**self.settings, **settings})


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Fake]:
    """Give a fake data set by its name, its raw files written below ``tmp_path``."""
    return lambda name: Fake(tmp_path, name)


@pytest.fixture
def linked(tmp_path: Path, data_dir: Callable[[str], Path]) -> Callable[[str], Path]:
    """Give a root whose ``raw`` is the folder of the real files; the test is skipped where it is absent."""

    def root(folder: str) -> Path:
        (tmp_path / "raw").symlink_to(data_dir(folder).resolve())
        return tmp_path

    return root
