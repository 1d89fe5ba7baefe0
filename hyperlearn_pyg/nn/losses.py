from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hyperlearn_pyg.nn.decoder.kruskal import KruskalDecoder, multiply
from hyperlearn_pyg.ops.kruskal import cp_score, gram_norm

_CHUNK = 16384


def masked_squared_error(score: Tensor, value: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the mean squared error over observed entries, :math:`\frac{1}{\sum w} \sum_e w_e (s_e - x_e)^2`.

    Args:
        score: ``[E]``.
        value: ``[E]``.
        weight: ``[E]``; ones where absent.

    Returns:
        A scalar; zero for no entries.
    """
    if weight is None:
        return F.mse_loss(score, value) if score.numel() else score.sum()
    return (weight * (score - value).square()).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


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
    score = cp_score(columns, index)
    error = (value - score).square()
    observed = (error if weight is None else weight * error).sum() - unobserved * score.square().sum()
    return observed + share * unobserved * gram_norm(columns)


def sampled_loss(
    decoder: KruskalDecoder,
    rows: Sequence[Tensor],
    index: Tensor,
    *,
    num_negatives: int,
    candidates: Sequence[Tensor] | None = None,
    kind: str = "logistic",
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
        generator: source of randomness, on the CPU.
        weight: weight of each tuple ``[B]``.

    Raises:
        ValueError: unknown ``kind``, or no candidates.
    """
    if kind not in _PER_TUPLE:
        raise ValueError(f"'kind' must be one of {sorted(_PER_TUPLE)} (got {kind!r})")
    if num_negatives < 1:
        raise ValueError(f"'num_negatives' must be at least 1 (got {num_negatives})")
    named = [table.index_select(0, own) for table, own in zip(rows, index, strict=True)]
    if index.size(1) == 0:
        return decoder.score_rows(named).sum()
    items, drawn = [], []
    for slot, table in enumerate(rows):
        pool = None if candidates is None else candidates[slot]
        size = table.size(0) if pool is None else pool.numel()
        picked = torch.randint(size, (num_negatives,), generator=generator).to(index.device)
        items.append(picked if pool is None else pool[picked])
        drawn.append(decoder.columns(slot, table.index_select(0, items[slot])))
    count = index.size(1)
    if count <= _CHUNK:
        total = _chunk_sum(decoder, kind, drawn, items, index, weight, named)
    else:  # the wide temporaries of one chunk at a time, made again in the backward
        split = [table.split(_CHUNK) for table in named]
        total = named[0].new_zeros(())
        for number, start in enumerate(range(0, count, _CHUNK)):
            part = slice(start, start + _CHUNK)
            own = [pieces[number] for pieces in split]
            w = None if weight is None else weight[part]
            arguments = (decoder, kind, drawn, items, index[:, part], w, own)
            total = total + checkpoint(_chunk_sum, *arguments, use_reentrant=False, preserve_rng_state=False)
    mass = count if weight is None else weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    return total / (len(rows) * mass)


def _chunk_sum(
    decoder: KruskalDecoder,
    kind: str,
    drawn: Sequence[Tensor],
    items: Sequence[Tensor],
    index: Tensor,
    weight: Tensor | None,
    named: Sequence[Tensor],
) -> Tensor:
    """Sum the loss over the tuples ``index [k, b]``, whose rows are ``named``, and over the slots."""
    columns = decoder.all_columns(named)
    offset = decoder.offset.to(columns[0].dtype)
    positive = multiply(columns).sum(1) + offset
    total = positive.new_zeros(())
    for slot, context in enumerate(decoder.contexts(columns)):
        negative = context @ drawn[slot].t() + offset
        negative = negative.masked_fill(items[slot][None, :] == index[slot][:, None], -torch.inf)
        loss = _PER_TUPLE[kind](positive, negative)
        total = total + (loss if weight is None else loss * weight).sum()
    return total


def _logistic(positive: Tensor, negative: Tensor) -> Tensor:
    return F.softplus(-positive) + F.softplus(negative).mean(1)


def _softmax(positive: Tensor, negative: Tensor) -> Tensor:
    return torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive


_PER_TUPLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"logistic": _logistic, "softmax": _softmax}
