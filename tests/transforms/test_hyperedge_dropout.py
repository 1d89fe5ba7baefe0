from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import HyperedgeDropout

Make = Callable[..., MultiModalHeteroData]


def test_hyperedges_leave_with_all_they_have(make_data: Make) -> None:
    data = make_data((6, 5), 200, 0)
    data["r"].number = torch.arange(200)
    out = HyperedgeDropout(0.5, "r", seed=0)(data)
    kept = out["r"].number
    assert kept.equal(kept.sort().values)
    assert torch.equal(out["r"].value, data["r"].value[kept])
    assert torch.equal(out.relation("r").index, data.relation("r").index[:, kept])
    held = ~data["r"].train_mask
    assert torch.isin(held.nonzero().view(-1), kept).all()
    train = int(data["r"].train_mask.sum())
    assert 0.3 * train < int(out["r"].train_mask.sum()) < 0.7 * train
    assert out["sets"].num_nodes == 200
    assert out.validate()
    assert data["r"].num_nodes == 200


def test_incidences(make_data: Make) -> None:
    data = make_data((6, 5), 100, 0)
    data["a", "member", "r"].edge_weight = torch.arange(100.0)
    out = HyperedgeDropout(0.5, drop="incidences", seed=0)(data)
    assert out["r"].num_nodes == 100
    for name in ("r", "sets", "pairs"):
        for slot in data.relation(name).slots:
            before, after = data[slot].edge_index, out[slot].edge_index
            held = ~data[name].train_mask
            assert int(held[before[1]].sum()) == int(held[after[1]].sum())
            train = int((~held[before[1]]).sum())
            assert 0.25 * train < after.size(1) - int(held[after[1]].sum()) < 0.75 * train
    weight = out["a", "member", "r"].edge_weight
    assert torch.equal(weight.long(), out["a", "member", "r"].edge_index[1])
    assert out.validate()


@pytest.mark.parametrize("drop", ["hyperedges", "incidences"])
def test_extremes_and_seeds(make_data: Make, drop: str) -> None:
    data = make_data((4, 3), 20, 0)
    for name in data.hyperedge_types:
        for split in ("train", "val", "test"):
            del data[name][f"{split}_mask"]
    slots = [slot for name in data.hyperedge_types for slot in data.relation(name).slots]
    none, every = HyperedgeDropout(1.0, drop=drop)(data), HyperedgeDropout(0.0, drop=drop)(data)
    assert all(none[slot].edge_index.shape == (2, 0) for slot in slots)
    assert none["r"].num_nodes == (0 if drop == "hyperedges" else 20)
    assert all(torch.equal(every[slot].edge_index, data[slot].edge_index) for slot in slots)
    first, other = (
        HyperedgeDropout(drop=drop, seed=1),
        HyperedgeDropout(drop=drop, seed=torch.Generator().manual_seed(1)),
    )
    again = [first(data)["a", "member", "sets"].edge_index for _ in range(2)]
    assert torch.equal(other(data)["a", "member", "sets"].edge_index, again[0])
    assert again[0].shape != again[1].shape or not torch.equal(*again)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("drop", ["hyperedges", "incidences"])
def test_small_sizes(make_data: Make, size: int, drop: str) -> None:
    assert HyperedgeDropout(drop=drop)(make_data((size, size), size, 0)).validate()
    assert HyperedgeDropout(drop=drop)(MultiModalHeteroData()).node_types == []


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"p": -0.1}, r"'p' must be in \[0, 1\]"),
        ({"drop": "edges"}, "'drop' must be one of"),
        ({"relation": "rr"}, "no relation 'rr'"),
    ],
)
def test_bad_arguments(make_data: Make, kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        HyperedgeDropout(**kwargs)(make_data((1, 1), 1, 0))


def test_repr() -> None:
    generator = torch.Generator()
    assert repr(HyperedgeDropout(seed=3)) == "HyperedgeDropout(p=0.5, None, drop='hyperedges', seed=3)"
    assert repr(HyperedgeDropout(seed=generator)) == "HyperedgeDropout(p=0.5, None, drop='hyperedges', seed=generator)"
