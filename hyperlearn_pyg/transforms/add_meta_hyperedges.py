from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.data.storage import NodeStorage
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._rows import forget_graphs
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.transforms._common import check_sizes, modalities_with, modality_names, replace_set


@functional_transform("add_meta_hyperedges")
class AddMetaHyperedges(BaseTransform):
    """Tie the items of a modality that share a category, a cluster of features, or simply the modality.

    Adds the hyperedge set ``{modality}_by_{by}`` over the modality, with ``category``: what each hyperedge stands
    for (a list of strings for labels, else a tensor ``[E]``). A set that an earlier run made is replaced. In a batch,
    each graph has hyperedges of its own.

    Args:
        by: ``"all"`` for one hyperedge of the whole modality; ``"kmeans"`` for clusters of the features ``x``; or an
            attribute of the item store: a list of strings such as ``"item_label"`` (an empty one is no category), whole
            numbers ``[N]`` (a negative one is no category), or a bool matrix ``[N, C]`` (each column a category;
            numbers 0 and 1 will do).
            Mind that an attribute which is to be predicted gives the answer away.
        modalities: one modality or several; :obj:`None` for all that have what ``by`` reads.
        num_clusters: how many clusters, at most.
        min_size: hyperedges with fewer members are left out.
        max_size: hyperedges with more members are left out.
        seed: seed of the clusters.
        name: the name of the set, where ``modalities`` names one modality.

    Raises:
        ValueError: there is no such modality, it (or every one) lacks the attribute or has another kind of it, an
            argument is out of range, the name is taken.
    """

    def __init__(
        self,
        by: str = "item_label",
        modalities: str | Sequence[str] | None = None,
        *,
        num_clusters: int = 8,
        min_size: int = 1,
        max_size: int | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        check_sizes(min_size, max_size)
        if num_clusters < 1:
            raise ValueError(f"'num_clusters' must be at least 1 (got {num_clusters})")
        if name is not None and not isinstance(modalities, str):
            raise ValueError(f"'name' goes with one modality (got modalities={modalities!r})")
        self.by = by
        self.modalities = modalities
        self.num_clusters = num_clusters
        self.min_size, self.max_size = min_size, max_size
        self.seed = seed
        self.name = name

    def forward(self, data: MultiModalHeteroData) -> MultiModalHeteroData:
        """Return the data with the hyperedge sets added."""
        names = modality_names(data, self.modalities)
        needed = {"all": "num_nodes", "kmeans": "x"}.get(self.by, self.by)
        if self.modalities is None:
            names = modalities_with(data, needed, f"'by' is {self.by!r}", ("all", "kmeans"))
        for name in names:
            if needed not in data[name]:
                hint = did_you_mean(needed, ["all", "kmeans", *data[name].keys()])
                raise ValueError(f"modality '{name}' has no attribute '{needed}' to take categories from.{hint}")
            item, category, words = self._categories(data[name], name)
            self._add(data, name, item, category, words)
            forget_graphs(data)
        return data

    def _categories(self, store: NodeStorage, name: str) -> tuple[Tensor, Tensor, list[str] | None]:
        """Return items and their categories ``[nnz]``, and what the categories are called."""
        size = int(store.num_nodes)
        if self.by == "all":
            return torch.arange(size), torch.zeros(size, dtype=torch.long), None
        if self.by == "kmeans":
            return torch.arange(size), _clusters(store.x, self.num_clusters, self.seed), None
        value = store[self.by]
        if isinstance(value, Tensor):
            return *_of_tensor(value, size, f"'{self.by}' of modality '{name}'"), None
        # a batch holds one list for each of its graphs
        strings = [s for part in value for s in (part if isinstance(part, list) else [part])]
        if len(strings) != size:
            raise ValueError(f"'{self.by}' of modality '{name}' must have one entry an item: {size} ({len(strings)})")
        words = sorted({str(s) for s in strings} - {""})
        number = {word: i for i, word in enumerate(words)} | {"": -1}
        category = torch.tensor([number[str(s)] for s in strings], dtype=torch.long)
        item = (category >= 0).nonzero().view(-1)
        return item, category[item], words

    def _add(
        self, data: MultiModalHeteroData, name: str, item: Tensor, category: Tensor, words: list[str] | None
    ) -> None:
        graph = data[name].get("batch")
        graph = torch.zeros_like(item) if graph is None else graph.to(item.device)[item]
        key = torch.stack([graph, category])
        found, edge, size = torch.unique(key, dim=1, return_inverse=True, return_counts=True)
        keep = size >= self.min_size
        if self.max_size is not None:
            keep &= size <= self.max_size
        inside = keep[edge]
        label = found[1, keep]
        set_name = self.name or f"{name}_by_{self.by}"
        replace_set(data, set_name, "category")
        device = next((v.device for s in data.stores for v in s.values() if isinstance(v, Tensor)), item.device)
        data.add_hyperedges(
            set_name,
            {name: torch.stack([item[inside], (keep.cumsum(0) - 1)[edge[inside]]]).to(device)},
            num_hyperedges=int(keep.sum()),
            category=label.to(device) if words is None else [words[i] for i in label.tolist()],
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.by!r}, {self.modalities!r})"


def _of_tensor(value: Tensor, size: int, where: str) -> tuple[Tensor, Tensor]:
    """Return items and categories of whole numbers ``[N]`` or of a bool or 0/1 matrix ``[N, C]``."""
    shape = list(value.shape)
    if value.dim() == 2 and shape[0] == size and bool(((value == 0) | (value == 1)).all()):
        item, category = value.nonzero().t()
        return item, category
    if value.is_floating_point() or value.is_complex() or shape != [size]:
        raise ValueError(
            f"{where} must hold whole numbers [{size}] or a bool matrix [{size}, C], which may also be one of numbers "
            f"0 and 1 (got {shape}, {value.dtype})"
        )
    item = (value >= 0).nonzero().view(-1)
    return item, value.long()[item]


def _clusters(x: Tensor, count: int, seed: int) -> Tensor:
    """Return the cluster ``[N]`` of each row."""
    points = x.detach().to_dense().cpu().double()
    if points.numel() == 0:
        return torch.zeros(x.size(0), dtype=torch.long)
    count = min(count, len(points.unique(dim=0)))  # fewer distinct points than clusters: each its own
    labels = KMeans(count, n_init=1, random_state=seed).fit(points.numpy()).labels_
    return torch.from_numpy(labels).long()
