from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.module_dict import ModuleDict

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.nn.decoder import KruskalDecoder, PairCounts
from hyperlearn_pyg.nn.models import build, step
from hyperlearn_pyg.nn.models.branch import Branch
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.grow import grow, new_relations
from hyperlearn_pyg.nn.models.inputs import ModelInputs, RelationSpec, learnt_relations, prepare
from hyperlearn_pyg.nn.models.presets import model_config, resolve_preset
from hyperlearn_pyg.nn.models.rows import relations_of, slot_rows, table_rows
from hyperlearn_pyg.ops.seeds import draw_seed, name_seed, seeded
from hyperlearn_pyg.typing import TupleBatch

#: Without test entries, all others carry messages.
KNOWN = ("train", "val")


class HyperLearn(Module):
    r"""HyperLearn: a vector for every item of every modality, from cross and intra relations at once.

    One encoder per modality gives its items' factors :math:`\mathbf{A}_m \in \mathbb{R}^{N_m \times R}`; one Kruskal
    decoder per relation rebuilds the entries of the relation (Arya, Rudinac and Worring, ACM Multimedia 2019). The
    loss is

    .. math::
        \mathcal{L} = \sum_{r} \mathcal{L}_r\big(\mathcal{X}_r, [\![\mathbf{A}_1, \ldots, \mathbf{A}_k]\!]\big)
        + \lambda \sum_m \tfrac{1}{2} \mathrm{tr}\big(\mathbf{A}_m^{\top} \mathbf{L}_m \mathbf{A}_m\big)

    Nothing but the factors (and biases) leaves a modality's branch.

    Use :meth:`from_data`; the constructor is for parts of your own.

    Args:
        encoders: the encoder of each modality: any module, see :class:`~hyperlearn_pyg.nn.models.Branch`.
        decoders: the decoder of each relation.
        relations: what the model knows of each relation.
        config: the losses and their weights, and how the parts were made.
        modalities: the names of all modalities, where other processes hold the encoders of those that ``encoders``
            lacks; those of ``encoders`` where absent.

    Attributes:
        modalities: the names of all modalities.
        encoders: a :class:`~hyperlearn_pyg.nn.models.Branch` per modality whose encoder is here.
        decoders: a decoder per relation.

    Shapes:
        * input: a :class:`~hyperlearn_pyg.data.MultiModalHeteroData`
        * output: for each modality, ``[N_m, R + number of relations it is in]``: factors, then biases (``[N_m, R]``
          where the model has none), then the factors of further roles where these have their own
    """

    def __init__(
        self,
        encoders: Mapping[str, Module],
        decoders: Mapping[str, KruskalDecoder],
        relations: Mapping[str, RelationSpec],
        config: ModelConfig,
        *,
        modalities: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.relations = dict(relations)
        self.encoders = ModuleDict(
            {name: build.as_branch(name, e, self.relations, config) for name, e in encoders.items()}
        )
        self.decoders = ModuleDict(dict(decoders))
        self.modalities = list(encoders if modalities is None else modalities)
        missing = [n for n in self.relations if n not in self.decoders]
        missing += [m for spec in self.relations.values() for m in spec.modalities if m not in self.modalities]
        if missing:
            raise ValueError(f"no encoder or decoder was given for {sorted(set(missing))}")
        self.predicted_slots()  # names what 'config.predict' gets wrong
        step.check_weights(self.relations, config.relation_weights)

    @classmethod
    def from_data(
        cls,
        data: MultiModalHeteroData,
        rank: int | None = None,
        preset: str = "default",
        *,
        relations: Sequence[str] | None = None,
        encoders: Mapping[str, Module] | None = None,
        only: Collection[str] | None = None,
        counts: Mapping[str, PairCounts] | None = None,
        **overrides: Any,
    ) -> HyperLearn:
        """Build a model for a data object: sizes, levels and start values are read from its training entries.

        What is drawn for an encoder hangs on its name and on one number from the global generator of the CPU alone:
        it starts alike whichever others are built here.

        Args:
            data: the data. A relation without split masks counts as training data in full.
            rank: width of the factors; the preset's where absent.
            preset: ``"default"`` (what measured best on validation: ``"ratings"`` where some relation has values,
                or else ``"links"``), ``"paper"`` (the method as printed), ``"ratings"`` or ``"links"``.
            relations: the hyperedge sets to learn from, each with one member a slot; all where absent. Others in
                ``data``, made by a transform for layers of your own, say, stay out of the model.
            encoders: your own encoder for some modalities; each must give ``[N, rank]``.
            only: build the encoders of these modalities alone, as other processes hold the rest: of those, ``data``
                need hold no more than the number of items. All decoders are built.
            counts: your own count terms of 0/1 relations, such as :class:`~hyperlearn_pyg.nn.FeatureCounts`, by name.
            **overrides: any value of :class:`~hyperlearn_pyg.nn.ModelConfig`.

        Raises:
            InputError: unknown preset or override.
            ValueError: the data object is not valid, holds no relation, one that is named is not there, one has several
                members in a slot, or an encoder, or ``only``, names no modality.
        """
        data.validate()
        if not data.hyperedge_types:
            raise ValueError("'data' has no relation: add one with data.add_hyperedges(...)")
        specs = learnt_relations(data, data.hyperedge_types if relations is None else relations)
        if rank is not None:
            overrides["rank"] = rank
        config = model_config(resolve_preset(preset, (s.has_value for s in specs.values())), **overrides)
        own = dict(encoders or {})
        tied = [m for m in data.modalities if relations_of(m, specs)]
        for argument, names in (("encoders", own), ("only", only or ())):
            for name in names:
                if name not in tied:
                    raise ValueError(f"'{argument}': no modality {name!r} is in a relation.{did_you_mean(name, tied)}")
        seed, here = draw_seed(), [m for m in tied if only is None or m in only]
        made = {m: build.make_branch(data, m, specs, config, own.get(m), seed=seed) for m in here}
        model = cls(made, build.make_decoders(specs, config, seed, counts), specs, config, modalities=tied)
        inputs = model.prepare(data, ("train",))
        build.start(model, inputs, 0)
        build.run_lazy(model, inputs, seed, here)
        return model

    @property
    def rank(self) -> int:
        """Width of the factors, without biases."""
        return self.config.rank

    def predicted_slots(self) -> dict[str, tuple[int, ...]]:
        """Return for each relation the slots whose items the losses against candidates predict."""
        return step.predicted_slots(self.relations, self.config.predict)

    def start(self, data: MultiModalHeteroData, *, splits: Sequence[str] = ("train",), seed: int = 0) -> None:
        """Set what starts from data (means, biases, start factors) from the entries of ``splits`` alone."""
        build.start(self, self.prepare(data, splits=splits), seed)

    def prepare(self, data: MultiModalHeteroData, splits: Sequence[str] = KNOWN) -> ModelInputs:
        """Take from ``data`` what the model reads. Do it once, not in every step.

        Args:
            data: the data.
            splits: the splits whose entries the model may see: they carry messages and are the targets of
                :meth:`loss`. Test entries are left out unless named.

        Raises:
            ValueError: ``data`` lacks a relation, or has one of other modalities or sizes.
        """
        here = {m: self.encoders[m].read_relations() for m in self.modalities if m in self.encoders}
        return prepare(data, self.relations, here, splits)

    def forward(
        self,
        data: MultiModalHeteroData | ModelInputs,
        keep: Mapping[str, Tensor] | None = None,
        *,
        seed: int | None = None,
    ) -> dict[str, Tensor]:
        """Encode every modality whose encoder is here.

        Args:
            data: the data, or what :meth:`prepare` made of it.
            keep: for each relation, which of its entries carry messages; all where absent.
            seed: in training, what an encoder draws (dropout, say) hangs on this and on the name of its modality; one
                number from the global generator of the CPU where absent.

        Returns:
            For each modality ``[N_m, R + number of its relations]``; ``[N_m, R]`` where the model has no biases.
        """
        inputs = data if isinstance(data, ModelInputs) else self.prepare(data)
        names = [m for m in self.modalities if m in self.encoders]
        if not self.training:
            return {name: self.encode(name, inputs, keep) for name in names}
        seed, out = draw_seed() if seed is None else seed, {}
        for name in names:
            with seeded(name_seed(seed, name), device=self.encoders[name].bias.device):
                out[name] = self.encode(name, inputs, keep)
        return out

    def encode(self, name: str, data: ModelInputs, keep: Mapping[str, Tensor] | None = None) -> Tensor:
        """Encode one modality; reads nothing of another one. Returns factors and biases, as :meth:`forward`.

        Raises:
            ValueError: another process holds its encoder.
        """
        out: Tensor = self._branch(name)(data.branches[name], keep)
        return out

    def rows(self, relation: str, factors: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what the decoder of a relation reads, one tensor a slot: factors and this relation's bias.

        Raises:
            ValueError: ``factors`` lacks a modality of the relation.
        """
        modalities = self.relations[relation].modalities
        for m in modalities:
            if m not in factors:
                raise ValueError(f"'factors' must hold {m!r}, which relation {relation!r} ties (got {list(factors)})")
        return table_rows(factors, self.relations, relation, rank=self.rank, bias=self.decoders[relation].bias)

    def _rows_of(self, relation: str, slot: int, table: Tensor) -> Tensor:
        return slot_rows(table, self.relations, relation, slot, rank=self.rank, bias=self.decoders[relation].bias)

    def decode(self, rows: Mapping[str, Tensor], tuples: TupleBatch) -> Tensor:
        """Score tuples that name rows of the tables ``rows``, whole ones or parts. Returns ``[B]``."""
        return self.score(tuples.relation, rows, tuples.index, tuples.items)

    def score(self, relation: str, factors: Mapping[str, Tensor], index: Tensor, items: Tensor | None = None) -> Tensor:
        """Score the tuples ``index [k, E]`` of a relation; ``items`` as in its decoder. Returns ``[E]``."""
        out: Tensor = self.decoders[relation](self.rows(relation, factors), index, items)
        return out

    def targets(
        self,
        data: ModelInputs,
        batch: Mapping[str, Tensor] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> list[TupleBatch]:
        """Return what a step is to predict, one batch of tuples a relation, in the order of ``relations``.

        Args:
            data: what :meth:`prepare` made.
            batch: for each relation the positions of the target entries; all entries for a relation not named.
            generator: source of the candidates of sampled losses, which are drawn here.
        """
        at = batch or {}
        specs, tuples = self.relations, data.tuples
        slots = self.predicted_slots()
        return [step.make_target(n, specs[n], tuples[n], at.get(n), self.config, generator, slots[n]) for n in specs]

    def target_loss(self, rows: Mapping[str, Tensor], target: TupleBatch) -> Tensor:
        """Return the loss of some tuples read from the tables ``rows``, without the cells.

        Divided by what belongs to the whole batch: the losses of its parts add up. Zero for no tuples.
        """
        relation = target.relation
        decoder, training = self.decoders[relation], self.training
        return step.target_loss(decoder, self.rows(relation, rows), target, self.config, training=training)

    def columns(self, relation: str, slot: int, factors: Tensor) -> Tensor:
        """Return the Kruskal columns ``[N, C]`` of a slot, from the table of its modality or some rows of it."""
        out: Tensor = self.decoders[relation].columns(slot, self._rows_of(relation, slot, factors))
        return out

    def penalty(self, name: str, factors: Tensor, data: ModelInputs) -> Tensor:
        """Return the terms of the loss that one modality has alone: smoothness of its factors, size of its tables.

        Raises:
            ValueError: another process holds its encoder.
        """
        branch, config = self._branch(name), self.config
        encoder: Any = branch.encoder
        total = factors.new_zeros(())
        if config.smoothness:
            total = total + config.smoothness * self.smoothness(name, factors, data)
        if config.table_l2 and hasattr(encoder, "penalty"):
            seen = sum(len(data.tuples[r]) for r in branch.relations or ())
            total = total + encoder.penalty() * (config.table_l2 / max(seen, 1))
        return total

    def smoothness(self, name: str, factors: Tensor, data: ModelInputs) -> Tensor:
        """Return the Dirichlet energy of one modality's factors ``[N, C]`` on its intra-modal graph."""
        return data.branches[name].laplacian.dirichlet(factors[:, : self.rank])

    def loss(
        self,
        inputs: ModelInputs,
        batch: Mapping[str, Tensor] | None = None,
        *,
        keep: Mapping[str, Tensor] | None = None,
        factors: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return the joint loss of a batch of entries of every relation.

        Args:
            inputs: what :meth:`prepare` made.
            batch: for each relation the positions of the target entries; all entries for a relation not named.
            keep: which entries carry messages.
            factors: factors already encoded.
            generator: source of the sampled negatives.
            seed: of what the encoders draw, see :meth:`forward`.
        """
        if factors is None:
            factors = self(inputs, keep, seed=seed)
        return self._total(factors, self.targets(inputs, batch, generator=generator), inputs, self.modalities)

    def modality_losses(
        self,
        inputs: ModelInputs,
        batch: Mapping[str, Tensor] | None = None,
        *,
        keep: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> dict[str, Tensor]:
        r"""Return the loss of each modality as printed: its own factors move, those of the others are given.

        :math:`\mathcal{L}_m = \lambda \lVert \mathbf{X}_{(m)} - \mathbf{A}_m \mathbf{\Omega}_m \rVert^2 + \frac{1}{2}
        \mathrm{tr}(\mathbf{A}_m^{\top} \mathbf{L}_m \mathbf{A}_m)`. Its gradient for the parameters of modality
        :math:`m` equals that of the joint :meth:`loss` (with sampled negatives: for generators in the same state). All
        of them are of the same dropout and the same negatives.
        """
        factors = self(inputs, keep, seed=seed)
        targets = self.targets(inputs, batch, generator=generator)
        losses = {}
        for own in self.modalities:
            view = {name: table if name == own else table.detach() for name, table in factors.items()}
            losses[own] = self._total(view, targets, inputs, [own])
        return losses

    def predict(self, data: MultiModalHeteroData | ModelInputs, relation: str, index: Tensor) -> Tensor:
        """Score tuples of a relation without gradients: values, or logits of a 0/1 relation. Returns ``[E]``.

        Values are kept inside the range of the training values where ``config.clamp`` says so.
        """
        if relation not in self.relations:
            raise ValueError(f"unknown relation {relation!r}.{did_you_mean(relation, self.relations)}")
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                out: Tensor = self.decoders[relation].predict(self.rows(relation, self(data)), index)
                return out
        finally:
            self.train(training)

    def add_modality(
        self,
        name: str,
        data: MultiModalHeteroData,
        *,
        relations: Sequence[str] | None = None,
        encoder: Module | None = None,
        build: bool = True,
    ) -> None:
        """Take in one more modality, and the relations that tie it, into a model that may be trained already.

        Parameters and buffers that are there stay the same objects with the same values, and so do the scores of the
        relations known so far: the new relations carry no messages to the old encoders, which get nothing but a bias
        for each. What is new starts from its training entries. Give an optimiser the new parameters afterwards.

        Args:
            name: the new modality.
            data: what the model was made for, and the new modality and relations.
            relations: the new relations; all that the model does not know and that tie ``name`` where absent.
            encoder: your own encoder of the modality, as in :meth:`from_data`.
            build: build the encoder here; False where another process does (at the same state of the global generator).

        Raises:
            ValueError: the modality is known or not in ``data``; no relation ties it; a relation is known, ties a
                modality that is not, or has several members in a slot; ``data`` is of other sizes than the model.
        """
        specs = new_relations(self, name, data, relations)
        grow(self, name, data, specs, encoder, build)

    def _total(
        self, factors: Mapping[str, Tensor], targets: Sequence[TupleBatch], inputs: ModelInputs, names: Sequence[str]
    ) -> Tensor:
        terms = [self.target_loss(factors, target) for target in targets]
        for target in targets:
            if target.cells:
                rows = self.rows(target.relation, factors)
                terms.append(target.cells * self.decoders[target.relation].norm_of(rows))
        terms += [self.penalty(name, factors[name], inputs) for name in names]
        return sum(terms, start=terms[0].new_zeros(()))

    def _branch(self, name: str) -> Branch:
        if name not in self.encoders:
            here = [m for m in self.modalities if m in self.encoders]
            why = "another rank holds it" if name in self.modalities else "the model knows no such modality"
            raise ValueError(f"the encoder of {name!r} is not here: {why} (here: {here})")
        branch: Branch = self.encoders[name]
        return branch

    def __repr__(self) -> str:
        parts = ", ".join(f"{n}({', '.join(s.modalities)})" for n, s in self.relations.items())
        names = ", ".join(self.modalities)
        return f"{type(self).__name__}({names}; {parts}; rank={self.rank}, preset={self.config.preset!r})"
