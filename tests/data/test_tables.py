from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data.tables import read_tables
from hyperlearn_pyg.errors import InputError

USERS = "id,name,job,age\nu1,Ann,clerk,30\nu2,,artist,\nu3,Cy,,50\n"
FILMS = "id\nf1\nf2\n"
RATES = "u,f,r,w,t,s\nu1,f1,5,1,100,train\nu2,f2,3,2,200,val\nu3,f1,1,1,300,test\n"
CONFIG = """
[modality.user]
file = "users.csv"
id = "id"
[modality.film]
file = "films.csv"
id = "id"
[relation.rates]
file = "rates.csv"
value = "r"
columns = { user = "u", film = "f" }
"""
FREE = CONFIG.replace('file = "users.csv"\nid = "id"', "").replace('file = "films.csv"\nid = "id"', "")


def read(tmp_path: Path, config: str = CONFIG, **files: str):
    for name, text in {"users": USERS, "films": FILMS, "rates": RATES, **files}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "c.toml").write_text(config)
    return read_tables(tmp_path / "c.toml")


def fault(tmp_path: Path, config: str = CONFIG, **files: str) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, config, **files)
    return str(error.value)


def test_items_and_tuples(tmp_path):
    config = CONFIG.replace('"users.csv"', '"users.csv"\nname = "name"\nlabel = "job"\nfeatures = { age = "numeric" }')
    config = config.replace('value = "r"', 'value = "r"\nweight = "w"\ntime = "t"\nsplit = "s"')
    tables = read(tmp_path, config)
    data = tables.data
    assert data["user"].item_id == ["u1", "u2", "u3"]
    assert data["user"].item_name == ["Ann", "u2", "Cy"]
    assert data["user"].item_label == ["clerk", "artist", ""]
    assert tables.feature_names == {"user": ["age", "age missing"]}
    assert data["user"].x[:, 1].tolist() == [0, 1, 0]
    rates = data.relation("rates")
    assert rates.index.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert rates.value.tolist() == [5, 3, 1]
    assert rates.weight.tolist() == [1, 2, 1]
    assert rates.time.tolist() == [100, 200, 300]
    assert rates.time.dtype == torch.float64
    assert [rates.mask(split).tolist() for split in ("train", "val", "test")] == torch.eye(3).bool().tolist()
    assert tables.notes == []


def test_root_replaces_the_folder_of_the_config(tmp_path):
    read(tmp_path)
    (tmp_path / "sub").mkdir()
    moved = (tmp_path / "c.toml").rename(tmp_path / "sub" / "c.toml")
    assert len(read_tables(moved, root=tmp_path).data.relation("rates")) == 3
    with pytest.raises(InputError, match=r"users\.csv' not found"):
        read_tables(moved)


def test_ids_without_a_file_are_those_of_the_relations_in_natural_order(tmp_path):
    tables = read(tmp_path, FREE, rates="u,f,r\n10,b,1\n9,a,2\n10,a,3\n")
    assert tables.data["user"].item_id == ["9", "10"]
    assert tables.data["film"].item_id == ["a", "b"]
    assert tables.data.relation("rates").index.tolist() == [[1, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("with_file", [True, False])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pairs=st.lists(
        st.tuples(*[st.text("aé0 1.,\"'|", min_size=1, max_size=4).map(str.strip).filter(bool)] * 2),
        min_size=1,
        max_size=12,
        unique=True,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_ids_round_trip(tmp_path, with_file, pairs, seed):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("u", "f", "r"), *((u, f, 1) for u, f in pairs)])
    files = {"rates": buffer.getvalue()}
    for name, ids in (("users", {u for u, _ in pairs}), ("films", {f for _, f in pairs})):
        shuffled = sorted(ids)
        seed.shuffle(shuffled)
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("id",), *((i,) for i in shuffled)])
        files[name] = buffer.getvalue()
    data = read(tmp_path, CONFIG if with_file else FREE, **files).data
    users, films = data["user"].item_id, data["film"].item_id
    assert len(set(users)) == len(users) == data["user"].num_nodes
    index = data.relation("rates").index.T.tolist()
    assert [(users[u], films[f]) for u, f in index] == pairs


def test_roles_bins_and_exploded_cells(tmp_path):
    config = """
    [modality.user]
    [modality.tag]
    [modality.decade]
    [relation.acts]
    file = "rates.csv"
    [relation.acts.columns]
    user = "a"
    "user.other" = "b"
    tag = { column = "tags", separator = " " }
    decade = { column = "year", bin = 10 }
    """
    text = "a,b,tags,year\nx,y,p  q,1999\ny,x,q,2000\ny,z,r p q,-1\n"
    data = read(tmp_path, config, rates=text).data
    relation = data.relation("acts")
    assert relation.roles == (None, "other", None, None)
    assert data["decade"].item_id == ["-10", "1990", "2000"]
    names = [data[modality].item_id for modality in relation.modalities]
    tuples = [tuple(ids[i] for ids, i in zip(names, row, strict=True)) for row in relation.index.T.tolist()]
    assert tuples == [
        ("x", "y", "p", "1990"),
        ("x", "y", "q", "1990"),
        ("y", "x", "q", "2000"),
        ("y", "z", "r", "-10"),
        ("y", "z", "p", "-10"),
        ("y", "z", "q", "-10"),
    ]


def test_two_exploded_columns_give_their_product(tmp_path):
    config = FREE.replace('user = "u"', 'user = { column = "u", separator = ";" }')
    config = config.replace('film = "f"', 'film = { column = "f", separator = ";" }')
    data = read(tmp_path, config, rates="u,f,r\na;b,p;q,1\nc,p,2\n").data
    assert data.relation("rates").index.T.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]
    assert data.relation("rates").value.tolist() == [1, 1, 1, 1, 2]


def test_exclude_before_missing_before_numbers(tmp_path):
    config = FREE.replace('value = "r"', 'value = "r"\nmissing = "drop"\nexclude = { r = ["none"], k = 1 }')
    tables = read(tmp_path, config, rates="u,f,r,k\na,p,none,0\nb,p,,0\nc,p,x,1\nd,p,4,0\n")
    assert tables.data["user"].item_id == ["d"]
    assert tables.data.relation("rates").value.tolist() == [4]
    assert tables.notes == [
        "relation 'rates': 2 rows left out by 'exclude'",
        "relation 'rates': 1 rows with an empty cell dropped",
    ]


def test_exclude_reaches_into_exploded_cells(tmp_path):
    config = FREE.replace('user = "u"', 'user = { column = "u", separator = ";" }')
    config = config.replace('value = "r"', 'value = "r"\nexclude = { u = "b" }')
    tables = read(tmp_path, config, rates="u,f,r\na;b,p,1\nb,p,2\n")
    assert tables.data["user"].item_id == ["a"]
    assert tables.notes == ["relation 'rates': 2 tuples left out by 'exclude'"]


def test_exclude_that_matches_nothing_is_told(tmp_path):
    tables = read(tmp_path, CONFIG.replace('value = "r"', 'value = "r"\nexclude = { u = "U1" }'))
    assert tables.notes == ["relation 'rates': 'exclude' of column 'u' matches no row"]


def test_exact_duplicates_are_dropped_with_a_note(tmp_path):
    tables = read(tmp_path, rates="u,f,r\nu1,f1,5\nu2,f1,4\nu1,f1,5.0\n")
    assert tables.data.relation("rates").index.tolist() == [[0, 1], [0, 0]]
    assert tables.notes == ["relation 'rates': 1 repeated tuples dropped"]


def test_unknown_ids_added_or_dropped(tmp_path):
    text = "u,f,r\nu1,f1,5\nu9,f1,4\nu8,f1,4\n"
    added = read(tmp_path, CONFIG.replace('"users.csv"', '"users.csv"\nunknown = "add"\nname = "name"'), rates=text)
    assert added.data["user"].item_id == ["u1", "u2", "u3", "u8", "u9"]
    assert added.data["user"].item_name == ["Ann", "u2", "Cy", "u8", "u9"]
    assert added.data.relation("rates").index[0].tolist() == [0, 4, 3]
    assert added.notes == ["modality 'user': 2 ids added that no file holds: 'u8', 'u9'"]
    dropped = read(tmp_path, CONFIG.replace('"users.csv"', '"users.csv"\nunknown = "drop"'), rates=text)
    assert dropped.data.relation("rates").index.tolist() == [[0], [0]]
    assert dropped.notes == ["relation 'rates': 2 tuples with unknown ids dropped"]


def test_related_items_only(tmp_path):
    config = CONFIG.replace('"users.csv"', '"users.csv"\nitems = "related"\nfeatures = { age = "numeric" }')
    tables = read(tmp_path, config, rates="u,f,r\nu3,f1,5\nu1,f2,4\n")
    assert tables.data["user"].item_id == ["u1", "u3"]
    assert tables.data["user"].x.tolist() == [[-1], [1]]
    assert tables.data.relation("rates").index.tolist() == [[1, 0], [0, 1]]
    assert tables.notes == ["modality 'user': 1 items without a tuple left out"]


def test_one_item_and_one_tuple(tmp_path):
    data = read(tmp_path, users="id\nu1\n", films="id\nf1\n", rates="u,f,r\nu1,f1,5\n").data
    assert data.relation("rates").index.tolist() == [[0], [0]]


def test_a_modality_that_no_relation_names_is_left_out(tmp_path):
    tables = read(tmp_path, CONFIG + '[modality.tag]\nfile = "tags.csv"\nid = "id"\n')
    assert tables.data.modalities == ["user", "film"]
    assert tables.notes == ["modality 'tag': no relation names it, left out"]


GRAPH = '[modality.user.graph]\nfile = "links.csv"\nsource = "a"\ntarget = "b"\n'


def test_graph_of_a_file_is_undirected(tmp_path):
    data = read(tmp_path, CONFIG + GRAPH, links="a,b\nu1,u2\nu2,u1\nu2,u3\nu3,u3\n").data
    store = data["user", "linked", "user"]
    assert store.edge_index.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert "edge_weight" not in store
    data = read(tmp_path, CONFIG + GRAPH + 'weight = "w"', links="a,b,w\nu1,u2,3\nu3,u2,5\n").data
    assert data["user", "linked", "user"].edge_weight.tolist() == [3, 3, 5, 5]
    assert data.validate()


def test_graph_faults(tmp_path):
    got = fault(tmp_path, CONFIG + GRAPH, links="a,b\nu1,u2\nu1,u9\n")
    assert "links.csv', line 3, column 'b': 'u9' is no id of modality 'user' (1 such rows)" in got
    got = fault(tmp_path, CONFIG + GRAPH + 'weight = "w"', links="a,b,w\nu1,u2,-3\n")
    assert "links.csv', line 2, column 'w': a weight of at least 0 is expected, got -3" in got
    tables = read(tmp_path, FREE + GRAPH, links="a,b\nu1,u2\nu1,u9\n")
    assert tables.notes == ["graph of 'user': 1 edges to items that are not there dropped"]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ("u,f,r\nu1,f1,five\n", ["line 2, column 'r'", "a number", "'five'"]),
        ("u,f,r\nu1,f1,inf\n", ["line 2, column 'r'", "a finite number"]),
        ("u,f,r\nu1,f1,1\nu2,,2\n", ["line 3, column 'f'", "empty", 'missing = "drop"']),
        ("u,f,r\nu1,f1,1\nu2,f2,\n", ["line 3, column 'r'", "empty"]),
        ("u,f\nu1,f1\n", ["line 1", "no column 'r'", "'u', 'f'"]),
        ("u,f,r\n", ["relation 'rates' holds no tuple"]),
        (
            "u,f,r\nu1,f1,1\nb,f1,1\na,f1,1\nc,f1,2\nd,f1,2\nb,f2,1\n",
            ["line 3, column 'u'", "4 ids are not in column 'id' of", "users.csv': 'b', 'a', 'c'. ", 'unknown = "add"'],
        ),
        ("u,f,r\nu1,f1,1\nu1,x,1\n", ["line 3, column 'f'", "1 id is not in column 'id' of", "films.csv': 'x'."]),
        (
            "u,f,r\nu1,f1,1\nu2,f1,1\nu1,f1,2\nu2,f1,7\n",
            ["line 4, column 'r'", "(user 'u1', film 'f1') has the value 2, but 1 in", "line 2", "(2 such tuples)"],
        ),
    ],
)
def test_faults_of_a_relation(tmp_path, rates, expected):
    got = fault(tmp_path, rates=rates)
    for part in ["rates.csv'", *expected]:
        assert part in got


def test_weight_time_and_split_faults(tmp_path):
    def run(key: str, cell: str, before: str = "1") -> str:
        config = FREE.replace('value = "r"', f'{key} = "r"')
        return fault(tmp_path, config, rates=f"u,f,r\na,b,{before}\na,c,{cell}\n")

    assert "line 3, column 'r': a weight of at least 0 is expected, got -1" in run("weight", "-1")
    assert "line 3, column 'r': a number or an ISO 8601 date is expected, got 'x'" in run("time", "x")
    assert "line 3, column 'r': train, val or test is expected, got 'tst'. Did you mean 'test'?" in run(
        "split", "tst", "train"
    )
    assert "column 'r': no row holds 'train'" in run("split", "test", "val")


def test_a_tuple_in_two_parts_of_the_split(tmp_path):
    config = FREE.replace('value = "r"', 'split = "s"')
    got = fault(tmp_path, config, rates="u,f,s\na,b,train\na,b,test\n")
    assert "line 3, column 's': tuple (user 'a', film 'b') has the split test, but train in" in got


def test_nothing_left_says_why(tmp_path):
    config = CONFIG.replace('"users.csv"', '"users.csv"\nunknown = "drop"').replace(
        'value = "r"', 'value = "r"\nmissing = "drop"'
    )
    got = fault(tmp_path, config, rates="u,f,r\nx,f1,1\nu1,f1,\n")
    assert "1 rows with an empty cell dropped" in got
    assert "1 tuples with unknown ids dropped" in got


@pytest.mark.parametrize(
    ("cell", "missing", "expected"),
    [(";", "error", "line 2, column 'u': the cell holds no id"), (";", "drop", "holds no tuple")],
)
def test_a_cell_of_separators_alone(tmp_path, cell, missing, expected):
    config = FREE.replace('user = "u"', 'user = { column = "u", separator = ";" }')
    config = config.replace('value = "r"', f'missing = "{missing}"')
    assert expected in fault(tmp_path, config, rates=f"u,f\n{cell},p\n")


def test_bins_need_numbers(tmp_path):
    config = FREE.replace('user = "u"', 'user = { column = "u", bin = 10 }')
    got = fault(tmp_path, config, rates="u,f,r\n3,p,1\nno date,q,1\n")
    assert "rates.csv', line 3, column 'u': a number is expected, got 'no date'" in got


def test_id_faults_of_a_modality(tmp_path):
    got = fault(tmp_path, users="id\nu1\nu2\nu1\n")
    assert "users.csv', line 4, column 'id': id 'u1' is there already, in" in got
    assert "line 2 (1 such rows)" in got
    assert "users.csv', line 3, column 'id': the id is empty" in fault(tmp_path, users='id,x\nu1,1\n"",2\n')


def test_parquet_and_csv_agree(tmp_path):
    data = read(tmp_path).data
    for name in ("users", "films", "rates"):
        pd.read_csv(tmp_path / f"{name}.csv").to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "c.toml").write_text(CONFIG.replace(".csv", ".parquet"))
    other = read_tables(tmp_path / "c.toml").data
    assert torch.equal(data.relation("rates").index, other.relation("rates").index)
    assert torch.equal(data.relation("rates").value, other.relation("rates").value)
    assert data["user"].item_id == other["user"].item_id
