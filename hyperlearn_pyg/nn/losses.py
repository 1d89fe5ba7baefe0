from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hyperlearn_pyg.nn.context_dropout import ContextDropout
from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder
from hyperlearn_pyg.nn.decoder.level import LevelDecoder
from hyperlearn_pyg.ops.kruskal import cp_score, gram_norm

_CHUNK = 16384  # tuples
_CELLS = 1 << 23  # scores, of tuples times candidates


def loss_mass(count: int, weight: Tensor | None = None) -> float | Tensor:
    """Return what a sum over ``count`` tuples is divided by to be a mean: their number, or the sum of their weights.

    Never zero, so that the mean of nothing is zero.
    """
    if weight is None:
        return float(max(count, 1))
    return weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def masked_squared_error(
    score: Tensor, value: Tensor, weight: Tensor | None = None, *, mass: float | Tensor | None = None
) -> Tensor:
    r"""Return the mean squared error over observed entries, :math:`\frac{1}{\sum w} \sum_e w_e (s_e - x_e)^2`.

    Args:
        score: ``[E]``.
        value: ``[E]``.
        weight: ``[E]``; ones where absent.
        mass: what the sum is divided by; :math:`\sum w` where absent. The losses of the parts of a batch add up where
            all have the mass of the whole.

    Returns:
        A scalar; zero for no entries.
    """
    mass = loss_mass(score.numel(), weight) if mass is None else mass
    if weight is None:
        return F.mse_loss(score, value, reduction="sum") / mass
    return (weight * (score - value).square()).sum() / mass


def all_cells_squared_error(
    columns: Sequence[Tensor],
    index: Tensor,
    value: Tensor,
    *,
    unobserved: float,
    weight: Tensor | None = None,
    share: float | Tensor = 1.0,
) -> Tensor:
    r"""Return the squared error over **all** cells of the tensor, without forming it.

    .. math::
        \sum_{e \in \Omega} w_e (x_e - s_e)^2 + w_0 \sum_{e \notin \Omega} s_e^2
        = \sum_{e \in \Omega} \left[ w_e (x_e - s_e)^2 - w_0 s_e^2 \right]
        + w_0 \lVert [\![C_1, \ldots, C_k]\!] \rVert_F^2

    with the last norm by the Gram identity. Exact for distinct tuples; cost linear in tuples and items.

    Args:
        columns: Kruskal columns of each slot ``[N_s, C]``.
        index: observed tuples ``[k, E]``, distinct.
        value: their values ``[E]``.
        unobserved: the weight :math:`w_0` of the cells not observed (their target is zero).
        weight: weight of each observed tuple ``[E]``; ones where absent.
        share: the share of all observed tuples that these are; so much of the last norm is counted, so that the
            losses of the batches of an epoch add up to the loss of the whole.
    """
    observed = observed_cells_error(columns, index, value, unobserved=unobserved, weight=weight)
    return observed + share * unobserved * gram_norm(columns)


def observed_cells_error(
    columns: Sequence[Tensor], index: Tensor, value: Tensor, *, unobserved: float, weight: Tensor | None = None
) -> Tensor:
    r"""Return the terms of :func:`all_cells_squared_error` that observed tuples have, without the norm.

    .. math::
        \sum_{e \in \Omega} \left[ w_e (x_e - s_e)^2 - w_0 s_e^2 \right]

    A plain sum: those of the parts of a batch add up. The arguments are the same.
    """
    score = cp_score(columns, index)
    error = (value - score).square()
    return (error if weight is None else weight * error).sum() - unobserved * score.square().sum()


def sampled_loss(
    decoder: KruskalDecoder,
    rows: Sequence[Tensor],
    index: Tensor,
    *,
    num_negatives: int,
    candidates: Sequence[Tensor] | None = None,
    kind: str = "logistic",
    in_batch: bool = False,
    generator: torch.Generator | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Return the loss of observed 0/1 tuples against uniformly drawn ones, mean over slots and tuples.

    For each slot, ``num_negatives`` candidates are drawn uniformly with replacement and shared by the batch, so that
    all scores are one matrix product. Only the rows that tuples and candidates name are read.

    * ``"logistic"``: :math:`\mathrm{softplus}(-s_e) + \frac{1}{n} \sum_j \mathrm{softplus}(s_{e,j})`
    * ``"softmax"``: :math:`-\log \frac{\exp s_e}{\exp s_e + \sum_j \exp s_{e,j}}`

    A candidate that is the tuple's own item is left out.

    Args:
        decoder: the decoder of the relation.
        rows: what it reads, one ``[N_s, in_channels]`` a slot.
        index: observed tuples ``[k, B]``.
        num_negatives: number of candidates a slot.
        candidates: for each slot the items that they are drawn from; all where absent.
        kind: ``"logistic"`` or ``"softmax"``.
        in_batch: the items of the tuples themselves are candidates of all others as well, see
            :func:`with_batch_items`.
        generator: source of randomness, on the CPU.
        weight: weight of each tuple ``[B]``.

    Raises:
        ValueError: unknown ``kind``, or no candidates.
    """
    _check_kind(kind)
    if num_negatives < 1:
        raise ValueError(f"'num_negatives' must be at least 1 (got {num_negatives})")
    items: list[Tensor] = []
    if index.size(1):
        sizes = [table.size(0) for table in rows]
        items = draw_candidates(sizes, num_negatives, pools=candidates, generator=generator, device=index.device)
        items = with_batch_items(items, index) if in_batch else items
    mass = loss_mass(index.size(1), weight)
    return candidate_loss(decoder, rows, index, items, kind=kind, mass=mass, weight=weight)


def draw_candidates(
    sizes: Sequence[int],
    num_negatives: int,
    *,
    pools: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    slots: Sequence[int] | None = None,
) -> list[Tensor]:
    """Draw the candidates of a sampled loss, uniformly with replacement, slot after slot.

    Args:
        sizes: number of items of each slot.
        num_negatives: number of candidates ``n`` of each slot.
        pools: for each slot the items that they are drawn from; all where absent.
        generator: source of randomness, on the CPU.
        device: where the candidates are to be.
        slots: the slots to draw for; all where absent.

    Returns:
        ``[n]`` for each slot; ``[0]`` for one that is not among ``slots``.
    """
    out = []
    for slot, size in enumerate(sizes):
        if slots is not None and slot not in slots:
            out.append(torch.empty(0, dtype=torch.long, device=device))
            continue
        pool = None if pools is None else pools[slot]
        size = size if pool is None else pool.numel()
        picked = torch.randint(size, (num_negatives,), generator=generator).to(device)
        out.append(picked if pool is None else pool[picked])
    return out


def with_batch_items(candidates: Sequence[Tensor], index: Tensor, slots: Sequence[int] | None = None) -> list[Tensor]:
    """Add the items of a batch of tuples ``[k, B]`` to the candidates of each slot; each item once, ascending.

    Slots that are not among ``slots`` are left as they are.

    Drawn items alone are rarely hard; those of other tuples of the batch come by their frequency in the data (the
    in-batch negatives of two-tower models: Yi et al., RecSys 2019, without its correction).
    """
    return [
        torch.cat([drawn, own]).unique() if slots is None or slot in slots else drawn
        for slot, (drawn, own) in enumerate(zip(candidates, index, strict=True))
    ]


def full_softmax_loss(
    decoder: KruskalDecoder,
    rows: Sequence[Tensor],
    index: Tensor,
    *,
    candidates: Sequence[Tensor] | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Return the cross-entropy of each slot's item among all items, mean over slots and tuples.

    .. math::
        \frac{1}{k \sum_e w_e} \sum_e w_e \sum_{s=1}^{k} \Big( \log \sum_{j=1}^{N_s} \exp \tilde{x}(i_1, \ldots, j,
        \ldots, i_k) - \tilde{x}(i_1, \ldots, i_k) \Big)

    ("1vsAll"; Lacroix, Usunier and Obozinski, ICML 2018, eq. 3). The scores are made in chunks of tuples, forward and
    backward: cost :math:`O(B \sum_s N_s C)`, memory a chunk.

    Args:
        decoder: the decoder of the relation.
        rows: what it reads, one ``[N_s, in_channels]`` a slot.
        index: observed tuples ``[k, B]``.
        candidates: for each slot the distinct items to choose among; all where absent.
        weight: weight of each tuple ``[B]``.

    Returns:
        A scalar; zero for no tuples.
    """
    if candidates is None:
        candidates = [torch.arange(table.size(0), device=index.device) for table in rows]
    mass = loss_mass(index.size(1), weight)
    return candidate_loss(decoder, rows, index, candidates, kind="softmax", mass=mass, weight=weight)


def level_cross_entropy(
    decoder: LevelDecoder,
    rows: Sequence[Tensor],
    index: Tensor,
    value: Tensor,
    weight: Tensor | None = None,
    *,
    mass: float | Tensor | None = None,
) -> Tensor:
    r"""Return the cross-entropy of the levels of values, :math:`-\frac{1}{\sum w} \sum_e w_e \log p(l_e \mid e)`.

    Args:
        decoder: gives the probability of every level.
        rows: what it reads, one ``[N_s, in_channels]`` a slot.
        index: observed tuples ``[k, E]``.
        value: their values ``[E]``; the decoder tells their levels.
        weight: weight of each tuple ``[E]``; ones where absent.
        mass: see :func:`masked_squared_error`.

    Returns:
        A scalar; zero for no entries.
    """
    mass = loss_mass(value.numel(), weight) if mass is None else mass
    loss = F.cross_entropy(decoder.level_scores(rows, index), decoder.levels_of(value), reduction="none")
    return (loss if weight is None else loss * weight).sum() / mass


def row_norms(rows: Sequence[Tensor], index: Tensor, power: int = 2) -> Tensor:
    r"""Return :math:`\sum_e \sum_s \sum_r |A_s[i_s, r]|^p`: the penalty on the rows that tuples name.

    ``power=2`` is L2; ``power=3`` is N3, the weighted nuclear 3-norm, which in contrast to L2 is a norm of the tensor
    of order three (Lacroix, Usunier and Obozinski, ICML 2018, section 4). Items are counted as often as they occur.
    The sums of the parts of a batch add up.

    Args:
        rows: one ``[N_s, C]`` a slot.
        index: tuples ``[k, B]``.
        power: the power ``p``, 2 or 3.

    Raises:
        ValueError: another power.
    """
    if power not in (2, 3):
        raise ValueError(f"'power' must be 2 (L2) or 3 (N3) (got {power})")
    total = rows[0].new_zeros(())
    for table, items in zip(rows, index, strict=True):
        often = items.numel() > table.size(0)  # then each row once, times how often it is named
        named = table if often else table.index_select(0, items)
        size = named.square() if power == 2 else named.square() * named.abs()
        count = torch.bincount(items, minlength=table.size(0)).to(size.dtype) if often else None
        total = total + (size.sum() if count is None else (size.sum(1) * count).sum())
    return total


def candidate_loss(
    decoder: KruskalDecoder,
    rows: Sequence[Tensor],
    index: Tensor,
    candidates: Sequence[Tensor],
    *,
    kind: str,
    mass: float | Tensor,
    weight: Tensor | None = None,
    items: Tensor | None = None,
    candidate_items: Sequence[Tensor] = (),
    slots: Sequence[int] | None = None,
    dropout: ContextDropout | None = None,
) -> Tensor:
    """Return the loss of :func:`sampled_loss` against given candidates, divided by ``mass`` and the number of slots.

    The losses of the parts of a batch add up where all have the candidates and the mass of the whole. A side input of
    the decoder that is fitted ``apart`` has a loss of its own, of its scores alone, which is added.

    Args:
        decoder: the decoder of the relation.
        rows: what it reads, one ``[N_s, in_channels]`` a slot.
        index: observed tuples ``[k, B]``.
        candidates: rows ``[n]`` of the candidates of each slot; may be left out for no tuples.
        kind: ``"logistic"`` or ``"softmax"``.
        mass: see :func:`loss_mass`.
        weight: weight of each tuple ``[B]``.
        items: the numbers of the items ``[k, B]``, where ``rows`` are parts of the tables and the decoder has counts.
        candidate_items: the numbers of the candidates of each slot, in the same case.
        slots: the slots whose item is to be told from its candidates, where it is not every one of them.
        dropout: dropout of the columns of the other slots; none where absent.

    Raises:
        ValueError: unknown ``kind``.
    """
    _check_kind(kind)
    slots = range(len(rows)) if slots is None else slots
    known, names = (index, candidates) if items is None else (items, candidate_items)
    named = [table.index_select(0, own) for table, own in zip(rows, index, strict=True)]
    count = index.size(1)
    if count == 0:
        nothing = decoder.score_rows(named).sum()
        return nothing if decoder.counts is None else nothing + decoder.counts(known).sum()
    drawn = {s: decoder.terms(s, rows[s].index_select(0, candidates[s])) for s in slots}
    tables = _Candidates(drawn, candidates, names, dropout)
    chunk = max(1, min(_CHUNK, _CELLS // max((c.numel() for c in candidates), default=1)))
    if count <= chunk:
        total = _chunk_sum(decoder, kind, tables, index, known, weight, named)
    else:  # the wide temporaries of one chunk at a time, made again in the backward
        split = [table.split(chunk) for table in named]
        total = named[0].new_zeros(())
        for number, start in enumerate(range(0, count, chunk)):
            part = slice(start, start + chunk)
            own = [pieces[number] for pieces in split]
            w = None if weight is None else weight[part]
            arguments = (decoder, kind, tables, index[:, part], known[:, part], w, own)
            total = total + checkpoint(_chunk_sum, *arguments, use_reentrant=False, preserve_rng_state=False)
    return total / (len(slots) * mass)


def _check_kind(kind: str) -> None:
    if kind not in _PER_TUPLE:
        raise ValueError(f"'kind' must be one of {sorted(_PER_TUPLE)} (got {kind!r})")


class _Candidates(NamedTuple):
    """The candidates of each slot: terms (of those predicted), rows in the tables, numbers of items; and a dropout."""

    terms: Mapping[int, Tensor]
    rows: Sequence[Tensor]
    items: Sequence[Tensor]
    dropout: ContextDropout | None = None


def _chunk_sum(
    decoder: KruskalDecoder,
    kind: str,
    drawn: _Candidates,
    index: Tensor,
    items: Tensor,
    weight: Tensor | None,
    named: Sequence[Tensor],
) -> Tensor:
    """Sum the loss over the tuples ``index [k, b]``, whose rows are ``named``, and over the predicted slots."""
    terms, counts = decoder.all_terms(named), decoder.counts
    offset = decoder.offset.to(terms[0].dtype)
    positive = decoder.joint(terms) + offset
    side = None if counts is None else counts(items, leave_out=True)
    total = positive.new_zeros(())
    for slot, table in drawn.terms.items():
        told = terms
        if drawn.dropout is not None:
            told = drawn.dropout(terms, slot, items, terms[0].size(1) - decoder.order * decoder.bias)
            positive = decoder.joint(told) + offset
        negative = decoder.against(told, slot, table) + offset
        own = drawn.rows[slot][None, :] == index[slot][:, None]
        loss_of, scores = _PER_TUPLE[kind], [(positive, negative)]
        if counts is not None and side is not None:
            beside = counts.slot_scores(items, slot, drawn.items[slot], leave_out=True)
            scores = [*scores, (side, beside)] if counts.apart else [(positive + side, negative + beside)]
        loss = torch.stack([loss_of(one, other.masked_fill(own, -torch.inf)) for one, other in scores]).sum(0)
        total = total + (loss if weight is None else loss * weight).sum()
    return total


def _logistic(positive: Tensor, negative: Tensor) -> Tensor:
    return F.softplus(-positive) + F.softplus(negative).mean(1)


def _softmax(positive: Tensor, negative: Tensor) -> Tensor:
    return torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive


_PER_TUPLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"logistic": _logistic, "softmax": _softmax}
