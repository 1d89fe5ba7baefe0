from __future__ import annotations

from itertools import combinations
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlearn_pyg import HyperLearn, MultiModalHeteroData
from hyperlearn_pyg.experiments import find
from hyperlearn_pyg.experiments.friends import Friendship
from hyperlearn_pyg.experiments.sources import data_root
from hyperlearn_pyg.training.scorers import ModelScorer


def make(users: int, seed: int) -> MultiModalHeteroData:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(users)).t()
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=generator)[: max(2, pairs.size(1) // 2)]]
    part = torch.arange(pairs.size(1)) % 3
    data = MultiModalHeteroData()
    for name, size in (("user", users), ("hour", 2), ("venue", 3)):
        data.add_modality(name, num_nodes=size)
    visits = torch.stack([torch.randint(n, (2 * users,), generator=generator) for n in (users, 2, 3)]).unique(dim=1)
    data.add_hyperedges("checkin", visits, modalities=("user", "hour", "venue"))
    masks = {"train_mask": part == 1, "val_mask": part == 2, "test_mask": part == 0}
    return data.add_hyperedges("friends", pairs, modalities=(("user", "one"), ("user", "other")), **masks)


def average_precision(found: list[tuple[float, bool]]) -> float:
    """Sum over the thresholds, equal scores together."""
    out, right = 0.0, sum(hit for _, hit in found)
    for threshold in sorted({score for score, _ in found}):
        above = [hit for score, hit in found if score >= threshold]
        new = sum(hit for score, hit in found if score == threshold)
        out += new / right * sum(above) / len(above)
    return out


def pairs_of(data: MultiModalHeteroData, *splits: str) -> set[tuple[int, int]]:
    index = data.relation("friends").index
    masks = torch.stack([data["friends"][f"{split}_mask"] for split in splits]).any(0)
    return {tuple(pair) for pair in index[:, masks].t().tolist()}


@given(st.integers(4, 7), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_floors_equal_the_loops_over_all_pairs(users: int, seed: int) -> None:
    data = make(users, seed)
    before, new = pairs_of(data, "train", "val"), pairs_of(data, "test")
    friends = {u: {v for v in range(users) if tuple(sorted((u, v))) in before} for u in range(users)}
    visits = {(u, v) for u, _, v in data.relation("checkin").index.t().tolist()}
    venues = {u: {v for one, v in visits if one == u} for u in range(users)}
    guests = {v: sum(v == place for _, place in visits) for v in range(3)}
    candidates = [pair for pair in combinations(range(users), 2) if pair not in before]

    def adamic(common: set[int], degree: dict[int, int]) -> float:
        return sum(1 / log(degree[x]) for x in common if degree[x] > 1)

    scores = {
        "common neighbours": lambda u, v: len(friends[u] & friends[v]),
        "Adamic-Adar": lambda u, v: adamic(friends[u] & friends[v], {w: len(friends[w]) for w in friends}),
        "common venues": lambda u, v: len(venues[u] & venues[v]),
        "Adamic-Adar of venues": lambda u, v: adamic(venues[u] & venues[v], guests),
    }
    found = Friendship("friends", "checkin", "venue").floors(data, 0)
    for name, score in scores.items():
        expected = [(round(score(*pair), 9), pair in new) for pair in candidates]
        assert found[name]["ap"] == pytest.approx(average_precision(expected)), name
        assert found[name]["chance"] == pytest.approx(len(new) / len(candidates))


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_model_is_scored_on_the_pairs_of_the_split_in_both_orders(split: str) -> None:
    data = make(6, 3)
    torch.manual_seed(0)
    model = HyperLearn.from_data(data, 3, "links", relations=["friends"], encoder="embedding", roles="separate")
    factors = {name: table.detach() for name, table in model.eval()(data).items()}
    scorer = ModelScorer(model, "friends", factors)
    known = pairs_of(data, "train") if split == "val" else pairs_of(data, "train", "val")
    rows = []
    for u, v in combinations(range(6), 2):
        if (u, v) not in known:
            both = scorer.score(torch.tensor([[u, v], [v, u]])).double().mean()
            rows.append((float(both), (u, v) in pairs_of(data, split)))
    found = Friendship("friends", "checkin", "venue", split).score(model, data, 0)
    assert found["ap"] == pytest.approx(average_precision(rows))


def test_a_split_without_pairs_is_refused() -> None:
    data = make(5, 0)
    data["friends"].test_mask = torch.zeros_like(data["friends"].test_mask)
    with pytest.raises(ValueError, match="needs pairs in the split 'test'"):
        Friendship("friends", "checkin", "venue").floors(data, 0)


@pytest.mark.slow
def test_new_friends_are_the_test_and_in_no_graph(data_dir) -> None:
    data_dir("lbsn2vec")
    data = find("nyc-friends").load(data_root())
    assert len(pairs_of(data, "train")) == 8722
    assert len(pairs_of(data, "test")) == 4603
    assert not pairs_of(data, "train") & pairs_of(data, "test")
    assert data.edge_types == [e for e in data.edge_types if e[2] in ("checkin", "friends")]
