"""Follow the channels of features through a model, to find what can be dealt to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Module
from torch.nn.parameter import is_lazy
from torch_geometric.nn import JumpingKnowledge, MessagePassing

from hyperlearn_pyg.distributed.strategies._channels import Axis, Hidden, Segment, Segments, whole, width_of
from hyperlearn_pyg.distributed.strategies._features import Traced, join, tensors_in
from hyperlearn_pyg.distributed.strategies._roles import makes_channels, mixing_option, role_of, roles_of
from hyperlearn_pyg.errors import InputError


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of the model.

    Attributes:
        name: as in its state dict.
        axes: what each dimension runs over.
        shape: of the whole.
    """

    name: str
    axes: tuple[Axis, ...]
    shape: torch.Size

    @property
    def dealt(self) -> bool:
        """Whether a worker has part of it only."""
        return any(axis.dealt for axis in self.axes)

    @property
    def shared(self) -> bool:
        """Whether some entries lie between channels that stay whole, so that all workers have them."""
        return all(any(segment.dealt is None for segment in axis.segments) for axis in self.axes)


@dataclass(frozen=True)
class ChannelPlan:
    """What of a model is dealt.

    Attributes:
        weights: all parameters and buffers by name.
        sizes: for each layer its attributes that are numbers of channels: name -> what they count.
        hidden: the hidden channels, in the order of the layers, those that stay whole too.
        layers: where this was found.
    """

    weights: dict[str, Weight]
    sizes: dict[str, dict[str, tuple[Axis, ...]]]
    hidden: tuple[Hidden, ...]
    layers: Layers = field(repr=False)

    @property
    def dealt(self) -> list[Hidden]:
        """The hidden channels that are dealt."""
        return [root for root in self.hidden if root.whole is None]

    def __str__(self) -> str:
        lines = []
        for root in self.hidden:
            made = f"{root.heads} heads of {root.channels}" if root.heads > 1 else str(root.channels)
            lines.append(f"{root.name}: {made} channels, {root.whole or 'dealt'}")
        return "\n".join(lines)


class Layers:
    """The layers of a model, and what their weights were found to run over."""

    def __init__(self, model: Module) -> None:
        self.model = model
        self.hidden: list[Hidden] = []
        self.seen: dict[str, tuple[dict[str, Segments], Segments]] = {}
        self.leaves = {n: m for n, m in model.named_modules() if roles_of(m) is not None and n}
        nested = [n for n in self.leaves if any(n.startswith(f"{other}.") for other in self.leaves)]
        for name in nested:
            del self.leaves[name]

    def new(self, name: str, heads: int, channels: int) -> Segments:
        made = Hidden(name, heads, channels)
        self.hidden.append(made)
        return (Segment(made, made.width),)

    def call(self, name: str, args: Any, kwargs: Any) -> Tensor:
        """Stand in for a layer: tell the channels of its output."""
        layer = self.leaves[name]
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        source, target = x if isinstance(x, (tuple, list)) else (x, x)
        _refuse_more(name, args[1:], kwargs)
        roles = roles_of(layer) or {}
        given = {"in": _segments_in(source, layer), "target": _segments_in(target, layer)}
        before = self.seen.get(name) if roles else None  # without weights and sizes nothing ties one call to another
        if before is not None:
            given = {key: join([before[0][key], given[key]], f"layer {name!r}") for key in given}
            out = before[1]
        else:
            out = self.new(name, *form(layer)) if makes_channels(roles) else given["in"]
        option = mixing_option(layer, roles)
        for segment in out if option else ():
            if segment.hidden is not None:
                segment.hidden.keep_whole(f"whole, since '{option}' mixes them")
        self.seen[name] = given, (out if makes_channels(roles) else given["in"])
        rows = source if target is None else target
        shape = rows.shape if isinstance(layer, Embedding) else rows.shape[:-1]
        dtype = source.dtype if source.is_floating_point() else torch.get_default_dtype()
        return Traced.make((*shape, width_of(out)), dtype, self.seen[name][1])


def _segments_in(x: Any, layer: Module) -> Segments:
    if isinstance(x, Traced):
        return x.segments
    return whole(x.size(-1)) if isinstance(x, Tensor) and x.dim() and not isinstance(layer, Embedding) else ()


def form(layer: Any) -> tuple[int, int]:
    """Return heads and channels of the output of a layer."""
    names = ("out_channels", "out_features", "embedding_dim")
    channels = next(getattr(layer, name) for name in names if hasattr(layer, name))
    return (getattr(layer, "heads", 1) if getattr(layer, "concat", True) else 1), channels


def _refuse_more(name: str, args: Any, kwargs: Mapping[str, Any]) -> None:
    for key in ("return_attention_weights", "return_hyperedges"):
        if kwargs.get(key):
            raise InputError(f"layer {name!r} is called with {key}=True, whose output GIST cannot follow: leave it out")
    for part in tensors_in([*args, *kwargs.values()]):
        if isinstance(part, Traced) and any(s.hidden is not None for s in part.segments):
            raise InputError(f"layer {name!r} gets hidden features as an argument beside 'x', which GIST cannot deal")


def _unknown(name: str, layer: Module) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise InputError(
            f"GIST does not know what the weights of layer {name!r}, a {type(layer).__name__}, run over: describe it "
            "by a dict 'channel_roles' of its class, as hyperlearn_pyg.nn.HypergraphConv does"
        )

    return refuse


def _jump(name: str, layer: Any) -> Callable[..., Any]:
    def forward(xs: list[Any]) -> Any:
        if layer.mode == "cat":
            return torch.cat(xs, dim=-1)
        if layer.mode != "max":
            raise InputError(
                f"GIST cannot deal {name!r}, a JumpingKnowledge of mode {layer.mode!r}: use 'cat' or 'max'"
            )
        runs = join([x.segments if isinstance(x, Traced) else whole(x.size(-1)) for x in xs], f"layer {name!r}")
        return Traced.make(xs[0].shape, xs[0].dtype, runs)

    return forward


@contextmanager
def _stubs(layers: Layers) -> Iterator[None]:
    """Let the layers tell channels instead of computing."""
    stubbed: list[Module] = []
    try:
        for name, module in layers.model.named_modules():
            if any(name.startswith(f"{leaf}.") for leaf in layers.leaves):
                continue
            stub: Callable[..., Any] | None = None
            if name in layers.leaves:
                stub = _bound(layers, name)
            elif isinstance(module, JumpingKnowledge):
                stub = _jump(name, module)
            elif isinstance(module, (MessagePassing, torch.nn.RNNBase, torch.nn.MultiheadAttention)):
                stub = _unknown(name, module)
            if stub is not None:
                module.__dict__["forward"] = stub
                stubbed.append(module)
        yield
    finally:
        for module in stubbed:
            del module.__dict__["forward"]


def _bound(layers: Layers, name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: layers.call(name, args, kwargs)


def _as_traced(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_as_traced(part) for part in value)
    if isinstance(value, dict):
        return {key: _as_traced(part) for key, part in value.items()}
    if isinstance(value, Tensor) and value.layout == torch.strided and value.is_floating_point() and value.dim() > 1:
        return Traced.make(value.shape, value.dtype, whole(value.size(-1)))
    return value


def trace(model: Module, example: Sequence[Any], example_kwargs: Mapping[str, Any] | None = None) -> ChannelPlan:
    """Follow the channels of features through a model, on shapes alone: no layer computes anything.

    Args:
        model: the model, also one without values (``torch.device("meta")``).
        example: what its forward takes.
        example_kwargs: the same, by name.

    Raises:
        InputError: the model does something with hidden channels that cannot be followed, or there are none to deal.
    """
    layers = Layers(model)
    if roles_of(model) is not None:
        raise InputError("'model' is a single layer and has no hidden channels: GIST deals those of two layers or more")
    _refuse_lazy_and_tied(layers)
    try:
        with _stubs(layers), torch.no_grad():
            out = model(*_as_traced(tuple(example)), **_as_traced(dict(example_kwargs or {})))
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"GIST cannot follow a forward of {type(model).__name__} on shapes alone: {first}") from error
    for part in tensors_in([out] if not isinstance(out, dict) else out.values()):
        for segment in part.segments if isinstance(part, Traced) else ():
            if segment.hidden is not None:
                segment.hidden.keep_whole("whole, the output")
    return _plan(layers)


def _refuse_lazy_and_tied(layers: Layers) -> None:
    places: dict[int, tuple[str, str]] = {}
    for leaf, layer in layers.leaves.items():
        for inner, tensor in layer.named_parameters():
            name = f"{leaf}.{inner}"
            if is_lazy(tensor):
                raise InputError(f"the parameter {name!r} has no shape yet: run the model once before GIST")
            owner, first = places.setdefault(id(tensor), (leaf, name))
            if owner != leaf:
                raise InputError(f"the parameters {first!r} and {name!r} are one tensor: GIST deals no tied weights")


def _plan(layers: Layers) -> ChannelPlan:
    weights: dict[str, Weight] = {}
    sizes: dict[str, dict[str, tuple[Axis, ...]]] = {}
    for name, (given, out) in layers.seen.items():
        layer = layers.leaves[name]
        reader = Reader(name, layer, given, out, lambda inner, width: layers.new(inner, 1, width))
        weights.update(reader.weights())
        sizes[name] = reader.sizes()
    saved = dict(layers.model.named_parameters()) | dict(layers.model.named_buffers())
    for name, tensor in saved.items():
        weights.setdefault(name, Weight(name, tuple(Axis(whole(n)) for n in tensor.shape), tensor.shape))
    roots = tuple(dict.fromkeys(hidden.find() for hidden in layers.hidden))
    plan = ChannelPlan({name: weights[name] for name in saved}, sizes, roots, layers)
    if not plan.dealt:
        raise InputError(f"there are no hidden channels to deal:\n{str(plan) or 'no layer that GIST knows was called'}")
    return plan


class Reader:
    """Read what the weights of one layer run over.

    Args:
        name: of the layer.
        layer: the layer.
        given: the channels of its inputs.
        out: those of its output.
        inner: gives channels that no other layer sees, from their name and number.
    """

    def __init__(
        self,
        name: str,
        layer: Any,
        given: Mapping[str, Segments],
        out: Segments,
        inner: Callable[[str, int], Segments],
    ) -> None:
        self.name, self.layer, self.inner = name, layer, inner
        self.roles = roles_of(layer) or {}
        self.runs: dict[str, Axis] = {key: Axis(segments) for key, segments in given.items()}
        self.runs["out"] = Axis(out)
        heads, concat = getattr(layer, "heads", 1), getattr(layer, "concat", True)
        self.runs["wide"] = Axis(out, 1 if concat else heads)
        plain = heads == 1 or not concat
        root = None if plain else out[0].hidden
        per_head = width_of(out) // heads if not plain else width_of(out)
        self.runs["channels"] = Axis(out) if plain else Axis((Segment(root, per_head, "channels"),))
        self.runs["heads"] = Axis(whole(heads)) if plain else Axis((Segment(root, heads, "heads"),))

    def axis(self, word: str, size: int, what: str) -> Axis:
        """Return what a dimension of this size runs over."""
        base, many = word.rstrip("*"), word.endswith("*")
        if base == "-":
            return Axis(whole(size))
        if base == "hidden" and base not in self.runs:
            self.runs[base] = Axis(self.inner(f"{self.name}.{what}", size))
        run = self.runs[base]
        if many and run.size and size % run.size == 0:
            run = Axis(run.segments, run.repeat * (size // run.size))
        if run.size == size:
            return run
        if size == 1:
            return Axis(whole(1))
        raise InputError(
            f"'{self.name}.{what}' has {size} entries where its input and output make {run.size} ({word!r}): GIST "
            "cannot deal this layer"
        )

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Return name and axes of all parameters and buffers."""
        for inner, tensor in [*self.layer.named_parameters(), *self.layer.named_buffers()]:
            role = role_of(self.roles, inner)
            words = None if role is None else role.split()
            if words is None or len(words) != tensor.dim():
                raise InputError(
                    f"GIST does not know what '{self.name}.{inner}' runs over, of a {type(self.layer).__name__}: leave "
                    "out the option that it comes from, or add it to 'channel_roles'"
                )
            axes = tuple(self.axis(word, size, inner) for word, size in zip(words, tensor.shape, strict=True))
            yield f"{self.name}.{inner}", Weight(f"{self.name}.{inner}", axes, tensor.shape)

    def sizes(self) -> dict[str, tuple[Axis, ...]]:
        """Return what the layer's own numbers of channels count."""
        found: dict[str, tuple[Axis, ...]] = {}
        for attribute, role in self.roles.items():
            value: Any = self.layer
            for part in attribute.split("."):
                value = getattr(value, part, None)
            if isinstance(value, tuple) and len(value) == 2:
                found[attribute] = (self.axis("in", value[0], attribute), self.axis("target", value[1], attribute))
            elif isinstance(value, tuple) and len(value) == 1:
                found[attribute] = (self.axis(role, value[0], attribute),)
            elif isinstance(value, int) and not isinstance(value, bool):
                found[attribute] = (self.axis(role, value, attribute),)
        return found
