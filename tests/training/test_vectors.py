from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import linear_probe, neighbor_agreement, retrieval_map


def clusters(count: int, seed: int, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (count,), generator=generator)
    return torch.eye(3)[label] + spread * torch.randn(count, 3, generator=generator), label


@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_a_probe_reads_what_is_there(method: str) -> None:
    vectors, label = clusters(120, 0)
    found = linear_probe(vectors, label, method=method, seeds=range(3))
    assert found["accuracy"] > 0.9 > 0.5 > found["majority"]
    assert (found["items"], found["classes"]) == (120, 3)
    assert found["accuracy_std"] >= 0
    noise = linear_probe(torch.randn(120, 3, generator=torch.Generator().manual_seed(1)), label, method=method)
    assert noise["accuracy"] < 0.5
    assert linear_probe(vectors, label, method=method, seeds=range(3)) == found


def test_items_without_a_label_are_left_out() -> None:
    vectors, label = clusters(60, 0)
    names = [None if i % 4 == 0 else f"c{c}" for i, c in enumerate(label.tolist())]
    hidden = torch.where(torch.arange(60) % 4 == 0, -1, label)
    assert linear_probe(vectors, names) == linear_probe(vectors, hidden)
    assert linear_probe(vectors, names)["items"] == 45


def test_one_label_alone_is_the_majority() -> None:
    found = linear_probe(torch.randn(4, 2), ["a"] * 4, seeds=[0])
    assert (found["accuracy"], found["majority"], found["classes"]) == (1, 1, 1)


def test_neighbours_and_retrieval_equal_the_loops() -> None:
    (query, own), (candidates, other) = clusters(9, 1, 1.0), clusters(14, 2, 1.0)
    unit = [torch.nn.functional.normalize(v.double(), dim=1) for v in (query, candidates)]
    score, equal = unit[0] @ unit[1].T, own[:, None] == other
    near = [set(row.argsort(descending=True)[:4].tolist()) for row in score]
    agreement = np.mean([np.mean([bool(equal[i, j]) for j in js]) for i, js in enumerate(near)])
    for budget in (1, 20, 10_000):
        found = neighbor_agreement(query, candidates, own, other, k=4, budget=budget)
        assert found == {"agreement": pytest.approx(agreement), "chance": pytest.approx(float(equal.double().mean()))}
        retrieved = retrieval_map(query, candidates, own, other, budget=budget)
        right = [i for i in range(9) if equal[i].any()]
        expected = np.mean([average_precision_score(equal[i].numpy(), score[i].numpy()) for i in right])
        assert retrieved["map"] == pytest.approx(expected)
        assert retrieved["queries"] == len(right)
        assert retrieved["chance"] == pytest.approx(float(equal[right].double().mean()))


def test_labels_that_nothing_shares() -> None:
    found = retrieval_map(torch.ones(1, 2), torch.ones(3, 2), ["a"], ["b", "b", "c"])
    assert np.isnan(found["map"])
    assert found["queries"] == 0
    assert neighbor_agreement(torch.ones(1, 2), torch.ones(1, 2), ["a"], ["a"]) == {"agreement": 1, "chance": 1}


def test_errors() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"'method' must be one of \['logistic', 'ridge'\] \(got 'svm'\)"):
        linear_probe(x, [0, 1, 2], method="svm")
    with pytest.raises(ValueError, match=r"two labelled items and one seed at least \(got 1 and 5\)"):
        linear_probe(x, ["a", None, None])
    with pytest.raises(ValueError, match=r"\(got 3 and 0\)"):
        linear_probe(x, torch.zeros(3), seeds=[])
    with pytest.raises(ValueError, match=r"shape \[N, C\] with a label for each of the N rows \(got \[3, 2\] and 2"):
        linear_probe(x, [0, 1])
    with pytest.raises(InputError, match="item_label"):
        neighbor_agreement(x, x, [0, 1, 2], None)
    with pytest.raises(ValueError, match=r"'k' must be at least 1 \(got 0\)"):
        neighbor_agreement(x, x, [0] * 3, [0] * 3, k=0)
    with pytest.raises(ValueError, match=r"must be of one width \(got 2 and 1\)"):
        retrieval_map(x, x[:, :1], [0] * 3, [0] * 3)
    with pytest.raises(ValueError, match=r"both sides need labelled items \(got 3 queries and 0 candidates\)"):
        retrieval_map(x, x, [0] * 3, torch.full((3,), -1))
