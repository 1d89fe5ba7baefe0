from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training.run import Run, embedding_file, item_texts, save_embeddings, save_json, save_model


def data_of(slots: tuple = ("user", "film"), sizes: tuple[int, ...] = (5, 4), seed: int = 0) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    names = [s if isinstance(s, str) else s[0] for s in slots]
    for name, size in zip(names, sizes, strict=True):
        if name not in data.node_types:
            data.add_modality(name, num_nodes=size, item_id=[f"{name[0]}{i}" for i in range(size)])
    index = torch.stack([torch.randint(n, (20,), generator=generator) for n in sizes]).unique(dim=1)
    data.add_hyperedges("rates", index, modalities=slots, value=torch.rand(index.size(1), generator=generator))
    data.add_hyperedges("likes", index[:, ::2], modalities=slots)
    return data


def save(data: MultiModalHeteroData, out: Path, **config: object) -> tuple[HyperLearn, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = HyperLearn.from_data(data, 3, **config)
    model.start(data)
    model.eval()
    with torch.no_grad():
        factors = model(data)
    out.mkdir(exist_ok=True)
    save_embeddings(out / "embeddings", data, model, factors)
    save_model(out / "model.pt", model, factors)
    return model, factors


@pytest.mark.parametrize("decoder", ["cp", "cp_around_ones", "pairwise"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("slots", "sizes"),
    [
        (("user", "film"), (5, 4)),
        (("user", "film", "tag"), (5, 4, 3)),
        (("user", ("user", "to")), (5, 5)),
        (("user", "film"), (1, 1)),
    ],
)
def test_scores_as_the_model_does(tmp_path, decoder, bias, slots, sizes):
    data = data_of(slots, sizes)
    model, factors = save(data, tmp_path, decoder=decoder, bias=bias)
    run = Run.load(tmp_path)
    for name in ("rates", "likes"):
        index = data.relation(name).index
        with torch.no_grad():
            expected = model.decoders[name].predict(model.rows(name, factors), index)
        torch.testing.assert_close(run.score(name, index), expected)
        assert run.score(name, index[:, :0]).shape == (0,)
    assert run.ids["user"] == data["user"].item_id


def test_neighbours_within_a_modality_by_the_definition(tmp_path):
    _, factors = save(data_of(), tmp_path)
    table = factors["user"][:, :3].double()
    expected = torch.nn.functional.cosine_similarity(table[2], table, dim=1)
    found = Run.load(tmp_path).neighbors("user", 2, k=9)
    assert len(found) == 4
    assert 2 not in dict(found)
    assert [i for i, _ in found] == [i for i in expected.argsort(descending=True).tolist() if i != 2]
    assert [score for _, score in found] == pytest.approx([float(expected[i]) for i, _ in found], abs=1e-6)
    assert Run.load(tmp_path).neighbors("user", 2, k=1) == found[:1]


def test_neighbours_across_modalities_weigh_the_mean_of_the_rest(tmp_path):
    _, factors = save(data_of(("user", "film", "tag"), (5, 4, 3)), tmp_path, decoder="cp")
    user, film, tag = (factors[m][:, :3] for m in ("user", "film", "tag"))
    expected = film @ (user[1] * tag.mean(0))
    found = dict(Run.load(tmp_path).neighbors("user", 1, "film"))
    assert [found[i] for i in range(4)] == pytest.approx(expected.tolist(), abs=1e-5)


def test_no_neighbour_of_a_single_item(tmp_path):
    save(data_of(sizes=(1, 1)), tmp_path)
    assert Run.load(tmp_path).neighbors("user", 0) == []
    assert len(Run.load(tmp_path).neighbors("user", 0, "film")) == 1


def test_modalities_that_share_no_relation(tmp_path):
    data = data_of()
    data.add_modality("a", num_nodes=2)
    data.add_modality("b", num_nodes=2)
    data.add_hyperedges("other", torch.tensor([[0, 1], [0, 1]]), modalities=("a", "b"))
    save(data, tmp_path)
    with pytest.raises(InputError, match="no relation holds both 'user' and 'a'"):
        Run.load(tmp_path).neighbors("user", 0, "a")
    assert Run.load(tmp_path).ids["a"] == ["0", "1"]


def test_find(tmp_path):
    data = data_of()
    data["user"].item_name = ["Ann", "Anna", "Bob", "Bea", "Bea"]
    save(data, tmp_path)
    run = Run.load(tmp_path)
    assert [run.find("user", text) for text in ("u3", "ann", "ANNA", "bo")] == [3, 0, 1, 2]
    with pytest.raises(InputError, match=r"'bea' fits 2 items of 'user', such as u3 \(Bea\), u4 \(Bea\)"):
        run.find("user", "bea")


def change(out: Path, **values: object) -> None:
    torch.save({**torch.load(out / "model.pt", weights_only=True), **values}, out / "model.pt")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda out: (out / "model.pt").unlink(), "model.pt' is missing"),
        (lambda out: (out / "model.pt").write_bytes(b"x"), "model.pt' is damaged"),
        (lambda out: torch.save([1], out / "model.pt"), "is no model of hyperlearn_pyg"),
        (lambda out: change(out, format=99), "has format 99, expected 1"),
        (lambda out: change(out, decoders={}), "is that of another model"),
        (lambda out: change(out, config={"rnak": 3}), "is that of another model"),
        (lambda out: change(out, config={"rank": 0}), "is that of another model"),
        (lambda out: (out / "embeddings/user.parquet").unlink(), "user.parquet' is missing"),
        (lambda out: (out / "embeddings/user.parquet").write_bytes(b"x"), "user.parquet' is damaged"),
        (lambda out: pq.write_table(pa.table({"i": [1]}), out / "embeddings/user.parquet"), "has no column 'id'"),
        (
            lambda out: pq.write_table(pa.table({"id": ["1"]}), out / "embeddings/user.parquet"),
            "5 and 1 items of 'user'",
        ),
    ],
)
def test_faults_of_a_directory(tmp_path, fault, expected):
    save(data_of(), tmp_path)
    fault(tmp_path)
    with pytest.raises(InputError) as error:
        Run.load(tmp_path)
    assert expected in str(error.value)


def test_unknown_names(tmp_path):
    save(data_of(), tmp_path)
    run = Run.load(tmp_path)
    for call in (
        lambda: run.find("usr", "u0"),
        lambda: run.neighbors("usr", 0),
        lambda: run.neighbors("film", 0, "usr"),
    ):
        with pytest.raises(InputError, match=r"no modality 'usr' in this run\. Did you mean 'user'\?"):
            call()


def test_embedding_files_of_any_name(tmp_path):
    assert embedding_file("a/b") == "a%2Fb.parquet"
    assert embedding_file("two words") == "two words.parquet"
    data = data_of(("a/b", "é"), (2, 3))
    save(data, tmp_path)
    assert Run.load(tmp_path).ids.keys() == {"a/b", "é"}


def test_texts_of_items():
    data = data_of()
    data["user"].item_label = [1, 2.5, None, "a", "b"]
    assert item_texts(data, "user", "item_label") == ["1", "2.5", "None", "a", "b"]
    assert item_texts(data, "film", "item_name") == ["0", "1", "2", "3"]


def test_json_holds_no_nan(tmp_path):
    save_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, (float("inf"), None, "x", True)], "c": {}})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": None, "b": [1.5, [None, None, "x", True]], "c": {}}
