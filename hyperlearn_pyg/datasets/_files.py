from __future__ import annotations

import gzip
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperlearn_pyg._io import safe_extract_zip
from hyperlearn_pyg.datasets import checksums
from hyperlearn_pyg.errors import InputError

#: Seconds without an answer after which a download is given up.
_TIMEOUT = 30


def find_plain_or_gz(folder: str | os.PathLike[str], name: str) -> Path | None:
    """Return ``folder/name`` or ``folder/name.gz``, whichever is there."""
    for path in (Path(folder, name), Path(folder, f"{name}.gz")):
        if path.is_file():
            return path
    return None


def fetch_from_zip(url: str, folder: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Download a zip archive, check it, and put those of its files into ``folder`` that are not there yet.

    Args:
        url: the address; the last part of it names the checksum in :mod:`hyperlearn_pyg.datasets.checksums`.
        folder: where the files go, plain or with ``.gz``.
        names: the files that are needed, found at any depth of the archive.

    Raises:
        InputError: no connection, a wrong checksum, a damaged archive, a file that is not in it. Nothing is then
            left behind.
    """
    folder = Path(folder)
    missing = [name for name in names if find_plain_or_gz(folder, name) is None]
    archive = url.rsplit("/", 1)[-1]
    with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as temporary:
        path = Path(temporary, archive)
        _download(url, path, f"{', '.join(map(repr, missing))} not found in '{folder}'")
        written = {file.name: file for file in safe_extract_zip(path, Path(temporary, "files"))}
        absent = [name for name in missing if name not in written]
        if absent:
            raise InputError(f"'{archive}' does not hold {', '.join(map(repr, absent))}")
        for name in missing:
            written[name].replace(folder / name)


def fetch_file(url: str, folder: str | os.PathLike[str], name: str) -> None:
    """Download one file, check it, and put it into ``folder`` unless it is there already, plain or with ``.gz``.

    Raises:
        InputError: no connection or a wrong checksum. Nothing is then left behind.
    """
    if find_plain_or_gz(folder, name) is not None:
        return
    with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as temporary:
        path = Path(temporary, name)
        _download(url, path, f"'{name}' not found in '{folder}'")
        path.replace(Path(folder, name))


def _download(url: str, path: Path, what: str) -> None:
    """Download to ``path`` and check the sum of its name; ``what`` begins the message where there is no connection."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{what}, and '{url}' could not be downloaded ({error}): put the files there yourself, plain or as .gz"
        ) from error
    checksums.verify(path, path.name)


def read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an ``.npz`` file, read without pickle.

    Raises:
        InputError: the file is missing, damaged (the text names array or fault), or holds pickled objects.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is missing") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"'{path}' is no intact .npz file without pickled objects ({error})") from error


def read_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and the lines of a text file, plain or ``.gz``, without their ends.

    Raises:
        InputError: the file is missing, damaged, or not in ``encoding``; the text names the line.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is missing") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is no intact gzip file ({error})") from error
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield number, _decode(line, path, number, encoding)


def _decode(line: bytes, path: Path, number: int, encoding: str) -> str:
    where = f"'{path}', line {number}"
    if b"\0" in line:
        raise InputError(f"{where}: holds NUL bytes; expected {encoding} text (is the file UTF-16?)")
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not {encoding} text ({error.reason} at byte {error.start})") from error
    if encoding == "latin-1" and not line.isascii():
        try:  # any bytes are latin-1, but text that happens to be UTF-8 as well was converted to it
            line.decode("utf-8")
        except UnicodeDecodeError:
            return text.rstrip("\r")
        raise InputError(f"{where}: is UTF-8, expected latin-1: convert the file back or fetch the original")
    return text.rstrip("\r")


def read_rows(
    path: Path, *, separator: str, columns: Sequence[str], encoding: str = "latin-1"
) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and the fields of a table without a header.

    Raises:
        InputError: a line has not one field a column, or the file has no line at all.
    """
    number = 0
    for number, line in read_lines(path, encoding):
        fields = line.split(separator)
        if len(fields) != len(columns):
            shown = line if len(line) <= 60 else f"{line[:57]}..."
            names = ", ".join(columns) if len(columns) <= 6 else f"{', '.join(columns[:5])}, ..."
            raise InputError(
                f"'{path}', line {number}: expected {len(columns)} fields between {separator!r} ({names}), "
                f"got {len(fields)}: {shown!r}"
            )
        yield number, fields
    if number == 0:
        raise InputError(f"'{path}' is empty")


def to_int(text: str, path: Path, number: int, column: str, *, low: int, high: int | None = None) -> int:
    """Take a field as an integer in ``[low, high]``.

    Raises:
        InputError: it is none; the text names file, line and column.
    """
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"'{path}', line {number}, column '{column}': expected an integer {bounds}, got {text!r}")
    return value
