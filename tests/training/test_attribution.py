from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.training import attribution_floors, evaluate_attribution

from .dense import NAMES, dense_scores, make_data, make_factors, make_model, problems, tuples_of


@given(problems(), st.data())
@settings(max_examples=40, deadline=None)
def test_metrics_equal_the_loops(problem: tuple[MultiModalHeteroData, int], draw: st.DataObject) -> None:
    data, seed = problem
    relation = data.relation("r")
    # means over one to four items are exact
    factors = {name: 12 * table.double() for name, table in make_factors(data, seed).items()}
    slot = draw.draw(st.integers(0, relation.order - 1))
    others = [s for s in range(relation.order) if s != slot]
    told = draw.draw(st.sampled_from([others, others[:1], []]))
    exclude = draw.draw(st.sampled_from([(), ("train", "val"), ("train", "val", "test")]))
    score = dense_scores(factors, relation.modalities, [s for s in others if s not in told])
    known = {(*(t[s] for s in told), t[slot]) for t in (tuples_of(data, *exclude) if exclude else [])}
    ranks = []
    for t in tuples_of(data, "test"):
        own = float(score[t])
        rivals = [
            float(score[(*t[:slot], c, *t[slot + 1 :])])
            for c in range(relation.sizes[slot])
            if c != t[slot] and (*(t[s] for s in told), c) not in known
        ]
        ranks.append(1 + sum(r > own for r in rivals) + 0.5 * sum(r == own for r in rivals))
    result = evaluate_attribution(
        make_model(data),
        data,
        "r",
        NAMES[slot],
        given=[NAMES[s] for s in told],
        exclude=exclude,
        factors=factors,
        budget=draw.draw(st.sampled_from([1, 9, 99])),
    )
    assert result["count"] == len(ranks)
    assert result["mrr"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert result["accuracy@1"] == pytest.approx(np.mean(np.array(ranks) <= 1))
    assert result["accuracy@5"] == pytest.approx(np.mean(np.array(ranks) <= 5))


def test_a_model_that_scores_all_alike_is_never_right() -> None:
    data = make_data(torch.tensor([[0, 1], [0, 1]]), (2, 9), torch.tensor([2, 2]))
    factors = {"user": torch.ones(2, 2), "artist": torch.ones(9, 2)}
    found = evaluate_attribution(make_model(data), data, "r", "artist", factors=factors)
    assert (found["accuracy@1"], found["accuracy@5"], found["mrr"]) == (0, 1, pytest.approx(1 / 5))


def test_cold_entries_stand_apart() -> None:
    data = make_data(torch.tensor([[0, 0, 1, 0], [0, 1, 1, 2]]), (2, 3), torch.tensor([0, 1, 2, 2]))
    factors = {"user": torch.ones(2, 2), "artist": torch.tensor([[0.0, 0], [1, 1], [2, 2]])}
    found = evaluate_attribution(make_model(data), data, "r", "artist", cold=True, factors=factors)
    assert found["cold"]["count"] == 2  # user 1, and artist 2
    assert found["warm"]["count"] == 0
    assert found["cold"]["mrr"] == found["mrr"] == 0.75
    floor = attribution_floors(data, "r", "artist", cold=True)["popularity"]
    assert floor["cold"]["mrr"] == floor["mrr"]


def test_errors() -> None:
    data = make_data(torch.tensor([[0, 1], [0, 1]]), (2, 9), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"'k' must be whole numbers of at least 1 \(got \[1, 0\]\)"):
        evaluate_attribution(make_model(data), data, "r", "artist", k=(1, 0))
    with pytest.raises(ValueError, match="Did you mean 'artist'"):
        attribution_floors(data, "r", "artists")
