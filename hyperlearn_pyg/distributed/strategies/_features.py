"""Features without values, which know their channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.distributed.strategies._channels import Segments, whole, width_of
from hyperlearn_pyg.errors import InputError

#: Functions that act on every number, or on pairs of numbers, by themselves.
# fmt: off
_BY_NUMBER = frozenset((
        "abs", "add", "alpha_dropout", "bfloat16", "celu", "clamp", "clone", "contiguous", "cos", "cpu", "cuda",
        "detach", "div", "double", "dropout", "elu", "exp", "feature_dropout", "float", "gelu", "half", "hardsigmoid",
        "hardswish", "hardtanh", "leaky_relu", "log1p", "logsigmoid", "maximum", "minimum", "mish", "mul",
        "nan_to_num", "neg", "pow", "radd", "relu", "relu6", "requires_grad", "rmul", "rsub", "selu", "sigmoid",
        "silu", "sin", "softplus", "softsign", "sqrt", "square", "sub", "tanh", "threshold", "to", "true_divide",
        "truediv", "type_as", "where"
))
# fmt: on
#: Functions that mix channels, and are at home behind the last layer: they keep these channels whole.
_MIXING = frozenset(("log_softmax", "normalize", "softmax"))
_WAYS = (
    "give it the form of layers that GIST knows with functions of every number between them (activations, dropout, "
    "sums, concatenation of channels), or describe a layer of your own by 'channel_roles'"
)


class Traced(Tensor):
    """Features without values, and the channels they have."""

    segments: Segments

    @classmethod
    def make(cls, shape: Sequence[int], dtype: torch.dtype, segments: Segments) -> Traced:
        """Return features of a shape whose last dimension has these channels."""
        out: Traced = torch.empty(tuple(shape), dtype=dtype, device="meta").as_subclass(cls)
        out.segments = segments
        return out

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function on the shapes, and tell the channels of what it gives."""
        kwargs = {} if kwargs is None else kwargs
        name = getattr(func, "__name__", str(func)).strip("_")
        name = name[1:] if name in ("iadd", "isub", "imul") else name
        seen = [part for part in tensors_in([*args, *kwargs.values()]) if isinstance(part, Traced)]
        if name == "getitem" and _picks_rows(args):
            return Traced.make(_rows(args[0], args[1]), args[0].dtype, args[0].segments)
        bare = [_to_meta(part) for part in args]
        named = {key: _to_meta(part) for key, part in kwargs.items()}
        out = super().__torch_function__(func, types, bare, named)  # type: ignore[no-untyped-call]
        if not isinstance(out, Tensor):
            return out
        if not isinstance(out, Traced):
            out = out.as_subclass(cls)
        out.segments = _segments(name, out, seen, args, kwargs)
        return out


def _segments(name: str, out: Tensor, seen: list[Traced], args: Any, kwargs: Any) -> Segments:
    """Return the channels of the result of a function."""
    where = f"'{name}'"
    if out.dim() == 0:
        width = 0
    else:
        width = out.size(-1)
    if name in ("cat", "concat", "concatenate"):
        parts: list[Any] = list(args[0] if args else kwargs["tensors"])
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        runs = [part.segments if isinstance(part, Traced) else whole(part.size(-1)) for part in parts]
        return sum(runs, ()) if dim in (-1, out.dim() - 1) else join(runs, where)
    if name in _BY_NUMBER and out.dim():
        everything = [part for part in tensors_in([*args, *kwargs.values()]) if part.dim() and part.size(-1) == width]
        return join([p.segments if isinstance(p, Traced) else whole(width) for p in everything], where)
    dealt = [s.hidden for part in seen for s in part.segments if s.hidden is not None]
    if name in _MIXING:
        for hidden in dealt:
            hidden.keep_whole(f"whole, since {where} mixes them")
    elif dealt:
        raise InputError(f"GIST cannot follow the channels of {dealt[0].name!r} through {where}: {_WAYS}")
    return whole(width)


def join(runs: Sequence[Segments], where: str) -> Segments:
    """Return the channels of tensors that are brought together number by number.

    Raises:
        InputError: one ends within another.
    """
    first, *others = runs
    for other in others:
        if [s.width for s in first] != [s.width for s in other]:
            if all(s.hidden is None for s in (*first, *other)):
                return whole(width_of(first))
            raise InputError(
                f"{where} brings together channels that are made up differently ({_made_up(first)}; "
                f"{_made_up(other)}), which GIST cannot deal alike: {_WAYS}"
            )
        for one, two in zip(first, other, strict=True):
            pair = [s.hidden for s in (one, two) if s.hidden is not None]
            if len(pair) == 2:
                pair[0].join(pair[1], where)
            for hidden in pair[: len(pair) % 2]:
                hidden.keep_whole(f"whole, since {where} ties them to whole ones")
    return first


def _made_up(segments: Segments) -> str:
    return " + ".join(f"{s.width} of {s.hidden.name!r}" if s.hidden else str(s.width) for s in segments)


def tensors_in(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)


def _to_meta(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_to_meta(part) for part in value)
    return value.to("meta") if isinstance(value, Tensor) and not isinstance(value, Traced) else value


def _picks_rows(args: Any) -> bool:
    """Tell whether ``x[index]`` picks rows."""
    return isinstance(args[0], Traced) and args[0].dim() > 1 and isinstance(args[1], (slice, Tensor))


def _rows(x: Tensor, index: Any) -> tuple[int, ...]:
    if isinstance(index, slice):
        return (len(range(*index.indices(x.size(0)))), *x.shape[1:])
    rest = x.shape[index.dim() :] if index.dtype == torch.bool else x.shape[1:]
    return (*((x.size(0),) if index.dtype == torch.bool else index.shape), *rest)
