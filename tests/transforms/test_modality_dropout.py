from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.transforms import ModalityDropout

Make = Callable[..., MultiModalHeteroData]


def silent(data: MultiModalHeteroData) -> set[str]:
    return {name for name in data.modalities if not bool(data[name].x.to_dense().any())}


def test_features_become_zeros(make_data: Make) -> None:
    data = make_data((3, 4, 5), 6, 0)
    transform = ModalityDropout(0.5, seed=0)
    seen = [silent(transform(data)) for _ in range(40)]
    assert max(map(len, seen)) == 2  # one is always kept
    assert {name for names in seen for name in names} == {"a", "b", "c"}
    assert silent(data) == set()
    out = ModalityDropout(1.0, "b")(data)
    assert silent(out) == set()  # of one alone, it is kept
    assert ModalityDropout(1.0, ["a", "b"], seed=1)(data)["c"].x is data["c"].x


def test_how_often() -> None:
    data = MultiModalHeteroData()
    for i in range(200):
        data.add_modality(f"m{i}", x=torch.ones(1, 1))
    assert 30 <= len(silent(ModalityDropout(0.25, seed=0)(data))) <= 70
    assert silent(ModalityDropout(0.0)(data)) == set()
    assert len(silent(ModalityDropout(1.0)(data))) == 199


def test_seeds_and_generators(make_data: Make) -> None:
    data = make_data((3, 4, 5), 6, 0)

    def run(transform: ModalityDropout) -> list[set[str]]:
        return [silent(transform(data)) for _ in range(10)]

    one = run(ModalityDropout(seed=3))
    assert run(ModalityDropout(seed=3)) == one
    assert run(ModalityDropout(seed=4)) != one
    assert run(ModalityDropout(seed=torch.Generator().manual_seed(3))) == one
    torch.manual_seed(0)
    first = run(ModalityDropout())
    torch.manual_seed(0)
    assert run(ModalityDropout()) == first


@pytest.mark.parametrize("drop", ["memberships", "both"])
def test_memberships(make_data: Make, drop: str) -> None:
    data = make_data((3, 4), 6, 0)
    data["a", "member", "r"].edge_weight = torch.ones(6)
    out = next(out for seed in range(9) if (out := ModalityDropout(1.0, drop=drop, seed=seed)(data)))
    gone = [name for name in "ab" if out[name, "member", "r"].edge_index.size(1) == 0]
    assert len(gone) == 1
    for slot in (*out.relation("r").slots, *out.relation("sets").slots, *out.relation("pairs").slots):
        assert (out[slot].edge_index.size(1) == 0) == (slot[0] in gone)
    assert silent(out) == (set(gone) if drop == "both" else set())
    assert out["r"].num_nodes == 6
    assert out.validate()
    assert data["a", "member", "r"].edge_index.size(1) == 6


def test_sparse_features() -> None:
    data = MultiModalHeteroData()
    for name in "ab":
        data.add_modality(name, x=torch.eye(3).to_sparse())
    out = ModalityDropout(1.0)(data)
    assert len(silent(out)) == 1
    assert all(out[name].x.layout == torch.sparse_coo for name in "ab")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_csr_features() -> None:
    data = MultiModalHeteroData()
    for name in "ab":
        data.add_modality(name, x=torch.eye(3).to_sparse_csr())
    assert len(silent(ModalityDropout(1.0)(data))) == 1


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(make_data: Make, size: int) -> None:
    out = ModalityDropout(1.0, drop="both")(make_data((size, size), size, 0))
    assert out.validate()
    assert ModalityDropout(1.0)(MultiModalHeteroData()).node_types == []


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"p": 1.5}, r"'p' must be in \[0, 1\]"),
        ({"drop": "feature"}, "'drop' must be one of.*Did you mean 'features'"),
        ({"modalities": "z"}, "no modality 'z'"),
    ],
)
def test_bad_arguments(make_data: Make, kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ModalityDropout(**kwargs)(make_data((1, 1), 1, 0))


def test_repr() -> None:
    assert repr(ModalityDropout(0.1)) == "ModalityDropout(p=0.1, modalities=None, drop='features', seed=None)"
