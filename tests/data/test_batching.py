from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.loader import DataLoader

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.batching import collate, separate

Same = Callable[[HeteroData, HeteroData], None]


class Listed(InMemoryDataset):
    """A data set of the graphs given."""

    def __init__(self, root: Path, graphs: Sequence[MultiModalHeteroData]) -> None:
        self.graphs = graphs
        super().__init__(str(root))
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self) -> list[str]:
        return ["data.pt"]

    def process(self) -> None:
        self.save(self.graphs, self.processed_paths[0])


def three() -> list[MultiModalHeteroData]:
    """A graph with users and films, one with tags besides, one of films and tags alone with the slots the other way."""
    first, second, third = (MultiModalHeteroData() for _ in range(3))
    first.add_modality("user", x=torch.ones(2, 3), item_id=["a", "b"]).add_modality("film", num_nodes=2)
    first.add_hyperedges("rates", torch.tensor([[0, 1], [1, 0]]), modalities=("user", "film"), value=[1.0, 2.0])
    second.add_modality("user", x=torch.zeros(1, 3), item_id=["c"]).add_modality("film", num_nodes=1)
    second.add_modality("tag", x=torch.eye(2), item_id=["s", "t"])
    second.add_hyperedges("rates", torch.tensor([[0], [0]]), modalities=("user", "film"), value=[3.0])
    second.add_hyperedges("marks", {"user": [[0], []], "tag": [[0, 1], [1]]}, weight=[1.0, 2.0])
    second["tag", "knn", "tag"].edge_index = torch.tensor([[0], [1]])
    third.add_modality("tag", x=torch.ones(1, 2), item_id=["u"]).add_modality("film", num_nodes=3)
    third.add_hyperedges("marks", {"tag": [0], "film": [2]}, weight=[5.0])
    return [first, second, third]


def test_missing_modalities(assert_same: Same) -> None:
    graphs = three()
    before = copy.deepcopy(graphs)
    batch = Batch.from_data_list(graphs)
    assert batch.validate()
    assert batch.modalities == ["user", "film", "tag"]
    assert batch["user"].num_nodes, batch["tag"].num_nodes == (3, 3)
    assert batch["tag"].batch.tolist() == [1, 1, 2]
    assert batch["tag"].ptr.tolist() == [0, 0, 2, 3]
    assert batch["marks"].weight.tolist() == [1.0, 2.0, 5.0]
    assert batch["user", "member", "marks"].edge_index.tolist() == [[2], [0]]
    assert batch["tag", "member", "marks"].edge_index.tolist() == [[0, 1, 1, 2], [0, 0, 1, 2]]
    assert batch["film", "member", "marks"].edge_index.tolist() == [[5], [2]]
    assert batch["tag"].item_id == [[], ["s", "t"], ["u"]]
    for graph, data, untouched in zip(batch.to_data_list(), graphs, before, strict=True):
        assert_same(graph, data)
        assert_same(data, untouched)
    assert_same(batch[1], graphs[1])
    assert_same(batch[[2, 0]][0], graphs[2])


def test_order_of_slots_comes_back(assert_same: Same) -> None:
    graphs = []
    for slots in (("a", "b"), ("b", "a")):
        data = MultiModalHeteroData().add_modality("a", num_nodes=2).add_modality("b", num_nodes=2)
        graphs.append(data.add_hyperedges("r", torch.tensor([[0], [1]]), modalities=slots))
    batch = Batch.from_data_list(graphs)
    assert batch.relation("r").index.tolist() == [[0, 3], [1, 2]]
    for graph, data in zip(batch.to_data_list(), graphs, strict=True):
        assert_same(graph, data)


def test_copies_of_a_batch_give_the_graphs_back(assert_same: Same) -> None:
    graphs = three()
    batch = Batch.from_data_list(graphs)
    file = io.BytesIO()
    torch.save(batch, file)
    file.seek(0)
    others = [batch.clone(), batch.to("cpu"), copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))]
    for other in (*others, torch.load(file, weights_only=True)):
        for graph, data in zip(other.to_data_list(), graphs, strict=True):
            assert_same(graph, data)


@pytest.mark.parametrize("workers", [0, 1])
def test_data_loader(assert_same: Same, workers: int) -> None:
    graphs = three()
    batches = list(DataLoader(graphs, batch_size=2, num_workers=workers))
    assert [batch.num_graphs for batch in batches] == [2, 1]
    for graph, data in zip([g for batch in batches for g in batch.to_data_list()], graphs, strict=True):
        assert_same(graph, data)


def test_in_memory_dataset(tmp_path: Path, assert_same: Same) -> None:
    graphs = three()
    empty = MultiModalHeteroData().add_modality("user", num_nodes=0)  # only a count in its store
    for number in range(2):  # processed, then read back
        dataset = Listed(tmp_path, [*graphs, empty])
        assert len(dataset) == 4, number
        for graph, data in zip(dataset, [*graphs, empty], strict=True):
            assert_same(graph, data)
    assert_same(dataset.copy([2, 0])[0], graphs[2])
    (single,) = Listed(tmp_path / "one", graphs[:1])
    assert_same(single, graphs[0])


def test_only_counts(tmp_path: Path, assert_same: Same) -> None:
    graphs = [MultiModalHeteroData().add_modality("a", num_nodes=n).add_hyperedges("r", {"a": []}) for n in (2, 0)]
    for graph, data in zip(Batch.from_data_list(graphs).to_data_list(), graphs, strict=True):
        assert_same(graph, data)
    for graph, data in zip(Listed(tmp_path, graphs), graphs, strict=True):
        assert_same(graph, data)


def test_batch_of_batches(assert_same: Same) -> None:
    graphs = three()
    inner = [Batch.from_data_list(graphs[:2]), Batch.from_data_list(graphs[2:])]
    outer = Batch.from_data_list(inner)
    assert outer["film"].batch.tolist() == [0, 0, 1, 2, 2, 2]
    assert outer["tag"].num_nodes == 3
    assert outer.num_graphs == 2


def test_an_attribute_that_some_lack() -> None:
    graphs = three()
    del graphs[1]["rates"]["value"]
    text = r"'value' of 'rates' is in graph 0, but not in graph 1.*exclude_keys=\['value'\]"
    with pytest.raises(ValueError, match=text):
        Batch.from_data_list(graphs)
    with pytest.raises(ValueError, match=r"'value' of 'rates' is in graph 1, but not in graph 0"):
        Batch.from_data_list(graphs[1::-1])
    batch = Batch.from_data_list(graphs, exclude_keys=["value"])
    assert "value" not in batch["rates"]
    assert "value" not in batch[0]["rates"]
    graphs = three()
    graphs[1].year = 2026
    with pytest.raises(ValueError, match="'year' is in graph 1, but not in graph 0"):
        Batch.from_data_list(graphs)
    graphs = three()
    graphs[0]["user", "member", "rates"].edge_weight = torch.ones(2)
    with pytest.raises(ValueError, match=r"'edge_weight' of \('user', 'member', 'rates'\) is in graph 0"):
        Batch.from_data_list(graphs)


def test_an_attribute_that_a_store_of_no_rows_lacks(assert_same: Same) -> None:
    graphs = three()
    graphs.append(MultiModalHeteroData().add_modality("user", num_nodes=0).add_modality("film", num_nodes=1))
    graphs[-1].add_hyperedges("rates", {"user": [], "film": []})
    for order in (graphs, graphs[::-1]):
        batch = Batch.from_data_list(order, follow_batch=["x"])
        assert batch["user"].x.shape == (3, 3)
        assert batch["rates"].value.numel() == 3
        for graph, data in zip(batch.to_data_list(), order, strict=True):
            assert_same(graph, data)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Sparse invariant checks")
def test_attributes_of_every_kind_in_a_store_that_some_lack(assert_same: Same) -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2)
    data["a"].update({"sparse": torch.eye(2).to_sparse(), "nested": {"p": torch.ones(2, 1)}, "flag": True})
    data["a"].update({"parts": [torch.ones(2), torch.ones(1, 2)], "scalar": torch.tensor(3.0), "text": "t", "k": 1.5})
    data["a", "to", "a"].edge_index = EdgeIndex(torch.tensor([[0, 1], [1, 0]]), sparse_size=(2, 2))
    other = MultiModalHeteroData().add_modality("b", num_nodes=1)
    for order in ([data, other], [other, data], [other, data, data]):
        batch = Batch.from_data_list(order)
        graphs = batch.to_data_list()
        assert_same(graphs[order.index(other)], other)
        graph = graphs[order.index(data)]
        assert graph["a"].nested["p"].tolist() == [[1.0], [1.0]]
        assert [part.shape for part in graph["a"].parts] == [(2,), (1, 2)]
        assert (graph["a"].text, graph["a"].flag.item(), graph["a"].k.item()) == ("t", True, 1.5)
        assert graph["a", "to", "a"].edge_index.tolist() == [[0, 1], [1, 0]]
        assert batch["a"].sparse.shape[0] == batch["a"].num_nodes


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("form", ["to_sparse", "to_sparse_csr"])
def test_sparse_features(tmp_path: Path, assert_same: Same, form: str) -> None:
    graphs = [MultiModalHeteroData() for _ in range(4)]
    for graph, size in zip(graphs, (2, 0, 3, None), strict=True):
        if size is not None:
            graph.add_modality("a", x=getattr(torch.eye(size, 4), form)(), label=torch.arange(size))
    for dataset in (Batch.from_data_list(graphs).to_data_list(), Listed(tmp_path, graphs)):
        for graph, data in zip(dataset, graphs, strict=True):
            assert_same(graph, data)


def test_a_store_taken_out_of_a_batch(assert_same: Same) -> None:
    graphs = three()
    batch = Batch.from_data_list(graphs).remove_hyperedges("marks").remove_modality("tag")
    for graph, data in zip(batch.to_data_list(), graphs, strict=True):
        if "marks" in data.node_types:
            data.remove_hyperedges("marks").remove_modality("tag")
        assert_same(graph, data)


def test_lists_of_other_types_go_to_pyg(assert_same: Same) -> None:
    batch = Batch.from_data_list([Data(x=torch.ones(2, 1)), Data(x=torch.ones(1, 1))])
    assert batch[1].x.shape == (1, 1)
    plain = HeteroData(a={"x": torch.ones(1, 1)})
    assert_same(Batch.from_data_list([plain, plain])[0], plain)
    mixed = [MultiModalHeteroData(a={"x": torch.ones(1, 1)}), plain]
    assert Batch.from_data_list(mixed)["a"].x.shape == (2, 1)
    assert collate(MultiModalHeteroData, iter(three()))[0]["tag"].num_nodes == 3
    with pytest.raises(IndexError):
        collate(Batch, [])


def test_a_count_that_nothing_tells() -> None:
    graphs = [MultiModalHeteroData(a={"y": torch.ones(1)}) for _ in range(2)]
    graphs[0]["a"].num_nodes = 1
    with pytest.raises(ValueError, match="'num_nodes' of 'a' is in graph 0, but not in graph 1"):
        Batch.from_data_list(graphs)
    for graph in graphs:
        graph["a"].x = torch.ones(1, 1)
    assert "num_nodes" not in Batch.from_data_list(graphs)[1]["a"]


@st.composite
def _graph(draw: st.DrawFn) -> MultiModalHeteroData:
    """Any subset of three modalities and two relations, in any order, of any size from zero on."""
    data = MultiModalHeteroData()
    names = draw(st.permutations("abc"))[: draw(st.integers(0, 3))]
    for name in names:
        size = draw(st.integers(0, 3))
        data.add_modality(name, x=torch.rand(size, 2), item_id=[f"{name}{i}" for i in range(size)])
        if draw(st.booleans()):
            count = draw(st.integers(0, 3)) if size else 0
            data[name, "knn", name].edge_index = torch.randint(max(size, 1), (2, count))
    for relation in draw(st.permutations("rs"))[: draw(st.integers(0, 2))]:
        slots: list[Any] = draw(st.lists(st.sampled_from(names), unique=True, min_size=1)) if names else []
        if not slots:
            continue
        slots[0] = (slots[0], "role") if draw(st.booleans()) else slots[0]
        count = draw(st.integers(0, 3))
        members = {}
        for slot in slots:
            size = data[slot if isinstance(slot, str) else slot[0]].num_nodes
            row = st.lists(st.integers(0, size - 1), max_size=3) if size else st.just([])
            members[slot] = draw(st.lists(row, min_size=count, max_size=count))
        weights = {slot: torch.rand(sum(map(len, rows))) for slot, rows in members.items()}
        data.add_hyperedges(relation, members, value=torch.rand(count), incidence_weight=weights)
    return data


def check_round_trip(graphs: list[MultiModalHeteroData], same: Same) -> None:
    batch = Batch.from_data_list(graphs)
    for relation in {name for data in graphs for name in data.hyperedge_types}:
        here = [data for data in graphs if relation in data.hyperedge_types]
        assert len(batch.relation(relation)) == sum(len(data.relation(relation)) for data in here)
    for name in {name for data in graphs for name in data.modalities}:
        counts = [data[name].num_nodes if name in data.node_types else 0 for data in graphs]
        assert batch[name].batch.bincount(minlength=len(graphs)).tolist() == counts
        at = [i for i, data in enumerate(graphs) if name in data.node_types]
        assert torch.equal(batch[name].x, torch.cat([graphs[i][name].x for i in at]))
    for graph, data in zip(batch.to_data_list(), graphs, strict=True):
        same(graph, data)


@settings(deadline=None, max_examples=25)
@given(graphs=st.lists(_graph(), min_size=1, max_size=4))
def test_round_trip_of_any_structure(graphs: list[MultiModalHeteroData]) -> None:
    check_round_trip(graphs, _same)


@pytest.mark.slow
@settings(deadline=None, max_examples=5000)
@given(graphs=st.lists(_graph(), min_size=1, max_size=5))
def test_round_trip_of_any_structure_at_length(graphs: list[MultiModalHeteroData]) -> None:
    check_round_trip(graphs, _same)


def _same(left: HeteroData, right: HeteroData) -> None:
    assert (left.node_types, left.edge_types) == (right.node_types, right.edge_types)
    for a, b in zip(left.stores, right.stores, strict=True):
        assert set(a) == set(b)
        for key in a:
            assert torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]


def test_slices_of_before(assert_same: Same) -> None:
    """Slices that PyG's own function made, as in a file written by an earlier version."""
    data = MultiModalHeteroData().add_modality("a", num_nodes=1).add_hyperedges("r", {"a": [0]})
    out, slices, _ = collate(MultiModalHeteroData, [data, data], increment=False, add_batch=False)
    assert "a" not in slices
    assert_same(separate(MultiModalHeteroData, out, 1, slices, decrement=False), data)


def _with(graph: int, store: Any, key: str, value: Any) -> list[MultiModalHeteroData]:
    graphs = three()
    graphs[graph][store][key] = value
    return graphs


@pytest.mark.parametrize(
    ("graph", "store", "key", "value", "text"),
    [
        (
            1,
            "user",
            "x",
            torch.ones(1, 2),
            r"same shape: 'x' of 'user' is \[2, 3\] in graph 0, but \[1, 2\] in graph 1",
        ),
        (1, "user", "x", torch.ones(1), r"'x' of 'user' is \[2, 3\] in graph 0, but \[1\] in graph 1"),
        (1, "user", "x", torch.tensor(1.0), r"'x' of 'user' is \[2, 3\] in graph 0, but \[\] in graph 1"),
        (2, "tag", "x", torch.ones(1, 5), r"'x' of 'tag' is \[2, 2\] in graph 1, but \[1, 5\] in graph 2"),
        (
            1,
            "user",
            "x",
            torch.ones(1, 3).double(),
            "same dtype: 'x' of 'user' is torch.float32 in graph 0, but torch.fl",
        ),
        (
            2,
            "marks",
            "weight",
            torch.ones(1).long(),
            "'weight' of 'marks' is torch.float32 in graph 1, but torch.int64",
        ),
    ],
)
def test_tensors_that_differ(graph: int, store: Any, key: str, value: Any, text: str) -> None:
    graphs = _with(graph, store, key, value)
    with pytest.raises(ValueError, match=rf"{text}.*exclude_keys=\['{key}'\]"):
        Batch.from_data_list(graphs)
    assert Batch.from_data_list(graphs, exclude_keys=[key]).num_graphs == 3


def test_an_attribute_of_the_graphs_that_differs() -> None:
    graphs = three()
    for graph, value in zip(graphs, (torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 3)), strict=True):
        graph.y = value
    with pytest.raises(ValueError, match=r"'y' is \[1, 2\] in graph 0, but \[1, 3\] in graph 2"):
        Batch.from_data_list(graphs)


def test_other_faults_of_pyg_stay() -> None:
    graphs = three()
    for graph, width in zip(graphs, (2, 3, 4), strict=True):
        graph.parts = {"p": torch.ones(1, width)}
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        Batch.from_data_list(graphs)
