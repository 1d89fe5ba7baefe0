from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.nn.conv._layer import HypergraphLayer, check_channels, check_choice, check_features
from hyperlearn_pyg.nn.conv._step import HyperedgeIndex, rows_back, rows_first
from hyperlearn_pyg.ops.laplacian import Laplacian, chebyshev


class ChebHypergraphConv(HypergraphLayer):
    r"""Chebyshev convolution on the normalised Laplacian of a graph or of a hypergraph.

    .. math::
        \mathbf{X}^{\prime} = \sum_{j=0}^{K-1} T_j(\mathbf{L} - \mathbf{I}) \mathbf{X} \mathbf{\Theta}_j + \mathbf{b}

    (Defferrard, Bresson and Vandergheynst, NeurIPS 2016, with the largest eigenvalue taken as 2; the hypergraph
    Laplacian is that of Zhou, Huang and Schoelkopf, NeurIPS 2006.)

    Args:
        in_channels: size of each input sample, or ``-1`` to derive it from the first input.
        out_channels: size of each output sample.
        K: number of Chebyshev terms, at least 1.
        kind: ``"hypergraph"``: the index of the call is a hyperedge index; ``"graph"``: an edge index of an
            undirected graph.
        bias: learn an additive bias.
        cached: keep the compressed incidence of each index tensor as long as the tensor lives unchanged.
        validate: check that the index lies in range (reads the index once per new tensor).

    Shapes:
        * input: ``[*, N, in_channels]``, and a :class:`~hyperlearn_pyg.ops.Laplacian` or an index ``[2, nnz]``
        * output: ``[*, N, out_channels]``

    Raises:
        ValueError: ``K`` is below 1, ``kind`` is unknown, or channels, a shape or an index do not fit.

    Example:
        >>> conv = ChebHypergraphConv(8, 4, K=3)
        >>> conv(torch.randn(3, 8), torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])).shape
        torch.Size([3, 4])
    """

    in_channels: int
    channel_roles: Mapping[str, str] | None = {
        "in_channels": "in",
        "out_channels": "out",
        "lin.weight": "out in*",
        "bias": "out",
    }

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        *,
        kind: str = "hypergraph",
        bias: bool = True,
        cached: bool = True,
        validate: bool = True,
    ) -> None:
        super().__init__(cached=cached, validate=validate)
        if isinstance(in_channels, tuple):
            raise ValueError("'in_channels' must be one number: powers of the Laplacian lead from nodes to nodes only")
        check_channels("in_channels", in_channels, lazy=True)
        check_channels("out_channels", out_channels)
        check_channels("K", K)
        check_choice("kind", kind, ("hypergraph", "graph"))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = K
        self.kind = kind
        width = in_channels if in_channels == -1 else K * in_channels
        self.lin = Linear(width, out_channels, bias=False, weight_initializer="glorot")
        if bias:
            self.bias = Parameter(torch.empty(out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh."""
        self.lin.reset_parameters()
        zeros(self.bias)

    def forward(
        self,
        x: Tensor,
        index: HyperedgeIndex | Laplacian,
        weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        incidence_weight: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: node features ``[*, N, in_channels]``.
            index: a prepared Laplacian; or the (hyper)edge index ``[2, nnz]``, an ``EdgeIndex``, a transposed sparse
                matrix of torch or torch_sparse, or an :class:`~hyperlearn_pyg.ops.Incidence`.
            weight: edge weights ``[nnz]`` (graph) or hyperedge weights ``[M]`` (hypergraph).
            num_edges: the number of hyperedges ``M``; where absent, taken from ``size``, the weights or the largest
                index.
            incidence_weight: weight of each incidence ``[nnz]`` of a hypergraph.
            size: ``(N, M)``.

        Raises:
            ValueError: a weight is negative, or a shape or an index does not fit.
        """
        check_features("x", x, self.in_channels)
        if isinstance(index, Laplacian):
            laplacian = index
        else:
            laplacian = self._laplacian(x, index, weight, num_edges, incidence_weight, size)
        rows, shape = rows_first(x)
        terms = [rows_back(term, shape) for term in chebyshev(laplacian, rows, self.K)]
        out: Tensor = self.lin(torch.cat(terms, dim=-1))
        return out if self.bias is None else out + self.bias

    def _laplacian(
        self,
        x: Tensor,
        index: HyperedgeIndex,
        weight: Tensor | None,
        num_edges: int | None,
        values: Tensor | None,
        size: tuple[int, int] | None,
    ) -> Laplacian:
        if self.kind == "hypergraph":
            step = self.read(x, index, weight, None, num_edges, values, size)
            return Laplacian.from_hypergraph(step.inc, step.weight, step.values).masked(step.mask)
        if values is not None:
            raise ValueError("'incidence_weight' is for kind='hypergraph': a graph's edges have their 'weight'")
        size = (x.size(-2), x.size(-2)) if size is None else size
        step = self.read(x, index, None, None, None, weight, size)
        return Laplacian.from_graph(step.inc, step.values).masked(step.mask)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, K={self.K}, kind={self.kind!r})"
