from __future__ import annotations

import loaders
import pytest
import torch


def test_rates_of_a_small_hypergraph() -> None:
    part = loaders.sampling(1, incidences=600, batches=1, batch_size=8)
    assert len(part.cells) == len(part.rows) >= 2 * len(loaders.KINDS)
    assert all(len(cells) == len(part.columns) for cells in part.cells)
    assert all(rate > 0 for row in part.rows for rate in row["rates"])


def test_an_epoch_of_a_small_hypergraph() -> None:
    torch.manual_seed(0)
    row = loaders.epoch(900, steps=1)
    assert (row["items"], row["incidences"], row["batches"], len(row["loss"])) == (90, 900, 1, 1)
    assert row["peak_gib"] >= row["data_gib"] > 0


def test_the_star_form_has_every_membership_both_ways() -> None:
    data = loaders.make_data(600)
    star = loaders.star_form(data)
    for src, name, dst in data.edge_types:
        assert torch.equal(star[dst, f"rev_{name}", src].edge_index.flip(0), star[src, name, dst].edge_index)


def test_absent_parts_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loaders.MODULES, "nothing", ("_nothing", "rates"))
    assert loaders.elsewhere("nothing", 1) is None
