from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hyperlearn_pyg.distributed.adasum import adasum
from hyperlearn_pyg.distributed.route import Route
from hyperlearn_pyg.distributed.wire import Wire


class Exchanged(NamedTuple):
    """What :func:`exchange_rows` returns.

    Attributes:
        rows: the rows that this rank's tuples need ``[sum(route.receive), C]``, see :meth:`Route.tables`.
        shared: the shared parameters, to be used in place of those given.
        tie: a zero ``[]``. Add it to the loss: then every rank takes part in the backward messages, even one whose
            tuples are none or whose decoder reads no row.
    """

    rows: Tensor
    shared: tuple[Tensor, ...]
    tie: Tensor


def exchange_rows(
    rows: Tensor, route: Route, wire: Wire, shared: Sequence[Tensor] = (), *, pending: Sequence[Tensor] = ()
) -> Exchanged:
    """Send each rank the rows that its tuples need; gradients go back to the ranks that hold the rows.

    Every rank scores its own tuples, so the loss is a sum over ranks and each rank calls ``backward`` on its own part
    (see :func:`sum_value`). All messages of the backward pass are in this one node: first the gradients of the rows,
    then those of ``shared``, summed over the ranks once.

    Args:
        rows: the rows to send, from :meth:`Route.select`: ``[sum(route.send), C]``, one type on all ranks.
        route: who gets which.
        wire: the ranks of the route.
        shared: parameters that every rank has and applies to its own tuples (of decoders), in one order on all ranks.
            What is computed from values that :func:`gather_values` returned must not use them from here: there each
            rank has the whole gradient already.
        pending: for each of ``shared`` the parameter that holds gradients which no message has summed yet; they are
            taken along, and the parameter's ``grad`` is emptied for the sum.

    Raises:
        ValueError: ``rows`` or ``wire`` do not fit the route.
    """
    count = sum(route.send) if not route.full else route.send[route.rank]
    if rows.dim() != 2 or rows.size(0) != count:
        raise ValueError(f"'rows' must have shape [{count}, C] for this route (got {list(rows.shape)})")
    if (wire.rank, wire.world_size) != (route.rank, route.layout.world_size):
        here = f"rank {wire.rank} of {wire.world_size}"
        raise ValueError(f"'route' must be made for {here} (got rank {route.rank} of {route.layout.world_size})")
    anchor = torch.zeros((), dtype=rows.dtype, device=rows.device, requires_grad=True)
    got, tie, *passed = ExchangeRows.apply(anchor, rows, route, wire, tuple(pending), *shared)  # type: ignore[no-untyped-call]
    return Exchanged(got, tuple(passed), tie)


def gather_values(values: Tensor, sizes: Sequence[int], wire: Wire) -> Tensor:
    """Return the values of all ranks in order of rank ``[sum(sizes), ...]``, from ``[sizes[rank], ...]`` of each.

    For a loss that no sum over tuples is (a ranking loss, or Gram matrices of modalities): every rank computes it
    whole and alike, so the gradient of a rank's own values is its slice, without a message.

    Raises:
        ValueError: ``sizes`` do not fit.
    """
    if len(sizes) != wire.world_size or values.size(0) != sizes[wire.rank]:
        wanted = f"{wire.world_size} counts with {values.size(0)} as that of rank {wire.rank}"
        raise ValueError(f"'sizes' must be {wanted} (got {list(sizes)})")
    out: Tensor = GatherValues.apply(values, tuple(sizes), wire)  # type: ignore[no-untyped-call]
    return out


def sum_value(value: Tensor, wire: Wire) -> Tensor:
    """Sum a small tensor over the ranks: the same on every rank to the last bit, added in order of rank.

    The gradient passes as it is: each rank's part gets the gradient of the sum, without a message. So
    ``sum_value(part, wire).backward()`` on every rank gives the gradients of the whole loss.
    """
    out: Tensor = SumValue.apply(value, wire)  # type: ignore[no-untyped-call]
    return out


def sum_grads(
    parameters: Sequence[Tensor], wire: Wire, *, pending: Sequence[Tensor] = (), combine: str = "sum"
) -> tuple[Tensor, ...]:
    """Pass parameters through; their gradients are summed over the ranks that hold the same ones (data replicas).

    Call it once with all parameters of the rank: one node, one message a type of scalar. Use what it returns in place
    of the parameters (:func:`torch.func.functional_call`). For ``pending`` see :func:`exchange_rows`.

    With ``combine="adasum"`` the gradients of each parameter are combined by
    :func:`~hyperlearn_pyg.distributed.adasum.adasum` in order of rank, and each rank sends its own to all others.
    """
    if wire.world_size == 1 or not parameters:
        return tuple(parameters)
    return tuple(SumGrads.apply(wire, tuple(pending), combine, *parameters))  # type: ignore[no-untyped-call]


class _Like(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> _Like:
        return cls(tensor.shape, tensor.dtype, tensor.device)


class ExchangeRows(Function):
    """Rows to where tuples are scored, gradients back; shared parameters pass, their gradients are summed.

    The anchor needs a gradient always, so the node is in every rank's graph, and all ranks exchange in the backward
    pass even where all parameters of a rank are frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, rows: Tensor, route: Route, wire: Wire, pending: Sequence[Tensor], *shared: Tensor
    ) -> Any:
        """Exchange the rows; return them, the tie and the shared parameters."""
        ctx.route, ctx.wire, ctx.pending, ctx.like = route, wire, pending, [_Like.of(s) for s in shared]
        ctx.set_materialize_grads(False)
        got = _forth(rows, route, wire)
        ctx.got = _Like.of(got)
        return (got.view_as(got) if got is rows else got, anchor.view_as(anchor), *(s.view_as(s) for s in shared))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, tie: Tensor | None, *shared: Tensor | None) -> Any:
        """Return gradients to the ranks that hold the rows, and sum those of the shared parameters."""
        back = _back(_or_zeros(grad, ctx.got), ctx.route, ctx.wire)
        grads = _with_pending(shared, ctx.pending)
        summed = _sum_over_ranks(grads, ctx.like, ctx.needs_input_grad[5:], ctx.wire, "shared gradients")
        return (None, back if ctx.needs_input_grad[1] else None, None, None, None, *summed)


class GatherValues(Function):
    """Values of all ranks; the gradient of the own ones is their slice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sizes: tuple[int, ...], wire: Wire) -> Tensor:
        """Gather blocks, padded to the longest."""
        ctx.start, ctx.count = sum(sizes[: wire.rank]), values.size(0)
        if wire.world_size == 1:
            return values.view_as(values)
        most = max(sizes)
        block = values.new_zeros(most, *values.shape[1:])
        block[: ctx.count] = values
        out = wire.all_gather(block, "values")
        if len(set(sizes)) == 1:
            return out
        return torch.cat([out[r * most : r * most + n] for r, n in enumerate(sizes)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Take the own slice."""
        return grads[0].narrow(0, ctx.start, ctx.count), None, None


class SumValue(Function):
    """Sum over the ranks; the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, wire: Wire) -> Tensor:
        """Gather and add in order of rank."""
        if wire.world_size == 1:
            return value.view_as(value)
        parts = wire.all_gather(value.detach().unsqueeze(0), "sums")
        out = parts[0].clone()
        for part in parts[1:]:  # in order of rank, whatever the library's order of a reduction is
            out += part
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Pass the gradient."""
        return grads[0], None


class SumGrads(Function):
    """Parameters pass; their gradients are summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, wire: Wire, pending: Sequence[Tensor], combine: str, *parameters: Tensor) -> Any:
        """Pass the parameters."""
        ctx.wire, ctx.pending, ctx.combine = wire, pending, combine
        ctx.like = [_Like.of(p) for p in parameters]
        ctx.set_materialize_grads(False)
        return tuple(p.view_as(p) for p in parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Sum the gradients."""
        grads, kind = tuple(_with_pending(grads, ctx.pending)), "data gradients"
        needed = ctx.needs_input_grad[3:]
        return (None, None, None, *_sum_over_ranks(grads, ctx.like, needed, ctx.wire, kind, ctx.combine))


def _forth(rows: Tensor, route: Route, wire: Wire) -> Tensor:
    if not route.full or wire.world_size == 1:
        return wire.all_to_all(rows, route.send, route.receive, "rows")
    if len(set(route.receive)) == 1 and wire.dtype is None:
        return wire.all_gather(rows, "rows")
    return wire.all_to_all(rows.repeat(wire.world_size, 1), route.send, route.receive, "rows")


def _back(grad: Tensor, route: Route, wire: Wire) -> Tensor:
    """Return gradients to the holders of rows; no reduce-scatter, as that of gloo was seen to send twice the bytes."""
    back = wire.all_to_all(grad, route.receive, route.send, "row gradients")
    if route.full and wire.world_size > 1:
        return back.view(wire.world_size, route.send[0], grad.size(1)).sum(0)
    return back


def _with_pending(grads: Sequence[Tensor | None], pending: Sequence[Tensor]) -> list[Tensor | None]:
    """Take along the gradients that the parameters hold; what comes back is then the whole, and replaces them."""
    out = list(grads)
    for place, parameter in enumerate(pending):
        held, grad = parameter.grad, out[place]
        if held is not None:
            out[place] = held if grad is None else grad + held
            parameter.grad = None
    return out


def _sum_over_ranks(
    grads: Sequence[Tensor | None],
    like: Sequence[_Like],
    needed: Sequence[bool],
    wire: Wire,
    kind: str,
    combine: str = "sum",
) -> list[Tensor | None]:
    """Sum gradients over ranks, one message a type of scalar; one that no rank has stays :obj:`None`.

    A rank without some gradient sends zeros: the messages must not depend on what a rank happened to use. How many
    ranks had it travels behind the gradients (a scalar each), and is read only where it is missing here.
    """
    if wire.world_size == 1:
        return list(grads)
    out: list[Tensor | None] = [None] * len(grads)
    wanted = [i for i, need in enumerate(needed) if need]
    for dtype in sorted({like[i].dtype for i in wanted}, key=str):
        places = [i for i in wanted if like[i].dtype == dtype]
        parts = [_or_zeros(grads[i], like[i]).reshape(-1) for i in places]
        there = torch.tensor([grads[i] is not None for i in places], dtype=dtype).to(parts[0].device)
        sizes, flat = [*(part.numel() for part in parts), len(places)], torch.cat([*parts, there])
        if combine == "adasum":
            *blocks, flags = wire.all_gather(flat[None], kind).split(sizes, dim=1)
            sums, counts = [adasum(block.unbind()) for block in blocks], flags.sum(0)
        else:
            *sums, counts = wire.all_reduce_(flat, kind).split(sizes)
        for i, total, count in zip(places, sums, counts, strict=True):
            if grads[i] is not None or bool(count > 0):
                out[i] = total.view(like[i].shape)
    return out


def _or_zeros(grad: Tensor | None, like: _Like) -> Tensor:
    return torch.zeros(like.shape, dtype=like.dtype, device=like.device) if grad is None else grad
