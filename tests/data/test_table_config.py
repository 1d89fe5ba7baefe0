from __future__ import annotations

from pathlib import Path

import pytest

from hyperlearn_pyg.data.table_config import FeatureConfig, GraphConfig, SlotConfig, SplitConfig, load_config
from hyperlearn_pyg.errors import InputError

WHOLE = """
[modality.user]
file = ["users.csv", "more.csv"]
separator = ";"
encoding = "latin-1"
quote = ""
na_values = ["?", -1]
id = "user_id"
name = "full_name"
label = "occupation"
items = "related"
unknown = "add"
[modality.user.features]
age = "numeric"
genres = { kind = "multi", separator = "/", max_categories = 5 }
title = { kind = "text", max_features = 20 }
[modality.user.graph]
knn = 7
[modality.film]
[modality.film.graph]
cooccurrence = "rates"
k = 3
[modality.decade]
[modality.decade.graph]
file = "d.csv"
source = "a"
target = "b"
weight = "w"
[relation.rates]
file = "ratings.csv"
value = "rating"
weight = "w"
time = "ts"
split = "fold"
missing = "drop"
[relation.rates.columns]
user = "user_id"
"user.follower" = "other_id"
film = { column = "films", separator = " " }
decade = { column = "year", bin = 10 }
[relation.rates.exclude]
films = ["558", 3]
[split]
test = 0.2
val = 0
seed = 4
[model]
rank = 8
anything = [1]
[train]
epochs = 3
"""
BASE = """
[modality.user]
[modality.film]
[relation.rates]
file = "r.csv"
columns = { user = "u", film = "f" }
"""


def load(tmp_path: Path, text: str | bytes) -> object:
    path = tmp_path / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def test_every_key_arrives(tmp_path):
    config = load(tmp_path, WHOLE)
    user = config.modalities["user"]
    assert user.table.files == ("users.csv", "more.csv")
    assert (user.table.separator, user.table.encoding, user.table.quote) == (";", "latin-1", "")
    assert user.table.na_values == ("?", "-1")
    assert (user.id, user.name, user.label) == ("user_id", "full_name", "occupation")
    assert (user.items, user.unknown, user.graph) == ("related", "add", GraphConfig("knn", k=7))
    assert user.features == (
        FeatureConfig("age", "numeric"),
        FeatureConfig("genres", "multi", separator="/", max_categories=5),
        FeatureConfig("title", "text", max_features=20),
    )
    assert config.modalities["film"].graph == GraphConfig("cooccurrence", k=3, relation="rates")
    assert config.modalities["decade"].graph.columns == ("a", "b", "w")
    rates = config.relations["rates"]
    assert rates.slots == (
        SlotConfig(("user", None), "user_id"),
        SlotConfig(("user", "follower"), "other_id"),
        SlotConfig(("film", None), "films", separator=" "),
        SlotConfig(("decade", None), "year", bin=10.0),
    )
    assert (rates.value, rates.weight, rates.time, rates.split, rates.missing) == ("rating", "w", "ts", "fold", "drop")
    assert rates.exclude == {"films": ("558", "3")}
    assert config.split == SplitConfig(0.2, 0.0, 4)
    assert config.model == {"rank": 8, "anything": [1]}
    assert config.train == {"epochs": 3}


def test_defaults(tmp_path):
    config = load(tmp_path, BASE)
    assert config.split == SplitConfig()
    assert config.model == {}
    assert config.modalities["user"].table is None
    assert config.relations["rates"].table.encoding == "utf-8"


USER = '[modality.user]\nfile = "u.csv"\nid = "id"\n'
REST = BASE.replace("[modality.user]\n", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[modalty.user]" + BASE, ["'modalty'", "Did you mean 'modality'?"]),
        (BASE + "[split]\ntset = 0.1", ["'split.tset'", "Did you mean 'test'?"]),
        (BASE + "[split]\ntest = 0.6\nval = 0.4", ["'split.test'", "below 1", "0.6"]),
        (BASE + "[split]\nseed = true", ["'split.seed'", "whole number", "True"]),
        (BASE + '[split]\ntest = "x"', ["'split.test'", "a number", "'x'"]),
        (BASE + "model = 3", ["'relation.rates.model'", "unknown key"]),
        ("model = 3" + BASE, ["'model'", "a table", "3"]),
        ("modality = 3", ["'modality'", "a table"]),
        ("[modality]\nuser = 3", ["'modality.user'", "a table"]),
        (BASE + 'valeu = "x"', ["'relation.rates.valeu'", "Did you mean 'value'?"]),
        (BASE + "value = 3", ["'relation.rates.value'", "a string", "3"]),
        (BASE + 'missing = "drpo"', ["'relation.rates.missing'", "'error', 'drop'", "Did you mean 'drop'?"]),
        (BASE.replace('file = "r.csv"', 'fiel = "r.csv"'), ["'relation.rates.file'", "Did you mean 'fiel'?"]),
        (BASE.replace('"r.csv"', "[[1]]"), ["'relation.rates.file'", "list of strings"]),
        (BASE + 'separator = "::"', ["'relation.rates.separator'", "one character", "'::'"]),
        (BASE + 'quote = "::"', ["'relation.rates.quote'", "one character"]),
        (BASE + 'encoding = "latin1x"', ["'relation.rates.encoding'", "Did you mean 'latin-1'?"]),
        (BASE.replace(', film = "f"', ""), ["'relation.rates.columns'", "at least two", "got 1"]),
        (BASE.replace('"u"', "3"), ["'relation.rates.columns.user'", "a table", "3"]),
        (
            BASE.replace('"u"', '{ colum = "u" }'),
            ["'relation.rates.columns.user'", "'column' is missing", "Did you mean 'colum'?", '"user.colum" ='],
        ),
        (BASE.replace('"u"', '{ column = "u", bni = 1 }'), ["columns.user.bni'", "Did you mean 'bin'?"]),
        (BASE.replace('"u"', '{ column = "u", bin = 0 }'), ["columns.user.bin'", "above 0"]),
        (BASE.replace('"u"', '{ column = "u", bin = 1, separator = "," }'), ["columns.user.separator'", "'bin'"]),
        (BASE.replace("user =", "usr ="), ["'relation.rates.columns.usr'", "Did you mean 'user'?"]),
        (BASE.replace("user =", "zz ="), ["'relation.rates.columns.zz'", "[modality.zz]"]),
        (BASE.replace("user =", '"user:a" ='), ['columns."user:a"\'', "MODALITY.ROLE"]),
        (BASE + "[modality.tag]", ["'modality.tag'", "no 'file'"]),
        (BASE.replace("rates", "user"), ["'relation.user'", "same name"]),
        ("[modality.user]", ["no relation"]),
        ('[modality."a.b"]' + BASE, ["a.b", "no '.'"]),
        (REST + USER.replace("id =", "di ="), ["'modality.user.id'", "missing"]),
        (REST + '[modality.user]\nid = "id"', ["'modality.user.id'", "beside 'file'"]),
        (REST + '[modality.user]\nfiel = "u.csv"\nid = "id"', ["'modality.user.id'", "Did you mean 'fiel'?"]),
        (REST + USER + 'unknown = "ad"', ["'modality.user.unknown'", "Did you mean 'add'?"]),
        (REST + USER + 'features = { age = "nmeric" }', ["features.age'", "Did you mean 'numeric'?"]),
        (REST + USER + "features = { age = 3 }", ["features.age'", "a table"]),
        (REST + USER + 'features = { age = { kid = "text" } }', ["features.age.kind'", "missing"]),
        (REST + USER + 'features = { a = { kind = "text", max_feature = 3 } }', ["Did you mean 'max_features'?"]),
        (REST + USER + 'features = { a = { kind = "text", max_features = 0 } }', ["at least 1"]),
        (REST + USER + 'features = { a = { kind = "multi", separator = "" } }', ["separator'", "not be empty"]),
        (REST + USER + "graph = { knn = 3 }", ["'modality.user.graph'", "features"]),
        (REST + USER + "graph = { k = 3 }", ["[modality.user.graph]", "exactly one", "none"]),
        (REST + USER + 'graph = { knn = 3, file = "a" }', ["exactly one", "knn and file"]),
        (REST + USER + 'graph = { file = "a", source = "a" }', ["graph.target'", "missing"]),
        (REST + USER + 'graph = { cooccurrence = "rate" }', ["cooccurrence'", "Did you mean 'rates'?"]),
        (REST + USER + '[modality.tag]\nfile = "t"\nid = "i"\ngraph = { cooccurrence = "rates" }', ["no slot"]),
        ("a = = 3", ["no valid TOML", "line 1"]),
        (b"a = '\xff'", ["UTF-8"]),
    ],
)
def test_faults_name_the_key_and_the_way_out(tmp_path, text, expected):
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    for part in ["c.toml", *expected]:
        assert part in str(error.value)


def test_missing_config_file_proposes_another(tmp_path):
    (tmp_path / "films.toml").touch()
    with pytest.raises(InputError, match=r"filmz\.toml' not found\. Did you mean 'films\.toml'\?"):
        load_config(tmp_path / "filmz.toml")
