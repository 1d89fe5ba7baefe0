from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyperlearn_pyg.data import MultiModalHeteroData


def build(sizes: tuple[int, ...], count: int, seed: int) -> MultiModalHeteroData:
    """Modalities a, b, c with features; 'r' over all of them, 'pairs' with roles, 'sets' ragged; all with masks."""
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    names = "abc"[: len(sizes)]
    for name, size in zip(names, sizes, strict=True):
        data.add_modality(name, x=torch.randn(size, 3, generator=generator))
    count = count if min(sizes) else 0

    def draw(size: int, rows: int = count) -> torch.Tensor:
        return torch.randint(max(size, 1), (rows,), generator=generator)

    def masks() -> dict[str, torch.Tensor]:
        part = torch.randint(4, (count,), generator=generator)
        return {"train_mask": part > 1, "val_mask": part == 0, "test_mask": part == 1}

    index = torch.stack([draw(size) for size in sizes])
    data.add_hyperedges(
        "r", index, modalities=tuple(names), value=draw(5).float() + 1, time=draw(9), weight=draw(3) + 1.0, **masks()
    )
    data.add_hyperedges("pairs", {("a", "from"): draw(sizes[0]), ("a", "to"): draw(sizes[0])}, **masks())
    ragged = {
        name: torch.stack([draw(n, 2 * count), draw(count, 2 * count)]) for name, n in zip(names, sizes, strict=True)
    }
    return data.add_hyperedges("sets", ragged, num_hyperedges=count, **masks())


@pytest.fixture(scope="session")
def make_data() -> Callable[..., MultiModalHeteroData]:
    return build
