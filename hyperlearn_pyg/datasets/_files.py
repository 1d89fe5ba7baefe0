from __future__ import annotations

import gzip
import http.client
import math
import os
import shutil
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, whosmat

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


def fetch_from_zip(
    url: str, folder: str | os.PathLike[str], names: Sequence[str], *, keys: Mapping[str, str] | None = None
) -> None:
    """Download a zip archive, check it, and put those of its files into ``folder`` that are not there yet.

    Args:
        url: the address; the last part of it names the checksum in :mod:`hyperlearn_pyg.datasets.checksums`.
        folder: where the files go, plain or with ``.gz``.
        names: the files that are needed, found at any depth of the archive.
        keys: file -> name of its checksum: the files are checked then, not the archive.

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
        if keys is None:
            checksums.verify(path, archive)
        written = {file.name: file for file in safe_extract_zip(path, Path(temporary, "files"))}
        absent = [name for name in missing if name not in written]
        if absent:
            raise InputError(f"'{archive}' does not hold {', '.join(map(repr, absent))}")
        for name in missing if keys is not None else ():
            checksums.verify(written[name], (keys or {})[name])
        for name in missing:
            written[name].replace(folder / name)


def fetch_file(url: str, folder: str | os.PathLike[str], name: str, key: str | None = None) -> None:
    """Download one file, check it, and put it into ``folder`` unless it is there already, plain or with ``.gz``.

    Args:
        url: the address.
        folder: where the file goes.
        name: the file, below ``folder``.
        key: the name of its checksum in :mod:`hyperlearn_pyg.datasets.checksums`; ``name`` if left out.

    Raises:
        InputError: no connection, or a wrong or unknown checksum. Nothing is then left behind.
    """
    if find_plain_or_gz(folder, name) is not None:
        return
    missing, target = f"'{name}' not found in '{folder}'", Path(folder, name)
    if (key or name) not in checksums.CHECKSUMS:
        raise InputError(
            f"{missing}. It is published at '{url}', but this package knows no checksum of it and so does not "
            f"download it: fetch it yourself and put it there, plain or as .gz"
        )
    with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as temporary:
        path = Path(temporary, target.name)
        _download(url, path, missing)
        checksums.verify(path, key or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def ask_for(folder: str | os.PathLike[str], names: Sequence[str], way_out: str) -> None:
    """Say what to do about files that cannot be downloaded.

    Raises:
        InputError: some of the files are not in ``folder``, plain or with ``.gz``.
    """
    missing = [name for name in names if find_plain_or_gz(folder, name) is None]
    if missing:
        raise InputError(f"{', '.join(map(repr, missing))} not found in '{folder}': {way_out}")


def _download(url: str, path: Path, what: str) -> None:
    """Download to ``path``; ``what`` begins the message where there is no connection."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(path, "wb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{what}, and '{url}' could not be downloaded ({error}): put the files there yourself, plain or as .gz"
        ) from error


def read_npz(path: Path, needed: Sequence[str] | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an ``.npz`` file, read without pickle.

    Args:
        path: the file.
        needed: the arrays to read; all others are not touched. All if left out.

    Raises:
        InputError: the file is missing, damaged (the text names array or fault), lacks an array, or holds pickled
            objects.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_arrays(path, archive.files, needed)
            return {key: archive[key] for key in needed or archive.files}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is missing") from error
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise InputError(f"'{path}' is no intact .npz file without pickled objects ({error})") from error


def _check_arrays(path: Path, held: Sequence[str], needed: Sequence[str] | None) -> None:
    missing = [key for key in needed or () if key not in held]
    if missing:
        raise InputError(f"'{path}' lacks {missing} (it holds {sorted(held)})")


def read_mat(path: Path, needed: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return matrices of a MATLAB file of version 5 to 7; others that it holds are not read.

    Raises:
        InputError: the file is missing, damaged (the text names the byte), of version 7.3, or lacks a matrix.
    """
    try:
        with open(path, "rb") as file:
            try:
                held = [name for name, _, _ in whosmat(file)]
                file.seek(0)
                _check_arrays(path, held, needed)
                found: dict[str, np.ndarray[Any, Any]] = loadmat(file, variable_names=list(needed))
            except InputError:
                raise
            except Exception as error:  # scipy raises many kinds for a damaged file
                raise InputError(
                    f"'{path}' is no intact MATLAB file of version 5 to 7 ({error}; at byte {file.tell()} of "
                    f"{path.stat().st_size})"
                ) from error
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is missing") from error
    return {key: np.asarray(found[key]) for key in needed}


def read_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and the lines of a text file, plain or ``.gz``, without their ends.

    Blank lines at the end of the file are left out.

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
    while lines and lines[-1] in (b"", b"\r"):
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
    path: Path, *, separator: str | None, columns: Sequence[str], encoding: str = "latin-1", header: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and the fields of a table.

    Args:
        path: the file.
        separator: what stands between fields; :obj:`None` for any white space.
        columns: the names of the columns.
        encoding: of the text.
        header: the first line must hold the names of the columns, and is not yielded.

    Raises:
        InputError: a line has not one field a column, the header is another, or the file has no line at all.
    """
    number = 0
    for number, line in read_lines(path, encoding):
        fields = line.split(separator)
        if len(fields) != len(columns):
            shown = line if len(line) <= 60 else f"{line[:57]}..."
            names = ", ".join(columns) if len(columns) <= 6 else f"{', '.join(columns[:5])}, ..."
            between = "white space" if separator is None else repr(separator)
            raise InputError(
                f"'{path}', line {number}: expected {len(columns)} fields between {between} ({names}), "
                f"got {len(fields)}: {shown!r}"
            )
        if header and number == 1:
            if fields != list(columns):
                raise InputError(f"'{path}', line 1: expected the columns {list(columns)}, got {fields}")
            continue
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


def to_float(text: str, path: Path, number: int, column: str) -> float:
    """Take a field as a finite number.

    Raises:
        InputError: it is none; the text names file, line and column.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"'{path}', line {number}, column '{column}': expected a finite number, got {text!r}")
    return value
