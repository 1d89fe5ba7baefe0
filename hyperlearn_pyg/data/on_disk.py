"""Features that stay in files: a tensor whose rows the system reads when they are asked for."""

from __future__ import annotations

import copy
import math
import mmap
import os
import sys
import uuid
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from hyperlearn_pyg._io import atomic_path, load_torch, new_folders, save_torch
from hyperlearn_pyg.data._checks import row_blocks
from hyperlearn_pyg.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

D = TypeVar("D", bound="MultiModalHeteroData")
Path_ = str | os.PathLike[str]

#: The file in a folder that holds all but the features.
DATA = "data.pt"
VERSION = 1
#: Types that numpy has no name for, and the one they are written as.
DISGUISED = {torch.bfloat16: torch.int16}


def save_features(path: Path_, blocks: Tensor | Iterable[Any]) -> tuple[int, ...]:
    """Write features to a ``.npy`` file, whole or not at all, one block of rows at a time.

    Args:
        path: the file. What had it open before keeps the former content.
        blocks: a tensor or an array ``[N, ...]``, or any number of such blocks in turn, alike in type and in all but
            the first dimension. Only one block need be in memory.

    Returns:
        The shape written.

    Raises:
        ValueError: there is no block, or they are not alike; no file is left then.
    """
    if isinstance(blocks, Tensor | np.ndarray):
        blocks = row_blocks(torch.as_tensor(blocks))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        first: Tensor | None = None
        rows = 0
        for number, entry in enumerate(blocks):
            block = torch.as_tensor(entry).detach().cpu()
            if first is None:
                if block.dim() == 0 or block.layout != torch.strided:
                    raise ValueError(f"blocks must be dense and have rows (got {list(block.shape)}, {block.layout})")
                first = block[:0]
                length = _write_header(file, first, 0)
            if block.shape[1:] != first.shape[1:] or block.dtype != first.dtype:
                raise ValueError(
                    f"blocks must be alike: block {number} is {_kind(block)} a row, block 0 is {_kind(first)}"
                )
            rows += block.size(0)
            file.write(_plain(block).tobytes())
        if first is None:
            raise ValueError("'blocks' holds no block: pass at least one, of shape [0, F] where there are no rows")
        file.seek(0)
        if _write_header(file, first, rows) != length:
            raise RuntimeError("the header of the file changed its length")  # numpy leaves room for the digits
    return (rows, *first.shape[1:])


def open_features(path: Path_, *, dtype: torch.dtype | None = None) -> Tensor:
    """Open a ``.npy`` file as a tensor whose rows are read when they are asked for.

    Rows that nothing asks for are not read (but for the rest of the page, of 4 KB as a rule, in which a row begins or
    ends), and the system may drop what it has read: the file can be larger than the memory. The system is told that
    rows are asked for in any order, and reads nothing ahead; to have all of a file in memory, ``np.load`` is faster.

    Writing to the tensor changes a copy in memory, never the file (where the system grants no such mapping, as under a
    limit on data memory, the tensor is read-only, and writing to it ends the process). Operations that make a new
    tensor of all of it (``clone``, ``to``, ``pin_memory``, ``share_memory_``, pickling) read all of it. Workers of a
    data loader that are forked share the file; with the start method ``spawn``, open it in each worker.

    Args:
        path: the file.
        dtype: the type to take 16-bit integers for, for ``torch.bfloat16``, which the format does not know.

    Raises:
        InputError: there is no such file, it is no ``.npy`` file, is cut off, or holds what is no tensor.
    """
    try:
        with open(path, "rb") as file:
            shape, kind, offset = _read_header(file, path)
            size = os.fstat(file.fileno()).st_size - offset
            expected = math.prod(shape) * kind.itemsize
            if size != expected:
                raise InputError(
                    f"'{path}' is damaged: {size} bytes of content, expected {expected} for the shape {list(shape)}: "
                    "write it again"
                )
            stored = torch.from_numpy(np.empty(0, dtype=kind)).dtype
            if dtype is not None and DISGUISED.get(dtype, dtype) != stored:
                raise InputError(f"'{path}' holds {stored}, not {dtype}")
            if expected == 0:
                return torch.empty(shape, dtype=dtype or stored)
            buffer = _map(file)
    except FileNotFoundError as error:
        raise InputError(f"'{path}' does not exist") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error})") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable", category=UserWarning)
        flat = torch.frombuffer(buffer, dtype=dtype or stored, offset=offset, count=math.prod(shape))
    return flat.view(shape)


def put_on_disk(data: D, name: str, path: Path_, *, key: str = "x") -> D:
    """Write an attribute of a store to a file and read it from there from now on, in place.

    Args:
        name: the modality or the hyperedge set.
        path: the ``.npy`` file to write; see :func:`save_features`.
        key: the attribute, a dense tensor.

    Returns:
        The data object itself.

    Raises:
        ValueError: there is no such dense tensor.
    """
    value = data[name].get(key) if name in data.node_types else None
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.dim() == 0:
        raise ValueError(f"there is no dense tensor '{key}' in '{name}' (node types: {data.node_types})")
    save_features(path, value)
    data[name][key] = open_features(path, dtype=value.dtype)
    return data


def to_disk(data: MultiModalHeteroData, folder: Path_, *, keys: Sequence[str] = ("x",)) -> None:
    """Write everything to a folder, the features as files of their own; :meth:`from_disk` opens it.

    The folder holds one ``.npy`` file for each tensor of ``keys`` and ``data.pt`` with all the rest. ``data.pt`` comes
    last: until then a folder written before stays as it was, and it stays readable for those that have it open.

    Args:
        folder: is made where it does not exist.
        keys: the attributes of item and hyperedge stores to write as files; what is no dense tensor stays in
            ``data.pt``.

    Raises:
        ValueError: no store has an attribute that ``keys`` names (``x`` may be missing).
        InputError: there is a file in the place of the folder.
        OSError: the folder cannot be written, for instance because the disk is full.
    """
    folder = Path(folder)
    _check_target(data, folder, keys)
    rest = copy.copy(data)
    files: list[tuple[str, str, str, list[int], torch.dtype]] = []
    former: list[Any] = []
    with suppress(InputError):  # nothing there, or nothing that can be read
        former = _load(folder / DATA)["files"]
    with new_folders(folder):
        try:
            for name in data.node_types:
                for key in keys:
                    value = data[name].get(key)
                    if isinstance(value, Tensor) and value.layout == torch.strided and value.dim() > 0:
                        file = f"{quote(name, safe='')}.{quote(key, safe='')}.{uuid.uuid4().hex[:8]}.npy"
                        files.append((name, key, file, list(value.shape), value.dtype))
                        save_features(folder / file, value)
                        del rest[name][key]
            save_torch({"format": VERSION, "data": rest, "files": files}, folder / DATA)
        except BaseException:
            for entry in files:
                (folder / entry[2]).unlink(missing_ok=True)
            raise
    for entry in former:
        with suppress(OSError):  # in use, on systems that lock open files
            (folder / entry[2]).unlink(missing_ok=True)


def _check_target(data: MultiModalHeteroData, folder: Path, keys: Sequence[str]) -> None:
    if isinstance(keys, str):
        raise ValueError(f"'keys' must be a list of attributes (got {keys!r}): write [{keys!r}]")
    known = sorted({key for name in data.node_types for key in data[name].keys()})  # noqa: SIM118
    for key in keys:
        if key != "x" and key not in known:
            raise ValueError(
                f"'keys' names {key!r}, which no store has (attributes: {known}).{did_you_mean(key, known)}"
            )
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"'{path}' is a file: pass a folder, or remove the file first")


def from_disk(cls: type[D], folder: Path_) -> D:
    """Do what :meth:`MultiModalHeteroData.from_disk` says."""
    path = Path(folder) / DATA
    way_out = "write the folder again with 'to_disk'"
    state = _load(path)
    data = state["data"]
    if not isinstance(data, cls):
        raise InputError(f"'{path}' holds a {type(data).__name__}, not a {cls.__name__}")
    for name, key, file, shape, dtype in state["files"]:
        value = open_features(path.parent / file, dtype=dtype)
        if list(value.shape) != shape:
            raise InputError(f"'{path.parent / file}' holds the shape {list(value.shape)}, expected {shape}: {way_out}")
        data[name][key] = value
    return data


def _load(path: Path) -> dict[str, Any]:
    way_out = "write the folder again with 'to_disk'"
    if not path.is_file():
        raise InputError(f"'{path.parent}' holds no '{DATA}': {way_out}")
    return load_torch(path, VERSION, {"data", "files"}, "folder", way_out)


def _kind(block: Tensor) -> str:
    return f"{block.dtype} {list(block.shape[1:])}"


def _plain(block: Tensor) -> Any:
    """Return an array that holds the bytes of a tensor."""
    disguise = DISGUISED.get(block.dtype)
    return (block.contiguous().view(disguise) if disguise is not None else block.contiguous()).numpy()


def _write_header(file: BinaryIO, empty: Tensor, rows: int) -> int:
    """Write the header of ``rows`` rows like those of ``empty``; return its length."""
    header = np.lib.format.header_data_from_array_1_0(_plain(empty))
    np.lib.format.write_array_header_1_0(file, {**header, "fortran_order": False, "shape": (rows, *empty.shape[1:])})
    return file.tell()


def _read_header(file: BinaryIO, path: Path_) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and the place where the content begins."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, kind = read(file)
    except (ValueError, KeyError, EOFError) as error:
        raise InputError(f"'{path}' is no intact .npy file ({error}): write it again") from error
    if kind.hasobject or kind.kind not in "biufc" or not kind.isnative:
        raise InputError(f"'{path}' holds {kind}, which is no type of a tensor: write numbers")
    if fortran and len(shape) > 1:
        raise InputError(f"'{path}' holds columns one after the other: write np.ascontiguousarray(...) instead")
    try:
        torch.from_numpy(np.empty(0, dtype=kind))
    except TypeError as error:
        raise InputError(f"'{path}' holds {kind}, which is no type of a tensor: write numbers") from error
    return tuple(shape), kind, file.tell()


def _map(file: BinaryIO) -> mmap.mmap:
    """Map a file so that writing changes a copy in memory; read-only where the system does not grant that."""
    if sys.platform == "win32":
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    # Without a reservation of memory for the copies: there are none as a rule, and the file may exceed the memory.
    unreserved = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
    try:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | unreserved, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_RANDOM)  # else each row brings dozens of its neighbours along
    return mapped
