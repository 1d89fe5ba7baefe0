from __future__ import annotations

import argparse

import conv
import cp_scoring
import harness
import pytest
import torch


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    for size in conv.SIZES:
        monkeypatch.setitem(conv.SIZES, size, (30, 20, 90, 8))


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", ["f32", "bf16", "attention"])
def test_every_layer_is_timed_and_judged(kind):
    row = {"allocator": "tuned", **conv.measure_time("M", kind, 1, "cpu")}
    assert set(row["forward_backward_ms"]) >= {"ours", "PyG"}
    assert {"bound: row gather", "bound: sums alone"} <= set(row["forward_ms"])
    row["forward_backward_ms"] |= {"ours": 1.0, "ours f32": 1.0, "PyG": 5.0}
    said = "\n".join(conv.verdicts([row]))
    assert ("our own f32 takes 1.00 times; must 1.6: MISSED" if kind == "bf16" else "PyG takes 5.00 times") in said
    columns, cells = conv.table([row])
    assert {len(columns)} == {len(line) for line in cells}


@pytest.mark.filterwarnings("ignore:Sparse")  # PyG makes the matrices of an EdgeIndex without a word
def test_the_peers_do_the_same_work():
    problem = conv.Problem("M", "cpu")
    sums = {name: call(torch.ones(30, 8)) for name, call in conv.layers(problem, "f32").items()}
    dense = torch.zeros(30, 20).index_put(tuple(problem.index), torch.ones(90), accumulate=True)
    isolated = dense.sum(1) == 0
    for out in sums.values():  # a constant signal stays one: equal rows, but for isolated nodes
        rows = out[~isolated]
        assert out.shape == (30, 8)
        assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-5)


def test_memory_counts_what_a_call_adds():
    kept = []
    peaks = harness.added_peaks(lambda: kept.append(torch.ones(4 << 20)), calls=2)
    assert 14 < peaks[0] < 40
    assert 30 < peaks[1] < 60


def test_cp_forms_agree_and_are_measured():
    arguments = argparse.Namespace(tuples=200, items=20, rank=4, rounds=1)
    row = cp_scoring.measure(3, arguments)
    assert row["difference"] < 1e-5
    assert set(row["ms"]) == {"ours", "plain"}
