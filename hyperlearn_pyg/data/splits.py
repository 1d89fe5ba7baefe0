from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hyperlearn_pyg.data.multimodal import MultiModalHeteroData

#: The parts of a split, in the order in which a model gets to see them.
SPLITS = ("train", "val", "test")


def split_positions(data: MultiModalHeteroData, name: str, splits: Iterable[str]) -> Tensor:
    """Return the positions of a relation's entries in some splits; a relation without masks is all training."""
    store, splits = data[name], set(splits)
    total = data.relation(name).num_hyperedges
    known = {s: store[f"{s}_mask"] for s in SPLITS if f"{s}_mask" in store}
    if not known:
        device = data.relation(name).incidence(0).device
        return torch.arange(total if "train" in splits else 0, device=device)
    mask = torch.zeros_like(next(iter(known.values())))
    for split in splits:
        if split in known:
            mask |= known[split]
        elif split == "train":
            mask |= ~torch.stack(list(known.values())).any(0)
    return mask.nonzero().squeeze(1)
