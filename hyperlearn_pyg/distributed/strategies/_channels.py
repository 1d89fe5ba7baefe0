"""The hidden channels of a stack of layers, and which of them each worker of a round has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hyperlearn_pyg.errors import InputError


@dataclass(eq=False)
class Hidden:
    """Channels that are dealt together: the output of a layer, and all that is added to it.

    Attributes:
        name: the layer that makes them.
        heads: number of attention heads that they are made of, 1 for none.
        channels: number of channels of a head.
        whole: why they are not dealt but stay whole on all workers; None where they are dealt.
    """

    name: str
    heads: int
    channels: int
    whole: str | None = None
    _same: Hidden | None = field(default=None, repr=False)

    @property
    def width(self) -> int:
        """All channels."""
        return self.heads * self.channels

    def find(self) -> Hidden:
        """Return the channels that these were joined to."""
        return self if self._same is None else self._same.find()

    def join(self, other: Hidden, where: str) -> None:
        """Deal these and others alike."""
        one, two = self.find(), other.find()
        if one is two:
            return
        if one.heads > 1 and two.heads > 1 and one.heads != two.heads:
            raise InputError(
                f"{where} adds {one.heads} heads ({one.name!r}) to {two.heads} ({two.name!r}): heads are dealt whole, "
                "so GIST needs as many in both"
            )
        if two.heads > one.heads:
            one, two = two, one
        two._same = one
        if two.whole is not None:
            one.keep_whole(two.whole)

    def keep_whole(self, why: str) -> None:
        """Let all workers have all of them."""
        root = self.find()
        root.whole = root.whole or why

    def units(self, workers: int) -> tuple[int, bool]:
        """Return how many equal units are dealt, and whether these are heads; channels of every head otherwise.

        Raises:
            InputError: neither heads nor channels can be dealt in equal parts.
        """
        root = self.find()
        if root.heads > 1 and root.heads % workers == 0:
            return root.heads, True
        if root.channels % workers:
            what = f"{root.heads} heads of {root.channels}" if root.heads > 1 else f"{root.channels}"
            raise InputError(
                f"the {what} hidden channels of {root.name!r} cannot be dealt to {workers} workers in equal parts: "
                f"make them a multiple of {workers}, or take another number of workers"
            )
        return root.channels, False


@dataclass(frozen=True)
class Segment:
    """A run of channels of a tensor: hidden ones, or ones that stay whole (``hidden`` is None).

    Attributes:
        hidden: what is dealt.
        width: how many there are.
        part: ``"flat"``: channels of all heads, ``"heads"``: one entry a head, ``"channels"``: those of one head.
    """

    hidden: Hidden | None
    width: int
    part: str = "flat"

    @property
    def dealt(self) -> Hidden | None:
        """What is dealt of it, if anything is."""
        root = None if self.hidden is None else self.hidden.find()
        return None if root is None or root.whole is not None else root


#: The channels of a tensor, one run after the other.
Segments = tuple[Segment, ...]


def width_of(segments: Segments) -> int:
    """Return the number of channels."""
    return sum(segment.width for segment in segments)


def whole(width: int) -> Segments:
    """Return channels that stay whole."""
    return (Segment(None, width),)


@dataclass(frozen=True)
class Kept:
    """What one worker has of hidden channels in a round.

    Attributes:
        heads: numbers of the heads it has, rising ``[H']``.
        channels: numbers of the channels it has of each of them, rising ``[C']``.
        of: channels of a head in the whole model.
    """

    heads: Tensor
    channels: Tensor
    of: int

    def part(self, name: str) -> Tensor:
        """Return the numbers that a segment of this part keeps."""
        if name == "flat":
            return (self.heads[:, None] * self.of + self.channels).flatten()
        return self.heads if name == "heads" else self.channels


#: What one worker has in a round, by hidden channels.
Hand = Mapping[Hidden, Kept]


@dataclass(frozen=True)
class Axis:
    """One dimension of a weight.

    Attributes:
        segments: the channels it runs over.
        repeat: how many times, one after the other.
    """

    segments: Segments
    repeat: int = 1

    @property
    def size(self) -> int:
        """Length in the whole model."""
        return self.repeat * width_of(self.segments)

    @property
    def dealt(self) -> bool:
        """Whether a worker has part of it only."""
        return any(segment.dealt is not None for segment in self.segments)

    def index(self, hand: Hand) -> Tensor | None:
        """Return the places that a worker has, rising ``[n]``; None for all."""
        if not self.dealt:
            return None
        parts, start = [], 0
        for _ in range(self.repeat):
            for segment in self.segments:
                hidden = segment.dealt
                kept = torch.arange(segment.width) if hidden is None else hand[hidden].part(segment.part)
                parts.append(kept + start)
                start += segment.width
        return torch.cat(parts)


def deal(hidden: Sequence[Hidden], workers: int, generator: torch.Generator) -> list[dict[Hidden, Kept]]:
    """Deal hidden channels into equal, disjoint groups by a fresh permutation of each.

    Args:
        hidden: what is dealt.
        workers: number of groups.
        generator: draws the permutations; in the same state on all ranks.

    Returns:
        What each worker has.
    """
    hands: list[dict[Hidden, Kept]] = [{} for _ in range(workers)]
    for root in hidden:
        units, by_head = root.units(workers)
        groups = torch.randperm(units, generator=generator).view(workers, -1).sort(dim=1).values
        all_heads, all_channels = torch.arange(root.heads), torch.arange(root.channels)
        for hand, group in zip(hands, groups, strict=True):
            hand[root] = Kept(group if by_head else all_heads, all_channels if by_head else group, root.channels)
    return hands


def take(tensor: Tensor, index: Sequence[Tensor | None]) -> Tensor:
    """Return the block ``tensor[ix_(*index)]``; None stands for a whole dimension."""
    for dim, places in enumerate(index):
        if places is not None:
            tensor = tensor.index_select(dim, places.to(tensor.device))
    return tensor


def put_(tensor: Tensor, index: Sequence[Tensor | None], block: Tensor) -> None:
    """Overwrite the block ``tensor[ix_(*index)]``."""
    places = []
    for dim, given in enumerate(index):
        along = torch.arange(tensor.size(dim)) if given is None else given
        places.append(along.to(tensor.device).view(-1, *[1] * (tensor.dim() - dim - 1)))
    tensor[tuple(places)] = block
