from __future__ import annotations

from pathlib import Path

import pytest

from hyperlearn_pyg.datasets._files import read_lines, to_int
from hyperlearn_pyg.errors import InputError


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("é\r\n\nlast".encode("latin-1"))
    assert list(read_lines(path, "latin-1")) == [(1, "é"), (2, ""), (3, "last")]
    path.write_bytes(b"")
    assert list(read_lines(path, "latin-1")) == []


def test_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\né\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt', line 2: is not utf-8 text \(.* at byte 0\)"):
        list(read_lines(path, "utf-8"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt' is missing"):
        list(read_lines(tmp_path / "a.txt", "utf-8"))


def test_integers() -> None:
    assert to_int("3", Path("f"), 1, "c", low=0) == 3
    for text in ("", "-1", "1.0", "x"):
        with pytest.raises(InputError, match="'f', line 7, column 'c': expected an integer at least 0, got"):
            to_int(text, Path("f"), 7, "c", low=0)
