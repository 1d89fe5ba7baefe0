from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hyperlearn_pyg.distributed.loads import ModalityLoad, RelationLoad

#: What is sent: the rows that a rank's tuples name, each once, or whole tables.
EXCHANGES = ("rows", "full")
#: Share of the whole tables from which on "auto" sends them whole.
_FULL_SHARE = 0.9
#: Numbers (of 8 bytes) in a vote: loss, whether something failed, seconds, whether to stop, seed.
VOTE = 5


def split_batch(batch: int, parts: int) -> list[int]:
    """Return the sizes of ``parts`` blocks of a batch; they differ by at most one."""
    return [batch * (part + 1) // parts - batch * part // parts for part in range(parts)]


def expected_unique(items: int, draws: int) -> float:
    r"""Return how many different items of ``items`` are expected in uniform draws: :math:`N (1 - (1 - 1/N)^n)`.

    Items of real data are drawn unevenly, which makes the number smaller.
    """
    if items <= 1 or draws == 0:
        return float(min(items, draws))
    return -items * math.expm1(draws * math.log1p(-1 / items))


def needed_rows(
    loads: Mapping[str, ModalityLoad],
    relations: Sequence[RelationLoad],
    groups: int,
    *,
    exchange: str = "rows",
    replicas: int = 1,
) -> dict[str, list[int]]:
    """Return for each modality how many of its rows each group of ranks reads in a step.

    Tuples are split over the data replicas and then over the groups; where they do not part evenly, this is a replica
    that has most. The relations of a modality share one list of rows.

    Args:
        loads: the modalities.
        relations: the relations.
        groups: number of groups of ranks.
        exchange: ``"rows"``: each once, as many as uniform draws let expect; ``"full"``: all; ``"repeated"``: as often
            as tuples name them, which is what rows cost at most.
        replicas: number of data replicas.
    """
    draws = {name: [0] * groups for name in loads}
    for relation in relations:
        parts = split_batch(max(split_batch(relation.batch, replicas)), groups)
        for name in relation.modalities:
            for group, part in enumerate(parts):
                draws[name][group] += part + (relation.candidates if part else 0)
    if exchange == "repeated":
        return draws
    if exchange == "rows":
        return {name: [round(expected_unique(loads[name].items, n)) for n in row] for name, row in draws.items()}
    tied = tied_modalities(relations)
    return {name: [loads[name].items if name in tied else 0] * groups for name in loads}


def exchanged_bytes(
    owners: Mapping[str, int], needed: Mapping[str, Sequence[int]], groups: int, *, width: int, itemsize: int = 4
) -> list[int]:
    """Return the bytes that a rank of each group sends: rows forward, their gradients backward, nothing to itself.

    Feed it the numbers of rows really asked for, and it gives the bytes on the wire exactly. With ``M`` modalities of
    ``N`` items on a group each, all tables make ``2 (M - 1) N r s``; the rows of ``B`` tuples of order ``k``, with
    repetitions, ``2 (k / M) B r s (1 - 1/M)`` on average, which does not grow with ``M``.

    Args:
        owners: the group that holds each modality.
        needed: for each modality how many of its rows each group reads.
        groups: number of groups.
        width: columns of the rows; narrower ones are padded to the widest.
        itemsize: bytes a number.
    """
    sent = [0] * groups
    for name, counts in needed.items():
        for reader, rows in enumerate(counts):
            if reader != owners[name]:
                sent[owners[name]] += rows * width * itemsize
                sent[reader] += rows * width * itemsize
    return sent


def gram_bytes(owners: Mapping[str, int], relations: Sequence[RelationLoad], groups: int, *, itemsize: int = 4) -> int:
    """Return the bytes of Gram matrices that each rank sends where a loss counts all cells.

    Every rank gathers one ``[C, C]`` of each slot of such a relation; a rank that holds fewer than another sends as
    many, and narrower ones are padded to the widest. Their gradients need no message.
    """
    held = [0] * groups
    for relation in relations:
        for name in relation.modalities if relation.gram else ():
            held[owners[name]] += 1
    side = max((relation.gram for relation in relations), default=0)
    return (groups - 1) * max(held) * side**2 * itemsize


def reduced_bytes(parameters: int, ranks: int, *, itemsize: int = 4) -> int:
    """Return the bytes that each of ``ranks`` sends to sum gradients, counted as a ring: ``2 P s (1 - 1/n)``."""
    return 2 * (ranks - 1) * parameters * itemsize // ranks


def vote_bytes(ranks: int) -> int:
    """Return the bytes of the vote that each of ``ranks`` sends in a step: its part of the loss, and how it fared."""
    return (ranks - 1) * VOTE * 8


def choose_exchange(
    loads: Mapping[str, ModalityLoad],
    relations: Sequence[RelationLoad],
    owners: Mapping[str, int],
    groups: int,
    *,
    replicas: int = 1,
) -> str:
    """Return what "auto" stands for: ``"full"`` where 0.9 of all rows or more would be sent anyway, or ``"rows"``."""
    sent = {}
    for exchange in EXCHANGES:
        needed = needed_rows(loads, relations, groups, exchange=exchange, replicas=replicas)
        sent[exchange] = sum(exchanged_bytes(owners, needed, groups, width=1, itemsize=1))
    return "full" if sent["full"] and sent["rows"] >= _FULL_SHARE * sent["full"] else "rows"


def workspace(
    loads: Mapping[str, ModalityLoad],
    relations: Sequence[RelationLoad],
    world_size: int,
    *,
    exchange: str = "rows",
    itemsize: int = 4,
) -> int:
    """Return the bytes a rank holds for the rows of its tuples and their gradients; for ``"full"`` whole tables too."""
    numbers = 0
    for relation in relations:
        largest = max(split_batch(relation.batch, world_size))
        rows = largest + (relation.candidates if largest else 0)
        numbers += rows * sum(loads[name].width for name in relation.modalities)
    if exchange == "full":
        numbers += sum(loads[name].items * loads[name].width for name in tied_modalities(relations))
    return 2 * numbers * itemsize


def tied_modalities(relations: Sequence[RelationLoad]) -> set[str]:
    """Return the modalities that some relation ties."""
    return {name for relation in relations for name in relation.modalities}
