"""A modality added to a trained model: does it improve the vectors of the items that were there?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.ops.seeds import derive_seed
from hyperlearn_pyg.training import FitResult, TrainConfig, evaluate, fit
from hyperlearn_pyg.training.steps import epoch_plan

#: Draws of the further epochs are none of those before.
_STAGE = 2


@dataclass(frozen=True)
class Growth:
    """What happens to a model that was trained on one relation: it goes on, with or without one more modality.

    Attributes:
        relation: the relation that the model is trained on first, and scored by.
        modality: the modality that comes then, with every relation of the data that ties it to those that are there;
            None to go on without.
        epochs: so many further epochs, each over the targets of every relation, in as many steps as one over those of
            ``relation`` takes: none of the ways to go on moves the weights more often.
        eval_every: the weights that score best on validation entries of ``relation`` are kept, looked at so often; with
            those of the first stage among them.
        metric: what is looked at there.
        lr: learning rate of the further epochs, which begin with a fresh Adam.
        weight: what the loss of a relation that comes with the modality counts.
    """

    relation: str
    modality: str | None
    epochs: int
    eval_every: int
    metric: str
    lr: float = 0.003
    weight: float = 1.0

    def fit(
        self, data: MultiModalHeteroData, config: TrainConfig, values: Mapping[str, Any]
    ) -> tuple[HyperLearn, FitResult]:
        """Train in both stages; Ctrl-C in the first ends it (``FitResult.interrupted``), in the second at once.

        Args:
            data: the data, with validation entries of the relation.
            config: how the first stage is trained; the further epochs have its batches and seed.
            values: what :meth:`HyperLearn.from_data` takes.
        """
        model = HyperLearn.from_data(data, relations=[self.relation], **values)
        result = fit(model, data, config, progress=False)
        if result.interrupted:
            return model, result
        if self.modality is not None:
            model.add_modality(self.modality, data)
            weights = {name: self.weight for name in model.relations if name != self.relation}
            model.config = model.config.replace(relation_weights=weights)
        model.to(next(iter(model.decoders.values())).offset.device)
        self._go_on(model, data, config, result)
        return model, result

    def _go_on(self, model: HyperLearn, data: MultiModalHeteroData, config: TrainConfig, result: FitResult) -> None:
        inputs = model.prepare(data, ("train",))
        targets = ceil(config.target_fraction * len(inputs.tuples[self.relation]))
        steps = max(1, ceil(targets / config.batch_size)) if config.batch_size else 1
        config = config.replace(max_steps=min(steps, config.max_steps))
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        best, kept = self._score(model, data, config), _copy(model)
        for epoch in range(1, self.epochs + 1):
            model.train()
            keep, batches = epoch_plan(inputs, config, _STAGE, epoch)
            for number, batch in enumerate(batches):
                seed = derive_seed(config.seed, _STAGE, epoch, number)
                generator = torch.Generator().manual_seed(seed)
                optimizer.zero_grad()
                model.loss(inputs, batch, keep=keep, generator=generator, seed=seed).backward()
                optimizer.step()
            if epoch % self.eval_every == 0 or epoch == self.epochs:
                score = self._score(model, data, config)
                if score > best:
                    best, kept, result.best_epoch = score, _copy(model), epoch
        model.load_state_dict(kept)
        model.eval()

    def _score(self, model: HyperLearn, data: MultiModalHeteroData, config: TrainConfig) -> float:
        """Return the score on validation entries; the higher the better."""
        found = evaluate(model, data, "val", known=("train", "val"), ranking_tuples=1000, seed=config.seed)
        value = float(found["relations"][self.relation][self.metric])
        return -value if self.metric in ("rmse", "mae") else value


def _copy(model: HyperLearn) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
