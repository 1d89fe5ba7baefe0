from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperlearn_pyg.data._guess import singular
from hyperlearn_pyg.data.init_config import draft_config, write_config
from hyperlearn_pyg.data.table_config import load_config
from hyperlearn_pyg.data.tables import read_tables
from hyperlearn_pyg.errors import InputError


def files(tmp_path: Path, **texts: str) -> list[Path]:
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / (name.replace("__", ".") if "__" in name else f"{name}.csv"))
        paths[-1].write_text(text)
    return paths


def drafted(tmp_path: Path, **texts: str):
    out = tmp_path / "config.toml"
    out.unlink(missing_ok=True)
    write_config(files(tmp_path, **texts), out)
    return load_config(out), read_tables(out)


USERS = "user_id,full_name,occupation,age,joined,photo\n" + "".join(
    f"{i},Ann {i},{'clerk' if i % 2 else 'artist'},{20 + i},2020-01-{i:02d},http://a/{i}\n" for i in range(1, 21)
)
MOVIES = "id,title,genres,year\n" + "".join(
    f"m{i},The fine film {i * 37},{'Drama|Crime' if i % 2 else 'Drama|Comedy'},{1980 + i % 7}\n" for i in range(12)
)
RATINGS = "userId,movie_id,rating,timestamp,note\n" + "".join(
    f"{1 + i % 20},m{i % 12},{1 + i % 5},{10**9 + i},n{i}\n" for i in range(60)
)


def test_users_films_ratings(tmp_path):
    config, tables = drafted(tmp_path, users=USERS, movies=MOVIES, ratings=RATINGS)
    user, movie = config.modalities["user"], config.modalities["movie"]
    assert (user.id, user.name, user.label) == ("user_id", "full_name", "occupation")
    assert {f.column: f.kind for f in user.features} == {"age": "numeric"}  # the label is no feature
    assert '# occupation = "categorical"  # left out: the label' in (tmp_path / "config.toml").read_text()
    assert (movie.id, movie.name) == ("id", "title")
    assert {f.column: f.kind for f in movie.features} == {"title": "text", "genres": "multi", "year": "numeric"}
    rating = config.relations["rating"]
    assert {slot.slot[0]: slot.column for slot in rating.slots} == {"user": "userId", "movie": "movie_id"}
    assert (rating.value, rating.time, rating.missing) == ("rating", "timestamp", "error")
    assert len(tables.data.relation("rating")) == 60
    assert tables.notes == []


def test_a_label_may_be_all_that_there_is(tmp_path):
    users = "user_id,gender\n" + "".join(f"{i},{'fm'[i % 2]}\n" for i in range(1, 21))
    config, tables = drafted(tmp_path, users=users, ratings=RATINGS)
    assert (config.modalities["user"].label, config.modalities["user"].features) == ("gender", ())
    assert set(tables.data["user"].item_label) == {"f", "m"}


def test_every_line_of_a_draft_is_config_or_comment(tmp_path):
    text = draft_config(files(tmp_path, users=USERS, movies=MOVIES, ratings=RATINGS), base=tmp_path)
    assert text.startswith("# Config of 'hyperlearn fit'")
    assert "# not used: note" in text
    assert '# photo = "categorical"  # left out: 20 distinct' in text
    assert 'file = "users.csv"' in text
    assert text.count("#") > 25


def test_file_names_are_relative_to_the_config(tmp_path):
    (tmp_path / "sub").mkdir()
    paths = files(tmp_path, ratings=RATINGS)
    write_config(paths, tmp_path / "sub" / "c.toml")
    assert load_config(tmp_path / "sub" / "c.toml").relations["rating"].table.files == ("../ratings.csv",)


def test_relation_alone_gets_modalities_without_files(tmp_path):
    config, tables = drafted(tmp_path, ratings=RATINGS)
    assert list(config.modalities) == ["user", "movie"]
    assert tables.data["movie"].num_nodes == 12


def test_serial_numbers_of_tuples_are_no_modality(tmp_path):
    lines = RATINGS.splitlines()
    text = "\n".join(["rating_id," + lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:]))])
    config, _ = drafted(tmp_path, users=USERS, movies=MOVIES, ratings=text)
    assert list(config.modalities) == ["user", "movie"]


def test_items_that_name_other_items_are_a_relation_too(tmp_path):
    works = "acno;artist_ids;movement_id;year\n" + "".join(
        f"A{i};{i % 3}{' 7' if i % 4 == 0 else ''};{i % 2 or ''};{'no date' if i == 0 else 1900 + i}\n"
        for i in range(30)
    )
    artists = "id,name\n0,Al\n1,Bo\n2,Cy\n7,Di\n"
    config, tables = drafted(tmp_path, works=works, artists=artists)
    assert list(config.modalities) == ["work", "artist", "movement"]
    assert config.modalities["work"].table.separator == ";"
    assert {r: [s.slot[0] for s in c.slots] for r, c in config.relations.items()} == {
        "work_movement": ["work", "movement"],
        "work_artist": ["work", "artist"],
    }
    assert config.relations["work_artist"].slots[1].separator == " "
    assert config.relations["work_movement"].missing == "drop"
    assert len(tables.data.relation("work_artist")) == 38
    assert '# year = "numeric"  # left out: "no date"' in (tmp_path / "config.toml").read_text()


def test_friends_are_a_graph(tmp_path):
    friends = "userID,friendID,weight\n1,2,3\n1,3,1\n2,3,1\n"
    config, tables = drafted(tmp_path, users=USERS, ratings=RATINGS, friends=friends)
    assert config.modalities["user"].graph.columns == ("userID", "friendID", "weight")
    assert tables.data["user", "linked", "user"].edge_index.shape == (2, 6)


def test_split_column_latin_1_unknown_ids_and_odd_names(tmp_path):
    (tmp_path / "people.tsv").write_bytes('person id\tf"l.a\xe9\tk".\xe9\n1\tx\t3\n2\ty\t4\n'.encode("latin-1"))
    texts = "person id,thing_id,split,rating\n1,a,train,good\n3,b,test,bad\n1,c,val,bad\n"
    out = tmp_path / "c.toml"
    write_config([tmp_path / "people.tsv", *files(tmp_path, buys=texts)], out)
    config = load_config(out)
    assert config.modalities["people"].table.encoding == "latin-1"
    assert config.modalities["people"].unknown == "add"
    assert config.modalities["people"].label == 'f"l.a\xe9'
    assert [f.column for f in config.modalities["people"].features] == ['k".\xe9']
    buy = config.relations["buy"]
    assert (buy.split, buy.value) == ("split", None)
    assert read_tables(out).data["people"].item_id == ["1", "2", "3"]


def test_parquet(tmp_path):
    paths = files(tmp_path, users=USERS, ratings=RATINGS)
    pd.read_csv(paths[1]).to_parquet(tmp_path / "ratings.parquet")
    write_config([paths[0], tmp_path / "ratings.parquet"], tmp_path / "c.toml")
    assert len(read_tables(tmp_path / "c.toml").data.relation("rating")) == 60


@pytest.mark.parametrize(
    ("plural", "single"),
    [("users", "user"), ("movies", "movie"), ("categories", "category"), ("classes", "class"), ("bus", "bus")],
)
def test_singular(plural, single):
    assert singular(plural) == single


def test_faults_write_nothing(tmp_path):
    out = tmp_path / "c.toml"
    with pytest.raises(InputError, match="no files given"):
        write_config([], out)
    with pytest.raises(InputError, match=r"nothing\.csv' not found"):
        write_config([tmp_path / "nothing.csv"], out)
    with pytest.raises(InputError, match=r"no file has two columns of ids.*users\.csv': user_id, full_name"):
        write_config(files(tmp_path, users=USERS), out)
    twins = files(tmp_path, user="id\n1\n", users__tsv="id\n1\n", ratings=RATINGS)
    with pytest.raises(InputError, match="all taken for items of a modality 'user'"):
        write_config(twins, out)
    with pytest.raises(InputError, match="there is no folder"):
        write_config(twins, tmp_path / "sub" / "c.toml")
    assert not list(tmp_path.glob("*.toml"))
    out.write_text("mine")
    with pytest.raises(InputError, match=r"c\.toml' exists already"):
        write_config(files(tmp_path, ratings=RATINGS), out)
    assert out.read_text() == "mine"


@given(content=st.binary(max_size=80) | st.text("ab,;\t\r\n\"'\x00\ufeff1.\xe9", max_size=60).map(lambda s: s.encode()))
@example(content=b"PK\x03\x04\r\x00a\xff\n")
@example(content=b"a,b\n" + b"x" * 200_000 + b"\xff,1\n")
def test_any_file_is_drafted_or_refused_by_name(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "books.csv")
        file.write_bytes(content)
        try:
            write_config([file], Path(folder, "books.toml"))
        except InputError as error:
            assert str(file) in str(error) or "no relation" in str(error)  # noqa: PT017 - either may come
