"""Moving and copying: what PyG does with tensors, and lists of strings left as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.testing import onlyCUDA

from hyperlearn_pyg.data import MultiModalHeteroData

Same = Callable[..., None]


@pytest.mark.parametrize("step", ["clone", "contiguous", "cpu", "detach", "share_memory_"])
def test_copies_are_equal(town: MultiModalHeteroData, assert_same: Same, step: str) -> None:
    expected = town.clone()
    out = getattr(town, step)()
    assert_same(out, expected)
    assert out.validate()


def test_clone_shares_nothing(town: MultiModalHeteroData) -> None:
    other = town.clone()
    other["user"].item_id[0] = "changed"
    other["user"].x += 1
    assert town["user"].item_id[0] == "a"
    assert town["user"].x[0, 0] == 0
    batch = Batch.from_data_list([town, town])
    other = batch.clone()
    other["user"].item_id[0][0] = "changed"
    assert batch["user"].item_id[0][0] == "a"


def test_share_memory(town: MultiModalHeteroData) -> None:
    town.share_memory_()
    for store in town.stores:
        assert all(value.is_shared() for value in store.values() if isinstance(value, torch.Tensor))


def test_contiguous(town: MultiModalHeteroData) -> None:
    town["user"].x = torch.rand(2, 5).t()
    assert town.contiguous()["user"].x.is_contiguous()


def test_strings_are_left_alone(town: MultiModalHeteroData) -> None:
    town["user"].note = ["p"] * 5
    town.apply(lambda value: value * 2)
    assert town["user"].item_id == list("abcde")
    assert town["user"].note == ["pp"] * 5  # as in PyG: only the lists of strings with a meaning of ours
    town.apply(lambda value: value * 2, "item_id")
    assert town["user"].item_id == list("abcde")
    assert town["user"].x[1, 0] == 4
    seen: list[Any] = []
    town.apply_(seen.append, "item_id", "x")
    assert len(seen) == 2
    town.apply_(seen.append, "item_id")
    assert len(seen) == 2


def test_strings_are_not_tried_one_by_one() -> None:
    data = MultiModalHeteroData().add_modality("a", num_nodes=2, x=torch.ones(2, 1), item_id=["i", "j"])
    seen: list[Any] = []
    out = data.apply(lambda value: seen.append(value) or value)
    assert not [value for value in seen if isinstance(value, str)]
    assert out["a"].item_id == ["i", "j"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="what happens without an accelerator")
def test_without_an_accelerator(town: MultiModalHeteroData) -> None:
    with pytest.raises((RuntimeError, AssertionError)):
        town.cuda()
    with pytest.raises(RuntimeError):
        town.pin_memory()


class Stream:
    """Stands for a stream of an accelerator."""


def test_record_stream_reaches_every_tensor(town: MultiModalHeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: seen.append((tensor, stream)))
    stream: Any = Stream()
    assert town.record_stream(stream) is town
    count = sum(isinstance(value, torch.Tensor) for store in town.stores for value in store.values())
    assert len(seen) == count
    assert all(given is stream for _, given in seen)


def test_pin_memory_reaches_every_tensor(town: MultiModalHeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    before = town["user"].x
    assert torch.equal(town.pin_memory()["user"].x, before + 1)
    assert town["rates"].value.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("size", [0, 1])
def test_small(size: int, assert_same: Same) -> None:
    data = MultiModalHeteroData().add_modality("a", x=torch.ones(size, 1), item_id=["i"] * size)
    data.add_hyperedges("r", {"a": [0] * size})
    assert_same(data.clone().to("cpu").contiguous(), data)


@onlyCUDA
def test_on_an_accelerator(town: MultiModalHeteroData, assert_same: Same) -> None:
    there = town.clone().to("cuda")
    assert there["user"].x.is_cuda
    assert town.clone().pin_memory()["user"].x.is_pinned()
    there.record_stream(torch.cuda.current_stream())
    for step in (
        lambda data: data.subgraph({"user": [0, 1], "rates": [2, 0]}, hyperedges=2),
        lambda data: data.modality_subgraph(["film"], hyperedges="drop"),
        lambda data: data.hyperedge_subgraph({"rates": [0]}, remove_isolated=True),
        lambda data: data.largest_components(),
        lambda data: data.coalesce(),
        lambda data: Batch.from_data_list([data, data])[1],
    ):
        assert_same(step(there).cpu(), step(town))
    assert repr(there.describe()) == repr(town.describe())
    assert [repr(part) for part in there.connected_components()] == [repr(part) for part in town.connected_components()]
