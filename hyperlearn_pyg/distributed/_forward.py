from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.distributed._share import as_batch, in_order, to_device
from hyperlearn_pyg.distributed._step import Step, common_type, culprits
from hyperlearn_pyg.distributed.exchange import gather_values, sum_value
from hyperlearn_pyg.errors import ModalityError, NonFiniteError
from hyperlearn_pyg.ops.kruskal import gram_norm
from hyperlearn_pyg.typing import TupleBatch

__all__ = ["Pass", "as_batch"]


class Pass(Step):
    """A forward pass: scores or a loss, on one process or on one of several ranks."""

    def scores(self, data: Any, batches: Sequence[TupleBatch], **kwargs: Any) -> list[Tensor]:
        """Return the scores of all tuples of all batches."""
        self.encode(data, **kwargs)
        owner = self.owner
        if owner.ranks.world_size == 1:
            tables = self._tables_here()
            out = [owner.module.decode(tables, to_device(batch, owner.device)) for batch in batches]
            return self._finite_scores(out)
        self.meet(batches)
        tables, own, share = self.exchange(batches)
        empty = [torch.zeros(0, device=owner.device)] * len(own)
        out = self.trying(lambda: owner.call.within(self.values, lambda: [self._decode(tables, b) for b in own]), empty)
        self.vote(torch.zeros(()))
        assert self.tie is not None, "an exchange leaves a tie"
        return self._finite_scores([scores + self.tie for scores in self._gather(out, share.blocks)])

    def _decode(self, tables: dict[str, Tensor], batch: TupleBatch) -> Tensor:
        scores = self.owner.module.decode(tables, batch)
        if not isinstance(scores, Tensor) or scores.dim() == 0 or scores.size(0) != len(batch):
            got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(f"decode(rows, tuples) must return [{len(batch)}, ...] for so many tuples (got {got})")
        return scores

    def _gather(self, out: list[Tensor], blocks: Sequence[Sequence[int]]) -> list[Tensor]:
        wire = self.owner.ranks.world
        if len({(scores.shape[1:], scores.dtype) for scores in out}) == 1:
            sizes = [sum(rank) for rank in zip(*blocks, strict=True)]
            return in_order(gather_values(torch.cat(out), sizes, wire), blocks)
        return [gather_values(scores, sizes, wire) for scores, sizes in zip(out, blocks, strict=True)]

    def _finite_scores(self, out: list[Tensor]) -> list[Tensor]:
        if self.owner.on_nonfinite == "ignore" or all(bool(scores.isfinite().all()) for scores in out):
            return out
        lost = self._not_finite("scores")
        return [scores.new_full(scores.shape, torch.nan) * lost for scores in out]

    def loss(self, data: Any, batch: Any, generator: torch.Generator | None, **kwargs: Any) -> Tensor:
        """Return the loss of the module."""
        self.encode(data, **kwargs)
        owner = self.owner
        targets = list(owner.module.targets(data, batch, generator=generator))
        if owner.ranks.world_size == 1:
            total = self._loss_here(targets, data)
        else:
            self.meet(targets)
            tables, own, _ = self.exchange(targets)
            alone, empty = torch.zeros((), device=owner.device), [not len(batch) for batch in targets]
            score = partial(self._part, tables, own, empty, data)
            part = self.trying(lambda: owner.call.within(self.values, score), alone)
            cells = self.cells(targets)
            assert self.tie is not None, "an exchange leaves a tie"
            total = self.vote(part + self.tie)
            total = total if cells is None else total + cells
        if owner.on_nonfinite == "ignore" or math.isfinite(float(total.detach())):
            return total
        return self._not_finite("loss")

    def _part(self, tables: dict[str, Tensor], own: Sequence[TupleBatch], empty: Sequence[bool], data: Any) -> Tensor:
        """Return this rank's part of the loss: its tuples, and what its modalities have alone."""
        owner, module = self.owner, self.owner.module
        total = torch.zeros((), dtype=common_type(owner.tables.values()), device=owner.device)
        for batch, nowhere in zip(own, empty, strict=True):
            if len(batch) or nowhere:  # a batch that is empty on all ranks gives gradients of zero, as in one process
                total = total + module.target_loss(tables, batch)
        for name, factors in self.factors.items():
            penalty = module.penalty(name, factors, data)
            total = total + penalty.to(owner.device) / owner.plan.replicas
        return total

    def _loss_here(self, targets: Sequence[TupleBatch], data: Any) -> Tensor:
        owner, module, tables = self.owner, self.owner.module, self._tables_here()
        total = torch.zeros((), device=owner.device)
        for batch in targets:
            total = total + module.target_loss(tables, to_device(batch, owner.device))
        for batch in targets:
            if batch.cells:
                rows = [tables[m] for m in batch.modalities]
                columns = [module.columns(batch.relation, s, t) for s, t in enumerate(rows)]
                total = total + batch.cells * gram_norm(columns)
        for name, factors in self.factors.items():
            total = total + module.penalty(name, factors, data).to(owner.device)
        return total

    def _tables_here(self) -> dict[str, Tensor]:
        """Return the factors where tuples are scored, which is in this process."""
        if self.fault is not None:
            names = [self.fault.modality] if self.fault.modality else []
            raise ModalityError(f"{self.fault.text}. The step was not taken", [0], names) from self.fault.error
        return {name: factors.to(self.owner.device) for name, factors in self.factors.items()}

    def smoothness(self, data: Any) -> Tensor:
        """Return the smoothness of all modalities."""
        owner = self.owner
        total = torch.zeros((), dtype=common_type(owner.tables.values()), device=owner.device)
        total = total if self.tie is None else total + self.tie  # no rank is without a gradient
        for name, factors in self.factors.items():
            part = owner.call.using(self.values, "smoothness", name, factors, data)
            total = total + part.to(owner.device) / owner.plan.replicas
        return sum_value(total, owner.ranks.world)

    def _not_finite(self, what: str) -> Tensor:
        """Name the modalities with NaN or infinite factors: raise, or return what drops the step on all ranks."""
        owner = self.owner
        told = owner.ranks.tell(culprits(self.factors))
        ranks = [rank for rank, names in enumerate(told) if names]
        names = sorted({name for own in told for name in own}, key=owner.names.index)
        where = f"the factors of modality {', '.join(map(repr, names))}" if names else "the decoder or the loss"
        text = f"the {what} is not finite: NaN or infinite numbers come from {where}"
        if owner.on_nonfinite == "raise":
            way = "lower the learning rate, clip the gradients, or check the features for very large numbers"
            raise NonFiniteError(f"{text}. No rank took this step: {way}", ranks, names)
        warnings.warn(f"{text}; the step is skipped on all ranks", stacklevel=5)
        return torch.full((), torch.nan, device=owner.device, requires_grad=True)
