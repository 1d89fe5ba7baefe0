"""The slow, obvious versions: dense and in float64, to hold the fast ones against. Not for use beyond a few hundred."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

Map = Callable[[Tensor], Tensor]


def dense_incidence(index: Tensor, size: tuple[int, int], values: Tensor | None = None) -> Tensor:
    r"""Return the sparse matrix of ``index`` as a dense one, ``[N, M]`` in float64; repeated entries add up.

    Args:
        index: entries ``[2, nnz]``: row and column of each.
        size: ``(N, M)``.
        values: value of each entry ``[nnz]``; ones where absent. Gradients flow to it.
    """
    entries = torch.ones(index.size(1), dtype=torch.float64) if values is None else values.double()
    flat = torch.zeros(size[0] * size[1], dtype=torch.float64)
    return flat.index_add(0, index[0].long() * size[1] + index[1].long(), entries).view(size)


def dense_hypergraph_conv(x: Tensor, incidence: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\mathbf{D}^{-1} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{X}`.

    Bai, Zhang and Torr (arXiv:1901.08150), eq. 5, row-normalised; :math:`0^{-1} = 0`.

    Args:
        x: node signals ``[N, C]``, already multiplied with :math:`\mathbf{\Theta}`.
        incidence: :math:`\mathbf{H}`, ``[N, M]``; with attention its entries are the coefficients.
        weight: hyperedge weights ``[M]``; ones where absent.
    """
    w = incidence.new_ones(incidence.size(1)) if weight is None else weight.double()
    edges = _reciprocal(incidence.sum(0))[:, None] * (incidence.t() @ x.double())
    return _reciprocal(incidence @ w)[:, None] * (incidence @ (w[:, None] * edges))


def dense_hgnn_conv(x: Tensor, incidence: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top} \mathbf{D}^{-1/2}
    \mathbf{X}`.

    Feng, You, Zhang, Ji and Gao (AAAI 2019), eq. 10; :math:`0^{-1/2} = 0`. Arguments as of
    :func:`dense_hypergraph_conv`.
    """
    w = _ones_or(weight, incidence)
    root = _reciprocal(incidence @ w).sqrt()[:, None]
    return root * (incidence @ (w[:, None] * _member_means(root * x.double(), incidence)))


def dense_hetero_hypergraph_conv(
    x_dict: dict[str, Tensor],
    incidence_dict: dict[EdgeType, Tensor],
    weight: Tensor | None = None,
    *,
    symmetric: bool = False,
) -> dict[str, Tensor]:
    """Return the convolution on hyperedges that span modalities, membership by membership.

    Args:
        x_dict: signals of each modality ``[N_m, C]``, already multiplied with the modality's matrix.
        incidence_dict: the incidence matrix of each membership ``(modality, name, set)``, ``[N_m, M]``.
        weight: hyperedge weights ``[M]``; ones where absent.
        symmetric: normalise as :func:`dense_hgnn_conv`, or else as :func:`dense_hypergraph_conv`.
    """
    w = _ones_or(weight, next(iter(incidence_dict.values())))
    size = sum((h.sum(0) for h in incidence_dict.values()), torch.zeros_like(w))
    power = 0.5 if symmetric else 1.0
    zero = {m: x.new_zeros(x.size(0)).double() for m, x in x_dict.items()}
    degree = {m: sum((h @ w for slot, h in incidence_dict.items() if slot[0] == m), zero[m]) for m in x_dict}
    scale = {m: _reciprocal(d).pow(power)[:, None] for m, d in degree.items()}
    sent = {m: scale[m] * x.double() if symmetric else x.double() for m, x in x_dict.items()}
    edges = sum(h.t() @ sent[slot[0]] for slot, h in incidence_dict.items())
    edges = (w * _reciprocal(size))[:, None] * edges
    out = {m: torch.zeros_like(x) for m, x in sent.items()}
    for slot, h in incidence_dict.items():
        out[slot[0]] = out[slot[0]] + scale[slot[0]] * (h @ edges)
    return out


def dense_unigcn_conv(
    x: Tensor, incidence: Tensor, weight: Tensor | None = None, *, add_self_loops: bool = False
) -> Tensor:
    r"""Return :math:`d_i^{-1/2} \sum_e w_e H_{ie} d_e^{-1/2} h_e` with the mean degree :math:`d_e` of the members.

    Huang and Yang (IJCAI 2021), eq. of UniGCN. Arguments as of :func:`dense_hypergraph_conv`; ``add_self_loops``
    gives every node one more hyperedge.
    """
    w = _ones_or(weight, incidence)
    if add_self_loops:
        incidence, w = _with_self_loops(incidence, w)
    degree = incidence @ w
    scale = _reciprocal(_member_means(degree[:, None], incidence)).sqrt() * w[:, None]
    return _reciprocal(degree).sqrt()[:, None] * (incidence @ (scale * _member_means(x, incidence)))


def dense_unigin_conv(x: Tensor, incidence: Tensor, weight: Tensor | None = None, *, eps: float = 0.0) -> Tensor:
    r"""Return :math:`(1 + \epsilon) x_i + \sum_e w_e H_{ie} h_e` (Huang and Yang, IJCAI 2021, UniGIN).

    Arguments as of :func:`dense_hypergraph_conv`.
    """
    w = _ones_or(weight, incidence)[:, None]
    return (1 + eps) * x.double() + incidence @ (w * _member_means(x, incidence))


def dense_unisage_conv(x: Tensor, incidence: Tensor, weight: Tensor | None = None, *, aggr: str = "sum") -> Tensor:
    r"""Return :math:`x_i` plus the weighted sum, or mean, of :math:`h_e` (Huang and Yang, IJCAI 2021, UniSAGE).

    Arguments as of :func:`dense_hypergraph_conv`.
    """
    w = _ones_or(weight, incidence)
    around = incidence @ (w[:, None] * _member_means(x, incidence))
    return x.double() + (around if aggr == "sum" else _reciprocal(incidence @ w)[:, None] * around)


def dense_unigat_conv(
    x: Tensor,
    incidence: Tensor,
    att: Tensor,
    weight: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    add_self_loops: bool = False,
) -> Tensor:
    r"""Return :math:`\sum_e \alpha_{ie} h_e` for one head (Huang and Yang, IJCAI 2021, UniGAT).

    Args:
        x: node signals ``[N, C]``, already multiplied with :math:`\mathbf{\Theta}`.
        incidence: :math:`\mathbf{H}`, ``[N, M]``.
        att: the vector :math:`\mathbf{a}`, ``[2 C]``.
        weight: hyperedge weights ``[M]``; ones where absent.
        negative_slope: slope of the leaky ReLU.
        add_self_loops: give every node one more hyperedge.
    """
    w = _ones_or(weight, incidence)
    if add_self_loops:
        incidence, w = _with_self_loops(incidence, w)
    edges = _member_means(x, incidence)
    pairs = torch.cat([x[:, None].expand(-1, len(edges), -1), edges[None].expand(len(x), -1, -1)], dim=-1)
    score = torch.nn.functional.leaky_relu(pairs @ att, negative_slope)
    return _attended(score, incidence * w) @ edges


def dense_hnhn_conv(
    x: Tensor,
    incidence: Tensor,
    lin_edge: Map,
    lin_node: Map,
    weight: Tensor | None = None,
    *,
    alpha: float = -1.5,
    beta: float = -0.5,
) -> Tensor:
    r"""Return HNHN's new node signals with a ReLU at the hyperedges (Dong, Sawin and Bengio, arXiv:2006.12278).

    Args:
        x: node signals ``[N, F]``.
        incidence: :math:`\mathbf{H}`, ``[N, M]``.
        lin_edge: the affine map to the hyperedges.
        lin_node: the linear map to the nodes.
        weight: hyperedge weights ``[M]``; ones where absent.
        alpha: power of the hyperedge size.
        beta: power of the node degree.
    """
    w = _ones_or(weight, incidence)
    degree, size = incidence @ w, incidence.sum(0)
    into_edges = incidence.t() * _power(degree, beta)
    edges = (_rows_to_one(into_edges) @ lin_edge(x)).relu()
    return _rows_to_one(incidence * w * _power(size, alpha)) @ lin_node(edges)


def dense_all_deep_sets_conv(
    x: Tensor, incidence: Tensor, maps: Sequence[Map], weight: Tensor | None = None, *, aggr: str = "sum"
) -> Tensor:
    r"""Return AllDeepSets' new node signals (Chien, Pan, Peng and Milenkovic, ICLR 2022, eq. 5).

    Args:
        x: node signals ``[N, F]``.
        incidence: :math:`\mathbf{H}`, ``[N, M]``.
        maps: :math:`\phi_E, \rho_E, \phi_V, \rho_V`.
        weight: hyperedge weights ``[M]``; ones where absent.
        aggr: ``"sum"`` or ``"mean"``.
    """
    phi_edge, rho_edge, phi_node, rho_node = maps
    down, up = incidence.t(), incidence * _ones_or(weight, incidence)
    if aggr == "mean":
        down, up = _rows_to_one(down), _rows_to_one(up)
    edges = rho_edge(down @ phi_edge(x).relu()).relu()
    return rho_node(up @ phi_node(edges).relu())


def dense_set_attention(
    key: Tensor, value: Tensor, query: Tensor, count: Tensor, norm0: Map, norm1: Map, mlp: Map
) -> Tensor:
    r"""Return one half of AllSetTransformer (Chien, Pan, Peng and Milenkovic, ICLR 2022, eq. 7 and 8).

    Args:
        key: keys of the members ``[n, K, C]``.
        value: values of the members ``[n, K, C]``.
        query: learnt query of each head ``[K, C]``.
        count: how often each member counts in each set ``[sets, n]``.
        norm0: the layer norm behind the attention.
        norm1: the layer norm behind the perceptron.
        mlp: the perceptron.
    """
    score = torch.einsum("nkc,kc->kn", key, query)
    heads = [_attended(s.expand(len(count), -1), count) @ v for s, v in zip(score, value.unbind(1), strict=True)]
    y = norm0(query.flatten() + torch.cat(heads, dim=1))
    return norm1(y + mlp(y))


def attention_values(
    x: Tensor, edge_x: Tensor, att: Tensor, index: Tensor, *, mode: str = "node", negative_slope: float = 0.2
) -> Tensor:
    r"""Return the attention coefficient of every entry of an incidence matrix, for one head, by a loop.

    Softmax of :math:`\mathrm{LeakyReLU}(\mathbf{a}^{\top} [\mathbf{x}_i \,\|\, \mathbf{x}_e])` (Bai, Zhang and Torr,
    arXiv:1901.08150, eq. 8) over the nodes of a hyperedge, or the hyperedges of a node.

    Args:
        x: node features after the linear map ``[N, C]``.
        edge_x: hyperedge features after the linear map ``[M, C]``.
        att: the vector :math:`\mathbf{a}`, ``[2 C]``.
        index: entries ``[2, nnz]``.
        mode: ``"node"`` normalises over the nodes of a hyperedge, ``"edge"`` over the hyperedges of a node.
        negative_slope: slope of the leaky ReLU.

    Returns:
        ``[nnz]``.
    """
    raw = [torch.cat([x[i], edge_x[e]]) @ att for i, e in index.t().tolist()]
    score = [torch.where(r > 0, r, negative_slope * r).exp() for r in raw]
    key = index[1 if mode == "node" else 0].tolist()
    total = {k: sum((s for s, other in zip(score, key, strict=True) if other == k), x.new_zeros(())) for k in key}
    return torch.stack([s / total[k] for s, k in zip(score, key, strict=True)]) if score else x.new_zeros(0)


def dense_graph_laplacian(adjacency: Tensor) -> Tensor:
    r"""Return :math:`\mathbf{L} = \mathbf{I} - \mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2}` ``[N, N]``.

    The rows of isolated vertices are zero (Chung, Spectral Graph Theory, 1997).

    Args:
        adjacency: symmetric, non-negative :math:`\mathbf{W}`, ``[N, N]``.
    """
    degree = adjacency.double().sum(1)
    scale = _reciprocal(degree).sqrt()
    return torch.diag((degree > 0).double()) - scale[:, None] * adjacency.double() * scale


def dense_hypergraph_laplacian(incidence: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\mathbf{I} - \mathbf{D}^{-1/2} \mathbf{H} \mathbf{W} \mathbf{B}^{-1} \mathbf{H}^{\top}
    \mathbf{D}^{-1/2}` ``[N, N]``.

    The rows of isolated vertices are zero (Zhou, Huang and Schoelkopf, NeurIPS 2006).

    Args:
        incidence: :math:`\mathbf{H}`, ``[N, M]``.
        weight: hyperedge weights ``[M]``; ones where absent.
    """
    w = incidence.new_ones(incidence.size(1)) if weight is None else weight.double()
    degree = incidence @ w
    half = _reciprocal(degree).sqrt()[:, None] * incidence
    return torch.diag((degree > 0).double()) - half @ torch.diag(w * _reciprocal(incidence.sum(0))) @ half.t()


def dense_cp(factors: Sequence[Tensor]) -> Tensor:
    r"""Return the full tensor :math:`[\![A_1, \ldots, A_k]\!]`, ``[N_1, ..., N_k]`` in float64.

    Kolda and Bader, Tensor Decompositions and Applications, SIAM Review 2009, eq. 3.1.

    Args:
        factors: matrices ``[N_m, R]``.
    """
    return khatri_rao(factors).sum(1).view([f.size(0) for f in factors])


def dense_tensor(index: Tensor, value: Tensor | None, sizes: Sequence[int]) -> Tensor:
    """Return the tensor ``[N_1, ..., N_k]`` of tuples ``index [k, E]`` in float64; ones where ``value`` is absent."""
    entries = torch.ones(index.size(1), dtype=torch.float64) if value is None else value.double()
    flat = torch.zeros(index.size(1), dtype=torch.long)
    for row, size in zip(index, sizes, strict=True):
        flat = flat * size + row
    return torch.zeros(math.prod(sizes), dtype=torch.float64).index_add(0, flat, entries).view(list(sizes))


def dense_all_cells(factors: Sequence[Tensor], index: Tensor, value: Tensor, *, unobserved: float) -> Tensor:
    r"""Return :math:`\sum_c w_c (x_c - s_c)^2` over every cell of the tensor, a scalar.

    Args:
        factors: Kruskal columns of each slot ``[N_s, C]``.
        index: observed tuples ``[k, E]``, distinct.
        value: their values ``[E]``.
        unobserved: the weight of the cells not observed, whose target is zero; that of the observed ones is one.
    """
    sizes = [f.size(0) for f in factors]
    weight = torch.where(dense_tensor(index, None, sizes) > 0, 1.0, unobserved)
    return (weight * (dense_tensor(index, value, sizes) - dense_cp(factors)).square()).sum()


def khatri_rao(factors: Sequence[Tensor]) -> Tensor:
    """Return the Khatri-Rao product (column-wise Kronecker) of ``factors``, ``[N_1 * ... * N_k, R]`` in float64."""
    out = torch.ones(1, factors[0].size(1), dtype=torch.float64)
    for factor in factors:
        out = (out[:, None, :] * factor.double()[None]).flatten(0, 1)
    return out


def unfold(tensor: Tensor, mode: int) -> Tensor:
    r"""Return :math:`\mathbf{X}_{(m)}`, ``[N_m, product of the other sizes]``; the last of the others runs fastest."""
    return tensor.movedim(mode, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]


def unfolding_error(tensor: Tensor, factors: Sequence[Tensor], mode: int, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\lVert \mathbf{X}_{(m)} - \mathbf{A}_m \mathbf{\Omega}_m^{\top} \rVert_F^2`, a scalar.

    :math:`\mathbf{\Omega}_m` is the Khatri-Rao product of the other factors (Arya, Rudinac and Worring, ACM
    Multimedia 2019, the error of one modality's device).

    Args:
        tensor: ``[N_1, ..., N_k]``.
        factors: matrices ``[N_m, R]``.
        mode: the mode ``m``.
        weight: weight of every cell, of the shape of ``tensor``; ones where absent.
    """
    omega = khatri_rao([f for m, f in enumerate(factors) if m != mode])
    error = (unfold(tensor.double(), mode) - factors[mode].double() @ omega.t()).square()
    return error.sum() if weight is None else (unfold(weight.double(), mode) * error).sum()


def _reciprocal(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, 1 / torch.where(degree > 0, degree, 1.0), 0.0)


def _ones_or(weight: Tensor | None, incidence: Tensor) -> Tensor:
    return incidence.new_ones(incidence.size(1)) if weight is None else weight.double()


def _member_means(x: Tensor, incidence: Tensor) -> Tensor:
    return _reciprocal(incidence.sum(0))[:, None] * (incidence.t() @ x.double())


def _with_self_loops(incidence: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    loops = torch.eye(len(incidence), dtype=torch.float64)
    return torch.cat([incidence, loops], dim=1), torch.cat([weight, weight.new_ones(len(incidence))])


def _rows_to_one(matrix: Tensor) -> Tensor:
    return _reciprocal(matrix.sum(1))[:, None] * matrix


def _attended(score: Tensor, count: Tensor) -> Tensor:
    return _rows_to_one(count * score.exp())


def _power(degree: Tensor, power: float) -> Tensor:
    return torch.where(degree > 0, torch.where(degree > 0, degree, 1.0).pow(power), float(power == 0))
