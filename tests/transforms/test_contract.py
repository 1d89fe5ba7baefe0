"""What every transform keeps to, and which transforms of PyG work on the data object as they are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Batch

from hyperlearn_pyg import transforms
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import (
    AddMetaHyperedges,
    CliqueExpansion,
    CoOccurrenceGraph,
    HyperedgeDropout,
    KNNGraph,
    ModalityDropout,
    NormalizeFeatures,
    ProjectedHyperedges,
    RandomRelationSplit,
    ReciprocalRelations,
    StarExpansion,
)
from hyperlearn_pyg.transforms.check_leaks import _differences

Make = Callable[..., MultiModalHeteroData]

ALL = [
    AddMetaHyperedges("all"),
    AddMetaHyperedges("kmeans", num_clusters=2),
    CliqueExpansion(),
    CoOccurrenceGraph("r", "a", k=2),
    HyperedgeDropout(seed=0),
    HyperedgeDropout(drop="incidences", seed=0),
    KNNGraph(k=2),
    ModalityDropout(drop="both", seed=0),
    NormalizeFeatures(),
    ProjectedHyperedges("r", "a"),
    RandomRelationSplit(),
    RandomRelationSplit(by="item", modality="a"),
    ReciprocalRelations("pairs", "a"),
    StarExpansion("r"),
]


def everything(data: MultiModalHeteroData) -> dict[object, dict[str, object]]:
    return {
        key: dict(store) for key, store in zip(data.metadata()[0] + data.metadata()[1], data.stores[1:], strict=True)
    }


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_the_input_is_left_alone(make_data: Make, transform: T.BaseTransform) -> None:
    data = make_data((4, 3), 15, 0)
    before = copy.deepcopy(everything(data))
    out = transform(data)
    assert list(_differences(everything(data), before, "data")) == []
    again = pickle.loads(pickle.dumps(transform))(data)
    if "Dropout" not in repr(transform):  # these go on with their draws
        assert list(_differences(out, again, "again")) == []


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_batches(make_data: Make, transform: T.BaseTransform) -> None:
    batch = Batch.from_data_list([make_data((4, 3), 15, 0), make_data((1, 2), 1, 1), make_data((3, 3), 9, 2)])
    out = transform(batch)
    assert out.validate()
    if isinstance(transform, StarExpansion):
        return
    for edge_type in out.edge_types:  # nothing ties two graphs
        source, target = (out[end].get("batch") for end in (edge_type[0], edge_type[2]))
        if source is not None and target is not None:
            index = out[edge_type].edge_index
            assert torch.equal(source[index[0]], target[index[1]])
    if isinstance(transform, NormalizeFeatures) or transform is ALL[-4]:  # same rows, same attributes
        assert [graph["r"].num_nodes for graph in out.to_data_list()] == [15, 1, 9]
    else:  # rather than graphs without what was added
        with pytest.raises(RuntimeError, match="Cannot reconstruct"):
            out.to_data_list()
    assert len(batch.to_data_list()) == 3


def test_they_compose(make_data: Make) -> None:
    chain = T.Compose([t for t in ALL if not isinstance(t, StarExpansion)])
    assert chain(make_data((6, 5), 40, 0)).validate()


def test_all_are_exported() -> None:
    assert {type(t).__name__ for t in ALL} | {"check_leaks"} == set(transforms.__all__)
    for transform in ALL:
        assert repr(transform).startswith(f"{type(transform).__name__}(")


def test_transforms_of_pyg(make_data: Make) -> None:
    data = make_data((6, 5), 20, 0)
    data["a", "knows", "a"].edge_index = torch.tensor([[0, 1], [1, 2]])
    data["a"].y = torch.arange(6) % 2
    before = [str(data.relation(name)) for name in data.hyperedge_types]
    for transform in (
        T.ToUndirected(merge=True),
        T.AddSelfLoops(),
        T.RandomNodeSplit(num_val=1, num_test=1),
        T.NormalizeFeatures(),
        T.Constant(node_types="a"),
        T.ToDevice("cpu"),
    ):
        out = transform(copy.deepcopy(data))
        assert [str(out.relation(name)) for name in out.hyperedge_types] == before, transform
        assert out.modalities == data.modalities
        assert out.validate()
