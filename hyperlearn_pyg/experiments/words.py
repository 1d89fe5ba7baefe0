"""Words of artworks: an encoder that reads nothing else of an artwork, and naive Bayes of words as a floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn import functional as F

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.experiments.experiment import Metrics
from hyperlearn_pyg.nn import FeatureCounts, HyperLearn, PairCounts
from hyperlearn_pyg.ops import Incidence, spmm
from hyperlearn_pyg.training.metrics import rank_metrics

#: The attribute of the artworks that holds their words.
WORDS = "words"
#: Words of one letter are words.
_TOKEN = r"(?u)\b\w+\b"
#: Scores held at once.
_CELLS = 1 << 22


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


class Silent(Module):
    """One number for every item: zero takes a modality out of a sum over pairs, one out of a product.

    Args:
        channels: width of the vectors.
        value: the number.
    """

    like: Tensor

    def __init__(self, channels: int, value: float = 0.0) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("like", torch.tensor(value), persistent=False)

    def forward(self, num_items: int) -> Tensor:
        """Return the number ``[N, C]``."""
        return self.like.repeat(num_items, self.channels)


def word_weights(data: MultiModalHeteroData, modality: str, relation: str, slot: int, **options: Any) -> csr_matrix:
    """Return tf-idf of the words of all items; vocabulary and frequencies are those of the training entries."""
    seen = data.relation(relation).index[slot][split_positions(data, relation, ("train", "val"))].unique()
    texts = data[modality][WORDS]
    options = {"min_df": 2, "sublinear_tf": True, "token_pattern": _TOKEN, **options}
    weights = TfidfVectorizer(**options).fit([texts[i] for i in seen.tolist()])
    return weights.transform(texts)


@dataclass(frozen=True)
class WordCounts:
    """Makes a count term of the words of artworks, and of the pairs of told slots and those to be predicted.

    Words are those of the training and validation entries; the term counts them among the training entries alone.

    Attributes:
        relation: the relation.
        targets: the slots to be predicted.
        given: the slots whose items are told.
        artwork: the slot of the artwork.
        smoothing: as in :class:`~hyperlearn_pyg.nn.FeatureCounts`.
        words: count words; or else pairs alone.
    """

    relation: str
    targets: tuple[str, ...]
    given: tuple[str, ...]
    artwork: str = "artwork"
    smoothing: float = 300.0
    words: bool = True

    def __call__(self, data: MultiModalHeteroData) -> dict[str, PairCounts]:
        """Return the term, by the name of the relation."""
        view = data.relation(self.relation)
        slot, *rows = (view.modalities.index(m) for m in (self.artwork, *self.targets))
        told = [view.modalities.index(m) for m in self.given]
        pairs = sorted({(min(s, t), max(s, t)) for s in rows for t in told if s != t})
        if not self.words:
            return {self.relation: PairCounts(view.sizes, pairs)}
        seen = view.index[slot][split_positions(data, self.relation, ("train", "val"))].unique()
        texts = data[self.artwork][WORDS]
        bags = CountVectorizer(token_pattern=_TOKEN).fit([texts[i] for i in seen.tolist()]).transform(texts).tocoo()
        place = torch.from_numpy(np.stack([bags.row, bags.col])).long()
        table = torch.sparse_coo_tensor(place, torch.from_numpy(bags.data).float(), bags.shape, check_invariants=True)
        counts = FeatureCounts(view.sizes, slot, table, targets=rows, smoothing=self.smoothing, pairs=pairs)
        return {self.relation: counts}


@dataclass(frozen=True)
class WordBayes:
    """Naive Bayes of an item given the words of the entry's artwork and the items of further slots, as a floor.

    Each slot is smoothed by itself, and so are the words. How much they are smoothed and what the words weigh is chosen
    on the validation entries, counted among the training entries; the test is scored with counts of both.

    Attributes:
        relation: the relation.
        slot: the slot to fill.
        given: the slots whose items are told.
        artwork: the slot of the artwork.
        k: the numbers ``k`` of ``accuracy@k``.
        prefix: stands before the names of the metrics.
        smoothing: the choices for the slots: how many entries of the prior shares are added to those of an item.
        word_smoothing: the choices for the words.
        word_weights: the choices for what the words weigh.
    """

    relation: str
    slot: str
    given: tuple[str, ...]
    artwork: str = "artwork"
    k: tuple[int, ...] = (1, 5)
    prefix: str = ""
    smoothing: tuple[float, ...] = (0.1, 1.0)
    word_smoothing: tuple[float, ...] = (300.0, 1000.0)
    word_weights: tuple[float, ...] = (0.0, 0.5, 1.0)

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Nothing: this is a floor."""
        return {}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Choose on validation and score the test."""
        every = [*product(self.smoothing, self.word_smoothing, self.word_weights)]
        of_val = [found["mrr"] for found in self._metrics(data, ("train",), "val", every)]
        best = every[int(np.argmax(of_val))]
        (found,) = self._metrics(data, ("train", "val"), "test", [best])
        return {"naive Bayes with words": {self.prefix + name: value for name, value in found.items()}}

    def _metrics(
        self,
        data: MultiModalHeteroData,
        known: Sequence[str],
        split: str,
        choices: Sequence[tuple[float, float, float]],
    ) -> list[Metrics]:
        view = data.relation(self.relation)
        rows = [view.modalities.index(m) for m in (self.artwork, self.slot, *self.given)]
        train, asked = (view.index[rows][:, split_positions(data, self.relation, s)] for s in (known, (split,)))
        sizes = [view.sizes[row] for row in rows[1:]]
        texts = data[self.artwork][WORDS]
        bags = CountVectorizer(token_pattern=_TOKEN).fit([texts[i] for i in train[0].tolist()]).transform(texts)
        out = []
        for choice in choices:
            bayes = NaiveBayes(train[1:], sizes, bags[train[0].numpy()], *choice)
            parts = asked.split(max(1, _CELLS // sizes[0]), dim=1)
            ranks = [_ranks(bayes.score(part[2:], bags[part[0].numpy()]), part[1]) for part in parts]
            out.append(rank_metrics(torch.cat(ranks), self.k, "accuracy"))
        return out


class NaiveBayes:
    r"""Naive Bayes of a class given items of some slots and words, each smoothed towards its shares among all entries.

    .. math::
        \log (n_c + 1) + \sum_s \log \frac{n_{s,c}[i_s] + \alpha\, p_s[i_s]}{n_c + \alpha}
        + w \sum_{t} \log \frac{n_c[t] + \beta\, p[t]}{\sum_{t'} n_c[t'] + \beta}

    with Dirichlet priors of strengths :math:`\alpha` and :math:`\beta` (Zhai and Lafferty, ACM TOIS 22(2), 2004).

    Args:
        index: class and items of the training entries ``[1 + S, E]``.
        sizes: number of classes, then of the items of each slot.
        bags: counts of the words of the training entries ``[E, V]``.
        smoothing: :math:`\alpha`.
        word_smoothing: :math:`\beta`.
        weight: :math:`w`, what the words weigh.
    """

    def __init__(
        self,
        index: Tensor,
        sizes: Sequence[int],
        bags: csr_matrix,
        smoothing: float,
        word_smoothing: float,
        weight: float,
    ) -> None:
        own, entries = index[0].numpy(), np.arange(index.size(1))
        member = csr_matrix((np.ones(len(own)), (own, entries)), shape=(sizes[0], len(own)))
        count = np.bincount(own, minlength=sizes[0]).astype(float)
        self.prior, self.weight, self.beta = np.log(count + 1), weight, word_smoothing
        self.slots = []
        for row, size in zip(index[1:].numpy(), sizes[1:], strict=True):
            pairs = (member @ csr_matrix((np.ones(len(row)), (entries, row)), shape=(len(row), size))).toarray()
            share = (pairs.sum(0) + 0.1) / (pairs.sum() + 0.1 * size)
            self.slots.append((np.log(pairs + smoothing * share) - np.log(count + smoothing)[:, None]).T)
        words = (member @ bags).tocsr().astype(float)
        share = np.maximum(np.asarray(words.sum(0)).ravel(), 1e-9) / max(words.sum(), 1.0)
        self.length = np.log(word_smoothing) - np.log(np.asarray(words.sum(1)).ravel() + word_smoothing)
        words.data = np.log1p(words.data / (word_smoothing * share[words.indices]))
        self.words = words.T.tocsr()

    def score(self, items: Tensor, bags: csr_matrix) -> Tensor:
        """Score all classes for entries with some items ``[S, B]`` and words ``[B, V]``, but for a number an entry.

        Returns:
            float64 ``[B, N]``.
        """
        out = np.tile(self.prior, (items.size(1), 1))
        for table, row in zip(self.slots, items.numpy(), strict=True):
            out += table[row]
        if self.weight:
            length = np.asarray(bags.sum(1)).ravel()
            out += self.weight * ((bags @ self.words).toarray() + np.outer(length, self.length))
        return torch.from_numpy(out)


def _ranks(score: Tensor, own: Tensor) -> Tensor:
    """Return the rank of each answer; equal scores count half."""
    mine = score.gather(1, own[:, None])
    return (score > mine).sum(1) + 1.0 + 0.5 * ((score == mine).sum(1) - 1)
