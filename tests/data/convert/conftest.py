from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from hyperlearn_pyg.data import MultiModalHeteroData


def small() -> MultiModalHeteroData:
    """An isolated item, an empty hyperedge, an empty relation, roles, an item twice in a hyperedge, a graph."""
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.arange(8.0).view(4, 2), item_id=list("abcd"), item_name=["A", "B", "C", "D"])
    data.add_modality("film", num_nodes=3, item_id=["x", "y", "z"], item_label=["u", "v", "u"])
    data.add_hyperedges(
        "rates",
        torch.tensor([[0, 0, 1], [0, 2, 2]]),
        modalities=("user", "film"),
        value=[1.0, 2.0, 3.0],
        time=torch.tensor([30, 10, 20]),
        train_mask=torch.tensor([True, True, False]),
    )
    data.add_hyperedges(
        "visits",
        {"user": [[0, 1, 2, 2], []], "film": [[1], [0, 1]]},
        incidence_weight={"film": [0.5, 0.25, 2.0]},
    )
    data.add_hyperedges("follows", {("user", "follower"): [0, 1, 3], ("user", "followee"): [2, 0, 3]}, weight=[1, 2, 3])
    data.add_hyperedges("never", torch.empty(2, 0, dtype=torch.long), modalities=("film", "user"))
    data["user", "knn", "user"].edge_index = torch.tensor([[0, 1], [1, 0]])
    data["user", "knn", "user"].edge_weight = torch.tensor([0.5, 0.25])
    return data


@st.composite
def arbitrary(draw: st.DrawFn, *, uniform: bool | None = None, distinct: bool = False) -> MultiModalHeteroData:
    """Any small data; ``uniform`` fixes whether relations are; ``distinct``: no item twice in a slot of a hyperedge."""
    gen = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def below(n: int, size: int) -> Tensor:
        return torch.randint(n, (size,), generator=gen)

    data = MultiModalHeteroData()
    for name in ("user", "film", "tag")[: draw(st.integers(1, 3))]:
        n = draw(st.integers(0, 4))
        width = draw(st.sampled_from([None, 0, 2]))
        data.add_modality(
            name,
            num_nodes=n,
            x=None if width is None else torch.randn(n, width, generator=gen),
            item_id=[f"{name} {i}" for i in range(n)] if draw(st.booleans()) else None,
            item_label=[f"{i % 2}" for i in range(n)] if draw(st.booleans()) else None,
        )
    for name in ("r", "s")[: draw(st.integers(0, 2))]:
        count = draw(st.integers(0, 4))
        slots: list[Any] = draw(st.lists(st.sampled_from(data.modalities), min_size=1, max_size=3, unique=True))
        if draw(st.booleans()):
            slots = [*slots, (slots[0], "other")]
        flat = uniform if uniform is not None else draw(st.booleans())
        members: dict[Any, Tensor] = {}
        for slot in slots:
            n = int(data[slot if isinstance(slot, str) else slot[0]].num_nodes)
            count = 0 if flat and n == 0 else count
            size = draw(st.integers(0, 6)) if n and count else 0
            members[slot] = torch.stack([below(max(n, 1), size), below(max(count, 1), size)])
            if distinct:
                members[slot] = members[slot].unique(dim=1)[:, torch.randperm(members[slot].unique(dim=1).size(1))]
        if flat:
            sizes = {slot: int(data[slot if isinstance(slot, str) else slot[0]].num_nodes) for slot in slots}
            members = {slot: below(max(sizes[slot], 1), count) for slot in slots}
        attrs: dict[str, Any] = {
            "value": torch.randn(count, generator=gen),
            "weight": torch.rand(count, generator=gen),
            "time": below(9, count),
            "train_mask": below(2, count).bool(),
        }
        data.add_hyperedges(
            name,
            members,
            num_hyperedges=count,
            incidence_weight={s: torch.rand(m.size(-1), generator=gen) for s, m in members.items()}
            if draw(st.booleans())
            else None,
            **{key: value for key, value in attrs.items() if draw(st.booleans())},
        )
    first = data.modalities[0]
    if draw(st.booleans()) and data[first].num_nodes:
        store = data[first, "knn", first]
        store.edge_index = torch.stack([below(data[first].num_nodes, 3), below(data[first].num_nodes, 3)])
        if draw(st.booleans()):
            store.edge_weight = torch.rand(3, generator=gen)
    return data


def assert_same(left: HeteroData, right: HeteroData) -> None:
    """Assert that two data objects hold the same types in the same order, and the same attributes."""
    assert type(left) is type(right)
    assert left.node_types == right.node_types
    assert left.edge_types == right.edge_types
    for a, b in zip(left.stores, right.stores, strict=True):
        assert set(a) == set(b), (a._key if hasattr(a, "_key") else "", set(a), set(b))
        for key in a:
            if isinstance(a[key], Tensor):
                assert a[key].dtype == b[key].dtype, key
                assert torch.equal(a[key], b[key]), (key, a[key], b[key])
            else:
                assert a[key] == b[key], key


@pytest.fixture(name="small")
def _small() -> MultiModalHeteroData:
    return small()


@pytest.fixture(name="arbitrary", scope="session")
def _arbitrary() -> Callable[..., st.SearchStrategy[MultiModalHeteroData]]:
    return arbitrary


@pytest.fixture(name="same", scope="session")
def _same() -> Callable[[HeteroData, HeteroData], None]:
    return assert_same
