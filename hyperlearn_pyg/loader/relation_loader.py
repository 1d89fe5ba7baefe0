from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from hyperlearn_pyg.data import MultiModalHeteroData, Relation
from hyperlearn_pyg.data._members import Slot
from hyperlearn_pyg.data.splits import SPLITS, split_positions
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.loader._inputs import check_keywords
from hyperlearn_pyg.loader._relation_plan import BatchPlan, Step, Steps
from hyperlearn_pyg.loader.negative import NegativeSampler, degree_weights
from hyperlearn_pyg.loader.relation_batch import RelationBatch
from hyperlearn_pyg.transforms._common import check_choice, find_slots, modality_names, relation_names

SlotName = int | Slot
#: Arguments of the DataLoader that are set here.
_OWN = ("dataset", "sampler", "batch_sampler", "collate_fn")


class RelationLoader(DataLoader[RelationBatch]):
    r"""Batches of the tuples of one or several relations, with negatives that are known to be none of the known tuples.

    **An epoch** gives every tuple of the split once, over all ranks and workers together. The batches of several
    relations alternate, each batch being of one relation. What a batch holds depends on ``seed``, epoch, ``rank`` and
    ``world_size`` alone, not on ``num_workers``. With ``shuffle`` each pass over the loader is a new epoch, with
    another order and other negatives; without it every pass is the same, as one wants it for evaluation.
    :meth:`set_epoch` chooses the epoch of the next pass.

    **Ranks** take every ``world_size``-th tuple each and give equally many batches, of the same relation at the same
    step, so that collectives inside a step meet. Hence the last batch of a relation may be shorter by one tuple on some
    ranks, or empty (``len(batch) == 0``): sum a loss over the batch, and divide by a count, rather than take a mean.
    With ``drop_last`` all batches are full.

    **Negatives** are drawn by :class:`NegativeSampler`: another item in one slot, or several, uniformly or by degree,
    and, with ``same_type``, of the same type. They are never among the ``known`` tuples.

    Args:
        data: the data object.
        relations: the name of a relation or several, uniform ones (one member in each slot); all for :obj:`None`.
        split: ``"train"`` (the tuples of ``train_mask``, or those of no other mask; all where there are no masks),
            ``"val"``, ``"test"``, or :obj:`None` for all tuples.
        batch_size: tuples in a batch, of one rank.
        num_negatives: negatives of each tuple; 0 for none.
        slots: what may be corrupted: a slot by its position, its modality, or a pair (modality, role); a list of
            these; or a mapping from relation to such a list. All slots for :obj:`None`.
        num_corrupted: how many of the slots are corrupted at once.
        distribution: ``"uniform"``, or ``"degree"``: in proportion to the number of training tuples of the relation
            in which the item fills the slot, raised to ``power``.
        power: the exponent of the degree.
        same_type: modality -> the type of each of its items ``[N]``, as integers or strings, or the name of the item
            attribute that holds them (``"item_label"``): an item gives way only to one of its own type.
        known: the tuples that must not come out as negatives: the names of splits; ``"all"`` for every tuple of the
            relation; :obj:`None` for those of ``split`` and of the splits before it, so that no training batch tells
            of the test.
        shuffle: a new order and new negatives in each pass.
        drop_last: leave out what does not fill a batch.
        interleave: ``"proportional"`` spreads the batches of each relation evenly over the epoch; ``"round_robin"``
            takes the relations in turn until each has run out.
        seed: seed of the order and of the negatives.
        rank: the number of this process; that of :mod:`torch.distributed` where it is initialised, else 0.
        world_size: the number of processes; likewise, else 1.
        kwargs: further arguments of :class:`torch.utils.data.DataLoader`, such as ``num_workers``, ``pin_memory`` or
            ``persistent_workers``.

    Raises:
        ValueError: an unknown relation, slot, split, attribute or word; a relation that is ragged; a relation without
            the mask of the split; numbers out of range; an argument of the ``DataLoader`` that is set here.

    Example:
        >>> import torch.nn.functional as F
        >>> from hyperlearn_pyg.datasets import SyntheticMultiModal
        >>> data = SyntheticMultiModal()[0]
        >>> emb = torch.nn.ModuleDict({m: torch.nn.Embedding(data[m].num_nodes, 8) for m in data.modalities})
        >>> score = lambda batch, index: torch.stack(
        ...     [emb[m](i) for m, i in zip(batch.modalities, index)]
        ... ).prod(0).sum(-1)
        >>> optimizer = torch.optim.Adam(emb.parameters(), lr=0.01)
        >>> loader = RelationLoader(data, "tags", batch_size=2048, num_negatives=4, shuffle=True)
        >>> for epoch in range(2):
        ...     for batch in loader:
        ...         optimizer.zero_grad()
        ...         negative = score(batch, batch.negatives[:, batch.negative_mask])
        ...         positive = score(batch, batch.index)
        ...         loss = F.softplus(-positive).sum() + F.softplus(negative).sum()
        ...         loss.backward()
        ...         optimizer.step()
    """

    def __init__(
        self,
        data: MultiModalHeteroData,
        relations: str | Sequence[str] | None = None,
        *,
        split: str | None = "train",
        batch_size: int = 1024,
        num_negatives: int = 1,
        slots: SlotName | Sequence[SlotName] | Mapping[str, Any] | None = None,
        num_corrupted: int = 1,
        distribution: str = "uniform",
        power: float = 0.75,
        same_type: Mapping[str, Any] | None = None,
        known: str | Sequence[str] | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        interleave: str = "proportional",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs, RelationLoader, DataLoader)
        names = _check(
            data, relations, kwargs, split=split, distribution=distribution, interleave=interleave, known=known
        )
        if num_negatives < 0:
            raise ValueError(f"'num_negatives' must be at least 0 (got {num_negatives})")
        self.relations = names
        types = {m: _types(data, m, given) for m, given in (same_type or {}).items()}
        sources = [_Source.read(data, name, split) for name in names]
        for source in sources if num_negatives else ():
            source.negative = NegativeSampler(
                source.index[:, _known(data, source.name, split, known)],
                source.sizes,
                slots=_slots(data.relation(source.name), slots, names),
                num_corrupted=num_corrupted,
                weights=_weights(data, source, power) if distribution == "degree" else None,
                types={slot: types[m] for slot, m in enumerate(source.modalities) if m in types},
            )
        plan = BatchPlan(
            [len(s.positions) for s in sources], batch_size, drop_last, interleave, *_place(rank, world_size)
        )
        self._steps = Steps(plan, seed, shuffle=shuffle)
        super().__init__(_Batches(sources, num_negatives), batch_size=None, sampler=self._steps, **kwargs)

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._steps.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; with ``shuffle`` the passes after it count on from there."""
        self._steps.epoch = epoch

    def __iter__(self) -> Any:
        iterator = super().__iter__()  # it has read the epoch
        if self._steps.shuffle:
            self._steps.epoch += 1
        return iterator

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relations}, batches={len(self)}, batch_size={self._steps.plan.batch_size})"


@dataclass
class _Source:
    """The tuples of one relation, on the CPU, and where its negatives come from."""

    name: str
    modalities: tuple[str, ...]
    sizes: tuple[int, ...]
    index: Tensor
    columns: dict[str, Tensor]
    positions: Tensor
    negative: NegativeSampler | None = None

    @classmethod
    def read(cls, data: MultiModalHeteroData, name: str, split: str | None) -> _Source:
        relation = data.relation(name)
        try:
            index = relation.index
        except ValueError as error:
            raise ValueError(
                f"relation '{name}' is ragged, and a RelationLoader gives tuples [k, B] with one member a slot: leave "
                f"it out of 'relations' ({error})"
            ) from error
        if split in ("val", "test"):
            relation.mask(split)
        positions = torch.arange(len(relation)) if split is None else split_positions(data, name, (split,)).cpu()
        given = {key: getattr(relation, key) for key in ("value", "weight", "time")}
        columns = {key: column.cpu() for key, column in given.items() if column is not None}
        return cls(name, relation.modalities, relation.sizes, index.cpu(), columns, positions)


class _Batches(Dataset[RelationBatch]):
    """Makes the batch of a step."""

    def __init__(self, sources: Sequence[_Source], num_negatives: int) -> None:
        self.sources, self.num_negatives = sources, num_negatives

    def __getitem__(self, step: Step) -> RelationBatch:
        number, seed, at = step
        source = self.sources[number]
        tuple_id = source.positions[torch.from_numpy(at)]
        index = source.index[:, tuple_id]
        negatives = mask = None
        if source.negative is not None:
            generator = torch.Generator().manual_seed(seed)
            negatives, mask = source.negative.sample(index, self.num_negatives, generator=generator)
        columns = {key: column[tuple_id] for key, column in source.columns.items()}
        return RelationBatch(
            source.name, source.modalities, index, tuple_id, **columns, negatives=negatives, negative_mask=mask
        )


def _check(
    data: MultiModalHeteroData,
    relations: str | Sequence[str] | None,
    kwargs: Mapping[str, Any],
    *,
    split: str | None,
    distribution: str,
    interleave: str,
    known: str | Sequence[str] | None,
) -> list[str]:
    """Check what is not checked where it is used; return the names of the relations."""
    if not isinstance(data, MultiModalHeteroData):
        raise ValueError(f"'data' must be a MultiModalHeteroData (got {type(data).__name__})")
    for key in _OWN:
        if key in kwargs:
            raise ValueError(f"'{key}' is set by RelationLoader itself: leave it out")
    if split is not None:
        check_choice(split, SPLITS, "split")
    check_choice(distribution, ("uniform", "degree"), "distribution")
    check_choice(interleave, ("proportional", "round_robin"), "interleave")
    if isinstance(known, str):
        check_choice(known, ("all", *SPLITS), "known")
    for name in known if known is not None and not isinstance(known, str) else ():
        check_choice(name, SPLITS, "known")
    names = relation_names(data, relations)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"'relations' must name one or more relations, each once (got {names})")
    return names


def _known(data: MultiModalHeteroData, name: str, split: str | None, known: str | Sequence[str] | None) -> Tensor:
    """Return the positions of the tuples that must not come out as negatives."""
    if known == "all" or (known is None and split is None):
        return torch.arange(len(data.relation(name)))
    if known is None:
        known = SPLITS[: SPLITS.index(str(split)) + 1]
    return split_positions(data, name, [known] if isinstance(known, str) else known).cpu()


def _slots(relation: Relation, slots: Any, names: Sequence[str]) -> list[int] | None:
    """Return the slots of a relation that may be corrupted; :obj:`None` for all."""
    if isinstance(slots, Mapping):
        for name in slots:
            check_choice(name, names, "slots")
        slots = slots.get(relation.name)
    if slots is None:
        return None
    given = [slots] if isinstance(slots, int | str) else list(slots)
    found = [[slot] if isinstance(slot, int) else find_slots(relation, slot) for slot in given]
    return sorted({slot + relation.order if -relation.order <= slot < 0 else slot for some in found for slot in some})


def _types(data: MultiModalHeteroData, modality: str, given: Any) -> Tensor:
    """Return the type of each item of a modality as whole numbers ``[N]``."""
    store = data[modality_names(data, modality)[0]]
    if isinstance(given, str):
        if given not in store:
            hint = did_you_mean(given, store.keys())
            raise ValueError(f"modality '{modality}' has no attribute {given!r} ({list(store.keys())}).{hint}")
        given = store[given]
    types = given.cpu() if isinstance(given, Tensor) else torch.from_numpy(pd.factorize(np.asarray(given))[0])
    if types.shape != (store.num_nodes,) or types.is_floating_point():
        raise ValueError(
            f"'same_type' of modality '{modality}' must be one whole number or string an item, {store.num_nodes} in "
            f"all (got {list(types.shape)}, {types.dtype})"
        )
    return types


def _weights(data: MultiModalHeteroData, source: _Source, power: float) -> dict[int, Tensor]:
    """Return the weights of the items of each slot, from the training tuples."""
    train = source.index[:, split_positions(data, source.name, ("train",)).cpu()]
    return {slot: degree_weights(train[slot], size, power) for slot, size in enumerate(source.sizes)}


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return the rank and the number of ranks."""
    started = distributed.is_available() and distributed.is_initialized()
    size = (distributed.get_world_size() if started else 1) if world_size is None else world_size
    own = (distributed.get_rank() if started and world_size is None else 0) if rank is None else rank
    if size < 1 or not 0 <= own < size:
        raise ValueError(f"'rank' must be in [0, 'world_size') (got rank {own} and world_size {size})")
    return own, size
