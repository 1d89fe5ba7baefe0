"""A model whose scores are small whole numbers, exact and with many ties, and slow references in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData

NAMES = ("user", "artist", "tag", "year")


def make_data(index: Tensor, sizes: Sequence[int], part: Tensor) -> MultiModalHeteroData:
    """``part``: 0 train, 1 val, 2 test."""
    data = MultiModalHeteroData()
    for name, size in zip(NAMES, sizes, strict=False):
        data.add_modality(name, num_nodes=size)
    masks = {f"{split}_mask": part == number for number, split in enumerate(("train", "val", "test"))}
    return data.add_hyperedges("r", index, modalities=NAMES[: len(sizes)], **masks)


def make_model(data: MultiModalHeteroData, rank: int = 2) -> HyperLearn:
    return HyperLearn.from_data(
        data, rank, "links", encoder="embedding", decoder="cp", bias=False, features=False, num_negatives=2
    )


def make_factors(data: MultiModalHeteroData, seed: int, rank: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-1, 3, (int(data[name].num_nodes), rank), generator=generator).float()
        for name in data.modalities
    }


def dense_scores(factors: dict[str, Tensor], names: Sequence[str], unknown: Sequence[int] = ()) -> Tensor:
    """Score every cell, and put in place of each the mean over the slots that are not told."""
    out = torch.ones(1, next(iter(factors.values())).size(1), dtype=torch.float64)
    for name in names:
        out = (out[:, None] * factors[name].double()[None]).flatten(0, 1)
    score = out.sum(1).view([len(factors[name]) for name in names])
    for s in unknown:
        score = score.mean(s, keepdim=True).expand_as(score)
    return score


@st.composite
def problems(draw: st.DrawFn, least: int = 1, most: int = 4) -> tuple[MultiModalHeteroData, int]:
    """A relation with test entries in which sizes may be one, and a seed."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=least, max_size=most))
    seed = draw(st.integers(0, 999))
    generator = torch.Generator().manual_seed(seed)
    count = draw(st.integers(1, 14))
    index = torch.stack([torch.randint(n, (count,), generator=generator) for n in sizes]).unique(dim=1)
    index = index[:, torch.randperm(index.size(1), generator=generator)]
    part = torch.randint(3, (index.size(1),), generator=generator)
    part[0] = 2
    return make_data(index, sizes, part), seed


def tuples_of(data: MultiModalHeteroData, *splits: str) -> list[tuple[int, ...]]:
    store = data["r"]
    mask = torch.stack([store[f"{split}_mask"] for split in splits]).any(0)
    return [tuple(t) for t in data.relation("r").index[:, mask].t().tolist()]
