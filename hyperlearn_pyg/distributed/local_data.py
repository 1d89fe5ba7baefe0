from __future__ import annotations

import copy
from collections.abc import Collection

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean


def local_data(data: MultiModalHeteroData, modalities: Collection[str]) -> MultiModalHeteroData:
    """Return what a rank needs of a data object: of other modalities no features and no graphs, only their counts.

    All relations stay, as every rank draws the same tuples. Nothing is copied; ``data`` stays as it is, and what is
    left out is freed with it.

    Args:
        data: the data.
        modalities: those that the rank holds, as ``plan.modalities_of(rank)`` gives them.

    Raises:
        ValueError: no such modality.
    """
    for name in modalities:
        if name not in data.modalities:
            raise ValueError(f"'modalities': there is no {name!r}.{did_you_mean(name, data.modalities)}")
    out = copy.copy(data)
    for name in set(data.modalities) - set(modalities):
        count = data[name].num_nodes
        for key in list(out[name].keys()):
            del out[name][key]
        out[name].num_nodes = count
        for kind in data.intra_edge_types(name):
            del out[kind]
    return out
