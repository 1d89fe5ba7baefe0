from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import InMemoryDataset
from torch_geometric.utils import coalesce, remove_self_loops

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.tuples import tuple_ids, tuples_of_ids
from hyperlearn_pyg.errors import did_you_mean

#: Spread of the factors of one community around its centre; the centres spread by one.
_WITHIN = 0.5
#: Spread of the bias of each slot, in units of the spread of the CP part.
_BIAS = 0.3
#: Share of the edges of the graph that stay within a community.
_PURITY = 0.9
#: How many candidates stand behind each positive of a 0/1 relation.
_CANDIDATES = 40


@dataclass(frozen=True)
class SyntheticRelation:
    """What :class:`SyntheticMultiModal` is to plant as one relation.

    Args:
        modalities: the slots, each a modality or a pair (modality, role).
        num_hyperedges: the number of distinct tuples.
        valued: values with noise where true; otherwise 0/1 positives.
    """

    modalities: tuple[str | tuple[str, str], ...]
    num_hyperedges: int
    valued: bool = True

    @property
    def names(self) -> list[str]:
        """The modality of each slot."""
        return [slot if isinstance(slot, str) else slot[0] for slot in self.modalities]


MODALITIES: Mapping[str, int] = {"user": 400, "item": 300, "tag": 60}
RELATIONS: Mapping[str, SyntheticRelation] = {
    "rates": SyntheticRelation(("user", "item"), 16_000),
    "tags": SyntheticRelation(("user", "item", "tag"), 12_000, valued=False),
}


class SyntheticMultiModal(InMemoryDataset):
    r"""A seeded data set of any number of modalities and relations with a planted answer; needs no file.

    Each item belongs to a community and has a factor near the centre of its community. The planted score of a
    tuple is :math:`\mu + c \sum_r \prod_s A_s[i_s, r] + \sum_s b_s[i_s]`, where :math:`c` gives the CP part unit
    variance over all tuples; factors have zero mean, so that biases alone explain little. A valued relation
    observes it at uniformly drawn tuples with normal noise; the positives of a 0/1 relation are the tuples of
    highest score among uniformly drawn candidates, disturbed by Gumbel noise (a softmax of temperature ``noise``).
    Features ``x`` and the graphs ``(modality, "linked", modality)`` follow the communities, with noise.

    Tuples are split 80/10/10 at random (``train_mask``, ``val_mask``, ``test_mask``). The noise-free score of each
    tuple stands in ``truth`` of its relation.

    Args:
        modalities: modality -> number of items.
        relations: name -> what to plant.
        rank: the number of columns of the factors.
        num_communities: communities a modality.
        num_features: features an item.
        num_neighbors: edges drawn for each item of a graph, before they are made symmetric; 0 for no graphs.
        noise: standard deviation of the noise, in units of the CP part.
        seed: the same arguments and seed give the same data.
        transform: applied at each access, as in PyG.

    Attributes:
        truth: ``factors`` and ``communities`` by modality, ``biases`` (one tensor a slot), ``mean`` and ``scale``
            by relation.

    Raises:
        ValueError: a relation names an unknown modality or asks for more tuples than there are; a number is out
            of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, int] | None = None,
        relations: Mapping[str, SyntheticRelation] | None = None,
        *,
        rank: int = 4,
        num_communities: int = 6,
        num_features: int = 16,
        num_neighbors: int = 8,
        noise: float = 0.4,
        seed: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(None, transform)
        self.modalities = dict(MODALITIES if modalities is None else modalities)
        self.relations = dict(RELATIONS if relations is None else relations)
        _check(self.modalities, self.relations, rank=rank, num_communities=num_communities, noise=noise)
        self.rank, self.num_communities, self.noise = rank, num_communities, noise
        self.truth: dict[str, dict[str, Any]] = {
            key: {} for key in ("factors", "communities", "biases", "mean", "scale")
        }
        generator = torch.Generator().manual_seed(seed)
        data = MultiModalHeteroData()
        for name, size in self.modalities.items():
            self._add_items(data, name, size, num_features, num_neighbors, generator)
        for name, relation in self.relations.items():
            self._add_relation(data, name, relation, generator)
        self.data, self.slices = self.collate([data])

    def score(self, relation: str, index: Tensor) -> Tensor:
        """Return the planted, noise-free score ``[E]`` of any tuples ``[k, E]`` of a relation.

        Raises:
            ValueError: there is no such relation, or ``index`` has not one row a slot.
        """
        if relation not in self.relations:
            hint = did_you_mean(relation, self.relations)
            raise ValueError(f"there is no relation {relation!r} (relations: {list(self.relations)}).{hint}")
        names = self.relations[relation].names
        if index.dim() != 2 or index.size(0) != len(names):
            raise ValueError(f"'index' must be of shape [{len(names)}, E] (got {list(index.shape)})")
        out: Tensor = self.truth["mean"][relation] + self.truth["scale"][relation] * self._product(names, index)
        for bias, row in zip(self.truth["biases"][relation], index, strict=True):
            out = out + bias[row]
        return out

    def _product(self, names: list[str], index: Tensor) -> Tensor:
        product = torch.ones(index.size(1), self.rank)
        for name, row in zip(names, index, strict=True):
            product = product * self.truth["factors"][name][row]
        return product.sum(dim=1)

    def _add_items(
        self, data: MultiModalHeteroData, name: str, size: int, features: int, degree: int, generator: torch.Generator
    ) -> None:
        community = torch.randint(self.num_communities, (size,), generator=generator)
        centres = torch.randn(self.num_communities, self.rank, generator=generator)
        factors = centres[community] + _WITHIN * torch.randn(size, self.rank, generator=generator)
        self.truth["factors"][name] = _standardise(factors)
        self.truth["communities"][name] = community
        means = torch.randn(self.num_communities, features, generator=generator)
        data.add_modality(
            name,
            num_nodes=size,
            x=means[community] + torch.randn(size, features, generator=generator),
            item_id=[f"{name}{i}" for i in range(size)],
            item_name=[f"{name.capitalize()} {i}" for i in range(size)],
            item_label=[f"community {i}" for i in community.tolist()],
        )
        if degree > 0:
            data[name, "linked", name].edge_index = _community_graph(community, degree, generator)

    def _add_relation(
        self, data: MultiModalHeteroData, name: str, relation: SyntheticRelation, generator: torch.Generator
    ) -> None:
        sizes = [self.modalities[modality] for modality in relation.names]
        count = relation.num_hyperedges
        self.truth["mean"][name] = 3.0 if relation.valued else 0.0
        self.truth["biases"][name] = [_BIAS * torch.randn(size, generator=generator) for size in sizes]
        index = _draw_tuples(sizes, count if relation.valued else count * _CANDIDATES, generator)
        spread = float(self._product(relation.names, index).std(correction=0)) if index.size(1) > 1 else 1.0
        self.truth["scale"][name] = 1.0 / spread if spread > 0 else 1.0
        truth = self.score(name, index)
        attrs: dict[str, Any] = _masks(count, generator)
        if relation.valued:
            attrs["value"] = truth + self.noise * torch.randn(count, generator=generator)
        else:
            uniform = torch.rand(index.size(1), generator=generator).clamp(1e-9, 1 - 1e-7)
            kept = (truth - self.noise * (-uniform.log()).log()).topk(count).indices
            kept = kept[torch.randperm(count, generator=generator)]
            index, truth = index[:, kept], truth[kept]
        data.add_hyperedges(name, index, modalities=relation.modalities, truth=truth, **attrs)


def _check(
    modalities: Mapping[str, int], relations: Mapping[str, SyntheticRelation], *, noise: float, **counts: int
) -> None:
    if not noise >= 0:
        raise ValueError(f"'noise' must be at least 0 (got {noise})")
    for key, count in counts.items():
        if count < 1:
            raise ValueError(f"'{key}' must be at least 1 (got {count})")
    for name, relation in relations.items():
        for modality in relation.names:
            if modality not in modalities:
                hint = did_you_mean(modality, modalities)
                raise ValueError(f"relation '{name}' names the unknown modality {modality!r}.{hint}")
        cells = math.prod(modalities[modality] for modality in relation.names)
        if not 0 <= relation.num_hyperedges <= cells:
            raise ValueError(
                f"'num_hyperedges' of relation '{name}' must be in [0, {cells}], the number of its tuples "
                f"(got {relation.num_hyperedges})"
            )


def _standardise(factors: Tensor) -> Tensor:
    if factors.size(0) < 2:
        return factors
    return (factors - factors.mean(dim=0)) / factors.std(dim=0, correction=0)


def _community_graph(community: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    """Draw ``degree`` neighbours an item, most of them of its own community; symmetric, no loops."""
    size = community.numel()
    source = torch.arange(size).repeat_interleave(degree)
    if size == 0:
        return torch.stack([source, source])
    order = community.argsort(stable=True)
    counts = torch.bincount(community)
    starts = counts.cumsum(0) - counts
    own = community[source]
    inside = order[starts[own] + (torch.rand(source.numel(), generator=generator) * counts[own]).long()]
    anywhere = torch.randint(size, (source.numel(),), generator=generator)
    target = torch.where(torch.rand(source.numel(), generator=generator) < _PURITY, inside, anywhere)
    edge_index, _ = remove_self_loops(torch.stack([source, target]))
    both: Tensor = coalesce(torch.cat([edge_index, edge_index.flip(0)], dim=1), num_nodes=size)
    return both


def _draw_tuples(sizes: list[int], count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` distinct tuples uniformly, or all of them in random order where there are fewer."""
    cells = math.prod(sizes)
    if count * 4 >= cells:
        return tuples_of_ids(torch.randperm(cells, generator=generator)[:count], sizes)
    index = torch.empty(len(sizes), 0, dtype=torch.long)
    while index.size(1) < count:
        rows = [torch.randint(size, (count + 16,), generator=generator) for size in sizes]
        index = torch.cat([index, torch.stack(rows)], dim=1)
        index = index[:, _first_of_each(tuple_ids(index, sizes))]
    return index[:, :count]


def _first_of_each(ids: Tensor) -> Tensor:
    """Return, in order, the position of the first occurrence of each distinct number."""
    order = ids.argsort(stable=True)
    is_first = torch.ones_like(ids, dtype=torch.bool)
    is_first[1:] = ids[order][1:] != ids[order][:-1]
    return order[is_first].sort().values


def _masks(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    position = torch.randperm(count, generator=generator)
    held = count // 10
    return {
        "train_mask": position >= 2 * held,
        "val_mask": position < held,
        "test_mask": (position >= held) & (position < 2 * held),
    }
