from __future__ import annotations

import sys
import warnings
from types import ModuleType

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce

from hyperlearn_pyg import _optional
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._rows import forget_graphs
from hyperlearn_pyg.ops.nearest import BLOCK as _BLOCK
from hyperlearn_pyg.ops.nearest import Points, exact, points
from hyperlearn_pyg.transforms._common import check_choice, modalities_with, modality_names

#: Links of a point in the index, and points held at the search while it is built (Malkov and Yashunin 2018).
_LINKS, _BUILD = 32, 80


@functional_transform("modality_knn_graph")
class KNNGraph(BaseTransform):
    """Tie each item to the ``k`` items of its modality with the nearest features.

    Adds the edge type ``(modality, "knn", modality)``: symmetric (an edge stays when either end chose the other),
    without loops and weights. Under cosine an item whose features are all zero has no direction: it stays isolated.
    In a batch, neighbours are sought within each graph.

    The neighbours are exact, found in blocks of bounded memory. Above ``threshold`` items, where ``faiss`` is
    installed, they are sought in an HNSW index, which finds nearly all of them in a fraction of the time (with
    several threads, not always the same ones). The share of true neighbours among those found for a sample of items,
    the *recall*, is then printed to the standard error and kept in ``recall``.

    Args:
        modality: the modality, which must have ``x``; :obj:`None` for every modality that has it.
        k: neighbours an item; less where there are fewer items.
        metric: ``"cosine"`` or ``"euclidean"``.
        method: ``"auto"``, ``"exact"`` or ``"faiss"`` (approximate at any size).
        threshold: number of items above which ``"auto"`` is approximate.
        sample: number of items whose neighbours are compared with the exact ones.

    Attributes:
        recall: modality -> recall of its last approximate graph.

    Raises:
        ValueError: the modality is unknown or has no features, none of all has, an argument is out of range.
        ImportError: ``"faiss"`` is asked for and not installed.
    """

    def __init__(
        self,
        modality: str | None = None,
        k: int = 10,
        metric: str = "cosine",
        *,
        method: str = "auto",
        threshold: int = 50_000,
        sample: int = 1000,
    ) -> None:
        if k < 1:
            raise ValueError(f"'k' must be at least 1 (got {k})")
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"'metric' must be 'cosine' or 'euclidean' (got {metric!r})")
        check_choice(method, ("auto", "exact", "faiss"), "method")
        if sample < 1:
            raise ValueError(f"'sample' must be at least 1 (got {sample})")
        if method == "faiss":
            _faiss()
        self.modality = modality
        self.k = k
        self.metric = metric
        self.method = method
        self.threshold = threshold
        self.sample = sample
        self.recall: dict[str, float] = {}

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the graphs added."""
        for name in self._names(data):
            x, batch = data[name].x.to_dense().detach(), data[name].get("batch")
            graphs = [torch.arange(x.size(0), device=x.device)]
            if batch is not None:
                graphs = list(batch.argsort(stable=True).split(torch.bincount(batch).tolist()))
            parts = [items[self._directed(x if batch is None else x[items], name)] for items in graphs]
            edge_index = torch.cat(parts, dim=1) if parts else torch.empty(2, 0, dtype=torch.long, device=x.device)
            both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
            data[name, "knn", name].edge_index = coalesce(both, num_nodes=data[name].num_nodes)
            forget_graphs(data)
        return data

    def _names(self, data: MultiModalHeteroData) -> list[str]:
        if self.modality is None:
            return modalities_with(data, "x", "'modality' is None, which stands for all with features")
        names = modality_names(data, self.modality)
        if "x" not in data[self.modality]:
            raise ValueError(f"modality '{self.modality}' has no features 'x' to find neighbours by")
        return names

    def _directed(self, x: Tensor, name: str) -> Tensor:
        """Return the edges ``[2, N k]`` from each row of ``x`` to its nearest others."""
        cloud = points(x, self.metric)
        rows, k = cloud.usable.nonzero().view(-1), min(self.k, x.size(0) - 1)
        if k < 1 or rows.numel() == 0:
            return torch.empty(2, 0, dtype=torch.long, device=x.device)
        large = self.method == "auto" and x.size(0) > self.threshold and _optional.available("faiss")
        if self.method != "faiss" and not large:
            parts = rows.split(max(1, _BLOCK // x.size(0)))
            return torch.cat([exact(cloud, part, k)[0] for part in parts], dim=1)
        edge_index = _approximate(cloud, rows, k)
        self.recall[name], seen = _recall(cloud, rows, k, edge_index, self.sample)
        print(
            f"{type(self).__name__}: modality '{name}': recall {self.recall[name]:.4f} of the {k} nearest of "
            f"{rows.numel()} items (exact for a sample of {seen})",
            file=sys.stderr,
        )
        return edge_index

    def __repr__(self) -> str:
        method = "" if self.method == "auto" else f", method={self.method!r}"
        return f"{type(self).__name__}({self.modality!r}, k={self.k}, metric={self.metric!r}{method})"


def _faiss() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its generated bindings
        return _optional.require("faiss")


def _approximate(cloud: Points, rows: Tensor, k: int) -> Tensor:
    """Return the edges from each of ``rows`` to the nearest others of them that an HNSW index finds."""
    faiss = _faiss()
    x = cloud.x[rows].float().cpu().contiguous().numpy()
    index = faiss.IndexHNSWFlat(x.shape[1], _LINKS)
    index.hnsw.efConstruction = _BUILD
    index.hnsw.efSearch = max(64, 4 * k)
    index.add(x)
    found = torch.from_numpy(index.search(x, k + 1)[1]).to(rows.device)
    keep = (found >= 0) & (found != torch.arange(len(x), device=rows.device)[:, None])
    keep &= keep.cumsum(dim=1) <= k
    return torch.stack([rows[:, None].expand_as(found)[keep], rows[found[keep]]])


def _recall(cloud: Points, rows: Tensor, k: int, edge_index: Tensor, sample: int) -> tuple[float, int]:
    """Return the share of found neighbours that are as near as the k-th nearest, for some rows, and their number."""
    order = torch.randperm(rows.numel(), generator=torch.Generator().manual_seed(0))[:sample]
    chosen, hits, total = rows[order.to(rows.device)], 0, 0
    start = torch.searchsorted(edge_index[0].contiguous(), chosen)
    stop = torch.searchsorted(edge_index[0].contiguous(), chosen, right=True)
    for part in torch.arange(chosen.numel(), device=rows.device).split(max(1, _BLOCK // cloud.x.size(0))):
        true, score = exact(cloud, chosen[part], k)
        best = score.topk(k, dim=1).values
        last = best.masked_fill(best.isinf(), torch.inf).amin(dim=1)
        for i, at in enumerate(part.tolist()):
            near = score[i, edge_index[1, start[at] : stop[at]]]
            hits += int((near >= last[i] - 1e-5 * last[i].abs()).sum())
        total += true.size(1)
    return hits / max(total, 1), chosen.numel()
