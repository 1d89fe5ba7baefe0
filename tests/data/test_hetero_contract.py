"""What PyG does with a HeteroData it must do with ours: the same steps on both, store by store."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def build(cls: type[HeteroData]) -> HeteroData:
    generator = torch.Generator().manual_seed(0)
    data = cls(paper={"x": torch.rand(10, 4, generator=generator)}, author={"num_nodes": 5})
    data["paper"].y = torch.arange(10)
    data["author"].x = torch.rand(5, 4, generator=generator)
    data["paper", "cites", "paper"].edge_index = torch.randint(10, (2, 20), generator=generator)
    data["paper", "cites", "paper"].edge_attr = torch.rand(20, 3, generator=generator)
    data["author", "writes", "paper"].edge_index = torch.randint(5, (2, 15), generator=generator)
    data.year = 2019
    return data


def plain(value: Any) -> Any:
    """Anything as nested lists and dictionaries that can be compared."""
    if isinstance(value, Tensor):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


STEPS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "metadata": lambda data: data.metadata(),
    "counts": lambda data: [data.num_nodes, data.num_edges, data.num_node_features, len(data), data.keys()],
    "collect": lambda data: data.x_dict,
    "namedtuple": lambda data: [sorted(data.to_namedtuple()._fields), data.to_namedtuple().year],
    "homogeneous": lambda data: data.to_homogeneous(),
    "and back": lambda data: data.to_homogeneous().to_heterogeneous(),
    "subgraph": lambda data: data.subgraph({"paper": torch.tensor([7, 0, 3]), "author": torch.arange(5) < 2}),
    "edge_subgraph": lambda data: data.edge_subgraph({("paper", "cites", "paper"): torch.arange(4)}),
    "node types": lambda data: data.node_type_subgraph(["paper"]),
    "edge types": lambda data: data.edge_type_subgraph([("author", "writes", "paper")]),
    "components": lambda data: data.connected_components(),
    "rename": lambda data: data.rename("paper", "article"),
    "ids": lambda data: data.generate_ids(),
    "update": lambda data: data.update(HeteroData(paper={"z": torch.ones(10)}, author={"x": torch.ones(5)})),
    "filter": lambda data: data.apply(lambda x: x * 2, "x"),
    "tensor attributes": lambda data: [(a.group_name, a.attr_name) for a in data.get_all_tensor_attrs()],
    "edge attributes": lambda data: [a.edge_type for a in data.get_all_edge_attrs()],
    "isolated": lambda data: [data.has_isolated_nodes(), data.has_self_loops(), data.is_undirected()],
    "undirected": T.ToUndirected(),
    "self loops": T.AddSelfLoops(),
    "normalised": T.NormalizeFeatures(),
    "batch": lambda data: Batch.from_data_list([data, data]),
    "and examples": lambda data: Batch.from_data_list([data, data]).to_data_list(),
    "valid": lambda data: data.validate(),
}


@pytest.mark.parametrize("step", STEPS)
def test_same_as_hetero_data(step: str) -> None:
    ours, theirs = (STEPS[step](build(cls)) for cls in (MultiModalHeteroData, HeteroData))
    assert repr(plain(ours)) == repr(plain(theirs))  # by text: padding is NaN
    if isinstance(theirs, HeteroData) and not isinstance(theirs, Batch):
        assert type(ours) is (
            MultiModalHeteroData if type(theirs) is HeteroData and step != "and back" else type(theirs)
        )


def test_same_repr() -> None:
    ours, theirs = (repr(build(cls)) for cls in (MultiModalHeteroData, HeteroData))
    assert ours == theirs.replace("HeteroData", "MultiModalHeteroData")


def test_same_faults() -> None:
    for cls in (MultiModalHeteroData, HeteroData):
        data = cls()
        data["src", "to", "dst"].edge_index = torch.zeros(2, 3, dtype=torch.long)
        with pytest.raises(ValueError, match="do not exist as node types"):
            data.validate()
        data = cls()
        data["node"].num_nodes = 10
        with pytest.warns(UserWarning, match="{'node'} are isolated"):
            data.validate()
        with pytest.raises(AttributeError, match="already present as a node type"):
            data.node = 1
