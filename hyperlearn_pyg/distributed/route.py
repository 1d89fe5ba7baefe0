from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor
from typing_extensions import Self

from hyperlearn_pyg.distributed.traffic import _FULL_SHARE, EXCHANGES, exchanged_bytes, split_batch
from hyperlearn_pyg.errors import did_you_mean

MODES = ("auto", *EXCHANGES)


@dataclass(frozen=True)
class Layout:
    """Where the rows of each modality live. The same on every rank.

    Attributes:
        sizes: the number of items of each modality.
        owners: the rank that holds each modality.
        world_size: the number of ranks; some may hold none.
        names: the modalities by rank, in the order of ``sizes`` within a rank.
        offsets: where the rows of each modality start in the table of all rows; the last entry is their total.
        rank_offsets: where the rows of each rank start in that table ``[world_size + 1]``.

    Raises:
        ValueError: a modality without an owner, an owner that is no rank, a negative size.
    """

    sizes: Mapping[str, int]
    owners: Mapping[str, int]
    world_size: int = 1
    names: tuple[str, ...] = field(init=False)
    offsets: tuple[int, ...] = field(init=False)
    rank_offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        names = tuple(sorted(self.sizes, key=lambda name: self.owners[name]))
        totals = [sum(n for m, n in self.sizes.items() if self.owners[m] == r) for r in range(self.world_size)]
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "offsets", _starts([self.sizes[name] for name in names]))
        object.__setattr__(self, "rank_offsets", _starts(totals))

    def _check(self) -> None:
        if self.world_size < 1:
            raise ValueError(f"'world_size' must be at least 1 (got {self.world_size})")
        for name in {**self.sizes, **self.owners}:
            if name not in self.sizes or name not in self.owners:
                raise ValueError(f"'sizes' and 'owners' must name the same modalities (modality {name!r} is in one)")
            if not 0 <= self.owners[name] < self.world_size:
                wrong = f"modality {name!r} is on rank {self.owners[name]}"
                raise ValueError(f"'owners' must be ranks below {self.world_size} ({wrong})")
            if self.sizes[name] < 0:
                raise ValueError(f"'sizes' must not be negative (modality {name!r} has {self.sizes[name]} items)")

    def local(self, rank: int) -> tuple[str, ...]:
        """Return the modalities that a rank holds, in the order of their rows."""
        return tuple(name for name in self.names if self.owners[name] == rank)

    def only(self, modalities: Container[str]) -> Layout:
        """Return the layout of some of the modalities."""
        sizes = {name: size for name, size in self.sizes.items() if name in modalities}
        return Layout(sizes, {name: self.owners[name] for name in sizes}, self.world_size)

    def places(self, modalities: Sequence[str]) -> list[int]:
        """Return the place in ``names`` of the modality of each slot."""
        for name in modalities:
            if name not in self.sizes:
                raise ValueError(f"no modality {name!r} in the layout.{did_you_mean(name, self.names)}")
        return [self.names.index(name) for name in modalities]


@dataclass(frozen=True, eq=False)
class Tuples:
    """The tuples of one relation in a batch, the same on every rank.

    Keep ``index`` in the memory of the CPU: split sizes are read from it, and nothing then waits for a device.

    Attributes:
        modalities: the modality of each slot.
        index: item indices ``[k, B]``, int64.
        shares: how many tuples each rank scores, in order of rank; even blocks where absent.
    """

    modalities: tuple[str, ...]
    index: Tensor
    shares: tuple[int, ...] | None = None

    def split(self, world_size: int) -> tuple[int, ...]:
        """Return how many tuples each rank takes.

        Raises:
            ValueError: ``index`` is no ``[k, B]``, or ``shares`` do not add up to ``B``.
        """
        if self.index.dim() != 2 or self.index.size(0) != len(self.modalities):
            shape = list(self.index.shape)
            raise ValueError(f"'index' must have shape [{len(self.modalities)}, B] for {self.modalities} (got {shape})")
        shares = tuple(split_batch(self.index.size(1), world_size) if self.shares is None else self.shares)
        if len(shares) != world_size or sum(shares) != self.index.size(1) or min(shares) < 0:
            wanted = f"{world_size} counts that sum to {self.index.size(1)}"
            raise ValueError(f"'shares' must be {wanted}, one a rank (got {list(shares)})")
        return shares


@dataclass(frozen=True, eq=False)
class Route:
    """Which rows one rank sends and gets for a batch, and where its tuples find them. Pure arithmetic, no messages.

    Received rows are ordered by modality (see :attr:`Layout.names`), then by item.

    Attributes:
        layout: where the modalities live that some tuple could name. Others take no part: as in one process, their
            parameters get no gradient, not one of zeros, by which Adam would still move them.
        rank: whose route it is.
        full: every rank gets all rows, in place of those that its tuples name.
        pick: rows to send of each own modality, in the order of :meth:`Layout.local`; empty where ``full``.
        order: brings the picked rows into the order of their receivers; :obj:`None` where they are in it.
        send: the number of rows sent to each rank, with itself.
        receive: the number of rows got from each rank, with itself.
        counts: the number of received rows of each modality, in the order of :attr:`Layout.names`.
        index: for each relation, where its own tuples find their rows: ``[k, B_rank]`` into :meth:`tables`.
        blocks: for each relation, the slice of its tuples that this rank scores.
    """

    layout: Layout
    rank: int
    full: bool
    pick: tuple[Tensor, ...]
    order: Tensor | None
    send: tuple[int, ...]
    receive: tuple[int, ...]
    counts: tuple[int, ...]
    index: tuple[Tensor, ...]
    blocks: tuple[slice, ...]

    def select(self, factors: Mapping[str, Tensor], *, like: Tensor | None = None) -> Tensor:
        """Return the rows to send ``[sum(send), C]`` (all own rows, once, where ``full``), differentiable.

        Args:
            factors: ``[N_m, C]`` for each modality of this rank; others are not read.
            like: any ``[*, C]`` tensor: gives the width, type and device where the rank holds no modality.

        Raises:
            ValueError: factors missing, of a wrong number of rows, or of different widths (pad them with zeros).
        """
        own = [self._factor(name, factors) for name in self.layout.local(self.rank)]
        if not own:
            if like is None:
                raise ValueError(f"rank {self.rank} holds no modality: 'like' must tell the width of the rows")
            return like.new_empty(0, like.size(-1))
        if len({tensor.size(1) for tensor in own}) > 1:
            raise ValueError(f"'factors' must have one width (got {sorted({t.size(1) for t in own})}): pad with zeros")
        if not self.full:
            own = [tensor.index_select(0, rows) for tensor, rows in zip(own, self.pick, strict=True)]
        rows = own[0] if len(own) == 1 else torch.cat(own)
        return rows if self.order is None else rows.index_select(0, self.order)

    def _factor(self, name: str, factors: Mapping[str, Tensor]) -> Tensor:
        if name not in factors:
            raise ValueError(f"'factors' must hold modality {name!r}, which rank {self.rank} holds")
        factor, size = factors[name], self.layout.sizes[name]
        if factor.dim() != 2 or factor.size(0) != size:
            raise ValueError(f"factors of modality {name!r} must have shape [{size}, C] (got {list(factor.shape)})")
        return factor

    def tables(self, rows: Tensor) -> dict[str, Tensor]:
        """Split received rows ``[sum(receive), C]`` by modality: the tables that :attr:`index` points into."""
        return dict(zip(self.layout.names, rows.split(list(self.counts)), strict=True))

    def num_bytes(self, width: int, itemsize: int) -> int:
        """Return the bytes that this rank sends to others, forward and backward, for rows of ``width`` scalars."""
        rows = sum(self.send) - self.send[self.rank] + sum(self.receive) - self.receive[self.rank]
        return rows * width * itemsize

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the route with its tensors on a device."""
        pick, index = (tuple(t.to(device, non_blocking=non_blocking) for t in ts) for ts in (self.pick, self.index))
        order = None if self.order is None else self.order.to(device, non_blocking=non_blocking)
        return replace(self, pick=pick, order=order, index=index)


def make_route(tuples: Sequence[Tuples], layout: Layout, rank: int = 0, exchange: str = "auto") -> Route:
    """Work out what a rank sends and gets, so that each rank can score its share of a batch's tuples.

    Each row is sent to a rank once, however many of its tuples, slots and relations name it. All ranks know all
    tuples, so every split size is known without a message. A rank looks at its own tuples and its own modalities only:
    its work does not grow with the number of modalities.

    Args:
        tuples: the batch: one entry a relation, orders may differ.
        layout: where the modalities live.
        rank: whose route to make.
        exchange: ``"rows"``, ``"full"`` (every rank gets all rows) or ``"auto"`` (full where at least 90 percent of
            all rows would be sent anyway; every rank decides the same).

    Raises:
        ValueError: unknown ``exchange`` or modality, wrong shapes, shares or types, or an index outside its modality.
    """
    if exchange not in MODES:
        raise ValueError(f"'exchange' must be one of {MODES} (got {exchange!r}).{did_you_mean(exchange, MODES)}")
    if not 0 <= rank < layout.world_size:
        raise ValueError(f"'rank' must be below {layout.world_size} (got {rank})")
    shares = [entry.split(layout.world_size) for entry in tuples]
    blocks = tuple(slice(sum(s[:rank]), sum(s[: rank + 1])) for s in shares)
    for entry in tuples:
        layout.places(entry.modalities)
        _check_range(entry, layout)
    layout = layout.only({name for entry in tuples for name in entry.modalities})
    if exchange == "full" or (exchange == "auto" and _wants_all(tuples, layout)):
        return _full_route(tuples, layout, rank, blocks)
    slots = [layout.places(entry.modalities) for entry in tuples]
    table, index = _receive_side(tuples, slots, blocks, layout)
    counts = _between(table, layout.offsets)
    receive = _between(table, layout.rank_offsets)
    pick, order, send = _send_side(tuples, slots, layout, rank)
    return Route(layout, rank, False, pick, order, send, receive, counts, index, blocks)


def distinct_rows(tuples: Sequence[Tuples], layout: Layout) -> dict[str, list[int]]:
    """Count the different rows of each modality that the tuples of each rank name.

    :func:`~hyperlearn_pyg.distributed.traffic.exchanged_bytes` tells from it what each rank sends.
    """
    total, ranks = layout.offsets[-1], torch.arange(layout.world_size)
    keys = []
    for entry in tuples:
        rank = _scorers(entry, layout.world_size)
        keys.append((_keys(entry.index, layout.places(entry.modalities), layout) + rank * total).flatten())
    found, _ = _distinct(torch.cat([*keys, ranks[:0]]), layout.world_size * total)
    bounds = (ranks[:, None] * total + torch.tensor(layout.offsets)[:-1]).flatten().tolist()
    counts = torch.tensor(_between(found, [*bounds, layout.world_size * total]), dtype=torch.long)
    return dict(zip(layout.names, counts.view(layout.world_size, -1).t().tolist(), strict=True))


def _wants_all(tuples: Sequence[Tuples], layout: Layout) -> bool:
    """Tell whether nearly all rows would travel; counted exactly, but only where there are tuples enough for that."""
    if layout.world_size == 1:
        return True
    most = {name: [0] * layout.world_size for name in layout.names}
    for entry in tuples:
        for name in entry.modalities:
            most[name] = [n + share for n, share in zip(most[name], entry.split(layout.world_size), strict=True)]
    most = {name: [min(n, layout.sizes[name]) for n in counts] for name, counts in most.items()}
    wanted = _FULL_SHARE * _traffic({name: [layout.sizes[name]] * layout.world_size for name in layout.names}, layout)
    return _traffic(most, layout) >= wanted and _traffic(distinct_rows(tuples, layout), layout) >= wanted


def _traffic(needed: Mapping[str, Sequence[int]], layout: Layout) -> int:
    return sum(exchanged_bytes(layout.owners, needed, layout.world_size, width=1, itemsize=1))


def _scorers(entry: Tuples, world_size: int) -> Tensor:
    """Return the rank that scores each tuple ``[B]``."""
    shares = torch.tensor(entry.split(world_size))
    return torch.arange(world_size).repeat_interleave(shares, output_size=entry.index.size(1))


def _full_route(tuples: Sequence[Tuples], layout: Layout, rank: int, blocks: tuple[slice, ...]) -> Route:
    totals = tuple(b - a for a, b in zip(layout.rank_offsets, layout.rank_offsets[1:], strict=False))
    counts = tuple(layout.sizes[name] for name in layout.names)
    index = tuple(entry.index[:, block] for entry, block in zip(tuples, blocks, strict=True))
    return Route(layout, rank, True, (), None, (totals[rank],) * layout.world_size, totals, counts, index, blocks)


def _receive_side(
    tuples: Sequence[Tuples], slots: Sequence[list[int]], blocks: Sequence[slice], layout: Layout
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the rows that the own tuples name, in order, and where each slot finds its row within its modality."""
    keys = [_keys(t.index[:, block], s, layout) for t, s, block in zip(tuples, slots, blocks, strict=True)]
    flat = torch.cat([*(k.flatten() for k in keys), torch.empty(0, dtype=torch.long)])
    table, inverse = _distinct(flat, layout.offsets[-1])
    starts = torch.searchsorted(table, torch.tensor(layout.offsets))
    parts = inverse.split([k.numel() for k in keys])
    index = [p.view_as(k) - starts[s][:, None] for p, k, s in zip(parts, keys, slots, strict=True)]
    return table, tuple(index)


def _send_side(
    tuples: Sequence[Tuples], slots: Sequence[list[int]], layout: Layout, rank: int
) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[int, ...]]:
    """Return the rows to pick of each own modality, how to order them by receiver, and how many each receiver gets."""
    first, last = layout.rank_offsets[rank], layout.rank_offsets[rank + 1]
    size, keys = last - first, [torch.empty(0, dtype=torch.long)]
    for entry, places in zip(tuples, slots, strict=True):
        own = [s for s, place in enumerate(places) if layout.owners[layout.names[place]] == rank]
        if not own:
            continue
        local = _keys(entry.index[own], [places[s] for s in own], layout) - first
        keys.append((local + _scorers(entry, layout.world_size) * size).flatten())
    found, _ = _distinct(torch.cat(keys), layout.world_size * size)
    send = _between(found, [r * size for r in range(layout.world_size + 1)])
    rows = found.remainder(max(size, 1))
    held = layout.local(rank)
    if len(held) <= 1:
        return (rows,) * len(held), None, send
    offsets = torch.tensor(_starts([layout.sizes[name] for name in held]))
    modality = torch.bucketize(rows, offsets[1:], right=True)
    by_modality = modality.argsort(stable=True)
    picked = (rows - offsets[modality])[by_modality].split(modality.bincount(minlength=len(held)).tolist())
    return tuple(picked), torch.empty_like(by_modality).scatter_(0, by_modality, torch.arange(len(rows))), send


def _check_range(entry: Tuples, layout: Layout) -> None:
    if entry.index.dtype != torch.long or entry.index.device.type != "cpu":
        came = f"{entry.index.dtype} on {entry.index.device}"
        raise ValueError(f"'index' must be int64 on the CPU, split sizes are read from it (got {came}): index.cpu()")
    if entry.index.numel() == 0:
        return
    low, high = (bound.tolist() for bound in entry.index.aminmax(dim=1))
    for slot, name in enumerate(entry.modalities):
        if low[slot] < 0 or high[slot] >= layout.sizes[name]:
            wrong = low[slot] if low[slot] < 0 else high[slot]
            raise ValueError(
                f"'index' of slot {slot} must be from 0 to {layout.sizes[name] - 1}, modality {name!r} has "
                f"{layout.sizes[name]} items (got {wrong})"
            )


def _keys(index: Tensor, places: Sequence[int], layout: Layout) -> Tensor:
    """Return where the rows of ``index`` ``[k, B]`` are in the table of all rows."""
    return index + torch.tensor([layout.offsets[p] for p in places], dtype=torch.long)[:, None]


def _distinct(keys: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """Return the different keys in order, and where each key is among them; a table of bits where it is small."""
    if bound > 8 * keys.numel():
        found, inverse = torch.unique(keys, return_inverse=True)
        return found, inverse
    seen = torch.zeros(bound, dtype=torch.bool)
    seen[keys] = True
    return seen.nonzero().view(-1), (seen.cumsum(0) - 1)[keys]


def _starts(counts: Sequence[int]) -> tuple[int, ...]:
    return (0, *accumulate(counts))


def _between(keys: Tensor, bounds: Sequence[int]) -> tuple[int, ...]:
    """Return how many of the sorted keys are between each two bounds."""
    return tuple(torch.searchsorted(keys, torch.tensor(bounds)).diff().tolist())
