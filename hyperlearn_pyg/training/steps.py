from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from math import ceil

import torch
from torch import Tensor
from torch_geometric.data.storage import NodeStorage

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._marks import SEEN_BY
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training.config import TrainConfig

#: For each relation the positions of the targets of a step; None where the step takes every entry.
Batch = Mapping[str, Tensor] | None


def epoch_plan(
    inputs: ModelInputs, config: TrainConfig, phase: int, epoch: int
) -> tuple[dict[str, Tensor] | None, list[Batch]]:
    """Draw the targets of an epoch.

    Returns:
        Which entries of each relation carry messages (None: all), and the targets of each step.
    """
    if config.target_fraction == 1 and config.batch_size is None:
        return None, [None]
    generator = torch.Generator().manual_seed(derive_seed(config.seed, phase, epoch))
    keep, targets = {}, {}
    for name, tuples in inputs.tuples.items():
        count, device = len(tuples), tuples.index.device
        order = torch.randperm(count, generator=generator).to(device)
        targets[name] = order[: ceil(config.target_fraction * count)]
        keep[name] = torch.ones(count, device=device).index_fill_(0, targets[name], 0.0)
    largest = max((len(t) for t in targets.values()), default=0)
    steps = min(max(1, ceil(largest / config.batch_size)), config.max_steps) if config.batch_size else 1
    parts = {name: t.tensor_split(steps) for name, t in targets.items()}
    batches: list[Batch] = [{name: part[i] for name, part in parts.items()} for i in range(steps)]
    return (keep if config.target_fraction < 1 else None), batches


def hold_out(data: MultiModalHeteroData, fraction: float, seed: int) -> MultiModalHeteroData:
    """Return a copy in which every relation has validation entries, drawn from its training entries where need be."""
    data = copy.copy(data)
    for number, name in enumerate(data.hyperedge_types if fraction else []):
        store = data[name]
        if "val_mask" in store and bool(store.val_mask.any()):
            continue
        train = split_positions(data, name, ("train",))
        generator = torch.Generator().manual_seed(derive_seed(seed, number))
        held = train[torch.randperm(len(train), generator=generator).to(train.device)[: int(fraction * len(train))]]
        _warn_of_graphs(store, held, name)
        none = torch.zeros(data.relation(name).num_hyperedges, dtype=torch.bool, device=train.device)
        store.val_mask = none.index_fill(0, held, True)
        store.train_mask = none.index_fill(0, train, True) & ~store.val_mask
    return data


def _warn_of_graphs(store: NodeStorage, held: Tensor, name: str) -> None:
    """Warn where graphs were made from the entries that validation now takes."""
    graphs = [key.removeprefix(SEEN_BY) for key, seen in store.items() if key.startswith(SEEN_BY) and seen[held].any()]
    if graphs:
        warnings.warn(
            f"validation entries are drawn from the training entries of {name!r}, which {', '.join(graphs)} was made "
            "from: validation will look too good. Split with RandomRelationSplit(val=...) before making graphs",
            stacklevel=2,
        )
