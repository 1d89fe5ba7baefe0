"""Residual independent subnetwork training: each worker trains some of the residual blocks of a deep stack."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module, ModuleList

from hyperlearn_pyg.distributed.strategies._narrow import fill, skeleton, tensors_of
from hyperlearn_pyg.distributed.strategies._parted import Parted
from hyperlearn_pyg.errors import InputError

_SCALE = "residual_scale"


class ResIST(Parted):
    r"""Residual independent subnetwork training (Dun, Wolfe, Jermaine and Kyrillidis, arXiv:2107.00961).

    In each round the residual blocks beyond the first are dealt to the workers by a fresh permutation, the same on all
    ranks, in shares that differ by one at most; a worker whose share is below ``min_blocks`` gets the blocks that come
    next in the permutation besides. Each trains a shallow stack of the first block and its own, in their order, for as
    many local steps as the loop takes. Then a block becomes the mean of the workers that held it, and what all have
    (the maps in and out, the first block, norms) is averaged.

    ::

        resist = ResIST(stack)
        for _ in range(rounds):
            with resist.round() as sub:
                optimizer = torch.optim.Adam(sub.parameters(), lr=0.01)  # anew in every round
                for _ in range(local_steps):
                    ...  # the plain loop, with 'sub' in place of the stack
        stack.load_state_dict(resist.full_state_dict())

    The branches of dealt blocks then add up over a deeper stack than they were trained in, so the state dict holds a
    ``residual_scale`` of

    .. math:: \max \left( \frac{1}{m}, \frac{\mathtt{min\_blocks}}{B} \right)

    for them, with :math:`m` workers and :math:`B` blocks that are dealt. In one process it is 1, and a round is plain
    training.

    A rank stores one in :math:`m` of the dealt blocks and fetches those of its round; a block travels to each worker
    that holds it and back. The stack itself is not changed, but that rank 0's values are sent to all ranks.

    Args:
        stack: a :class:`~hyperlearn_pyg.nn.ResidualHypergraphStack`, or a module with a ``ModuleList`` of alike
            ``blocks`` whose branches it adds, all but the first times its buffer ``residual_scale``.
        min_blocks: how many dealt blocks a worker has at least.
        seed: draws the permutations.
        process_group: the workers; the default group where absent, or this process alone where there is none.
        mesh: a mesh with an axis ``"replica"``, in place of ``process_group``.
        timeout: seconds that a rank is waited for; that of the group where absent.

    Attributes:
        rounds: how many rounds are done.

    Raises:
        InputError: the module has no such blocks, or they are not alike, or ``min_blocks`` is not possible.
        RanksDifferError: the ranks have different stacks or options.
    """

    def __init__(
        self,
        stack: Module,
        *,
        min_blocks: int = 1,
        seed: int = 0,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(process_group=process_group, mesh=mesh, timeout=timeout)
        with self.ranks.all_or_none("ResIST cannot deal the stack"):
            self.num_dealt = _check(stack) - 1
            if not 0 <= min_blocks <= self.num_dealt:
                raise InputError(
                    f"'min_blocks' must lie between 0 and {self.num_dealt}, the blocks beyond the first (got "
                    f"{min_blocks})"
                )
        self.min_blocks, self.seed, self.rounds = min_blocks, seed, 0
        shapes = {name: list(tensor.shape) for name, tensor in tensors_of(stack).items()}
        self.require_alike(seed=seed, min_blocks=min_blocks, weights=shapes)
        self._bare, self._stack = skeleton(stack), weakref.ref(stack)
        self._saved = list(stack.state_dict())
        for tensor in tensors_of(stack).values():
            self.broadcast_([tensor.detach()])
        self._keep(stack)

    def _keep(self, stack: Module) -> None:
        """Keep what all share, and the dealt blocks of this rank, stacked ``[n, ...]`` for each tensor of a block."""
        self._shared = {n: t.detach().clone() for n, t in tensors_of(stack).items() if _block_of(n) < 1}
        own: Any = stack.blocks
        blocks = [tensors_of(own[number + 1]) for number in self._homes(self.rank, range(self.num_dealt))]
        first = tensors_of(own[0])
        self._blocks = {
            name: torch.stack([block[name].detach() for block in blocks])
            if blocks
            else like.detach().new_empty(0, *like.shape)
            for name, like in first.items()
        }

    def _homes(self, rank: int, numbers: Sequence[int]) -> list[int]:
        """Return which of some dealt blocks a rank stores."""
        return [number for number in numbers if number % self.world_size == rank]

    @property
    def scale(self) -> float:
        """What the branches of dealt blocks are multiplied by in the whole stack."""
        return max(1 / self.world_size, self.min_blocks / self.num_dealt)

    # ------------------------------------------------------------------ rounds

    def hands(self) -> list[list[int]]:
        """Return the dealt blocks of each worker in the coming round, rising; the block after the first is 0."""
        order = torch.randperm(self.num_dealt, generator=self._generator())
        hands, end = [], 0
        for share in order.tensor_split(self.world_size):
            end += len(share)
            more = max(self.min_blocks - len(share), 0)
            hands.append(sorted([*share.tolist(), *order.roll(-end)[:more].tolist()]))
        return hands

    def _part(self, hands: list[list[int]]) -> Module:
        held = hands[self.rank]
        values = {name: tensor.clone() for name, tensor in self._shared.items()}
        values[_SCALE].fill_(1.0)
        for name, stored in self._blocks.items():
            rows = self._fetch(stored, hands)
            values.update({f"blocks.{place + 1}.{name}": rows[place].clone() for place in range(len(held))})
        sub: Any = copy.deepcopy(self._bare)
        sub.blocks = ModuleList([sub.blocks[0], *(sub.blocks[number + 1] for number in held)])
        return fill(sub, values)

    def _counts(self, hands: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """Return how many blocks go to each worker from here, and how many come here from each rank."""
        every = range(self.world_size)
        there = [len(self._homes(self.rank, hands[worker])) for worker in every]
        return there, [len(self._homes(rank, hands[self.rank])) for rank in every]

    def _fetch(self, stored: Tensor, hands: Sequence[Sequence[int]]) -> Tensor:
        """Return one tensor of the blocks of this worker, in their order ``[n, ...]``."""
        there, here = self._counts(hands)
        rows = [number // self.world_size for hand in hands for number in self._homes(self.rank, hand)]
        got = self._travel(stored[rows], there, here)
        return got[self._order(hands).argsort()]

    def _order(self, hands: Sequence[Sequence[int]]) -> Tensor:
        """Return the numbers of this worker's blocks in the order in which they travel: rank by rank."""
        held = hands[self.rank]
        return torch.tensor([n for rank in range(self.world_size) for n in self._homes(rank, held)], dtype=torch.long)

    def _travel(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        flat = self.wire.all_to_all(rows.flatten(1) if rows.dim() > 1 else rows[:, None], send, receive, "blocks")
        return flat.view(-1, *rows.shape[1:])

    def _merge(self, sub: Module, hands: list[list[int]]) -> None:
        trained = tensors_of(sub)
        there, here = self._counts(hands)
        places = [hands[self.rank].index(number) + 1 for number in self._order(hands).tolist()]
        blocks = {}
        for name, stored in self._blocks.items():
            rows = [trained[f"blocks.{place}.{name}"].detach() for place in places]
            sent = torch.stack(rows) if rows else stored.new_empty(0, *stored.shape[1:])
            blocks[name] = self._means(stored, self._travel(sent, here, there), hands)
        shared = {name: trained[name].detach().clone() for name in self._shared if name != _SCALE}
        self.average_([tensor for tensor in shared.values() if tensor.is_floating_point()], "averaged weights")
        self._shared.update(shared)
        self._blocks.update(blocks)

    def _means(self, stored: Tensor, got: Tensor, hands: Sequence[Sequence[int]]) -> Tensor:
        """Return the blocks of this rank, each the mean of the workers that held it; counts become the largest."""
        numbers = [number for hand in hands for number in self._homes(self.rank, hand)]
        out = stored.clone()
        for place, number in enumerate(self._homes(self.rank, range(self.num_dealt))):
            rows = got[[row for row, other in enumerate(numbers) if other == number]]
            out[place] = rows.mean(0) if rows.is_floating_point() else rows.amax(0)
        return out

    # ------------------------------------------------------------------ state

    def full_state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of the whole stack, on every rank, scaled for evaluation. Every rank must call it."""
        self.check()
        values = {name: tensor.clone() for name, tensor in self._shared.items()}
        values[_SCALE].fill_(self.scale)
        most = -(-self.num_dealt // self.world_size)
        for name, stored in self._blocks.items():
            padded = stored.new_zeros(most, *stored.shape[1:])
            padded[: len(stored)] = stored
            parts = self.wire.all_gather(padded, "gathered blocks").view(self.world_size, most, *stored.shape[1:])
            for number in range(self.num_dealt):
                rank, row = number % self.world_size, number // self.world_size
                values[f"blocks.{number + 1}.{name}"] = parts[rank, row].clone()
        return {name: values[name] for name in self._saved}

    def _source(self) -> Module | None:
        return self._stack()

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {"shared": self._shared, "blocks": self._blocks}

    def _place(self) -> list[int]:
        return [*super()._place(), self.num_dealt]


def _block_of(name: str) -> int:
    """Return the block that a tensor of the stack belongs to, -1 for none."""
    head, _, rest = name.partition(".")
    return int(rest.partition(".")[0]) if head == "blocks" else -1


def _check(stack: Any) -> int:
    """Return the number of blocks of a stack that can be dealt."""
    blocks, scale = getattr(stack, "blocks", None), getattr(stack, _SCALE, None)
    if not isinstance(blocks, ModuleList) or not isinstance(scale, Tensor) or len(blocks) < 2:
        raise InputError(
            f"'stack' must have a ModuleList 'blocks' of two residual blocks or more and a buffer '{_SCALE}' that "
            f"multiplies all branches but the first (got a {type(stack).__name__}): take a ResidualHypergraphStack"
        )
    first = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors_of(blocks[0]).items()}
    for number, block in enumerate(blocks):
        own = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors_of(block).items()}
        if own != first:
            name = next(n for n in {**first, **own} if own.get(n) != first.get(n))
            raise InputError(f"all blocks must be alike, and 'blocks.{number}' differs from the first in {name!r}")
    if any(tensor.is_meta for tensor in tensors_of(stack).values()):
        raise InputError("'stack' must have values: build it outside of torch.device('meta')")
    return len(blocks)
