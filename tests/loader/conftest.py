from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyperlearn_pyg import MultiModalHeteroData


def random_data(seed: int = 0) -> MultiModalHeteroData:
    """Three modalities, a relation of order 3 with values and times, a ragged one with roles and weights, a graph."""
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *size: int) -> torch.Tensor:
        return torch.randint(high, size, generator=generator)

    def numbers(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    data = MultiModalHeteroData()
    for name, size in {"user": 30, "film": 20, "tag": 6}.items():
        data.add_modality(name, x=numbers(size, 4), item_id=[f"{name}{i}" for i in range(size)])
    index = torch.stack([integers(28, 60), integers(18, 60), integers(6, 60)])  # the last items are isolated
    part = integers(3, 60)
    masks = {"train_mask": part == 0, "val_mask": part == 1, "test_mask": part == 2}
    attrs = {"value": numbers(60), "weight": numbers(60) + 0.5, "time": integers(20, 60)}
    data.add_hyperedges("tags", index, modalities=("user", "film", "tag"), **attrs, **masks)
    guests = [integers(30, size).unique().tolist() for size in (0, 1, *integers(5, 20).tolist())]
    data.add_hyperedges("party", {("user", "guest"): guests, ("user", "host"): integers(30, 22)})
    data["user", "knows", "user"].edge_index = integers(30, 2, 80)
    for edge_type in (("user", "member:guest", "party"), ("user", "knows", "user")):
        data[edge_type].edge_weight = numbers(data[edge_type].edge_index.size(1))
    return data


@pytest.fixture
def make_data() -> Callable[..., MultiModalHeteroData]:
    """Give :func:`random_data`."""
    return random_data
