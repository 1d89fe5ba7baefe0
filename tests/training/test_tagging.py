from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import average_precision_score

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.training import average_precisions, evaluate_tagging, tagging_floors

from .dense import NAMES, dense_scores, make_data, make_factors, make_model, problems, tuples_of


@given(problems(least=2, most=3))
@settings(max_examples=40, deadline=None)
def test_metrics_equal_the_loops(problem: tuple[MultiModalHeteroData, int]) -> None:
    data, seed = problem
    relation, factors = data.relation("r"), make_factors(data, seed)
    slot = relation.order - 1
    score = dense_scores(factors, relation.modalities)
    tests, known = tuples_of(data, "test"), set(tuples_of(data, "train", "val"))
    contexts = {t[:slot] for t in tests}
    labels, scores, by_concept = [], [], []
    for c in range(relation.sizes[slot]):
        cells = [(*x, c) for x in contexts if (*x, c) not in known]
        label, value = [cell in tests for cell in cells], [float(score[cell]) for cell in cells]
        by_concept.append(average_precision_score(label, value) if any(label) else np.nan)
        labels += label
        scores += value
    result = evaluate_tagging(make_model(data), data, "r", NAMES[slot], factors=factors)
    assert result["by_concept"].numpy() == pytest.approx(np.array(by_concept), nan_ok=True)
    assert result["macro"] == pytest.approx(np.nanmean(by_concept))
    assert result["micro"] == pytest.approx(average_precision_score(labels, scores))
    assert result["contexts"] == len(contexts)
    assert result["concepts"] == np.isfinite(by_concept).sum()
    some = torch.arange(relation.sizes[slot]).flip(0)[:2]
    part = evaluate_tagging(make_model(data), data, "r", NAMES[slot], factors=factors, concepts=some)
    assert part["by_concept"].numpy() == pytest.approx(result["by_concept"][some].numpy(), nan_ok=True)


def test_a_floor_by_popularity_is_the_share_of_right_contexts() -> None:
    index = torch.tensor([[0, 1, 2, 3, 0], [0, 0, 1, 1, 1]])
    data = make_data(index, (4, 2), torch.tensor([2, 2, 2, 2, 0]))
    found = tagging_floors(data, "r", "artist")["popularity"]
    assert found["by_concept"].tolist() == pytest.approx([2 / 4, 2 / 3])  # of the first context the second is known


def test_more_scores_than_the_budget() -> None:
    data = make_data(torch.tensor([[0, 1], [0, 1]]), (2, 9), torch.tensor([2, 2]))
    with pytest.raises(
        ValueError, match=r"2 contexts times 9 concepts are more scores than 'budget' \(17\): name fewer"
    ):
        evaluate_tagging(make_model(data), data, "r", "artist", budget=17)
    assert evaluate_tagging(make_model(data), data, "r", "artist", budget=18)["concepts"] == 2
    none = evaluate_tagging(make_model(data), data, "r", "artist", concepts=torch.tensor([5]))
    assert np.isnan([none["macro"], none["micro"]]).all()


def test_average_precision_of_columns() -> None:
    score = torch.tensor([[3.0, 1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    label = torch.tensor([[False, True, False], [True, False, False], [True, False, False]])
    assert average_precisions(score, label).tolist() == pytest.approx([7 / 12, 1 / 3, float("nan")], nan_ok=True)
    usable = torch.tensor([[False, True, True], [True, True, True], [True, True, True]])
    assert average_precisions(score, label, usable)[0] == 1
