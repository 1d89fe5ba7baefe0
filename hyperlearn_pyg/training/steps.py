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
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.nn.models.inputs import ModelInputs
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training.config import TrainConfig
from hyperlearn_pyg.training.validation import KINDS, SplitKind, draw_entries, split_kind

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


def hold_out(
    data: MultiModalHeteroData, fraction: float, seed: int, *, like: str = "tuple", modality: str | None = None
) -> MultiModalHeteroData:
    """Return a copy in which every relation has validation entries, drawn from its training entries where need be.

    A score on validation chooses well for the test where both were drawn alike:

    * ``like="tuple"``: at random;
    * ``"warm"``: at random, but each item keeps a training entry of the relation;
    * ``"item"``: items of a modality with all their training entries, from all relations that have it; relations
      without it by tuple;
    * ``"share"``: of some items of a modality the share of their entries that the test took, or half of them where
      there is no test (see :func:`split_kind`), with one left;
    * ``"time"``: the latest training entries; relations without times by tuple;
    * ``"test"``: as :func:`split_kind` finds that the test entries of each relation were drawn; by tuple without any.

    Test entries stay as they are, and are read for their items and times alone.

    Args:
        data: the data; relations with validation entries keep them.
        fraction: the share of the training entries, by item of the items; 0 to hold out none. By share, items are
            taken until it is reached.
        seed: seed of the draw.
        like: how to draw.
        modality: whose items, by item and by share; where absent, as :func:`split_kind` finds for each relation.

    Raises:
        ValueError: unknown ``like``; no relation has the modality, or times; by item or share no modality is named
            and no test was drawn that way.
    """
    if like not in (*KINDS, "test"):
        raise ValueError(f"'like' must be one of {[*KINDS, 'test']} (got {like!r}).{did_you_mean(like, KINDS)}")
    data = copy.copy(data)
    numbers = {name: number for number, name in enumerate(data.hyperedge_types)}
    wanting = [n for n in numbers if fraction and not ("val_mask" in data[n] and bool(data[n].val_mask.any()))]
    kinds = {name: _kind_of(data, name, like, modality) for name in wanting}
    if kinds and like != "test" and like not in {kind.kind for kind in kinds.values()}:
        raise ValueError(_nothing_to_draw(data, like, modality))
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name, own in kinds.items() if own == kind]
        if kind.kind == "tuple":
            drawn = {name: _draw(data, name, fraction, derive_seed(seed, numbers[name])) for name in names}
        else:
            drawn = draw_entries(data, names, kind, fraction, seed)
        for name, (held, left) in drawn.items():
            _set_masks(data, name, held, left)
    return data


def _kind_of(data: MultiModalHeteroData, name: str, like: str, modality: str | None) -> SplitKind:
    """Return how to draw from one relation; by tuple where it has no such times or items, or no training entries."""
    relation, by_tuple = data.relation(name), SplitKind("tuple")
    if like == "tuple" or not relation.is_uniform or len(split_positions(data, name, ("train",))) == 0:
        return by_tuple
    if like == "time":
        return SplitKind("time") if relation.time is not None else by_tuple
    if like == "warm":
        return SplitKind("warm")
    found = split_kind(data, name)
    if like == "test":
        return found
    if modality is None:
        return found if found.kind == like else by_tuple
    if modality not in relation.modalities:
        return by_tuple
    return SplitKind(like, modality, (found.share or 0.5) if like == "share" else None)


def _nothing_to_draw(data: MultiModalHeteroData, like: str, modality: str | None) -> str:
    if like == "time":
        return "no relation to draw from by time has a 'time': add one number a hyperedge, or draw in another way"
    if modality is None:
        return f"name the 'modality' to draw by {like}: no test was drawn in that way (modalities: {data.modalities})"
    return f"no relation to draw from has the modality {modality!r}.{did_you_mean(modality, data.modalities)}"


def _draw(data: MultiModalHeteroData, name: str, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw validation entries among the training entries at random: which they are, and which are left."""
    count = len(split_positions(data, name, ("train",)))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(count, dtype=torch.bool).index_fill_(0, order[: int(fraction * count)], True)
    return held, ~held


def _set_masks(data: MultiModalHeteroData, name: str, held: Tensor, left: Tensor) -> None:
    store, train = data[name], split_positions(data, name, ("train",))
    held, left = train[held.to(train.device)], train[left.to(train.device)]
    _warn_of_graphs(store, held, name)
    none = torch.zeros(data.relation(name).num_hyperedges, dtype=torch.bool, device=train.device)
    store.val_mask, store.train_mask = none.index_fill(0, held, True), none.index_fill(0, left, True)


def _warn_of_graphs(store: NodeStorage, held: Tensor, name: str) -> None:
    """Warn where graphs were made from the entries that validation now takes."""
    graphs = [key.removeprefix(SEEN_BY) for key, seen in store.items() if key.startswith(SEEN_BY) and seen[held].any()]
    if graphs:
        warnings.warn(
            f"validation entries are drawn from the training entries of {name!r}, which {', '.join(graphs)} was made "
            "from: validation will look too good. Split with RandomRelationSplit(val=...) before making graphs",
            stacklevel=2,
        )
