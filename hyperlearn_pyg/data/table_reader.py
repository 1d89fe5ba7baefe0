from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from hyperlearn_pyg.data.table_config import FileConfig
from hyperlearn_pyg.errors import InputError, did_you_mean

PARQUET = (".parquet", ".pq")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")


@dataclass(frozen=True)
class Table:
    """Columns of one or several files, with the way back from a row to its line.

    Args:
        parts: the files in order, each with its number of rows.
        config: how they were read.
        data: the columns asked for; text as it stands in a CSV file, typed as stored in a Parquet file.
    """

    parts: tuple[tuple[Path, int], ...]
    config: FileConfig
    data: pa.Table

    @property
    def num_rows(self) -> int:
        """Number of rows of all files together."""
        return int(self.data.num_rows)

    @property
    def label(self) -> str:
        """The file names, quoted, for messages."""
        return " + ".join(f"'{path}'" for path, _ in self.parts)

    def where(self, row: int, column: str | None = None) -> str:
        """Describe a row as ``'ratings.csv', line 7, column 'rating'``; the header of a file is line 1."""
        part = 0
        while row >= self.parts[part][1]:
            row -= self.parts[part][1]
            part += 1
        path = self.parts[part][0]
        place = f"row {row + 1}" if path.suffix in PARQUET else f"line {_line_of(path, self.config, row)}"
        return f"'{path}', {place}" + (f", column {column!r}" if column else "")

    def text(self, column: str) -> pa.ChunkedArray:
        """Return a column as text without outer blanks; an empty cell and the ``na_values`` are null."""
        values = pc.utf8_trim_whitespace(_as_text(self.data.column(column)))
        empty = pa.array(["", *self.config.na_values], pa.string())
        return pc.if_else(pc.is_in(values, value_set=empty), pa.scalar(None, pa.string()), values)

    def numbers(self, column: str, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float64]:
        """Return a column (at ``rows``) as float64, NaN where the cell is empty.

        Raises:
            InputError: a cell is no number, NaN or infinite (file, line and column).
        """
        stored = self.data.column(column).type
        typed = not self.config.na_values and (pa.types.is_integer(stored) or pa.types.is_floating(stored))
        cells = self.data.column(column) if typed else self.text(column)
        cells = cells if rows is None else cells.take(pa.array(rows))
        if typed:
            values, bad = cells.cast(pa.float64(), safe=False), None
        else:
            values, bad = _parse(cells)
        numbers: npt.NDArray[np.float64] = values.to_numpy().astype(np.float64)
        wrong = ~np.isfinite(numbers) & ~cells.is_null().to_numpy()
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            got = cells[at].as_py()
            expected = "a number" if bad is not None and got in bad else "a finite number"
            hint = " (write decimals with a point)" if isinstance(got, str) and "," in got else ""
            row = at if rows is None else int(rows[at])
            raise InputError(f"{self.where(row, column)}: {expected} is expected, got {got!r}{hint}")
        return numbers

    def times(self, column: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return times: numbers as they stand, ISO 8601 dates as seconds since 1970 (UTC).

        Raises:
            InputError: a cell is neither.
        """
        try:
            return self.numbers(column, rows)
        except InputError as error:
            cells = self.text(column).take(pa.array(rows)).to_pandas()
            parsed = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
            no_date = parsed.isna() & cells.notna()
            neither = no_date & pd.to_numeric(cells, errors="coerce").isna()
            wrong = np.flatnonzero((neither if neither.any() else no_date).to_numpy())
            if len(wrong):
                at = int(wrong[0])
                text = f"a number or an ISO 8601 date is expected, got {cells.iloc[at]!r}"
                raise InputError(f"{self.where(int(rows[at]), column)}: {text}") from error
            seconds = (parsed - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
            return np.asarray(seconds, dtype=np.float64)


def _parse(cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, set[str] | None]:
    """Text to float64; where Arrow's strict parser gives up, pandas parses each distinct text."""
    try:
        return cells.cast(pa.float64()), None
    except pa.ArrowInvalid:
        distinct = pc.unique(cells.drop_null())
        texts = pd.Series(distinct.to_pylist(), dtype=object)
        parsed = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
        bad = {text for text in texts[np.isnan(parsed)] if text.lower().lstrip("+-") != "nan"}
        codes = pc.index_in(cells, value_set=distinct)
        return pc.take(pa.array(parsed), codes), bad


def _as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    # pandas stores whole-number ids beside empty cells as floats: 5.0 is the id 5
    if pa.types.is_floating(values.type):
        numbers = values.drop_null()
        if pc.all(pc.equal(pc.floor(numbers), numbers)).as_py() and pc.all(pc.is_finite(numbers)).as_py():
            values = values.cast(pa.int64())
    return values if values.type == pa.string() else values.cast(pa.string())


def find_file(name: str, base: Path) -> Path:
    """Return the path of a file relative to ``base``.

    Raises:
        InputError: there is no such file; close names of the same folder are proposed.
    """
    path = Path(os.path.normpath(base / name))
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; a CSV, TSV or Parquet file is expected")
    if not path.parent.is_dir():
        raise InputError(f"file '{path}' not found: there is no folder '{path.parent}'")
    near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()])
    raise InputError(f"file '{path}' not found.{near} File names are relative to '{base.resolve()}'")


def refuse_spreadsheet(path: Path) -> None:
    """Raise an InputError for a file that no reader of text could make sense of.

    Raises:
        InputError: the file is a workbook, by its suffix.
    """
    if path.suffix.lower() in _SPREADSHEETS:
        raise InputError(f"'{path}' is a spreadsheet, which is not read: save its table as CSV")


def read_header(path: Path, config: FileConfig) -> list[str]:
    """Return the column names of a file.

    Raises:
        InputError: the file is empty or not readable as what it claims to be.
    """
    refuse_spreadsheet(path)
    if path.suffix in PARQUET:
        try:
            return list(pa.parquet.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"'{path}' is no intact Parquet file: {error}") from error
    try:
        header = next((cells for _, cells in _records(path, config)), [])
    except UnicodeError as error:
        raise encoding_error(path, config) or InputError(f"'{path}': {error}") from error
    except (csv.Error, OSError, pa.ArrowException) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    if not header:
        raise InputError(f"'{path}' is empty: line 1 must name the columns")
    return [cell.strip() for cell in header]


def guess_separator(path: Path) -> str:
    """Return the separator: by the suffix, else a tab where the first line holds one, else a comma."""
    suffixes = [suffix for suffix in path.suffixes if suffix.lower() not in (".gz", ".bz2", ".zst")]
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix in (".csv", ".tsv", ".tab"):
        return "," if suffix == ".csv" else "\t"
    with pa.input_stream(str(path), compression="detect") as stream:
        head: bytes = stream.read(1 << 16)
    return "\t" if b"\t" in head.split(b"\n", 1)[0] else ","


def read_table(config: FileConfig, columns: Sequence[str], base: Path) -> Table:
    """Read the ``columns`` of the files of ``config`` (relative to ``base``) and concatenate them.

    Raises:
        InputError: missing file or column, ragged line, wrong encoding, damaged file.
    """
    columns = list(dict.fromkeys(columns))
    parts, tables = [], []
    for name in config.files:
        path = find_file(name, base)
        _check_columns(path, read_header(path, config), columns)
        table = _read_parquet(path, columns) if path.suffix in PARQUET else _read_csv(path, config, columns)
        parts.append((path, int(table.num_rows)))
        tables.append(table)
    if any(table.schema.types != tables[0].schema.types for table in tables):
        tables = [pa.table({c: _as_text(table.column(c)) for c in columns}) for table in tables]
    return Table(tuple(parts), config, pa.concat_tables([table.replace_schema_metadata() for table in tables]))


def _check_columns(path: Path, header: list[str], columns: Sequence[str]) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise InputError(f"'{path}', line 1: column {column!r} occurs {header.count(column)} times")
        if column not in header:
            listed = ", ".join(map(repr, header[:20])) + (", ..." if len(header) > 20 else "")
            hint = did_you_mean(column, header)
            hint += " Is 'separator' right?" if len(header) == 1 else ""
            raise InputError(f"'{path}', line 1: no column {column!r}.{hint} It has: {listed}")


def _read_parquet(path: Path, columns: list[str]) -> pa.Table:
    try:
        table = pa.parquet.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"'{path}' is no intact Parquet file: {error}") from error
    for column in columns:
        if pa.types.is_nested(table.schema.field(column).type):
            raise InputError(f"'{path}', column {column!r}: nested cells are not read; join them to a text")
    return table.select(columns)


def _read_csv(path: Path, config: FileConfig, columns: list[str]) -> pa.Table:
    names = enumerate(read_header(path, config))
    header = [name if name in columns else f"{name}\n{i}" for i, name in names]  # distinct, as Arrow asks
    utf8 = codecs.lookup(config.encoding).name == "utf-8"
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            table = pa.csv.read_csv(
                stream,
                pa.csv.ReadOptions(
                    column_names=header,
                    skip_rows_after_names=1,
                    encoding="utf8" if utf8 else config.encoding,
                    block_size=1 << 24,  # no line may be longer
                ),
                pa.csv.ParseOptions(
                    delimiter=config.separator or guess_separator(path),
                    quote_char=config.quote or False,
                    newlines_in_values=True,
                ),
                pa.csv.ConvertOptions(
                    column_types={column: pa.string() for column in columns},
                    include_columns=columns,
                    strings_can_be_null=False,
                ),
            )
    except (pa.ArrowException, UnicodeError, OSError, EOFError) as error:
        raise _explain(path, config, len(header), error) from error
    return table


def _explain(path: Path, config: FileConfig, width: int, error: Exception) -> InputError:
    """Find out by a slow pass over the file why Arrow would not read it."""
    try:
        wrong = encoding_error(path, config)
        if wrong is not None:
            return wrong
        for line, cells in _records(path, config):
            if len(cells) != width:
                return InputError(f"'{path}', line {line}: {width} cells are expected as in line 1, got {len(cells)}")
    except (OSError, EOFError, csv.Error, UnicodeError, pa.ArrowException):
        pass
    return InputError(f"'{path}' is damaged or no table: {error}")


def encoding_error(path: Path, config: FileConfig) -> InputError | None:
    """Return the error to raise for the first byte that is not in the encoding of ``config``, if there is one."""
    with pa.input_stream(str(path), compression="detect") as stream:
        content: bytes = stream.read()
    try:
        content.decode(config.encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        cells = _cells(before.rsplit(b"\n", 1)[-1] + b"?", path, config)
        header = _cells(before.split(b"\n", 1)[0], path, config) if line > 1 else []
        column = f", column {header[len(cells) - 1].strip()!r}" if 0 < len(cells) <= len(header) else ""
        other = "latin-1" if codecs.lookup(config.encoding).name == "utf-8" else "utf-8"
        text = f"byte 0x{content[error.start]:02x} is not {config.encoding}; set 'encoding', for instance \"{other}\""
        return InputError(f"'{path}', line {line}{column}: {text}")
    return None


def _cells(record: bytes, path: Path, config: FileConfig) -> list[str]:
    """Cells of one line, or none where the bytes are no record of a table at all (any file may come by)."""
    try:
        text = record.decode(config.encoding, "replace").lstrip("\ufeff")
        return next(csv.reader([text], **_dialect(path, config)), [])
    except csv.Error:
        return []


def _dialect(path: Path, config: FileConfig) -> dict[str, Any]:
    quoting = {"quotechar": config.quote} if config.quote else {"quoting": csv.QUOTE_NONE}
    return {"delimiter": config.separator or guess_separator(path), **quoting}


def _records(path: Path, config: FileConfig) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every record that is not blank, the header first."""
    encoding = "utf-8-sig" if codecs.lookup(config.encoding).name == "utf-8" else config.encoding
    with (
        pa.input_stream(str(path), compression="detect") as stream,
        io.TextIOWrapper(stream, encoding=encoding, newline="") as text,
    ):
        reader = csv.reader(text, **_dialect(path, config))
        line = 1
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1


def _line_of(path: Path, config: FileConfig, row: int) -> int:
    """Line of a data row (0-based), counting line breaks within quoted cells; used in messages only."""
    try:
        for index, (line, _) in enumerate(_records(path, config)):
            if index == row + 1:
                return line
    except (csv.Error, UnicodeError):
        pass
    return row + 2
