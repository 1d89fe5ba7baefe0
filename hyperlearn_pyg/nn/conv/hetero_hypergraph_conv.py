from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import glorot, zeros
from torch_geometric.nn.module_dict import ModuleDict
from torch_geometric.typing import EdgeType

from hyperlearn_pyg.data.relation import Relation
from hyperlearn_pyg.nn.conv._attention import hypergraph_attention
from hyperlearn_pyg.nn.conv._layer import check_channels, check_choice, check_dropout, check_features, check_heads
from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, Step, _entries, propagate, rows_back, rows_first
from hyperlearn_pyg.ops.incidence import Incidence
from hyperlearn_pyg.ops.stack import Part, stacked_incidence


class HeteroHypergraphConv(Module):
    r"""Convolution on a hyperedge set that spans several modalities: out of and into every modality in one call.

    .. math::
        \mathbf{Z} = \begin{bmatrix} \mathbf{X}_1 \mathbf{\Theta}_1 \\ \vdots \\ \mathbf{X}_m \mathbf{\Theta}_m
        \end{bmatrix}, \qquad
        \mathbf{Z}^{\prime} = \mathbf{D}^{-1} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{Z}
        \quad \text{or} \quad
        \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{D}^{-1/2} \mathbf{Z}, \qquad
        \mathbf{X}^{\prime}_m = \mathbf{Z}^{\prime}_m \mathbf{\Psi}_m + \mathbf{b}_m

    where the rows of :math:`\mathbf{H}` are the items of all modalities, one modality below the other, so that a
    hyperedge takes the mean of its members of every modality (and role), and the sums over all of them are one sparse
    product each way. :math:`\mathbf{\Psi}_m` is the identity unless ``edge_channels`` is given. Degrees, weights and
    repeated memberships are those of :class:`HypergraphConv`; with one modality it is that layer. An item without
    hyperedges gives zeros (before the bias). With attention the entries of :math:`\mathbf{H}` are learnt as there, with
    the mean of its members (of :math:`\mathbf{Z}`) for the features of a hyperedge.

    Args:
        in_channels: size of the input samples of each modality, by name (``-1`` to derive it from the first input), or
            one number for all ``modalities``.
        out_channels: size of each output sample (of each head, where ``edge_channels`` is absent).
        edge_channels: size of the hyperedge features (of each head); where given, :math:`\mathbf{\Psi}_m` are learnt.
        modalities: the names, where ``in_channels`` is one number.
        bias: learn an additive bias of each modality.
        normalization: ``"row"`` or ``"symmetric"``.
        use_attention: learn the entries of the incidence matrix.
        attention_mode: ``"node"`` normalises over the members of a hyperedge, of whatever modality, ``"edge"`` over the
            hyperedges of an item.
        heads: number of attention heads.
        concat: concatenate the heads, or else average them.
        negative_slope: slope of the leaky ReLU of the attention scores.
        dropout: dropout probability of the attention coefficients.
        cached: keep the compressed incidence of the index tensors as long as they live unchanged.
        validate: check that the indices lie in range.

    Shapes:
        * input: item features ``{modality: [*, N_m, in_channels_m]}``; memberships ``{(modality, name, set):
          [2, nnz]}`` (item, hyperedge), or a :class:`~hyperlearn_pyg.data.Relation`; hyperedge weights ``[M]``
        * output: ``{modality: [*, N_m, out_channels]}`` for every modality of the input; with ``return_hyperedges``
          also ``[*, M, edge_channels]`` (or ``out_channels``); ``heads`` times that where heads are concatenated

    Raises:
        ValueError: a mode is unknown, a modality is not known or missing, or a shape or an index does not fit.

    Example:
        >>> conv = HeteroHypergraphConv({"user": 8, "film": 3}, 4)
        >>> x_dict = {"user": torch.randn(2, 8), "film": torch.randn(3, 3)}
        >>> rates = {
        ...     ("user", "member", "rates"): torch.tensor([[0, 1, 1], [0, 1, 2]]),
        ...     ("film", "member", "rates"): torch.tensor([[2, 0, 1], [0, 1, 2]]),
        ... }
        >>> {m: list(out.shape) for m, out in conv(x_dict, rates).items()}
        {'user': [2, 4], 'film': [3, 4]}
    """

    bias: Tensor | None
    pyg_compat = False
    #: One modality's output reads the features of all others: as an encoder it could not be spread by modality.
    couples_modalities = True

    def __init__(
        self,
        in_channels: int | Mapping[str, int],
        out_channels: int,
        edge_channels: int | None = None,
        modalities: Sequence[str] | None = None,
        bias: bool = True,
        *,
        normalization: str = "row",
        use_attention: bool = False,
        attention_mode: str = "node",
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__()
        check_choice("normalization", normalization, ("row", "symmetric"))
        check_choice("attention_mode", attention_mode, ("node", "edge"))
        check_heads(heads, use_attention)
        check_channels("out_channels", out_channels)
        self.in_channels = _by_modality(in_channels, modalities)
        for name, channels in self.in_channels.items():
            check_channels(f"in_channels[{name!r}]", channels, lazy=True)
        self.out_channels = out_channels
        self.edge_channels = edge_channels
        self.normalization = normalization
        self.use_attention = use_attention
        self.attention_mode = attention_mode
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        check_dropout(dropout)
        self.dropout = dropout
        self.cached = cached
        self.validate = validate
        self._add_parameters(bias)
        self.reset_parameters()

    def _add_parameters(self, bias: bool) -> None:
        width = self.out_channels if self.edge_channels is None else self.edge_channels
        check_channels("edge_channels", width)
        self.lins = ModuleDict({m: _linear(channels, self.heads * width) for m, channels in self.in_channels.items()})
        if self.use_attention:
            self.att = Parameter(torch.empty(1, self.heads, 2 * width))
        width = self.heads * width if self.concat else width
        if self.edge_channels is not None:
            self.lins_out = ModuleDict({m: _linear(width, self.out_channels) for m in self.in_channels})
            width = self.out_channels
        self.register_parameter("bias", Parameter(torch.empty(len(self.in_channels), width)) if bias else None)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        for lins in self.children():
            for lin in lins.children():
                lin.reset_parameters()  # type: ignore[operator]
        if self.use_attention:
            glorot(self.att)
        zeros(self.bias)

    def forward(
        self,
        x_dict: Mapping[str, Tensor],
        members: Mapping[EdgeType, HyperedgeIndex] | Relation,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        incidence_weight: Mapping[EdgeType, Tensor] | None = None,
        return_hyperedges: bool = False,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """Run the layer.

        Args:
            x_dict: features of the items of each modality ``[*, N_m, in_channels_m]``.
            members: the memberships of one hyperedge set: ``(modality, name, set)`` -> ``[2, nnz]`` (item, hyperedge),
                or any other form that :class:`HypergraphConv` takes; or ``data.relation(set)``.
            hyperedge_weight: weights ``[M]``; where absent those of the relation, or ones.
            num_edges: the number of hyperedges ``M``; where absent that of the relation or of the weights, or the
                largest index plus one.
            incidence_weight: weight of each membership ``[nnz]``, by the keys of ``members``; ones where absent.
            return_hyperedges: also return the hyperedge features on the way.
            return_attention_weights: also return the attention coefficients of each membership ``[nnz, *, heads]``, by
                the keys of ``members``.

        Raises:
            ValueError: a modality is not known or missing, or a shape or an index does not fit.
        """
        if isinstance(members, Relation):
            hyperedge_weight = members.weight if hyperedge_weight is None else hyperedge_weight
            num_edges = members.num_hyperedges if num_edges is None else num_edges
            members = {slot: members.incidence(s) for s, slot in enumerate(members.slots)}
        if not isinstance(members, Mapping):
            raise ValueError(
                "'members' must be data.relation(NAME), or a mapping (modality, name, set) -> hyperedge_index "
                f"(got {type(members).__name__})"
            )
        self._check(x_dict, members)
        names = [m for m in self.in_channels if m in x_dict]
        parts = _parts({m: x_dict[m].size(-2) for m in names}, members, incidence_weight or {})
        z = torch.cat([self.lins[m](x_dict[m]) for m in names], dim=-2)
        step = self._step(z, parts, hyperedge_weight, num_edges)
        rows, edges, alpha = self._convolve(step)
        sizes = [x_dict[m].size(-2) for m in names]
        out = {m: self._finish(m, x) for m, x in zip(names, rows.split(sizes, dim=-2), strict=True)}
        more: list[Any] = [edges] if return_hyperedges else []
        if return_attention_weights:
            if alpha is None:
                raise ValueError("'return_attention_weights' goes with use_attention=True")
            more.append(dict(zip(members, alpha.split([part.index.size(1) for part in parts.parts]), strict=True)))
        return (out, *more) if more else out

    def _convolve(self, step: Step) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.use_attention:
            return hypergraph_attention(self, step, step.x, step.other())
        scales = step.scales(self.normalization, False)
        rows, shape = rows_first(step.x)
        edges = propagate(step.inc, rows, step.values, scales.into_edges, transpose=True)
        rows = propagate(step.inc, edges, step.values, scales.into_nodes, transpose=False)
        return rows_back(rows, shape), rows_back(edges, shape), None

    def _check(self, x_dict: Mapping[str, Tensor], members: Mapping[EdgeType, HyperedgeIndex]) -> None:
        if not x_dict:
            raise ValueError(f"'x_dict' is empty: it must hold features of some of {list(self.in_channels)}")
        for name, x in x_dict.items():
            if name not in self.in_channels:
                raise ValueError(f"'x_dict' names modality '{name}', the layer knows {list(self.in_channels)}")
            check_features(f"x_dict[{name!r}]", x, self.in_channels[name])
        sets = sorted({slot[2] for slot in members})
        if len(sets) > 1:
            raise ValueError(f"'members' must be of one hyperedge set (got {sets}): call the layer once for each")
        for slot in members:
            if slot[0] not in x_dict:
                raise ValueError(f"'x_dict' must hold '{slot[0]}', which membership {slot} names (got {list(x_dict)})")

    def _step(self, z: Tensor, parts: _Parts, weight: Tensor | None, num_edges: int | None) -> Step:
        if num_edges is None:
            largest = [int(part.index[1].max()) + 1 for part in parts.parts if part.index.size(-1)]
            num_edges = weight.size(0) if weight is not None else max(largest, default=0)
        if weight is not None and weight.size(0) != num_edges:
            raise ValueError(f"'hyperedge_weight' must have {num_edges} rows, one per hyperedge (got {weight.size(0)})")
        inc = stacked_incidence(parts.parts, (z.size(-2), num_edges), validate=self.validate, cached=self.cached)
        return Step(z, None, inc, weight, parts.values, "round_trip")

    def _finish(self, modality: str, x: Tensor) -> Tensor:
        if self.edge_channels is not None:
            x = self.lins_out[modality](x)
        return x if self.bias is None else x + self.bias[list(self.in_channels).index(modality)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels})"


class _Parts(NamedTuple):
    parts: list[Part]
    values: Tensor | None


def _linear(in_channels: int, out_channels: int) -> Linear:
    return Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")


def _by_modality(in_channels: int | Mapping[str, int], modalities: Sequence[str] | None) -> dict[str, int]:
    if isinstance(in_channels, Mapping):
        if modalities is not None and set(modalities) != set(in_channels):
            raise ValueError(f"'modalities' and 'in_channels' differ (got {list(modalities)} and {list(in_channels)})")
        return dict(in_channels)
    if modalities is None:
        raise ValueError("'modalities' must name the modalities where 'in_channels' is one number")
    return dict.fromkeys(modalities, in_channels)


def _parts(
    sizes: Mapping[str, int], members: Mapping[EdgeType, HyperedgeIndex], weights: Mapping[EdgeType, Tensor]
) -> _Parts:
    """Say where the rows of each membership stand, and collect the weights of all."""
    unknown = [slot for slot in weights if slot not in members]
    if unknown:
        raise ValueError(f"'incidence_weight' names {unknown}, 'members' holds {list(members)}")
    parts: list[Part] = []
    values: list[Tensor | None] = []
    offsets, below = {}, 0
    for modality, size in sizes.items():
        offsets[modality], below = below, below + size
    for slot, given in members.items():
        index, own = _entries(given)
        index = index.index if isinstance(index, Incidence) else index
        own = weights.get(slot, own)
        if own is not None and own.size(0) != index.size(-1):
            raise ValueError(f"'incidence_weight' of {slot} must have {index.size(-1)} rows (got {own.size(0)})")
        parts.append(Part(str(slot), index, offsets[slot[0]], sizes[slot[0]]))
        values.append(own)
    like = next((value for value in values if value is not None), None)
    if like is None:
        return _Parts(parts, None)
    filled = [
        like.new_ones(part.index.size(1)) if value is None else value for part, value in zip(parts, values, strict=True)
    ]
    return _Parts(parts, torch.cat(filled))
