from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor
from torch.nn import Module, ModuleList

from baselines.ratings import Array, Ratings, clipped_rmse
from hyperlearn_pyg.nn import DiffusionEncoder
from hyperlearn_pyg.nn.losses import masked_squared_error
from hyperlearn_pyg.ops import Laplacian, cp_score

#: How to compute the smoothness of the dense matrix X = W H^T; one number, four prices.
FORMS = ("literal", "dense", "sparse", "gram")


class SigmoidCell(torch.nn.LSTMCell):
    """The LSTM cell of the published code: a sigmoid where others have a tanh, in both places."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        gates = torch.nn.functional.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)
        if state is not None:
            gates = torch.addmm(gates, state[0], self.weight_hh.t())
        kept, update, shown, new = gates.sigmoid().chunk(4, dim=1)
        cell = update * new if state is None else kept * state[1] + update * new
        return shown * cell.sigmoid(), cell


class SRGCNN(Module):
    r"""Separable recurrent multi-graph network (Monti, Bronstein and Bresson, NeurIPS 2017, sec. 3.3).

    Each side of the matrix has HyperLearn's own diffusion encoder, so that step times differ by the loss alone:

    .. math:: \frac{1}{|\Omega|} \sum_{\Omega} (x - \hat{x})^2
              + \frac{\gamma}{2} (\mathrm{tr}\, X L_c X^T + \mathrm{tr}\, X^T L_r X), \quad X = W H^T

    ``form`` says how the second term is computed: ``"literal"``, as in the published code, by both triple products of
    dense matrices and their traces; ``"dense"``, dense Laplacians, but one product each and a sum over cells;
    ``"sparse"``, the same with sparse Laplacians; ``"gram"``, exactly and without X, by
    :math:`\mathrm{tr}\, X L_c X^T = \langle W^T W, H^T L_c H \rangle`. The first three take the error over the masked
    dense matrix, the last one over the entries.

    With ``published`` the rest follows the published code as well: sigmoid cell, unscaled start of the output map, and
    predictions :math:`1 + 4 (X - \min X) / (\max X - \min X)`; or else the predictions are ``offset`` + X.
    """

    def __init__(
        self,
        laplacians: Sequence[Laplacian],
        starts: Sequence[Tensor],
        known: Ratings,
        *,
        gamma: float = 1e-10,
        form: str = "gram",
        published: bool = True,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"'form' must be one of {list(FORMS)} (got {form!r})")
        self.laplacians, self.gamma, self.form = list(laplacians), gamma, form
        self.published, self.offset = published, offset
        self.encoders = ModuleList()
        for start in starts:
            encoder = DiffusionEncoder(*start.shape, gain=1.0 if published else 0.1)
            if published:
                encoder.lstm = SigmoidCell(32, 32)
                encoder.reset_parameters()
            encoder.start.copy_(start)
            self.encoders.append(encoder)
        self.index = torch.from_numpy(np.stack([known.row, known.col]))
        self.value = torch.from_numpy(known.value).float()
        if form != "gram":
            self.mask, self.truth = torch.zeros(known.size), torch.zeros(known.size)
            self.mask[tuple(self.index)], self.truth[tuple(self.index)] = 1.0, self.value
        if form in ("literal", "dense"):
            self.matrices = [lap.matmul(torch.eye(lap.num_nodes)) for lap in laplacians]

    def forward(self) -> list[Tensor]:
        return [encoder(None, lap) for encoder, lap in zip(self.encoders, self.laplacians, strict=True)]

    def predict(self, factors: Sequence[Tensor], index: Tensor) -> Tensor:
        """Score entries ``index [2, E]`` without forming X where it need not be."""
        raw: Tensor = cp_score(factors, index)
        if not self.published:
            return raw + self.offset
        low, high = cp_score(factors, self._extremes(factors))
        out: Tensor = 1 + 4 * (raw - low) / (high - low)
        return out

    def loss(self) -> Tensor:
        factors = self()
        if self.form == "gram":
            error = masked_squared_error(self.predict(factors, self.index), self.value)
            return error + self.gamma / 2 * self._gram_smoothness(factors)
        x = factors[0] @ factors[1].t()
        scaled = 1 + 4 * (x - x.min()) / (x.max() - x.min()) if self.published else x + self.offset
        error = ((scaled - self.truth) * self.mask).square().sum() / self.index.size(1)
        total: Tensor = error + self.gamma / 2 * self._smoothness(x)
        return total

    @torch.no_grad()
    def _extremes(self, factors: Sequence[Tensor]) -> Tensor:
        """Return the cells ``[2, 2]`` of the smallest and the largest value of X."""
        x = factors[0] @ factors[1].t()
        cells = torch.stack([x.argmin(), x.argmax()])
        return torch.stack([cells // x.size(1), cells % x.size(1)])

    def _smoothness(self, x: Tensor) -> Tensor:
        if self.form == "literal":
            row, col = self.matrices
            return torch.trace(x @ col @ x.t()) + torch.trace(x.t() @ row @ x)
        if self.form == "dense":
            row, col = self.matrices
            return (x * (x @ col)).sum() + (x * (row @ x)).sum()
        row_lap, col_lap = self.laplacians
        across = x.t().contiguous()
        return (x * row_lap.matmul(x)).sum() + (across * col_lap.matmul(across)).sum()

    def _gram_smoothness(self, factors: Sequence[Tensor]) -> Tensor:
        grams = [f.t() @ f for f in factors]
        rough = [f.t() @ lap.matmul(f) for f, lap in zip(factors, self.laplacians, strict=True)]
        return (grams[0] * rough[1]).sum() + (rough[0] * grams[1]).sum()


@dataclass(frozen=True)
class Trained:
    """A trained model: its validation score (NaN without targets), the step it is from, and its prices."""

    score: float
    step: int
    test: Array
    step_seconds: float
    seconds: float


def starts_of(known: Ratings, rank: int, *, share: float, center: float, seed: int) -> list[Tensor]:
    """Truncated SVD of a random share of the entries, less ``center``, zeros elsewhere; roots to either side."""
    rng = np.random.default_rng(seed)
    own = rng.permutation(len(known))[: round(share * len(known))]
    matrix = csr_matrix((known.value[own] - center, (known.row[own], known.col[own])), known.size)
    left, sigma, right = svds(matrix, k=rank, v0=rng.standard_normal(min(known.size)))
    return [torch.from_numpy(side * np.sqrt(sigma)).float() for side in (left, right.T)]


def train(
    laplacians: Sequence[Laplacian],
    known: Ratings,
    target: Ratings,
    settings: Mapping[str, Any],
    *,
    steps: int,
    seed: int,
    stop: int | None = None,
    every: int = 25,
    patience: int = 8,
) -> Trained:
    """Train with Adam on a cosine schedule over ``steps``.

    Without ``stop`` the best step on ``target`` is sought, until ``patience`` looks have not improved it; with it,
    training ends there and ``target`` is only predicted (the refit).
    """
    whole = time.perf_counter()
    torch.manual_seed(seed)
    published = bool(settings["published"])
    center = 0.0 if published else float(known.value.mean())
    starts = starts_of(known, 10, share=settings["share"], center=center, seed=seed)
    model = SRGCNN(laplacians, starts, known, gamma=settings["gamma"], published=published, offset=center)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    index = torch.from_numpy(np.stack([target.row, target.col]))
    best, seconds = Trained(math.inf, 0, np.empty(0), 0.0, 0.0), []
    for step in range((steps if stop is None else stop) + 1):
        if step == stop or (stop is None and step % every == 0):
            with torch.no_grad():
                score = model.predict(model(), index).double().numpy()
            error = clipped_rmse(score, target.value) if stop is None else math.nan
            if stop is not None or error < best.score:
                best = Trained(error, step, score, 0.0, 0.0)
            elif step >= best.step + patience * every:
                break
        if step in (steps, stop):
            break
        began = time.perf_counter()
        optimizer.param_groups[0]["lr"] = settings["lr"] * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        model.loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    middle = statistics.median(seconds) if seconds else 0.0
    return Trained(best.score, best.step, best.test, middle, time.perf_counter() - whole)
