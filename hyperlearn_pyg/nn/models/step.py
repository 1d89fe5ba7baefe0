"""The targets of a training step and the loss of a part of them: what a model does alone and spread over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.context_dropout import ContextDropout
from hyperlearn_pyg.nn.decoder import KruskalDecoder, LevelDecoder
from hyperlearn_pyg.nn.losses import (
    candidate_loss,
    draw_candidates,
    level_cross_entropy,
    loss_mass,
    masked_squared_error,
    observed_cells_error,
    row_norms,
    with_batch_items,
)
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.inputs import RelationSpec, Tuples
from hyperlearn_pyg.typing import TupleBatch

#: The losses against candidates, and what compares a tuple with them.
_AGAINST = {"logistic": "logistic", "softmax": "softmax", "in_batch_softmax": "softmax", "full_softmax": "softmax"}


def predicted_slots(
    relations: Mapping[str, RelationSpec], predict: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Return for each relation the positions of the slots to predict, ascending: all where ``predict`` is silent.

    Args:
        relations: what the model knows of each relation.
        predict: relation -> names of slots, as ``ModelConfig.predict``.

    Raises:
        InputError: no such relation or slot, or a relation with values.
    """
    for name in predict:
        if name not in relations:
            raise InputError(
                f"model.predict: there is no relation {name!r} (relations: {list(relations)})."
                + did_you_mean(name, relations)
            )
        if relations[name].has_value:
            raise InputError(
                f"model.predict.{name}: the relation has values, which are predicted; slots are for 0/1 relations: "
                "leave it out"
            )
    return {
        name: _positions(name, spec, predict[name]) if name in predict else tuple(range(spec.order))
        for name, spec in relations.items()
    }


def check_weights(relations: Mapping[str, RelationSpec], weights: Mapping[str, float]) -> None:
    """Check that the relations of ``ModelConfig.relation_weights`` are there.

    Raises:
        InputError: one is not.
    """
    for name in weights:
        if name not in relations:
            raise InputError(
                f"model.relation_weights: there is no relation {name!r} (relations: {list(relations)})."
                + did_you_mean(name, relations)
            )


def _positions(name: str, spec: RelationSpec, wanted: Sequence[str]) -> tuple[int, ...]:
    known = spec.slots or spec.modalities
    for slot in wanted:
        if slot not in (*known, *spec.modalities):
            raise InputError(
                f"model.predict.{name}: there is no slot {slot!r} (slots: {list(known)}).{did_you_mean(slot, known)}"
            )
    return tuple(s for s in range(spec.order) if {known[s], spec.modalities[s]} & set(wanted))


def make_target(
    name: str,
    spec: RelationSpec,
    tuples: Tuples,
    positions: Tensor | None,
    config: ModelConfig,
    generator: torch.Generator | None = None,
    slots: Sequence[int] | None = None,
) -> TupleBatch:
    """Return the tuples at ``positions`` (all for None) of one relation, with what their loss needs.

    Candidates of a sampled loss are drawn here, slot after slot; none for no tuples, and none for a slot that is not
    among ``slots``. Those that come from the batch are of the whole of it, so that the losses of its parts add up.
    """
    entries = tuples.take(positions)
    count, kind = len(entries), _kind(config, entries.value)
    candidates: Sequence[Tensor] = ()
    predicted = tuple(range(spec.order)) if slots is None else tuple(slots)
    if kind in _AGAINST and count:
        candidates = _candidates(kind, spec, tuples, entries.index, config, generator, predicted)
    batch = TupleBatch(
        name,
        spec.modalities,
        entries.index,
        entries.value,
        entries.weight,
        tuple(candidates),
        slots=predicted if kind in _AGAINST else None,
    )
    if config.context_dropout and kind in _AGAINST:
        batch = replace(batch, noise=int(torch.randint(1 << 31, (), generator=generator)))
    if kind != "all_cells":
        return replace(batch, mass=loss_mass(count, entries.weight), count=count)
    share = count / len(tuples) if len(tuples) else 1.0  # so that the batches of an epoch count each cell once
    cells = config.relation_weights.get(name, 1.0) * config.unobserved * share / max(count, 1)
    return replace(batch, mass=loss_mass(count), cells=cells, count=count)


def target_loss(
    decoder: KruskalDecoder, rows: Sequence[Tensor], target: TupleBatch, config: ModelConfig, *, training: bool = False
) -> Tensor:
    """Return the loss of some tuples, without the cells: the losses of the parts of a batch add up.

    Args:
        decoder: the decoder of the relation.
        rows: what it reads, one ``[N_s, in_channels]`` a slot.
        target: the tuples.
        config: the losses and their weights.
        training: columns of the context are dropped.
    """
    dropout = ContextDropout(config.context_dropout, target.noise) if training and config.context_dropout else None
    return config.relation_weights.get(target.relation, 1.0) * _unweighted(decoder, rows, target, config, dropout)


def _unweighted(
    decoder: KruskalDecoder,
    rows: Sequence[Tensor],
    target: TupleBatch,
    config: ModelConfig,
    dropout: ContextDropout | None,
) -> Tensor:
    kind, index, weight = _kind(config, target.value), target.index, target.weight
    if kind == "squared" and target.value is not None:
        return masked_squared_error(_scores(decoder, rows, index), target.value, weight, mass=target.mass)
    if kind == "all_cells":
        value = rows[0].new_ones(len(target)) if target.value is None else target.value
        columns, value = decoder.all_columns(rows), value - decoder.offset
        error = observed_cells_error(columns, index, value, unobserved=config.unobserved, weight=weight)
        loss = error / target.mass
        if target.value is not None:
            return loss
    elif kind == "cross_entropy" and isinstance(decoder, LevelDecoder) and target.value is not None:
        loss = level_cross_entropy(decoder, rows, index, target.value, weight, mass=target.mass)
    elif kind == "expected_level" and target.value is not None:
        loss = masked_squared_error(decoder(rows, index), target.value, weight, mass=target.mass)
    else:
        items, named = target.named()
        loss = candidate_loss(
            decoder,
            rows,
            index,
            target.candidates,
            kind=_AGAINST[kind],
            mass=target.mass,
            weight=weight,
            items=items,
            candidate_items=named,
            slots=target.slots,
            dropout=dropout,
        )
    for scale, power in ((config.l2, 2), (config.n3, 3)):
        if scale:
            loss = loss + scale * row_norms(rows, index, power) / max(target.count, 1)
    return loss


def _candidates(
    kind: str,
    spec: RelationSpec,
    tuples: Tuples,
    index: Tensor,
    config: ModelConfig,
    generator: torch.Generator | None,
    slots: Sequence[int],
) -> Sequence[Tensor]:
    """Return the candidates of each slot for the tuples ``index`` of a batch; none for a slot not in ``slots``."""
    pools, nothing, device = tuples.seen if config.negatives == "seen" else None, index.new_empty(0), index.device
    if kind == "full_softmax":
        every = pools or [torch.arange(n, device=device) for n in spec.sizes]
        return [items if s in slots else nothing for s, items in enumerate(every)]
    drawn = draw_candidates(
        spec.sizes, config.num_negatives, pools=pools, generator=generator, device=device, slots=slots
    )
    return with_batch_items(drawn, index, slots) if kind == "in_batch_softmax" else drawn


def _kind(config: ModelConfig, value: Tensor | None) -> str:
    return config.link_loss if value is None else config.value_loss


def _scores(decoder: KruskalDecoder, rows: Sequence[Tensor], index: Tensor) -> Tensor:
    """Score tuples: from the rows that they name where these are fewer than the items, or else from all."""
    if index.size(1) * len(rows) < sum(table.size(0) for table in rows):
        return decoder.score_rows([table.index_select(0, items) for table, items in zip(rows, index, strict=True)])
    out: Tensor = decoder(rows, index)
    return out
