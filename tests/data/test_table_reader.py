from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data.table_config import FileConfig
from hyperlearn_pyg.data.table_reader import read_header, read_table
from hyperlearn_pyg.errors import InputError


def write(path: Path, content: str | bytes) -> Path:
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def texts(table, column):
    return table.text(column).to_pylist()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_reads_comma_separated(tmp_path, name):
    write(tmp_path / name, "\ufeffid, n \n007,a b\n 8 ,\n")
    table = read_table(FileConfig((name,)), ["n", "id"], tmp_path)
    assert texts(table, "id") == ["007", "8"]
    assert texts(table, "n") == ["a b", None]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.dat"])
def test_tab_is_guessed(tmp_path, name):
    write(tmp_path / name, "id\tn\r\n1\tx,y\r\n\r\n")
    table = read_table(FileConfig((name,)), ["id", "n"], tmp_path)
    assert texts(table, "n") == ["x,y"]


def test_parquet_ids_and_empties(tmp_path):
    frame = pd.DataFrame({"id": [1, 2, 3], "f": [5.0, None, 7.0], "s": ["a", None, "c"], "x": [0.5, None, 2.0]})
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_table(FileConfig(("a.parquet",)), ["id", "f", "s", "x"], tmp_path)
    assert texts(table, "id") == ["1", "2", "3"]
    assert texts(table, "f") == ["5", None, "7"]
    assert texts(table, "s") == ["a", None, "c"]
    np.testing.assert_array_equal(table.numbers("x"), [0.5, np.nan, 2.0])
    assert table.where(1, "x").endswith("a.parquet', row 2, column 'x'")


def test_files_of_both_kinds_are_concatenated(tmp_path):
    write(tmp_path / "a.csv", "v,id\n1.5,x\n")
    pd.DataFrame({"id": ["y"], "v": [2]}).to_parquet(tmp_path / "b.parquet")
    table = read_table(FileConfig(("a.csv", "b.parquet", "a.csv")), ["id", "v"], tmp_path)
    assert texts(table, "id") == ["x", "y", "x"]
    np.testing.assert_array_equal(table.numbers("v"), [1.5, 2, 1.5])
    assert "a.csv', line 2" in table.where(2)
    assert "b.parquet', row 1" in table.where(1)


def test_encoding_and_quote(tmp_path):
    write(tmp_path / "a.csv", 'id,n\n1,"caf\xe9\n'.encode("latin-1"))
    table = read_table(FileConfig(("a.csv",), encoding="latin-1", quote=""), ["n"], tmp_path)
    assert texts(table, "n") == ['"caf\xe9']
    write(tmp_path / "b.csv", "id,n\n1,\u0142\n".encode("utf-16"))
    assert texts(read_table(FileConfig(("b.csv",), encoding="utf-16"), ["n"], tmp_path), "n") == ["\u0142"]


@pytest.mark.parametrize("rows", [0, 1])
def test_sizes_zero_and_one(tmp_path, rows):
    write(tmp_path / "a.csv", "id,n\n" + "1,2\n" * rows)
    table = read_table(FileConfig(("a.csv",)), ["id", "n"], tmp_path)
    assert table.num_rows == rows
    assert table.numbers("n").tolist() == [2.0] * rows


def test_only_empty_cells_and_named_texts_are_missing(tmp_path):
    write(tmp_path / "a.csv", 'id,n\nNA,None\nnull,""\n?,  \n')
    table = read_table(FileConfig(("a.csv",), na_values=("?",)), ["id", "n"], tmp_path)
    assert texts(table, "id") == ["NA", "null", None]
    assert texts(table, "n") == ["None", None, None]


def test_numbers_that_arrow_alone_would_not_read(tmp_path):
    write(tmp_path / "a.csv", "id,n\n1,+3\n1,1e2\n1,.5\n1,4.\n1,\n")
    table = read_table(FileConfig(("a.csv",)), ["n"], tmp_path)
    np.testing.assert_array_equal(table.numbers("n"), [3, 100, 0.5, 4, np.nan])


CELL = st.text(st.sampled_from('ab",\n é|'), max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), st.data())
def test_any_cells_round_trip_and_rows_know_their_line(tmp_path, rows, data):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b"])
    starts = []
    for row in rows:
        starts.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    write(tmp_path / "a.csv", buffer.getvalue())
    table = read_table(FileConfig(("a.csv",)), ["a", "b"], tmp_path)
    for column, name in enumerate("ab"):
        assert texts(table, name) == [row[column].strip() or None for row in rows]
    at = data.draw(st.integers(0, len(rows) - 1))
    assert table.where(at, "b") == f"'{tmp_path / 'a.csv'}', line {starts[at]}, column 'b'"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id,n\n1,2\n\n3,five\n", ["line 4, column 'n'", "a number", "'five'"]),
        ('id,n\n"a\nb",2\n3,x\n', ["line 4, column 'n'", "'x'"]),
        ('id,n\n1,2\n3,"1,5"\n', ["line 3, column 'n'", "'1,5'", "point"]),
        ("id,n\n1,2\n3,nan\n", ["line 3, column 'n'", "a finite number", "'nan'"]),
        ("id,n\n1,inf\n", ["line 2, column 'n'", "a finite number", "'inf'"]),
        ("id,n\n1,five\n3,nan\n", ["line 2, column 'n'", "'five'"]),
    ],
)
def test_a_cell_that_is_no_number(tmp_path, content, expected):
    write(tmp_path / "a.csv", content)
    table = read_table(FileConfig(("a.csv",)), ["n"], tmp_path)
    with pytest.raises(InputError) as error:
        table.numbers("n")
    for part in ["a.csv'", *expected]:
        assert part in str(error.value)


def test_nan_in_parquet_is_no_empty_cell(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": pa.array([1.0, None, float("nan")])}), tmp_path / "a.parquet")
    table = read_table(FileConfig(("a.parquet",)), ["n"], tmp_path)
    with pytest.raises(InputError, match=r"a\.parquet', row 3, column 'n': a finite number is expected, got nan"):
        table.numbers("n")
    assert table.numbers("n", np.array([1, 0])).tolist()[1] == 1.0


def test_times(tmp_path):
    write(tmp_path / "a.csv", "n,d,b\n5,1970-01-02,x\n6,1970-01-01T00:01:00Z,7\n")
    table = read_table(FileConfig(("a.csv",)), ["n", "d", "b"], tmp_path)
    assert table.times("n", np.arange(2)).tolist() == [5, 6]
    assert table.times("d", np.arange(2)).tolist() == [86400, 60]
    with pytest.raises(InputError, match=r"line 2, column 'b': a number or an ISO 8601 date is expected, got 'x'"):
        table.times("b", np.arange(2))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "id,nn\n", ["a.csv', line 1", "no column 'n'", "Did you mean 'nn'?", "'id', 'nn'"]),
        ("a.csv", "id;n\n1;2\n", ["line 1", "no column 'id'", "separator"]),
        ("a.csv", "id,n,n\n1,2,3\n", ["line 1", "'n' occurs 2 times"]),
        ("a.csv", "", ["a.csv' is empty", "line 1"]),
        ("a.csv", "id,n\n1,2\n3\n", ["line 3", "2 cells", "got 1"]),
        ("a.csv", "id,n\n1,2\n3,4,5\n", ["line 3", "2 cells", "got 3"]),
        ("a.csv", "id,n\n1,2\n3,caf\xe9\n".encode("latin-1"), ["line 3, column 'n'", "0xe9", '"latin-1"']),
        ("a.csv", b"id,n\xff\n", ["line 1", "0xff"]),
        ("a.parquet", "id,n\n", ["a.parquet' is no intact Parquet file"]),
    ],
)
def test_a_file_that_is_no_table(tmp_path, name, content, expected):
    write(tmp_path / name, content)
    with pytest.raises(InputError) as error:
        read_table(FileConfig((name,)), ["id", "n"], tmp_path)
    for part in expected:
        assert part in str(error.value)


def test_damaged_files(tmp_path):
    packed = gzip.compress(("id,n\n" + "".join(f"{i},{i * i}\n" for i in range(50_000))).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"a\.csv\.gz'"):
        read_table(FileConfig(("a.csv.gz",)), ["n"], tmp_path)
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(InputError, match=r"b\.csv\.gz' cannot be read"):
        read_table(FileConfig(("b.csv.gz",)), ["n"], tmp_path)
    pd.DataFrame({"n": range(1000)}).to_parquet(tmp_path / "c.parquet")
    whole = (tmp_path / "c.parquet").read_bytes()
    (tmp_path / "c.parquet").write_bytes(b"\0" * 2000 + whole[2000:])
    with pytest.raises(InputError, match=r"c\.parquet' is no intact"):
        read_table(FileConfig(("c.parquet",)), ["n"], tmp_path)


def test_missing_files(tmp_path):
    write(tmp_path / "users.csv", "id\n")
    with pytest.raises(InputError, match=r"usres\.csv' not found\. Did you mean 'users\.csv'\?"):
        read_table(FileConfig(("usres.csv",)), ["id"], tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        read_table(FileConfig(("sub/users.csv",)), ["id"], tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        read_table(FileConfig((".",)), ["id"], tmp_path)


def test_nested_parquet_is_refused(tmp_path):
    pd.DataFrame({"n": [[1], [2, 3]]}).to_parquet(tmp_path / "a.parquet")
    assert read_header(tmp_path / "a.parquet", FileConfig(("a.parquet",))) == ["n"]
    with pytest.raises(InputError, match=r"a\.parquet', column 'n': nested"):
        read_table(FileConfig(("a.parquet",)), ["n"], tmp_path)
