from __future__ import annotations

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.convert import star_expansion
from hyperlearn_pyg.transforms._common import training_mask


@functional_transform("star_expansion")
class StarExpansion(BaseTransform):
    """Turn a relation into the bipartite graph of its items and its hyperedges, as one homogeneous ``Data``.

    The nodes are those of :func:`~hyperlearn_pyg.data.convert.star_expansion`, of which this is the transform: the
    items of each modality, then all hyperedges. Of a relation that is split, only the training hyperedges have edges.
    (The data object itself is the star expansion as heterogeneous graph already.)

    Args:
        relation: the relation; :obj:`None` where there is one only.
        undirected: hold each membership in both directions, or else only from the item to the hyperedge.

    Raises:
        ValueError: no such relation, or several and none named.
    """

    def __init__(self, relation: str | None = None, *, undirected: bool = True) -> None:
        self.relation = relation
        self.undirected = undirected

    def forward(self, data: MultiModalHeteroData) -> Data:
        """Return the graph."""
        name = self.relation
        if name is None:
            if len(data.hyperedge_types) != 1:
                raise ValueError(f"'relation' must name one of {data.hyperedge_types}")
            name = data.hyperedge_types[0]
        return star_expansion(data, name, undirected=self.undirected, mask=training_mask(data, name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.relation!r}, undirected={self.undirected})"
