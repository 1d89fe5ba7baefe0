from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.loader import NodeLoader
from torch_geometric.loader.utils import filter_hetero_data
from torch_geometric.sampler import HeteroSamplerOutput

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data._checks import as_tensor, check_shape
from hyperlearn_pyg.loader._epochs import EpochSampler, Positions, read_batch
from hyperlearn_pyg.loader._graph import MessageHyperedges
from hyperlearn_pyg.loader._inputs import Input, Seeds, check_data, check_keywords, read_nodes, read_tuples
from hyperlearn_pyg.loader.negative import NegativeSampler
from hyperlearn_pyg.loader.neighbor_sampler import HypergraphNeighborSampler, TupleSamplerInput, TupleSeeds


class HypergraphNeighborLoader(NodeLoader):
    r"""Batches of sampled neighbourhoods, item -> hyperedge -> item, in plain torch.

    Each batch is a :class:`~hyperlearn_pyg.data.MultiModalHeteroData` with the attributes of PyG's
    :class:`~torch_geometric.loader.NeighborLoader`: ``n_id`` in every item and hyperedge store, ``e_id`` in every edge
    store, ``num_sampled_nodes`` and ``num_sampled_edges`` (a number a hop), and in the store of the seeds ``input_id``,
    ``batch_size`` and ``seed_time``. Seeds come first; one that is named twice in a batch stands once, unless
    disjoint. In disjoint mode ``batch`` tells the seed of each row.

    **Hops.** Where all is taken (fan-out -1), ``L`` hops give a stack of ``L`` layers, item -> hyperedge -> item, the
    same outputs at the seeds as all the data: items up to ``L - 1`` hops away have all their hyperedges, and these all
    their members. Layers that also read the degree of the *sender*, such as those with symmetric normalisation, need
    the hyperedges of the items at ``L`` hops too: one more hop ``(-1, 0)``, of hyperedges without members. PyG's layers
    on the memberships, and on the same memberships turned round, go half the way each: two for a hop; an edge between
    two items takes a hop. Rows that are no seeds hold what is needed on the way; their own outputs are not exact.

    **Tuples** as seeds: all members of the tuples stand first in the stores of their modalities. In the store of the
    hyperedge set are ``hyperedge_label`` ``[B]`` (``input_label``, or the value, or one), ``hyperedge_label_index``
    ``[k, B]`` with the local numbers of the members, ``tuple_id [B]``, the hyperedges in ``data``,
    ``hyperedge_label_weight`` where there are weights, and ``hyperedge_label_time`` in temporal sampling. Where
    hyperedges have several members in a slot, ``hyperedge_label_index [2, n]`` (item, position in the batch) stands in
    the store of each membership instead. With ``negatives``, ``hyperedge_negative_index [k, B, num_negatives]`` holds
    their members, and ``hyperedge_negative_mask [B, num_negatives]`` says which are there.

    **Randomness.** A batch depends on the seed, the epoch and its own seeds alone, not on the number of workers.

    Args:
        data: the data.
        num_neighbors: one entry a hop: a number, or a pair (hyperedges for each item, members for each hyperedge and
            slot); -1 takes all. For other edge types the first counts those that end at items, the second those that
            end at hyperedges. Or a mapping to such lists, from edge types, hyperedge sets or modalities (looked up in
            this order) or ``"default"``.
        input_nodes: items (or hyperedges) to start from: a node type, or a pair of it and an index, a mask or the
            name of a split.
        input_tuples: tuples to start from: a relation, or a pair of it and an index of hyperedges, a mask, the name of
            a split, or the members ``[k, n]`` of tuples that need not be hyperedges (negatives, say).
        input_time: times of the seeds ``[n]``; where absent their own.
        input_label: labels of tuples ``[n]``.
        leave_out: do not send messages along the hyperedges whose tuples are the seeds, so that what is to be
            predicted is not seen. ``"same"`` leaves out all hyperedges with the same members, those of tuples given by
            their members too; with :obj:`True` other hyperedges with the same members stay.
        negatives: draws negatives of each tuple; their members are seeds too.
        num_negatives: how many for each tuple.
        message_hyperedges: the hyperedges that may send messages: the name of a split (``"train"`` keeps what is held
            out from view), or a mapping from hyperedge set to a split or a mask ``[E]``.
        replace: draw with replacement.
        disjoint: every seed, or tuple, has a subgraph of its own.
        time_attr: attribute that holds times, of hyperedges, items or edges; then only what is no later than the seed
            is sampled, and sampling is disjoint. What has no time is always there.
        temporal_strategy: ``"uniform"``, or ``"last"`` for the latest neighbours.
        strict_time: sample only what is earlier than the seed.
        seed: the seed; without it the numbers come from ``generator``, or from torch's global source.
        transform: applied to each batch.
        transform_sampler_output: applied to what the sampler returns.
        filter_per_worker: see PyG's ``NodeLoader``.
        neighbor_sampler: a sampler to use instead of a new one; what the sampler is told is then not read here.
        **kwargs: arguments of :class:`torch.utils.data.DataLoader`, such as ``batch_size``, ``shuffle``,
            ``num_workers``, ``sampler``, ``generator``.

    Raises:
        ValueError: not one of ``input_nodes`` and ``input_tuples``; an unknown name; a fan-out, index, mask, split,
            label or time that does not fit.

    Example:
        >>> from hyperlearn_pyg.datasets import SyntheticMultiModal
        >>> data = SyntheticMultiModal()[0]
        >>> loader = HypergraphNeighborLoader(data, [10, (5, -1)], input_tuples=("rates", "train"), batch_size=64)
        >>> batch = next(iter(loader))
        >>> list(batch["rates"].hyperedge_label_index.shape)
        [2, 64]
    """

    def __init__(
        self,
        data: MultiModalHeteroData,
        num_neighbors: Any = None,
        input_nodes: Input | None = None,
        input_tuples: Input | None = None,
        *,
        input_time: Tensor | None = None,
        input_label: Tensor | None = None,
        leave_out: bool | str = True,
        negatives: NegativeSampler | None = None,
        num_negatives: int = 1,
        message_hyperedges: MessageHyperedges | None = None,
        replace: bool = False,
        disjoint: bool = False,
        time_attr: str | None = None,
        temporal_strategy: str = "uniform",
        strict_time: bool = False,
        seed: int | None = None,
        transform: Callable[[Any], Any] | None = None,
        transform_sampler_output: Callable[[Any], Any] | None = None,
        filter_per_worker: bool | None = None,
        neighbor_sampler: HypergraphNeighborSampler | None = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs, HypergraphNeighborLoader, NodeLoader, DataLoader)
        seeds = _read_seeds(data, input_nodes, input_tuples)
        _check_arguments(data, seeds, input_tuples is not None, input_label, leave_out, negatives)
        if neighbor_sampler is None:
            neighbor_sampler = HypergraphNeighborSampler(
                data,
                num_neighbors,
                replace=replace,
                disjoint=disjoint,
                time_attr=time_attr,
                temporal_strategy=temporal_strategy,
                strict_time=strict_time,
                message_hyperedges=message_hyperedges,
                share_memory=kwargs.get("num_workers", 0) > 0,
            )
        if input_tuples is not None and leave_out:
            neighbor_sampler.graph.prepare(seeds.name)
        size = seeds.index.numel()
        self.input_tuples, self.leave_out = input_tuples, leave_out
        self.negatives, self.num_negatives = negatives, num_negatives
        self._members = seeds.members
        self._label = {} if input_tuples is None else _labels(data, seeds, input_label)
        self._ragged = input_tuples is not None and not data.relation(seeds.name).is_uniform
        self.epochs = _epochs(size, seed, kwargs)
        neighbor_sampler.check_time(seeds.name, input_time is not None, known=seeds.members is None)
        if input_time is not None:
            check_shape(as_tensor(input_time, "'input_time'"), (size,), "'input_time'")
        super().__init__(
            data,
            neighbor_sampler,
            input_nodes=(seeds.name, seeds.index),
            input_time=input_time,
            input_id=seeds.input_id,
            transform=transform,
            transform_sampler_output=transform_sampler_output,
            filter_per_worker=filter_per_worker,
            **kwargs,
        )

    def __setattr__(self, key: str, value: Any) -> None:
        # The indices that PyG's loader asks its data set for carry the key of the epoch.
        super().__setattr__(key, Positions(len(value)) if key == "dataset" else value)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is; passes are counted from 0 otherwise."""
        self.epochs.epoch = epoch

    def collate_fn(self, index: Tensor | Sequence[int]) -> Any:
        """Sample around a batch of seeds."""
        position, generator = read_batch(index, len(self.dataset))
        inputs = self.input_data[position]
        if self.input_tuples is None:
            out = self.node_sampler.sample_from_nodes(inputs, generator)
        else:
            given = self._members
            tuples = TupleSamplerInput(
                inputs.input_type,
                inputs.input_id,
                hyperedge=inputs.node if given is None else None,
                members=None if given is None else given[:, position],
                time=inputs.time,
            )
            out = self.node_sampler.sample_from_tuples(
                tuples,
                leave_out=self.leave_out,
                negatives=self.negatives,
                num_negatives=self.num_negatives,
                generator=generator,
            )
            out.metadata = (inputs.input_id, position, out.metadata)
        return self.filter_fn(out) if self.filter_per_worker else out

    def filter_fn(self, out: HeteroSamplerOutput) -> Any:
        """Join what was sampled with its features, values, masks and names."""
        if self.transform_sampler_output:
            out = self.transform_sampler_output(out)
        batch = join(self.data, out)
        name = self.input_data.input_type
        store = batch[name]
        store.input_id = out.metadata[0]
        store.batch_size = out.metadata[0].numel()
        if self.input_tuples is None:
            store.seed_time = out.metadata[1]
        else:
            self._add_labels(batch, *out.metadata[1:])
        return batch if self.transform is None else self.transform(batch)

    def _add_labels(self, batch: Any, position: Tensor, seeds: TupleSeeds) -> None:
        store = batch[seeds.index.relation]
        found: dict[str, Tensor | None] = {
            key: values[position.to(values.device)] for key, values in self._label.items()
        }
        found["tuple_id"] = seeds.index.hyperedge
        found["hyperedge_label_time"] = seeds.time
        found["hyperedge_negative_index"], found["hyperedge_negative_mask"] = seeds.negatives, seeds.negative_mask
        if self._ragged and self._members is None:
            for slot, index in seeds.members.items():
                batch[slot].hyperedge_label_index = index
        else:
            found["hyperedge_label_index"] = torch.stack([index[0] for index in seeds.members.values()])
        store.update({key: value for key, value in found.items() if value is not None})

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def join(data: MultiModalHeteroData, out: HeteroSamplerOutput) -> MultiModalHeteroData:
    """Return the part of ``data`` that was sampled, lists of strings included."""
    plain, lists = copy.copy(data), []
    for name in data.node_types:
        for key, value in data[name].items():
            if isinstance(value, list | tuple) and data[name].is_node_attr(key):
                del plain[name][key]
                lists.append((name, key, value))
    batch: MultiModalHeteroData = filter_hetero_data(plain, out.node, out.row, out.col, out.edge)
    for name, key, value in lists:
        batch[name][key] = [value[i] for i in out.node[name].tolist()]
    for name, node in out.node.items():
        if "n_id" not in data[name]:  # as in PyG: a batch of a batch keeps the numbers of the first data
            batch[name].n_id = node
    for edge_type, edge in out.edge.items():
        if "e_id" not in data[edge_type]:
            batch[edge_type].e_id = edge
    for key in ("batch", "num_sampled_nodes", "num_sampled_edges"):
        batch.set_value_dict(key, getattr(out, key))
    return batch


def _read_seeds(data: MultiModalHeteroData, nodes: Input | None, tuples: Input | None) -> Seeds:
    check_data(data)
    if nodes is not None and tuples is None:
        return read_nodes(data, nodes)
    if tuples is not None and nodes is None:
        return read_tuples(data, tuples)
    raise ValueError("pass one of 'input_nodes' and 'input_tuples': what the batches are made around")


def _check_arguments(
    data: MultiModalHeteroData,
    seeds: Seeds,
    tuples: bool,
    label: Tensor | None,
    leave_out: bool | str,
    negatives: NegativeSampler | None,
) -> None:
    if leave_out not in (True, False, "same"):
        raise ValueError(f"'leave_out' must be True, False or 'same' (got {leave_out!r})")
    for name, given in (("input_label", label), ("negatives", negatives)):
        if given is not None and not tuples:
            raise ValueError(f"'{name}' goes with 'input_tuples'")
    if negatives is not None and seeds.members is None and not data.relation(seeds.name).is_uniform:
        raise ValueError(f"'negatives' are for one member in every slot, which hyperedges of '{seeds.name}' have not")


def _labels(data: MultiModalHeteroData, seeds: Seeds, given: Tensor | None) -> dict[str, Tensor]:
    """Return what is known of each tuple, under the names that the batch will have it by."""
    relation, size = data.relation(seeds.name), seeds.index.numel()
    out = {}
    if given is not None:
        out["hyperedge_label"] = as_tensor(given, "'input_label'")
        if out["hyperedge_label"].size(0) != size:
            raise ValueError(
                f"'input_label' must have {size} rows, one a tuple (got {list(out['hyperedge_label'].shape)})"
            )
    if seeds.members is not None:
        return out
    if given is None:
        out["hyperedge_label"] = torch.ones(size) if relation.value is None else relation.value[seeds.index]
    if relation.weight is not None:
        out["hyperedge_label_weight"] = relation.weight[seeds.index]
    return out


def _epochs(size: int, seed: int | None, kwargs: dict[str, Any]) -> EpochSampler:
    """Put a sampler that knows the epoch round whatever the arguments of the loader ask for."""
    generator = kwargs.get("generator")
    if kwargs.get("batch_sampler") is not None:
        epochs = EpochSampler(size, kwargs["batch_sampler"], seed=seed, generator=generator)
        kwargs["batch_sampler"] = epochs
        return epochs
    inner, shuffle = kwargs.get("sampler"), bool(kwargs.pop("shuffle", False))
    if inner is not None and shuffle:
        raise ValueError("'sampler' and 'shuffle' exclude each other: the sampler gives the order")
    epochs = EpochSampler(size, inner, shuffle=shuffle, seed=seed, generator=generator)
    kwargs["sampler"] = epochs
    return epochs
