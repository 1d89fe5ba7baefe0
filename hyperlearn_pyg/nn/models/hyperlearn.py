from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.module_dict import ModuleDict

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import did_you_mean
from hyperlearn_pyg.nn.decoder import KruskalDecoder
from hyperlearn_pyg.nn.losses import all_cells_squared_error, masked_squared_error, sampled_loss
from hyperlearn_pyg.nn.models import build
from hyperlearn_pyg.nn.models.branch import needs
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.inputs import ModelInputs, RelationSpec, prepare, relation_spec
from hyperlearn_pyg.nn.models.presets import model_config, resolve_preset

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

    Attributes:
        encoders: a :class:`~hyperlearn_pyg.nn.models.Branch` per modality.
        decoders: a decoder per relation.

    Shapes:
        * input: a :class:`~hyperlearn_pyg.data.MultiModalHeteroData`
        * output: for each modality, ``[N_m, R + number of relations it is in]``: factors, then biases;
          ``[N_m, R]`` where the model has no biases
    """

    def __init__(
        self,
        encoders: Mapping[str, Module],
        decoders: Mapping[str, KruskalDecoder],
        relations: Mapping[str, RelationSpec],
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.relations = dict(relations)
        self.encoders = ModuleDict(
            {name: build.as_branch(name, e, self.relations, config) for name, e in encoders.items()}
        )
        self.decoders = ModuleDict(dict(decoders))
        missing = [n for n in self.relations if n not in self.decoders]
        missing += [m for spec in self.relations.values() for m in spec.modalities if m not in self.encoders]
        if missing:
            raise ValueError(f"no encoder or decoder was given for {sorted(set(missing))}")

    @classmethod
    def from_data(
        cls,
        data: MultiModalHeteroData,
        rank: int | None = None,
        preset: str = "default",
        *,
        relations: Sequence[str] | None = None,
        encoders: Mapping[str, Module] | None = None,
        **overrides: Any,
    ) -> HyperLearn:
        """Build a model for a data object: sizes, levels and start values are read from its training entries.

        Args:
            data: the data. A relation without split masks counts as training data in full.
            rank: width of the factors; the preset's where absent.
            preset: ``"default"`` (what measured best on validation: ``"ratings"`` where some relation has values,
                or else ``"links"``), ``"paper"`` (the method as printed), ``"ratings"`` or ``"links"``.
            relations: the hyperedge sets to learn from, each with one member a slot; all where absent. Others in
                ``data``, made by a transform for layers of your own, say, stay out of the model.
            encoders: your own encoder for some modalities; each must give ``[N, rank]``.
            **overrides: any value of :class:`~hyperlearn_pyg.nn.ModelConfig`.

        Raises:
            InputError: unknown preset or override.
            ValueError: the data object is not valid, holds no relation, one that is named is not there, one has several
                members in a slot, or an encoder names no modality.
        """
        data.validate()
        if not data.hyperedge_types:
            raise ValueError("'data' has no relation: add one with data.add_hyperedges(...)")
        specs = {name: relation_spec(data, name) for name in _learnt(data, relations)}
        if rank is not None:
            overrides["rank"] = rank
        config = model_config(resolve_preset(preset, (s.has_value for s in specs.values())), **overrides)
        own = dict(encoders or {})
        tied = [m for m in data.modalities if build.relations_of(m, specs)]
        for name in own:
            if name not in tied:
                raise ValueError(f"'encoders': no modality {name!r} is in a relation.{did_you_mean(name, tied)}")
        made = {m: build.make_branch(data, m, specs, config, own.get(m)) for m in tied}
        decoders = {name: build.make_decoder(spec, config) for name, spec in specs.items()}
        model = cls(made, decoders, specs, config)
        model.start(data)
        if any(torch.nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
            with torch.no_grad():
                model(data)  # lets lazy encoders take their sizes, so that their weights can be copied
        return model

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities."""
        return list(self.encoders.keys())

    @property
    def rank(self) -> int:
        """Width of the factors, without biases."""
        return self.config.rank

    def start(self, data: MultiModalHeteroData, *, splits: Sequence[str] = ("train",), seed: int = 0) -> None:
        """Set what starts from data (means, biases, start factors) from the entries of ``splits`` alone."""
        build.start(self, self.prepare(data, splits=splits), seed)

    def prepare(self, data: MultiModalHeteroData, splits: Sequence[str] = KNOWN) -> ModelInputs:
        """Take from ``data`` what the model reads. Do it once, not in every step.

        Args:
            data: the data.
            splits: the splits whose entries the model may see: they carry messages and are the targets of
                :meth:`loss`. Test entries are left out unless named.
        """
        self._check_sizes(data)
        wanted = set().union(*(needs(branch.encoder) for branch in self.encoders.values()))
        messages = bool(wanted & {"incidences", "hyperedge_index", "num_edges"})
        return prepare(data, self.relations, self.modalities, splits, messages=messages)

    def forward(
        self, data: MultiModalHeteroData | ModelInputs, keep: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Encode every modality.

        Args:
            data: the data, or what :meth:`prepare` made of it.
            keep: for each relation, which of its entries carry messages; all where absent.

        Returns:
            For each modality ``[N_m, R + number of its relations]``; ``[N_m, R]`` where the model has no biases.
        """
        inputs = data if isinstance(data, ModelInputs) else self.prepare(data)
        return {name: self.encode(name, inputs, keep) for name in self.modalities}

    def encode(self, name: str, inputs: ModelInputs, keep: Mapping[str, Tensor] | None = None) -> Tensor:
        """Encode one modality; reads nothing of another one. Returns factors and biases."""
        out: Tensor = self.encoders[name](inputs.branches[name], keep)
        return out

    def rows(self, relation: str, factors: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what the decoder of a relation reads, one tensor a slot: factors and this relation's bias."""
        out = []
        for m in self.relations[relation].modalities:
            table = factors[m]
            if self.decoders[relation].bias and table.size(1) > self.rank + 1:
                at = self.rank + self._relations_of(m).index(relation)
                table = torch.cat([table[:, : self.rank], table[:, at : at + 1]], dim=1)
            out.append(table if self.decoders[relation].bias else table[:, : self.rank])
        return out

    def decode(self, relation: str, factors: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """Score the tuples ``index [k, E]`` of a relation. Returns ``[E]``."""
        out: Tensor = self.decoders[relation](self.rows(relation, factors), index)
        return out

    def smoothness(self, name: str, inputs: ModelInputs, factors: Mapping[str, Tensor]) -> Tensor:
        """Return the Dirichlet energy of one modality's factors on its intra-modal graph."""
        return inputs.branches[name].laplacian.dirichlet(factors[name][:, : self.rank])

    def loss(
        self,
        inputs: ModelInputs,
        batch: Mapping[str, Tensor] | None = None,
        *,
        keep: Mapping[str, Tensor] | None = None,
        factors: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the joint loss of a batch of entries of every relation.

        Args:
            inputs: what :meth:`prepare` made.
            batch: for each relation the positions of the target entries; all entries for a relation not named.
            keep: which entries carry messages.
            factors: factors already encoded.
            generator: source of the sampled negatives.
        """
        if factors is None:
            factors = self(inputs, keep)
        total = self._smoothness_term(inputs, factors, self.modalities)
        for name in self.relations:
            total = total + self._relation_loss(name, factors, inputs, batch, generator)
        for name in self.modalities:
            total = total + self._table_penalty(name, inputs)
        return total

    def modality_losses(
        self,
        inputs: ModelInputs,
        batch: Mapping[str, Tensor] | None = None,
        *,
        keep: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        r"""Return the loss of each modality as printed: its own factors move, those of the others are given.

        :math:`\mathcal{L}_m = \lambda \lVert \mathbf{X}_{(m)} - \mathbf{A}_m \mathbf{\Omega}_m \rVert^2 + \frac{1}{2}
        \mathrm{tr}(\mathbf{A}_m^{\top} \mathbf{L}_m \mathbf{A}_m)`. Its gradient for the parameters of modality
        :math:`m` equals that of the joint :meth:`loss` (with sampled negatives: for generators in the same state).
        """
        factors = self(inputs, keep)
        losses = {}
        state = None if generator is None else generator.get_state()
        for own in self.modalities:
            view = {name: table if name == own else table.detach() for name, table in factors.items()}
            total = self._smoothness_term(inputs, view, [own]) + self._table_penalty(own, inputs)
            if generator is not None and state is not None:
                generator.set_state(state)
            for name in self.relations:
                total = total + self._relation_loss(name, view, inputs, batch, generator)
            losses[own] = total
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

    def _check_sizes(self, data: MultiModalHeteroData) -> None:
        for name, spec in self.relations.items():
            if name not in data.hyperedge_types:
                known = ", ".join(map(repr, data.hyperedge_types))
                raise ValueError(f"'data' has no relation {name!r}, which the model was made for (it has: {known})")
            relation = data.relation(name)
            if (relation.modalities, relation.sizes) != (spec.modalities, spec.sizes):
                made, got = (dict(zip(r.modalities, r.sizes, strict=True)) for r in (spec, relation))
                raise ValueError(f"'data': relation {name!r} ties {got} items, the model was made for {made}")

    def _relations_of(self, modality: str) -> list[str]:
        return build.relations_of(modality, self.relations)

    def _smoothness_term(self, inputs: ModelInputs, factors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        total = next(iter(factors.values())).new_zeros(())
        if self.config.smoothness:
            for name in names:
                total = total + self.config.smoothness * self.smoothness(name, inputs, factors)
        return total

    def _table_penalty(self, name: str, inputs: ModelInputs) -> Tensor | float:
        encoder = self.encoders[name].encoder
        if not self.config.table_l2 or not hasattr(encoder, "penalty"):
            return 0.0
        seen = sum(len(inputs.tuples[r]) for r in self._relations_of(name))
        penalty: Tensor = encoder.penalty() * (self.config.table_l2 / max(seen, 1))
        return penalty

    def _relation_loss(
        self,
        name: str,
        factors: Mapping[str, Tensor],
        inputs: ModelInputs,
        batch: Mapping[str, Tensor] | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        entries = inputs.tuples[name].take(None if batch is None else batch.get(name))
        decoder, config, rows = self.decoders[name], self.config, self.rows(name, factors)
        kind = config.value_loss if entries.value is not None else config.link_loss
        if kind == "squared" and entries.value is not None:
            return masked_squared_error(_scores(decoder, rows, entries.index), entries.value, entries.weight)
        if kind == "all_cells":
            columns = decoder.all_columns(rows)
            value = entries.value if entries.value is not None else rows[0].new_ones(len(entries))
            total = len(inputs.tuples[name])
            error = all_cells_squared_error(
                columns,
                entries.index,
                value - decoder.offset,
                unobserved=config.unobserved,
                weight=entries.weight,
                share=len(entries) / total if total else 1.0,
            )
            return error / max(len(entries), 1)
        loss = sampled_loss(
            decoder,
            rows,
            entries.index,
            num_negatives=config.num_negatives,
            candidates=inputs.tuples[name].seen if config.negatives == "seen" else None,
            kind=kind,
            generator=generator,
            weight=entries.weight,
        )
        return loss + config.l2 * _row_norms(rows, entries.index) if config.l2 else loss

    def __repr__(self) -> str:
        parts = ", ".join(f"{n}({', '.join(s.modalities)})" for n, s in self.relations.items())
        names = ", ".join(self.modalities)
        return f"{type(self).__name__}({names}; {parts}; rank={self.rank}, preset={self.config.preset!r})"


def _scores(decoder: KruskalDecoder, rows: Sequence[Tensor], index: Tensor) -> Tensor:
    """Score tuples: from the rows that they name where these are fewer than the items, or else from all."""
    if index.size(1) * len(rows) < sum(table.size(0) for table in rows):
        return decoder.score_rows([table.index_select(0, items) for table, items in zip(rows, index, strict=True)])
    out: Tensor = decoder(rows, index)
    return out


def _row_norms(rows: Sequence[Tensor], index: Tensor) -> Tensor:
    """Mean over tuples of the squared norms of their rows, summed over slots."""
    total = rows[0].new_zeros(())
    for table, items in zip(rows, index, strict=True):
        total = total + table.index_select(0, items).square().sum()
    return total / max(index.size(1), 1)


def _learnt(data: MultiModalHeteroData, relations: Sequence[str] | None) -> list[str]:
    """Return the relations to learn from, each with one member a slot."""
    known = data.hyperedge_types
    names = known if relations is None else list(relations)
    for name in names:
        if not data.relation(name).is_uniform:
            fit = [n for n in known if data.relation(n).is_uniform]
            raise ValueError(
                f"relation {name!r} has hyperedges without exactly one member a slot, which a decoder cannot score: "
                f"pass relations={fit} to leave it out"
            )
    return names
