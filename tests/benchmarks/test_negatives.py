from __future__ import annotations

from _negatives import COLUMNS, measure, negative_rates


def test_rates_of_small_relations() -> None:
    rows = negative_rates(60, rounds=1, batch_size=16)
    assert [row["negatives"] for row in rows[::2]] == ["one item", "any pair", "batches of 16", "order three"]
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        assert ours["known_share"] == 0
        assert theirs["ratio"] == 1
        assert ours["per_second"] / theirs["per_second"] == ours["ratio"]


def test_table() -> None:
    columns, rows, remarks = measure(1, 60)
    assert columns == COLUMNS
    assert {len(row) for row in rows} == {len(columns)}
    assert "ours gave no known tuple" in remarks[0]
