"""Words of artworks: an encoder that reads nothing else of an artwork, and naive Bayes of words as a floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.experiments.experiment import Metrics
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.ops import Incidence, spmm
from hyperlearn_pyg.training.metrics import rank_metrics

#: The attribute of the artworks that holds their words.
WORDS = "words"


class WordEncoder(Module):
    """The sum of a learnt vector for each word of an item, weighted by tf-idf; items known by nothing else.

    Args:
        weights: tf-idf of items and words ``[N, V]``.
        channels: width of the vectors.
        dropout: dropout probability of the words of an item, each as a whole.
    """

    index: Tensor
    value: Tensor

    def __init__(self, weights: csr_matrix, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        table = weights.tocoo()
        self.size = (int(table.shape[0]), int(table.shape[1]))
        self.dropout = dropout
        self.register_buffer("index", torch.from_numpy(np.stack([table.row, table.col])).long())
        self.register_buffer("value", torch.from_numpy(table.data).float())
        self.weight = Parameter(torch.empty(self.size[1], channels))
        torch.nn.init.normal_(self.weight, std=0.1)

    def forward(self, num_items: int) -> Tensor:
        """Return the vectors ``[N, C]``."""
        words = Incidence(self.index, self.size, validate=False)
        out: Tensor = spmm(words, self.weight, F.dropout(self.value, self.dropout, self.training))
        return out


def word_weights(data: MultiModalHeteroData, modality: str, relation: str, slot: int, **options: Any) -> csr_matrix:
    """Return tf-idf of the words of all items; vocabulary and frequencies are those of the training entries."""
    seen = data.relation(relation).index[slot][split_positions(data, relation, ("train", "val"))].unique()
    texts = data[modality][WORDS]
    weights = TfidfVectorizer(min_df=2, sublinear_tf=True, **options).fit([texts[i] for i in seen.tolist()])
    return weights.transform(texts)


@dataclass(frozen=True)
class WordBayes:
    """Naive Bayes of an item given the words of the entry's artwork and the items of further slots, as a floor.

    Attributes:
        relation: the relation.
        slot: the slot to fill.
        given: the slots whose items count as words.
        artwork: the slot of the artwork.
        k: the numbers ``k`` of ``accuracy@k``.
        prefix: stands before the names of the metrics.
        alpha: what is added to every count.
    """

    relation: str
    slot: str
    given: tuple[str, ...]
    artwork: str = "artwork"
    k: tuple[int, ...] = (1, 5)
    prefix: str = ""
    alpha: float = 0.1

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Nothing: this is a floor."""
        return {}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score it."""
        view = data.relation(self.relation)
        rows = [view.modalities.index(m) for m in (self.artwork, self.slot, *self.given)]
        index = view.index[rows]
        train = index[:, split_positions(data, self.relation, ("train", "val"))]
        test = index[:, split_positions(data, self.relation, ("test",))]
        sizes = [view.sizes[row] for row in rows[2:]]
        texts = data[self.artwork][WORDS]
        count = CountVectorizer(min_df=2).fit([texts[i] for i in train[0].tolist()])
        bags = count.transform(texts)
        bayes = MultinomialNB(alpha=self.alpha).fit(_features(bags, train, sizes), train[1].numpy())
        place = np.full(view.sizes[rows[1]], -1)
        place[bayes.classes_] = np.arange(len(bayes.classes_))
        ranks = _ranks(bayes.predict_joint_log_proba(_features(bags, test, sizes)), place[test[1].numpy()], len(place))
        found = rank_metrics(ranks, self.k, "accuracy")
        return {"naive Bayes with words": {self.prefix + name: value for name, value in found.items()}}


def _features(bags: csr_matrix, index: Tensor, sizes: Sequence[int]) -> csr_matrix:
    parts = [bags[index[0].numpy()]]
    for row, size in zip(index[2:], sizes, strict=True):
        at = np.arange(row.numel())
        parts.append(csr_matrix((np.ones(len(at)), (at, row.numpy())), shape=(len(at), size)))
    return hstack(parts, format="csr")


def _ranks(score: Any, own: Any, size: int) -> Tensor:
    """Return the rank of each answer; one that no training entry names comes last."""
    table, answer = torch.from_numpy(score), torch.from_numpy(own)
    mine = table.gather(1, answer.clamp(min=0)[:, None])
    ranks = (table > mine).sum(1) + 1.0 + 0.5 * ((table == mine).sum(1) - 1)
    return ranks.masked_fill(answer < 0, float(size))
