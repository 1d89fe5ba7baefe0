"""Alternating least squares on one relation of two slots: the floor that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.data.splits import split_positions
from hyperlearn_pyg.experiments.experiment import Metrics
from hyperlearn_pyg.nn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import Tuples
from hyperlearn_pyg.nn.models.start import mean_value, start_biases
from hyperlearn_pyg.training import hold_out
from hyperlearn_pyg.training._rows import BUDGET
from hyperlearn_pyg.training.links import SEEN
from hyperlearn_pyg.training.metrics import mae, rmse
from hyperlearn_pyg.training.questions import ask
from hyperlearn_pyg.training.recommendation import recommendation_metrics

#: Padded entries of items that are solved together.
_CELLS = 1 << 14


def alternate(
    index: Tensor,
    value: Tensor,
    sizes: tuple[int, int],
    *,
    rank: int,
    ridge: float,
    every_cell: float = 0.0,
    sweeps: int = 15,
    seed: int = 0,
) -> list[Tensor]:
    r"""Return the factors of both slots.

    :math:`\sum_e (x_e - a_e^T c_e)^2 + w \sum_{ij} (a_i^T c_j)^2 + \lambda (\|A\|^2 + \|C\|^2)`: with :math:`w > 0` the
    implicit form of Hu, Koren and Volinsky (ICDM 2008) up to a scale, with :math:`w = 0` the masked one.

    Args:
        index: observed cells ``[2, E]``.
        value: their values ``[E]``.
        sizes: number of items of both slots.
        rank: width.
        ridge: the ridge :math:`\lambda`.
        every_cell: the weight :math:`w`.
        sweeps: rounds over both slots.
        seed: of the start.
    """
    generator = torch.Generator().manual_seed(seed)
    factors = [0.1 * torch.randn(size, rank, generator=generator) for size in sizes]
    order = [row.argsort(stable=True) for row in index]
    for _ in range(sweeps):
        for slot in (0, 1):
            other = factors[1 - slot]
            base = every_cell * (other.t() @ other) + ridge * torch.eye(rank)
            own, far, x = index[slot][order[slot]], index[1 - slot][order[slot]], value[order[slot]]
            factors[slot] = _solve(own, other[far], x, sizes[slot], base)
    return factors


def _solve(own: Tensor, rows: Tensor, value: Tensor, size: int, base: Tensor) -> Tensor:
    """Solve the ridge problem of every item; ``own [E]`` ascending.

    Items of about as many entries are solved together, their rows padded with zeros: matrix products, in place of an
    outer product an entry.
    """
    count = torch.bincount(own, minlength=size)
    first, out = count.cumsum(0) - count, torch.zeros(size, rows.size(1))
    order = count.argsort(stable=True)
    order = order[count[order] > 0]
    while len(order):
        longest = int(count[order[-1]])
        items, order = order[-max(1, _CELLS // longest) :], order[: -max(1, _CELLS // longest)]
        step = torch.arange(longest)
        at = first[items, None] + step
        there = step < count[items, None]
        at = at.where(there, 0)
        near = rows[at] * there[..., None]
        gram = torch.baddbmm(base.expand(len(items), -1, -1), near.mT, near)
        out[items] = torch.linalg.solve(gram, (near.mT @ value[at, None]).squeeze(-1))
    return out


@dataclass(frozen=True)
class RatingALS:
    """Item biases and factors of the residuals; the ridge is chosen on validation.

    Attributes:
        relation: the relation.
        rank: width of the factors.
        ridges: what the ridge is chosen from.
    """

    relation: str
    rank: int = 10
    ridges: tuple[float, ...] = (5.0, 8.0, 12.0, 18.0)

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Nothing: this is a floor."""
        return {}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score it."""
        held = hold_out(data, 0.1, seed)
        ridge = max(self.ridges, key=lambda r: -self._score(held, "val", r, seed)["rmse"])
        return {"biases + ALS": self._score(data, "test", ridge, seed)}

    def _score(self, data: MultiModalHeteroData, split: str, ridge: float, seed: int) -> Metrics:
        view = data.relation(self.relation)
        seen, own = (split_positions(data, self.relation, s) for s in (SEEN[split], (split,)))
        if view.value is None:
            raise ValueError(f"relation '{self.relation}' has no values")
        known = Tuples(view.index, view.value).take(seen)
        biases, mean = start_biases(known, view.sizes), mean_value(known)

        def base(index: Tensor) -> Tensor:
            return mean + torch.stack([b[row] for b, row in zip(biases, index, strict=True)]).sum(0)

        rest = view.value[seen] - base(known.index)
        sizes = (view.sizes[0], view.sizes[1])
        left, right = alternate(known.index, rest, sizes, rank=self.rank, ridge=ridge, seed=seed)
        index, truth = view.index[:, own], view.value[own]
        guess = base(index) + (left[index[0]] * right[index[1]]).sum(1)
        guess = guess.clamp(*view.value[seen].aminmax())
        return {"rmse": rmse(guess, truth), "mae": mae(guess, truth)}


@dataclass(frozen=True)
class ListALS:
    """Implicit ALS of one 0/1 relation of two slots, as lists of the items of the second; chosen on validation.

    Attributes:
        relation: the relation.
        slot: the modality of the second slot.
        k: lengths of the lists; the first one chooses.
        rank: width of the factors.
        choices: weight of all cells and ridge to choose from.
    """

    relation: str
    slot: str
    k: tuple[int, ...]
    rank: int = 64
    choices: tuple[tuple[float, float], ...] = ((0.005, 1.0), (0.01, 1.0), (0.02, 1.0))

    def score(self, model: HyperLearn, data: MultiModalHeteroData, seed: int) -> Metrics:
        """Nothing: this is a floor."""
        return {}

    def floors(self, data: MultiModalHeteroData, seed: int) -> dict[str, Metrics]:
        """Score it."""
        held = hold_out(data, 0.1, seed)
        chosen = max(self.choices, key=lambda c: self._score(held, "val", c, seed)[f"recall@{self.k[0]}"])
        return {"ALS on this relation": self._score(data, "test", chosen, seed)}

    def _score(self, data: MultiModalHeteroData, split: str, choice: tuple[float, float], seed: int) -> Metrics:
        question = ask(data, self.relation, self.slot, None, split, SEEN[split])
        sizes = (question.relation.sizes[0], question.relation.sizes[1])
        ones, (cells, ridge) = torch.ones(question.seen.size(1)), choice
        fit = partial(alternate, question.seen, ones, sizes, rank=self.rank, ridge=ridge)
        scorer = _Factors(*fit(every_cell=cells, sweeps=10, seed=seed))
        return recommendation_metrics(scorer, question, self.k, category=None, seed=seed, budget=BUDGET)


class _Factors:
    """Scores of the items of the second slot."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self.left, self.right = left, right

    def slot_scores(self, index: Tensor, slot: int) -> Tensor:
        """Return the scores of all items of a slot."""
        return self.left[index[0]] @ self.right.t()
