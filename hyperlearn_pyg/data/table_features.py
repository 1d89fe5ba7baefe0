from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MultiLabelBinarizer, OneHotEncoder, StandardScaler
from torch import Tensor

from hyperlearn_pyg.data.table_config import FeatureConfig
from hyperlearn_pyg.data.table_reader import Table
from hyperlearn_pyg.errors import InputError

Rows = npt.NDArray[np.int64]
Block = tuple[npt.NDArray[Any], list[str]]


def encode_features(table: Table, features: tuple[FeatureConfig, ...], rows: Rows) -> tuple[Tensor, list[str]]:
    """Encode feature columns with scikit-learn.

    Numbers are centred and scaled to unit variance, empty cells take the mean and are marked in a column of
    their own; categories become one column each (the rarest beyond ``max_categories`` share one), so do the
    labels of multi-valued cells; text becomes tf-idf weights of the ``max_features`` most frequent words. An
    empty cell that holds no number gives a row of zeros.

    Args:
        table: holds the columns that ``features`` name.
        features: columns and encoders, in order.
        rows: the rows to encode ``[N]``; -1 for an item without a row, all of whose cells count as empty.

    Returns:
        ``x [N, F]`` float32 and the names of its F columns.

    Raises:
        InputError: a cell of a numeric column is no finite number (file, line, column), or a text column
            holds no words.
    """
    encoders = {
        "numeric": _numeric,
        "categorical": _categorical,
        "multi": _multi,
        "text": _text,
    }
    blocks = [encoders[feature.kind](table, feature, rows) for feature in features]
    if not blocks:
        return torch.zeros(len(rows), 0), []
    x = np.concatenate([block.astype(np.float32) for block, _ in blocks], axis=1)
    return torch.from_numpy(x), [name for _, names in blocks for name in names]


def _numeric(table: Table, feature: FeatureConfig, rows: Rows) -> Block:
    column = np.full((len(rows), 1), np.nan)
    column[rows >= 0, 0] = table.numbers(feature.column, rows[rows >= 0])
    missing = np.isnan(column)
    if not len(rows):
        return column, [feature.column]
    filled = SimpleImputer(keep_empty_features=True).fit_transform(column)
    scaled = StandardScaler().fit_transform(filled)
    if not missing.any():
        return scaled, [feature.column]
    return np.hstack([scaled, missing]), [feature.column, f"{feature.column} missing"]


def _categorical(table: Table, feature: FeatureConfig, rows: Rows) -> Block:
    cells, present = _cells(table, feature.column, rows)
    if not present.any():
        return np.zeros((len(rows), 0)), []
    encoder = OneHotEncoder(
        max_categories=feature.max_categories,
        handle_unknown="ignore",
        sparse_output=False,
        dtype=np.float32,
    )
    encoded = encoder.fit_transform(cells[present, None])
    block = np.zeros((len(rows), encoded.shape[1]), dtype=np.float32)
    block[present] = encoded
    return block, [f"{feature.column}={name[3:]}" for name in encoder.get_feature_names_out()]


def _multi(table: Table, feature: FeatureConfig, rows: Rows) -> Block:
    cells, present = _cells(table, feature.column, rows)
    lists = pc.split_pattern(pa.array(cells[present], pa.string()), feature.separator)
    parents = pc.list_parent_indices(lists).to_numpy()
    labels = pc.utf8_trim_whitespace(pc.list_flatten(lists)).to_numpy(zero_copy_only=False)
    classes, codes, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    # Keep the most frequent labels, and of equally frequent ones the first by name.
    order = [c for c in np.argsort(-counts, kind="stable") if classes[c]][: feature.max_categories]
    kept = np.isin(codes, order)
    starts = np.searchsorted(parents[kept], np.arange(len(lists) + 1))
    named = np.split(classes[codes[kept]], starts[1:-1]) if len(lists) else []
    names = sorted(str(classes[c]) for c in order)
    block = np.zeros((len(rows), len(names)), dtype=np.float32)
    if names:
        block[present] = MultiLabelBinarizer(classes=names).fit_transform(named)
    return block, [f"{feature.column}={name}" for name in names]


def _text(table: Table, feature: FeatureConfig, rows: Rows) -> Block:
    cells, present = _cells(table, feature.column, rows)
    if not present.any():
        return np.zeros((len(rows), 0)), []
    vectorizer = TfidfVectorizer(max_features=feature.max_features, dtype=np.float32)
    try:
        weights = vectorizer.fit_transform(np.where(present, cells, ""))
    except ValueError as error:
        text = 'no words of two letters or more: choose another kind than "text"'
        raise InputError(f"{table.label}, column {feature.column!r}: {text}") from error
    return weights.toarray(), [f"{feature.column}~{word}" for word in vectorizer.get_feature_names_out()]


def _cells(table: Table, column: str, rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Texts ``[N]`` (None where empty) and which of them are there."""
    taken = table.text(column).take(pa.array(rows, mask=rows < 0))
    return taken.to_numpy(zero_copy_only=False), taken.is_valid().to_numpy()
