from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperlearn_pyg.data.table_config import FeatureConfig, FileConfig
from hyperlearn_pyg.data.table_features import encode_features
from hyperlearn_pyg.data.table_reader import read_table
from hyperlearn_pyg.errors import InputError

HEADER = "age,sex,genres,title\n"
ROWS = "10,f,a|b,red fish\n30,m,b,blue fish\n,,,\n20,f,c| a,red red\n"
ALL = (
    FeatureConfig("age", "numeric"),
    FeatureConfig("sex", "categorical"),
    FeatureConfig("genres", "multi"),
    FeatureConfig("title", "text"),
)


def encode(tmp_path, text, features, rows=None):
    (tmp_path / "a.csv").write_text(text)
    table = read_table(FileConfig(("a.csv",)), [feature.column for feature in features], tmp_path)
    return encode_features(table, features, np.arange(table.num_rows) if rows is None else np.array(rows))


def test_each_kind(tmp_path):
    x, names = encode(tmp_path, HEADER + ROWS, ALL)
    assert names == [
        "age",
        "age missing",
        "sex=f",
        "sex=m",
        "genres=a",
        "genres=b",
        "genres=c",
        "title~blue",
        "title~fish",
        "title~red",
    ]
    assert x.dtype == torch.float32
    assert x.shape == (4, len(names))
    # Empty: the mean, a mark, and zeros.
    assert x[2].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(x[:, 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(x[:, 0].std(correction=0), torch.tensor(1.0))
    assert x[:, 2:4].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]
    assert x[:, 4:7].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
    torch.testing.assert_close(x[[0, 1, 3], 7:].norm(dim=1), torch.ones(3))


def test_items_without_a_row_count_as_empty(tmp_path):
    x, names = encode(tmp_path, HEADER + "10,f,a,red\n30,m,b,blue\n", ALL, rows=[1, 0, -1])
    assert names[:2] == ["age", "age missing"]
    assert x[2].tolist() == [0, 1] + [0] * (len(names) - 2)
    assert x[0, 0] > 0 > x[1, 0]


@pytest.mark.parametrize("text", ["", "10,f,a,red\n", ",,,\n"])
def test_sizes_zero_and_one_and_nothing_but_empty_cells(tmp_path, text):
    x, names = encode(tmp_path, HEADER + text, ALL)
    assert x.shape == (text.count("\n"), len(names))
    assert x.isfinite().all()
    assert names[0] == "age"


def test_no_features(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + ROWS)
    table = read_table(FileConfig(("a.csv",)), ["age"], tmp_path)
    x, names = encode_features(table, (), np.arange(4))
    assert x.shape == (4, 0)
    assert names == []


def test_widths_are_bounded(tmp_path):
    rows = "".join(f"w{i % 7}x {i % 3},{i % 5}|{i % 2}\n" for i in range(40))
    features = (
        FeatureConfig("t", "text", max_features=4),
        FeatureConfig("m", "multi", max_categories=2),
        FeatureConfig("t", "categorical", max_categories=3),
    )
    x, names = encode(tmp_path, "t,m\n" + rows, features)
    assert [sum(mark in name for name in names) for mark in ("t~", "m=", "t=")] == [4, 2, 3]
    # The most frequent labels are kept.
    assert [name for name in names if name.startswith("m=")] == ["m=0", "m=1"]
    assert torch.equal(x[:, [names.index("m=0"), names.index("m=1")]].sum(1) > 0, torch.ones(40, dtype=torch.bool))


@pytest.mark.parametrize(("cell", "word"), [("x", "a number"), ("nan", "finite"), ("-inf", "finite")])
def test_numeric_faults_name_file_line_and_column(tmp_path, cell, word):
    with pytest.raises(InputError) as error:
        encode(tmp_path, f"age\n3\n{cell}\n", ALL[:1])
    assert f"a.csv', line 3, column 'age': {'a finite number' if word == 'finite' else word}" in str(error.value)


def test_text_without_words(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv', column 'title': no words"):
        encode(tmp_path, "title\n!\n?\n", ALL[3:])
