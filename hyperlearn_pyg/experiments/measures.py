"""What experiments score, each with its floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import SPLITS, split_positions
from hyperlearn_pyg.experiments.experiment import Metrics
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.training import (
    attribution_floors,
    evaluate,
    evaluate_attribution,
    evaluate_recommendation,
    floors,
    recommendation_floors,
)
from hyperlearn_pyg.training.evaluation import encoded
from hyperlearn_pyg.training.links import link_metrics
from hyperlearn_pyg.training.scorers import ModelScorer
from hyperlearn_pyg.transforms import ReciprocalRelations
from hyperlearn_pyg.transforms._common import find_slot

#: More tuples than any test here has: all of them are ranked.
_ALL = 1 << 40


@dataclass(frozen=True)
class Links:
    """AUC and average precision against tuples with one item replaced, as means over several draws of these.

    An item of any slot is replaced, also where a model was trained to predict some slots alone, as for its floors.

    Attributes:
        relation: the relation.
        draws: number of draws; the model and its floors see the same ones. One draw of a test of 282 tuples alone
            moves the AUC by a hundredth.
    """

    relation: str
    draws: int = 10

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        data, factors = encoded(model, data, "test", None)
        view = data.relation(self.relation)
        own, known = (view.index[:, split_positions(data, self.relation, s)] for s in (("test",), SPLITS))
        scorer = ModelScorer(model, self.relation, factors)
        link = partial(link_metrics, scorer, own, known, view.sizes, view.slot_names, hits=(), ranking_tuples=0)
        with torch.no_grad():
            return _mean([link(seed=at) for at in self._seeds(seed)])

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score counts."""
        by_draw = [floors(data, ranking_tuples=0, seed=at) for at in self._seeds(seed)]
        own = [{m: row["test"]["relations"].get(self.relation) for m, row in draw.items()} for draw in by_draw]
        return {m: _mean([draw[m] for draw in own]) for m in own[0] if own[0][m]}

    def _seeds(self, seed: int) -> range:
        return range(1000 * seed, 1000 * seed + self.draws)


@dataclass(frozen=True)
class Ranks:
    """Filtered MRR and Hits@k, as the mean over the slots of one modality; all tuples are ranked.

    Where :class:`~hyperlearn_pyg.transforms.ReciprocalRelations` took the relation apart, the mean is over the
    relations that it made, each of one slot: the same tuples and slots.

    Attributes:
        relation: the relation.
        modality: the modality whose slots are filled.
        hits: the numbers ``k``.
    """

    relation: str
    modality: str
    hits: tuple[int, ...] = (1, 3, 10)

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        found = evaluate(model, data, hits=self.hits, ranking_tuples=_ALL, seed=seed)
        relations = found["relations"]
        if self.relation in relations:
            return self._mean(relations[self.relation])
        reciprocal = ReciprocalRelations(self.relation, self.modality).predict(data)
        return _mean([self._mean(relations[name]) for name in reciprocal])

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score counts and naive Bayes."""
        found = floors(data, hits=self.hits, ranking_tuples=_ALL, seed=seed)
        return {m: self._mean(row["test"]["relations"][self.relation]) for m, row in found.items()}

    def _mean(self, found: Mapping[str, Any]) -> Metrics:
        return _mean([row for name, row in found["slots"].items() if name.partition(":")[0] == self.modality])


@dataclass(frozen=True)
class Attribution:
    """Which item fills the slot of each test tuple: accuracy@k and MRR, nothing filtered.

    A model that was not trained to predict the slot is not asked.

    Attributes:
        relation: the relation.
        slot: the slot to fill.
        given: the slots that are told.
        k: the numbers ``k``.
        prefix: stands before the names of the metrics.
    """

    relation: str
    slot: str
    given: tuple[str, ...] | None = None
    k: tuple[int, ...] = (1, 5)
    prefix: str = ""

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model; nothing where it does not predict the slot."""
        if find_slot(data.relation(self.relation), self.slot) not in model.predicted_slots()[self.relation]:
            return {}
        found = evaluate_attribution(model, data, self.relation, self.slot, given=self.given, k=self.k)
        return _named(found, self.prefix)

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score popularity, pair counts and naive Bayes."""
        found = attribution_floors(data, self.relation, self.slot, given=self.given, k=self.k)
        return {name: _named(row, self.prefix) for name, row in found.items()}


@dataclass(frozen=True)
class Recommendation:
    """Lists of the items of a slot for each context of the test: NDCG, recall and precision at k.

    Attributes:
        relation: the relation.
        slot: the slot to fill.
        k: lengths of the lists.
    """

    relation: str
    slot: str
    k: tuple[int, ...] = (10,)

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        return _named(evaluate_recommendation(model, data, self.relation, self.slot, k=self.k))

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score popularity, pair counts and naive Bayes."""
        found = recommendation_floors(data, self.relation, self.slot, k=self.k)
        return {name: _named(row) for name, row in found.items()}


@dataclass(frozen=True)
class Values:
    """RMSE and MAE of a relation with values.

    Attributes:
        relation: the relation.
    """

    relation: str

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Score a trained model."""
        return _named(evaluate(model, data, seed=seed)["relations"][self.relation])

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score the global mean and item biases."""
        return {m: _named(row["test"]["relations"][self.relation]) for m, row in floors(data).items()}


def _named(found: Mapping[str, Any], prefix: str = "") -> Metrics:
    return {prefix + name: float(value) for name, value in found.items() if not isinstance(value, Mapping)}


def _mean(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    names = [name for name, value in rows[0].items() if not isinstance(value, Mapping)]
    return {name: fmean(row[name] for row in rows) for name in names}
