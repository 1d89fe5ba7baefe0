from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import from_hif, to_hif
from hyperlearn_pyg.errors import InputError

# The schema of the standard, version 0.1.0, as it concerns the names and types of fields.
IDS = (str, int)
FIELDS: dict[str, dict[str, Any]] = {
    "incidences": {"edge": IDS, "node": IDS, "weight": (int, float), "direction": str, "attrs": dict},
    "nodes": {"node": IDS, "weight": (int, float), "attrs": dict},
    "edges": {"edge": IDS, "weight": (int, float), "attrs": dict},
}


def assert_standard(content: dict[str, Any]) -> None:
    assert set(content) <= {"network-type", "metadata", *FIELDS}
    assert content["network-type"] in ("undirected", "directed", "asc")
    assert isinstance(content["metadata"], dict)
    for name, fields in FIELDS.items():
        for record in content[name]:
            assert set(record) <= set(fields)
            assert all(isinstance(value, fields[key]) for key, value in record.items())
    for name, key in (("nodes", "node"), ("edges", "edge")):
        assert len({record[key] for record in content[name]}) == len(content[name])


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps({"incidences": [], **content}), encoding="utf-8")
    return path


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data(), suffix=st.sampled_from([".json", ".json.gz"]))
def test_round_trip(arbitrary: Any, same: Any, tmp_path: Path, draw: st.DataObject, suffix: str) -> None:
    data = draw.draw(arbitrary())
    path = tmp_path / f"data{suffix}"
    to_hif(data, path)
    packed = path.read_bytes()
    assert_standard(json.loads(gzip.decompress(packed) if suffix.endswith("gz") else packed))
    same(from_hif(path), data)


def test_all_kinds_of_attributes_go_round(small: MultiModalHeteroData, same: Any, tmp_path: Path) -> None:
    small["user"].y = torch.tensor([1, 2, 3, 4])
    small["user"].mask = torch.tensor([True, False, True, True])
    small["user"].cube = torch.rand(4, 2, 3, dtype=torch.float64)
    small["user"].half = torch.rand(4).bfloat16()
    small["user"].weight = torch.rand(4)
    small["film"].note = ["a", "ü", "\n"]
    small["rates"].hyperedge_id = ["one", "two", "three"]
    small["rates"].scale = 2.5
    small["rates"].odd = torch.rand(2, 2)
    small.name = "a graph"
    small.table = torch.tensor([[1, 2]])
    small["user", "knn", "user"].kind = ["x", "y"]
    to_hif(small, tmp_path / "data.json")
    same(from_hif(tmp_path / "data.json"), small)
    content = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))
    assert content["nodes"][0]["node"] == "user/a"
    assert content["nodes"][0]["attrs"]["item_name"] == "A"
    assert content["edges"][0]["edge"] == "rates/one"
    assert content["incidences"][11]["weight"] == 0.25


def test_some_relations(small: MultiModalHeteroData, tmp_path: Path) -> None:
    to_hif(small, tmp_path / "data.json", relations=["visits"])
    data = from_hif(tmp_path / "data.json")
    assert data.hyperedge_types == ["visits"]
    assert data.intra_edge_types("user") == []
    assert data["user"].item_id == list("abcd")


def test_foreign_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        metadata={"name": "toy"},
        nodes=[
            {"node": "p", "attrs": {"age": 3, "x": [1, 2], "city": "A", "num_nodes": 5}},
            {"node": 7, "attrs": {"age": 4, "x": [0.5, 1], "num_nodes": 5}},
            {"node": "alone", "attrs": {"age": 5, "x": [0, 0], "num_nodes": 5}},
        ],
        edges=[{"edge": "e2", "weight": 2, "attrs": {"time": "noon"}}, {"edge": "empty"}],
        incidences=[
            {"edge": "e2", "node": "p", "weight": 0.5},
            {"edge": "e1", "node": "p"},
            {"edge": "e1", "node": "q"},
            {"edge": "e1", "node": 7},
        ],
    )
    with pytest.raises(KeyError):  # nodes that stand in incidences alone have no attributes
        _ = from_hif(path)["node"]["nothing"]
    data = from_hif(path)
    assert data.modalities == ["node"]
    assert data.hyperedge_types == ["hyperedge"]
    assert data["node"].item_id == ["p", "7", "alone", "q"]
    assert data["node"].age == [3, 4, 5, None]
    assert data["node"].city == ["A", None, None, None]
    assert data["node"].attr_num_nodes == [5, 5, 5, None]
    assert data["hyperedge"].hyperedge_id == ["e2", "empty", "e1"]
    assert data["hyperedge"].attr_time == ["noon", None, None]
    assert data["hyperedge"].weight.tolist() == [2, 1, 1]
    assert data["node", "member", "hyperedge"].edge_weight.tolist() == [0.5, 1, 1, 1]
    assert data.relation("hyperedge").incidence(0).tolist() == [[0, 0, 3, 1], [0, 2, 2, 2]]
    assert data.hif_metadata == {"name": "toy"}
    to_hif(data, tmp_path / "b.json")
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["metadata"]["name"] == "toy"
    assert [record["node"] for record in again["nodes"]] == ["p", "7", "alone", "q"]
    assert from_hif(tmp_path / "b.json")["node"].age == [3, 4, 5, None]


def test_foreign_modalities_and_types(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        nodes=[{"node": i, "attrs": {"kind": "ab"[i % 2], "on": True, "p": [0.5, 1]}} for i in range(4)],
        edges=[{"edge": 0, "attrs": {"count": 3}}, {"edge": 1, "attrs": {"count": 2**70}}],
        incidences=[{"edge": 0, "node": 0}, {"edge": 0, "node": 1}],
    )
    data = from_hif(path, modality="kind")
    assert data.modalities == ["a", "b"]
    assert data["a"].num_nodes == 2
    assert data["a"].on.dtype == torch.bool
    assert data["a"].p.tolist() == [[0.5, 1], [0.5, 1]]
    assert data["a"].item_id == ["0", "2"]
    assert data["hyperedge"]["count"] == [3, 2**70]
    assert "hyperedge_id" not in data["hyperedge"]
    assert data.relation("hyperedge").index.shape if data.relation("hyperedge").is_uniform else True


def test_directed_and_simplicial(tmp_path: Path, same: Any) -> None:
    rows = [{"edge": 0, "node": 0, "direction": "tail"}, {"edge": 0, "node": 1, "direction": "head"}]
    path = write(tmp_path / "a.json", **{"network-type": "directed", "incidences": rows})
    data = from_hif(path)
    assert data.relation("hyperedge").roles == ("tail", "head")
    assert data.relation("hyperedge").index.tolist() == [[0], [1]]
    assert "item_id" not in data["node"]
    to_hif(data, path)
    content = json.loads(path.read_text())
    assert (content["network-type"], content["incidences"]) == ("directed", rows)
    same(from_hif(path), data)
    path = write(tmp_path / "b.json", **{"network-type": "asc", "incidences": [{"edge": 0, "node": 0}]})
    assert from_hif(path).relation("hyperedge").index.tolist() == [[0]]


def test_size_zero(tmp_path: Path, same: Any) -> None:
    data = from_hif(write(tmp_path / "a.json"))
    assert data["node"].num_nodes == 0
    assert from_hif(write(tmp_path / "a.json", edges=[{"edge": "e"}])).relation("hyperedge").num_hyperedges == 1
    empty = MultiModalHeteroData().add_modality("user", num_nodes=0).add_hyperedges("r", {"user": []})
    to_hif(empty, tmp_path / "b.json")
    same(from_hif(tmp_path / "b.json"), empty)


ONE = {"edge": 0, "node": 0}
HEADER: dict[str, Any] = {"version": 1, "modalities": {}, "attributes": {}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"node": []}, r"the file: unknown field 'node' \(fields: .*\)\. Did you mean 'nodes'"),
        ({"network-type": "tree"}, "network-type: expected one of undirected, directed, asc, got 'tree'"),
        ({"metadata": []}, "metadata: expected an object, got list"),
        ({"nodes": {}}, "nodes: expected an array, got dict"),
        ({"nodes": [3]}, r"nodes\[0\]: expected an object, got int"),
        ({"incidences": [ONE, {"edge": 0}]}, r"incidences\[1\]: 'node' is missing"),
        ({"incidences": [{**ONE, "node": 1.5}]}, r"incidences\[0\]\.node: expected a string or an integer, got 1\.5"),
        ({"incidences": [{**ONE, "edge": True}]}, r"incidences\[0\]\.edge: expected a string or an integer, got True"),
        ({"incidences": [{**ONE, "weight": "x"}]}, r"incidences\[0\]\.weight: expected a number, got 'x'"),
        ({"incidences": [{**ONE, "attr": {}}]}, r"unknown field 'attr' .* Did you mean 'attrs'"),
        ({"incidences": [{**ONE, "attrs": 1}]}, r"incidences\[0\]\.attrs: expected an object, got int"),
        ({"incidences": [{**ONE, "direction": "up"}]}, r"\.direction: expected 'head' or 'tail', got 'up'"),
        ({"network-type": "directed", "incidences": [ONE]}, r"incidences\[0\]: 'direction' is missing"),
        ({"incidences": [{**ONE, "attrs": {"role": ""}}]}, r"attrs\.role: expected a string that is not empty"),
        ({"nodes": [{"node": 1}, {"node": 1}]}, r"nodes\[1\]: node 1 stands at nodes\[0\] already"),
        ({"nodes": [{"node": 1, "attrs": {"modality": 3}}]}, r"nodes\[0\]: attribute 'modality' must be a string"),
        ({"nodes": [{"node": 1}, {"node": "1"}]}, r"must differ: 1 \(int\) and '1' \(str\) are one and the same"),
        ({"metadata": {"hyperlearn_pyg": {"version": 9}}}, "is of version 9, expected 1"),
        ({"metadata": {"hyperlearn_pyg": {"version": 1, "modalities": 3}}}, "must have an object 'modalities'"),
        (
            {
                "metadata": {
                    "hyperlearn_pyg": {
                        "version": 1,
                        "modalities": {},
                        "attributes": {},
                        "relations": {"r": {"slots": 3}},
                    }
                }
            },
            r"metadata\.hyperlearn_pyg: damaged \(TypeError",
        ),
    ],
)
def test_bad_content(tmp_path: Path, content: dict[str, Any], text: str) -> None:
    path = write(tmp_path / "bad.json", **content)
    with pytest.raises(InputError, match=rf"bad\.json'.*{text}"):
        from_hif(path)


def test_bad_files(tmp_path: Path, small: MultiModalHeteroData) -> None:
    path = tmp_path / "bad.json"
    for content, text in (
        (b'{"incidences": [\n{"edge": 1,]}', r"bad\.json', line 2, column 12: no valid JSON"),
        (b'{"incidences": [NaN]}', "NaN is no number"),
        (b"[]", "expected a JSON object with 'incidences'"),
        (b"{}", "'incidences' is missing"),
        (b'{"\xff": 1}', "byte 2: no UTF-8 text"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=text):
            from_hif(path)
    to_hif(small, tmp_path / "good.json.gz")
    whole = (tmp_path / "good.json.gz").read_bytes()
    for part in (whole[:200], b"no gzip"):
        (tmp_path / "bad.json.gz").write_bytes(part)
        with pytest.raises(InputError, match="is no intact gzip file"):
            from_hif(tmp_path / "bad.json.gz")


def test_a_header_that_no_longer_fits(tmp_path: Path, small: MultiModalHeteroData, same: Any) -> None:
    to_hif(small, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    content["edges"][1]["attrs"]["value"] = "high"
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"a\.json'.* disagree.*'value' of 'rates' must hold entries of type float32"):
        from_hif(tmp_path / "a.json")
    del content["edges"][1]["attrs"]["value"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="'value' of 'rates' is missing at position 1"):
        data = from_hif(tmp_path / "a.json")
    assert data["rates"].attr_value == [1.0, None, 3.0]
    assert "hif_metadata" not in data
    same(from_hif(tmp_path / "a.json", ignore_header=True), data)
    content["metadata"] = {}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert from_hif(tmp_path / "a.json")["rates"].attr_value == [1.0, None, 3.0]


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("weight", "0 of 3 incidences of slot 'film' of 'visits' have a weight, expected 3"),
        ("twice", "'visits' has 3 incidences with nodes of 'user', expected 4"),
        ("attrs", "the incidences of 'follows' have the slot 'user', which the header lacks"),
    ],
)
def test_a_header_that_another_package_keeps(tmp_path: Path, small: MultiModalHeteroData, lost: str, text: str) -> None:
    """As xgi writes: the metadata are there, weights and roles are not."""
    to_hif(small, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    for record in content["incidences"]:
        record.pop(lost, None)
    if lost == "twice":  # as a set of nodes
        content["incidences"] = [r for i, r in enumerate(content["incidences"]) if r not in content["incidences"][:i]]
    write(tmp_path / "a.json", **content)
    with pytest.warns(UserWarning, match=f"disagree.*{text}") as found:
        data = from_hif(tmp_path / "a.json")
    assert found[0].filename == __file__
    assert data.relation("rates").modalities == ("user", "film")
    assert data["rates"].value.tolist() == [1, 2, 3]
    assert data.relation("user knn user").num_hyperedges == 2
    to_hif(data, tmp_path / "b.json")
    assert from_hif(tmp_path / "b.json").edge_types == data.edge_types


def test_a_missing_node_is_named(tmp_path: Path, small: MultiModalHeteroData) -> None:
    to_hif(small, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    for kind, place in (("node", 0), ("edge", 0)):
        part = {**content, f"{kind}s": content[f"{kind}s"][place + 1 :]}
        path, name = write(tmp_path / "b.json", **part), content[f"{kind}s"][place][kind]
        with pytest.raises(InputError, match=rf"incidences\[0\]: {kind} '{name}' is missing in '{kind}s'.*damaged"):
            from_hif(path)
        assert from_hif(path, ignore_header=True).relation("rates").num_hyperedges == 3 - (kind == "edge")


def test_relations_are_a_list(tmp_path: Path, small: MultiModalHeteroData) -> None:
    with pytest.raises(ValueError, match=r"'relations' must be a list of names \(got 'rates'\): write \['rates'\]"):
        to_hif(small, tmp_path / "a.json", relations="rates")


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, small: MultiModalHeteroData) -> None:
    for change, text in (
        (
            lambda data: data["user"].update(y=torch.tensor([1, 2, 3, torch.nan])),
            r"nodes\[3\] cannot be written as JSON",
        ),
        (lambda data: data["user"].update(modality=list("abcd")), "attribute 'modality' of 'user' is called as one"),
        (lambda data: data["user"].update(thing=object()), "'thing' of 'user' has no form of plain values"),
        (lambda data: data["user"].update(x=small["user"].x.to_sparse_coo()), "'x' of 'user' has no form"),
    ):
        data = small.clone()
        change(data)
        with pytest.raises(ValueError, match=text):
            to_hif(data, tmp_path / "a.json")
    data = small.clone()
    data["rates", "rev_member", "user"].edge_index = torch.zeros(2, 1).long()
    with pytest.raises(ValueError, match="ends in the hyperedge set 'rates'"):
        to_hif(data, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_names_that_collide_go_round(tmp_path: Path, same: Any) -> None:
    data = MultiModalHeteroData().add_modality("a", item_id=["b/c", "a/b"]).add_modality("a/b", item_id=["c"])
    data.add_hyperedges("r", {"a": [0, 1], "a/b": [0, 0]})
    data.add_hyperedges("a r a", {"a": [0]})
    data["a", "r", "a"].edge_index = torch.tensor([[0], [1]])
    to_hif(data, tmp_path / "a.json")
    same(from_hif(tmp_path / "a.json"), data)


def test_other_packages_read_it_and_are_read(tmp_path: Path, small: MultiModalHeteroData) -> None:
    xgi = pytest.importorskip("xgi")
    to_hif(small, tmp_path / "ours.json")
    theirs = xgi.read_hif(tmp_path / "ours.json")
    assert theirs.num_nodes == 7
    assert theirs.num_edges == 10
    assert theirs.edges.members("visits/0") == {"user/a", "user/b", "user/c", "film/y"}
    assert theirs.nodes["user/a"]["item_name"] == "A"
    xgi.write_hif(theirs, tmp_path / "again.json")
    with pytest.warns(UserWarning, match="disagree"):
        again = from_hif(tmp_path / "again.json")
    assert sorted(again["rates"].value.tolist()) == [1, 2, 3]
    xgi.write_hif(xgi.Hypergraph({"e": [1, 2], "f": [2, 3, 4]}), tmp_path / "theirs.json.gz")
    data = from_hif(tmp_path / "theirs.json.gz")
    assert data["node"].num_nodes == 4
    assert sorted(data["hyperedge"].hyperedge_id) == ["e", "f"]
