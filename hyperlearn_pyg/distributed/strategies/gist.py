"""Graph independent subnetwork training: each worker trains a narrow part of the network, over all of its layers."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import Module

from hyperlearn_pyg.distributed.strategies._channels import Hand, deal
from hyperlearn_pyg.distributed.strategies._columns import columns, gathered, runs_of
from hyperlearn_pyg.distributed.strategies._described import described
from hyperlearn_pyg.distributed.strategies._initial import fill_, noted, without_values
from hyperlearn_pyg.distributed.strategies._narrow import Shard, narrow, skeleton, tensors_of
from hyperlearn_pyg.distributed.strategies._parted import Parted
from hyperlearn_pyg.distributed.strategies._trace import ChannelPlan, trace
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.ops.seeds import derive_seed, name_seed


class GIST(Parted):
    r"""Graph independent subnetwork training (Wolfe et al., arXiv:2102.10424): models too wide for one worker.

    In each round every hidden dimension gets a fresh permutation, the same on all ranks, that deals its channels to the
    :math:`m` workers in equal, disjoint groups :math:`P_l^{(k)}`. Worker :math:`k` trains the network of the weights
    :math:`\mathbf{W}_l[P_l^{(k)}, P_{l-1}^{(k)}]` by itself, for as many local steps as the loop takes; input and
    output stay whole. Its blocks then return to the whole weights; blocks between the channels of two workers are not
    touched in that round, and what all workers have, such as the output's bias, is averaged.

    ::

        gist = GIST(model, (data.x, data.edge_index))
        for _ in range(rounds):
            with gist.round() as sub:
                optimizer = torch.optim.Adam(sub.parameters(), lr=0.01)  # anew in every round
                for _ in range(local_steps):
                    ...  # the plain loop, with 'sub' in place of the model
        model.load_state_dict(gist.full_state_dict())

    A worker holds about :math:`1/m^2` of the weights between two hidden layers, so in :math:`m` times fewer steps a
    worker (the paper divides the epochs by :math:`m`) every weight is trained as often as by one worker.

    **No rank holds the whole.** Each stores a range of every dealt weight, a :math:`1/m` of it, and fetches the block
    of its network from the others. A model without values, built under ``torch.device("meta")``, never comes to be:
    every rank draws its part as the layers' ``reset_parameters`` would have. Adam's two moments, gradients and weights
    are then those of the narrow network. Where memory counts, run a round in a function of its own, so that the
    optimizer is gone when the next one comes, and let go of a model that has values; GIST does not change it, but that
    all ranks get rank 0's values.

    What can be dealt is found by following the channels through the model on shapes alone: layers of PyG
    (:class:`~torch_geometric.nn.GCNConv`, ``SAGEConv``, ``GATConv``, ``GATv2Conv``, ``GraphConv``, ``HypergraphConv``,
    ``ChebConv``, ``TAGConv``, ``SGConv``, ...), linear maps, norms, and the hypergraph layers of
    :mod:`hyperlearn_pyg.nn`; between them functions of every number, residual sums and concatenation. Attention heads
    are dealt whole where :math:`m` divides their number, and else channels of each head. A layer of your own says by
    ``channel_roles`` what its weights run over. ``print(gist.plan)`` shows what was found.

    The network of a worker computes what the whole one would with all other weights zero, but for norms over channels
    (``LayerNorm``), which see the worker's channels only. The whole one adds up :math:`m` times as many channels as its
    weights were trained with, so put a norm behind every hidden layer, as the paper does: ``LayerNorm`` with
    ``elementwise_affine=False``; in PyG's models ``norm="layer_norm", norm_kwargs={"affine": False, "mode": "node"}``.

    A model that no tracing can follow may describe itself instead: by ``channel_axes``, which names the hidden channels
    that each dimension of each parameter runs over, as the encoders of HyperLearn do
    (:class:`~hyperlearn_pyg.nn.RelationEncoder`, :class:`~hyperlearn_pyg.nn.LevelConvEncoder`). Where it has a number
    ``hidden_scale``, by which it multiplies its hidden channels, that is :math:`m` in a worker's network: as with
    dropout that keeps one channel in :math:`m`, the whole one then needs no norm.

    Args:
        model: the model, the same on all ranks; with values, those of rank 0 count.
        args: an example of what its forward takes; shapes matter, values do not. Nothing for a model with
            ``channel_axes``.
        kwargs: the same, by name.
        seed: draws the permutations, and the weights of a model without values.
        device: where to train a model without values.
        process_group: the workers; the default group where absent, or this process alone where there is none.
        mesh: a mesh with an axis ``"replica"``, in place of ``process_group``.
        timeout: seconds that a rank is waited for; that of the group where absent.

    Attributes:
        model: the model, without values: its structure.
        plan: what is dealt.
        rounds: how many rounds are done.

    Raises:
        InputError: the model does what cannot be followed or dealt.
        RanksDifferError: the ranks have different models or seeds.
    """

    def __init__(
        self,
        model: Module,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
        process_group: Any = None,
        mesh: DeviceMesh | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(process_group=process_group, mesh=mesh, timeout=timeout)
        with self.ranks.all_or_none("GIST cannot deal the model"):
            if device is not None and not without_values(model):
                raise InputError("'device' is for a model without values: move the model with .to(...)")
            self.model, self._model = skeleton(model), weakref.ref(model)
            axes = getattr(model, "channel_axes", None)
            if axes is None and not args and not kwargs:
                raise InputError("'args' must be an example of what the model's forward takes (got nothing)")
            self.plan: ChannelPlan = trace(self.model, args, kwargs) if axes is None else described(self.model, axes)
            for hidden in self.plan.dealt:
                hidden.units(self.world_size)
        self.seed, self.rounds = seed, 0
        shapes = {name: list(weight.shape) for name, weight in self.plan.weights.items()}
        self.require_alike(seed=seed, weights=shapes, channels=str(self.plan))
        saved = model.state_dict()
        self._saved = [name for name in self.plan.weights if name in saved]
        self._shards = {name: Shard(w, self.wire) for name, w in self.plan.weights.items() if w.dealt}
        self._stored: dict[str, Tensor] = {}
        if without_values(model):
            self._stored = self._drawn(model, torch.device("cpu" if device is None else device))
            return
        for tensor in tensors_of(model).values():
            self.broadcast_([tensor.detach()])
        self._keep(model)

    def _keep(self, model: Module) -> None:
        for name, tensor in tensors_of(model).items():
            value = tensor.detach()
            self._stored[name] = self._shards[name].cut(value) if name in self._shards else value.clone()

    def _drawn(self, model: Module, device: torch.device) -> dict[str, Tensor]:
        """Return this rank's part of weights that nobody has drawn yet."""
        steps, likes, stored = noted(model), tensors_of(model), {}
        for name, like in likes.items():
            shard = self._shards.get(name)
            seed = derive_seed(name_seed(self.seed, name), self.rank + 1 if shard else 0)
            part = torch.empty(shard.shape if shard else like.shape, dtype=like.dtype, device=device)
            stored[name] = fill_(part, steps[name], seed)
        return stored

    # ------------------------------------------------------------------ rounds

    def hands(self) -> list[Hand]:
        """Return what each worker has in the coming round; no message is sent."""
        return [*deal(self.plan.dealt, self.world_size, self._generator())]

    def _part(self, hands: list[Hand]) -> Module:
        values = {}
        for name, stored in self._stored.items():
            shard = self._shards.get(name)
            values[name] = stored.clone() if shard is None else shard.fetch(stored, hands)
        sub: Any = narrow(self.model, self.plan, hands[self.rank], values)
        if hasattr(sub, "hidden_scale"):  # a module with channel_axes
            sub.hidden_scale = float(self.world_size)
        return sub  # type: ignore[no-any-return]

    def _merge(self, sub: Module, hands: list[Hand]) -> None:
        trained = tensors_of(sub)
        shared = {name: trained[name].detach().clone() for name in self._stored if name not in self._shards}
        self.average_([tensor for tensor in shared.values() if tensor.is_floating_point()], "averaged weights")
        blocks = {
            name: shard.give_back(self._stored[name], trained[name].detach(), hands)
            for name, shard in self._shards.items()
        }
        self._stored.update(shared)
        for name, shard in self._shards.items():
            shard.put_(self._stored[name], blocks[name], hands)

    def network(self) -> Module:
        """Return the whole network for evaluation, each of whose layers is computed by all ranks together.

        A rank holds a run of the channels of every hidden layer, so about a :math:`1/m` of the weights, and the whole
        activations. Every rank must come here, and call the network together with all others on the same input;
        attention whose heads the number of workers does not divide, and the output layer, are whole on all of them. It
        is good until the next round: the weights that a rank stores anyway are not copied.
        """
        self.check()
        plan = columns(self.plan, self.world_size)
        runs, values = runs_of(plan, self.world_size), {}
        for name, stored in self._stored.items():
            shard = Shard(plan.weights[name], self.wire) if name in self._shards else None
            values[name] = stored if shard is None or shard.at_home(runs) else shard.fetch(stored, runs)
        return gathered(narrow(self.model, plan, runs[self.rank], values), plan, self.wire)

    # ------------------------------------------------------------------ state

    def full_state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of the whole model, on every rank, for a model that fits there.

        Every rank must call it.
        """
        self.check()
        return {
            name: self._shards[name].gather(self._stored[name]) if name in self._shards else self._stored[name].clone()
            for name in self._saved
        }

    def _source(self) -> Module | None:
        return self._model()

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {"weights": self._stored}
