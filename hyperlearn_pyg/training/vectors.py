from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training._rows import BUDGET, rows_at_once

_PROBES = ("logistic", "ridge")


def linear_probe(
    vectors: Tensor,
    labels: Tensor | Sequence[Any],
    *,
    method: str = "logistic",
    test_size: float = 0.5,
    seeds: Sequence[int] = range(5),
) -> dict[str, float]:
    """Tell how well a linear classifier reads a label from vectors (Alain and Bengio, 2016).

    For each seed, a random share of the items is held out; a classifier of scikit-learn with its default settings
    learns from the rest, on features standardised there. Beside it stands the most frequent label of the rest.

    Args:
        vectors: ``[N, C]``, finite.
        labels: one label an item ``[N]``; an item is left out where it is None, or below zero in a tensor.
        method: ``"logistic"`` (``LogisticRegression``) or ``"ridge"`` (``RidgeClassifier``).
        test_size: the share of items that is held out.
        seeds: seeds of the draws.

    Returns:
        ``accuracy``, its deviation over the seeds ``accuracy_std`` (population), ``majority``, and the number of
        labelled ``items`` and of ``classes``.

    Raises:
        ValueError: unknown method, shapes that differ, no seed, or fewer than two labelled items.
    """
    if method not in _PROBES:
        raise ValueError(f"'method' must be one of {list(_PROBES)} (got {method!r})")
    x, y = _labelled(vectors, labels)
    if len(y) < 2 or not len(seeds):
        raise ValueError(f"a probe needs two labelled items and one seed at least (got {len(y)} and {len(seeds)})")
    found = np.array([_probe(x, y, method, test_size, seed) for seed in seeds])
    accuracy, majority = found.T
    return {
        "accuracy": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std()),
        "majority": float(majority.mean()),
        "items": len(y),
        "classes": len(np.unique(y)),
    }


def _probe(x: NDArray[Any], y: NDArray[Any], method: str, test_size: float, seed: int) -> tuple[float, float]:
    """Return the accuracies of the classifier and of the most frequent label."""
    learn, held = next(ShuffleSplit(1, test_size=test_size, random_state=seed).split(x))
    floor = DummyClassifier(strategy="most_frequent").fit(x[learn], y[learn]).score(x[held], y[held])
    if len(np.unique(y[learn])) < 2:  # nothing to separate
        return float(floor), float(floor)
    classifier = LogisticRegression(max_iter=1000) if method == "logistic" else RidgeClassifier()
    model = make_pipeline(StandardScaler(), classifier).fit(x[learn], y[learn])
    return float(model.score(x[held], y[held])), float(floor)


def neighbor_agreement(
    query: Tensor,
    candidates: Tensor,
    query_labels: Tensor | Sequence[Any],
    candidate_labels: Tensor | Sequence[Any],
    *,
    k: int = 10,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Tell how often the nearest neighbours in another modality carry the label of the item.

    Args:
        query: vectors of the one modality ``[N, C]``.
        candidates: vectors of the other ``[M, C]``; nearness is the cosine.
        query_labels: labels ``[N]``, those to leave out as in :func:`linear_probe`; both sides must have some, for
            instance ``data[modality].get("item_label")``.
        candidate_labels: labels ``[M]`` of the same set.
        k: so many neighbours are looked at; all where there are fewer.
        budget: similarities held at once; one query at least.

    Returns:
        ``agreement``, the share of neighbours with the query's label; ``chance``, that of all candidates.

    Raises:
        ValueError: shapes that differ, ``k`` below 1, or no labelled item on a side; an InputError where the labels of
            a side are None.
    """
    if k < 1:
        raise ValueError(f"'k' must be at least 1 (got {k})")
    left, right, own, other = _pair(query, candidates, query_labels, candidate_labels)
    hits, same = 0.0, 0.0
    for part in torch.arange(len(left)).split(rows_at_once(len(right), budget)):
        near = (left[part] @ right.T).topk(min(k, len(right))).indices
        equal = own[part, None] == other
        hits += float(equal.gather(1, near).double().mean(1).sum())
        same += float(equal.double().mean(1).sum())
    return {"agreement": hits / len(left), "chance": same / len(left)}


def retrieval_map(
    query: Tensor,
    candidates: Tensor,
    query_labels: Tensor | Sequence[Any],
    candidate_labels: Tensor | Sequence[Any],
    *,
    budget: int = BUDGET,
) -> dict[str, float]:
    """Return the mean average precision of retrieval across modalities: a candidate is right where the labels agree.

    Each query ranks all candidates by the cosine; its average precision is that of scikit-learn.

    Args:
        query: vectors of the one modality ``[N, C]``.
        candidates: vectors of the other ``[M, C]``.
        query_labels: labels ``[N]``, those to leave out as in :func:`linear_probe`.
        candidate_labels: labels ``[M]`` of the same set.
        budget: similarities held at once; one query at least.

    Returns:
        ``map``, the mean over the queries that have a right candidate (NaN for none); ``chance``, the mean share of
        right candidates, which a random order comes near to; ``queries``, their number.

    Raises:
        ValueError: shapes that differ, or no labelled item on a side.
    """
    left, right, own, other = _pair(query, candidates, query_labels, candidate_labels)
    precision, share = [], []
    for part in torch.arange(len(left)).split(rows_at_once(len(right), budget)):
        equal = own[part, None] == other
        some = equal.any(1)
        for label, score in zip(equal[some], left[part[some]] @ right.T, strict=True):
            precision.append(float(average_precision_score(label.numpy(), score.numpy())))
            share.append(float(label.double().mean()))
    mean = [float(np.mean(values)) if values else float("nan") for values in (precision, share)]
    return {"map": mean[0], "chance": mean[1], "queries": len(precision)}


def _pair(
    query: Tensor, candidates: Tensor, query_labels: Tensor | Sequence[Any], candidate_labels: Tensor | Sequence[Any]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the labelled rows of both sides, of length one, and their labels as numbers."""
    (x, a), (y, b) = _labelled(query, query_labels), _labelled(candidates, candidate_labels)
    if not len(a) or not len(b):
        raise ValueError(f"both sides need labelled items (got {len(a)} queries and {len(b)} candidates)")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"'query' and 'candidates' must be of one width (got {x.shape[1]} and {y.shape[1]})")
    number = torch.from_numpy(np.unique(np.concatenate([a, b]), return_inverse=True)[1])
    left, right = (torch.nn.functional.normalize(torch.from_numpy(z), dim=1) for z in (x, y))
    return left, right, number[: len(a)], number[len(a) :]


def _labelled(vectors: Tensor, labels: Tensor | Sequence[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    if labels is None:
        raise InputError(
            "no labels are given (got None): pass one for each item, as data[modality].item_label holds them where the "
            "data has labels (in a config, 'label' of the modality)"
        )
    if vectors.dim() != 2 or len(vectors) != len(labels):
        raise ValueError(
            f"'vectors' must have shape [N, C] with a label for each of the N rows (got {list(vectors.shape)} and "
            f"{len(labels)} labels)"
        )
    x = vectors.detach().double().cpu().numpy()
    if isinstance(labels, Tensor):
        y = labels.cpu().numpy()
        kept = y >= 0
    else:
        kept = np.array([label is not None for label in labels], dtype=bool)
        y = np.array([str(label) for label in labels])
    return x[kept], y[kept]
