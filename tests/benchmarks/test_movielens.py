from __future__ import annotations

import movielens
import numpy as np
import pytest
import torch
from baselines import FORMS, SRGCNN, Ratings, als, clipped_rmse, global_mean, item_biases, train
from scipy.sparse import csr_matrix

from hyperlearn_pyg.ops import Incidence, Laplacian

SIZE = (12, 15)


@pytest.fixture(scope="module")
def parts():
    """Planted biases and two factors, split in two."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(SIZE[0], 2)), rng.normal(size=(SIZE[1], 2))
    row, col = (i.ravel() for i in np.indices(SIZE))
    value = np.clip(3 + 0.5 * rng.normal(size=SIZE[0])[row] + 0.8 * (a[row] * b[col]).sum(1), 1, 5)
    order = rng.permutation(len(value))
    return [Ratings(row[at], col[at], value[at], SIZE) for at in (order[:140], order[140:])]


@pytest.fixture(scope="module")
def laplacians():
    ring = [torch.stack([torch.arange(n), (torch.arange(n) + 1) % n]) for n in SIZE]
    both = [torch.cat([edges, edges.flip(0)], dim=1) for edges in ring]
    return [Laplacian.from_graph(Incidence(edges, (n, n))) for edges, n in zip(both, SIZE, strict=True)]


def test_each_floor_lowers_the_error_of_the_one_before(parts):
    known, target = parts
    scores = [
        global_mean(known, target),
        item_biases(known, target, ridge_row=2.0, ridge_col=2.0),
        als(known, target, rank=2, ridge=0.5),
    ]
    errors = [clipped_rmse(score, target.value) for score in scores]
    assert errors == sorted(errors, reverse=True)


def test_graph_als_without_edges_is_als_with_more_ridge(parts):
    known, target = parts
    empty = [csr_matrix((n, n)) for n in SIZE]
    plain = als(known, target, rank=2, ridge=3.0, sweeps=5)
    graph = als(known, target, rank=2, ridge=2.0, smoothness=1.0, graphs=empty, sweeps=5)
    np.testing.assert_allclose(graph, plain)


@pytest.mark.parametrize("published", [False, True])
def test_the_forms_of_the_dense_smoothness_are_one_loss(parts, laplacians, published):
    starts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in SIZE]
    results = []
    for form in FORMS:
        torch.manual_seed(0)
        model = SRGCNN(laplacians, starts, parts[0], gamma=0.1, form=form, published=published, offset=3.0)
        loss = model.loss()
        loss.backward()
        results.append((loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    for loss, grad in results[1:]:
        torch.testing.assert_close(loss, results[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grad, results[0][1], rtol=1e-3, atol=1e-4)


def test_an_unknown_form_is_refused(parts, laplacians):
    with pytest.raises(ValueError, match="'form' must be one of"):
        SRGCNN(laplacians, [torch.zeros(n, 2) for n in SIZE], parts[0], form="none")


def test_training_lowers_the_error_and_stops_where_it_is_told(parts, laplacians):
    settings = {"published": True, "lr": 1e-2, "gamma": 1e-10, "share": 0.5}
    before = train(laplacians, *parts, settings, steps=0, seed=0)
    after = train(laplacians, *parts, settings, steps=40, seed=0, every=10)
    assert after.score < before.score
    again = train(laplacians, *parts, settings, steps=40, seed=0, stop=after.step)
    np.testing.assert_allclose(again.test, after.test)


@pytest.mark.slow
def test_the_benchmark_runs_through(data_dir, tmp_path):
    base = data_dir("ml-100k").parent
    data_dir("mgcnn-movielens")
    rows = movielens.main(["--data", str(base), "--quick", "--out", str(tmp_path)])
    assert {row.published for row in rows} == {True, False}
    assert len(list(tmp_path.iterdir())) == 2
