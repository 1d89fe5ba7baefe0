from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean

#: Largest number of similarities held at once: 64 MiB in float32.
_BLOCK = 1 << 24


@functional_transform("modality_knn_graph")
class KNNGraph(BaseTransform):
    """Tie each item to the ``k`` items of its modality with the nearest features, exactly.

    Adds the edge type ``(modality, "knn", modality)``: symmetric (an edge stays when either end chose the other),
    without loops and weights. Under cosine an item whose features are all zero has no direction: it stays isolated.

    Args:
        modality: the modality, which must have ``x``; :obj:`None` for every modality that has it.
        k: neighbours an item; less where there are fewer items.
        metric: ``"cosine"`` or ``"euclidean"``.

    Raises:
        ValueError: the modality is unknown or has no features, ``k`` or ``metric`` is out of range.
    """

    def __init__(self, modality: str | None = None, k: int = 10, metric: str = "cosine") -> None:
        if k < 1:
            raise ValueError(f"'k' must be at least 1 (got {k})")
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"'metric' must be 'cosine' or 'euclidean' (got {metric!r})")
        self.modality = modality
        self.k = k
        self.metric = metric

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the graphs added."""
        for name in self._names(data):
            edge_index = _nearest(data[name].x, self.k, self.metric)
            both = torch.cat([edge_index, edge_index.flip(0)], dim=1)
            data[name, "knn", name].edge_index = coalesce(both, num_nodes=data[name].num_nodes)
        return data

    def _names(self, data: MultiModalHeteroData) -> list[str]:
        known = data.modalities
        if self.modality is None:
            return [name for name in known if "x" in data[name]]
        if self.modality not in known:
            hint = did_you_mean(self.modality, known)
            raise ValueError(f"there is no modality {self.modality!r} (modalities: {known}).{hint}")
        if "x" not in data[self.modality]:
            raise ValueError(f"modality '{self.modality}' has no features 'x' to find neighbours by")
        return [self.modality]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.modality!r}, k={self.k}, metric={self.metric!r})"


def _nearest(x: Tensor, k: int, metric: str) -> Tensor:
    """Return the edges ``[2, N k]`` from each row of ``x`` to its ``k`` nearest others."""
    x = x.to_dense().detach()
    size = x.size(0)
    norm = x.norm(dim=1, keepdim=True)
    usable = (norm > 0).view(-1) if metric == "cosine" else torch.ones(size, dtype=torch.bool, device=x.device)
    if metric == "cosine":
        x = x / norm.clamp(min=torch.finfo(x.dtype).tiny)
    else:  # nearest neighbours do not change under a shift, and the expanded square loses fewer digits
        x = x - x.mean(dim=0, keepdim=True) if size else x
    k = min(k, size - 1)
    if k < 1:
        return torch.empty(2, 0, dtype=torch.long, device=x.device)
    half = x.square().sum(dim=1) / 2 if metric == "euclidean" else torch.zeros(size, device=x.device, dtype=x.dtype)
    edges = []
    for rows in torch.arange(size, device=x.device).split(max(1, _BLOCK // size)):
        score = x[rows] @ x.T - half  # the order of -|x_i - x_j|^2 / 2 for fixed i
        score[:, ~usable] = -torch.inf
        score[torch.arange(rows.numel()), rows] = -torch.inf
        value, target = score.topk(k, dim=1)
        keep = value.isfinite() & usable[rows].view(-1, 1)
        edges.append(torch.stack([rows.view(-1, 1).expand_as(target)[keep], target[keep]]))
    return torch.cat(edges, dim=1)
