"""Plain methods to stand beside HyperLearn on a matrix of ratings."""

from __future__ import annotations

from baselines.factors import als, global_mean, item_biases
from baselines.ratings import Ratings, clipped_rmse, ratings_of
from baselines.srgcnn import FORMS, SRGCNN, train

__all__ = [
    "FORMS",
    "SRGCNN",
    "Ratings",
    "als",
    "clipped_rmse",
    "global_mean",
    "item_biases",
    "ratings_of",
    "train",
]
