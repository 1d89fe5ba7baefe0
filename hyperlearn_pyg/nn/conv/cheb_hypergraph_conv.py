from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.nn.inits import zeros

from hyperlearn_pyg.ops.incidence import incidence
from hyperlearn_pyg.ops.laplacian import Laplacian, chebyshev


class ChebHypergraphConv(Module):
    r"""Chebyshev convolution on the normalised Laplacian of a graph or of a hypergraph.

    .. math::
        \mathbf{X}^{\prime} = \sum_{j=0}^{K-1} T_j(\mathbf{L} - \mathbf{I}) \mathbf{X} \mathbf{\Theta}_j + \mathbf{b}

    (Defferrard, Bresson and Vandergheynst, NeurIPS 2016, with the largest eigenvalue taken as 2; the hypergraph
    Laplacian is that of Zhou, Huang and Schoelkopf, NeurIPS 2006.)

    Args:
        in_channels: size of each input sample.
        out_channels: size of each output sample.
        K: number of Chebyshev terms, at least 1.
        kind: ``"hypergraph"``: the index of the call is a hyperedge index; ``"graph"``: an edge index of an
            undirected graph.
        bias: learn an additive bias.

    Shapes:
        * input: ``[N, in_channels]``, and a :class:`~hyperlearn_pyg.ops.Laplacian` or an index ``[2, nnz]``
        * output: ``[N, out_channels]``

    Raises:
        ValueError: ``K`` is below 1 or ``kind`` is unknown.
    """

    def __init__(
        self, in_channels: int, out_channels: int, K: int, *, kind: str = "hypergraph", bias: bool = True
    ) -> None:
        super().__init__()
        if K < 1:
            raise ValueError(f"'K' must be at least 1 (got {K})")
        if kind not in ("hypergraph", "graph"):
            raise ValueError(f"'kind' must be 'hypergraph' or 'graph' (got {kind!r})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = K
        self.kind = kind
        self.lin = Linear(K * in_channels, out_channels, bias=False, weight_initializer="glorot")
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
        index: Tensor | Laplacian,
        weight: Tensor | None = None,
        num_edges: int | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: node features ``[N, in_channels]``.
            index: a prepared Laplacian, or the (hyper)edge index ``[2, nnz]``.
            weight: edge weights ``[nnz]`` (graph) or hyperedge weights ``[M]`` (hypergraph).
            num_edges: the number of hyperedges; where absent, the largest index plus one.
        """
        laplacian = index if isinstance(index, Laplacian) else self._laplacian(x.size(0), index, weight, num_edges)
        out: Tensor = self.lin(torch.cat(list(chebyshev(laplacian, x, self.K)), dim=-1))
        return out if self.bias is None else out + self.bias

    def _laplacian(self, num_nodes: int, index: Tensor, weight: Tensor | None, num_edges: int | None) -> Laplacian:
        if self.kind == "graph":
            return Laplacian.from_graph(incidence(index, (num_nodes, num_nodes)), weight)
        if num_edges is None:
            num_edges = weight.size(0) if weight is not None else int(index[1].max()) + 1 if index.numel() else 0
        return Laplacian.from_hypergraph(incidence(index, (num_nodes, num_edges)), weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, K={self.K}, kind={self.kind!r})"
