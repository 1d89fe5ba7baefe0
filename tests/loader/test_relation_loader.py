from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor, distributed
from torch_geometric.data import HeteroData

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.loader import RelationBatch, RelationLoader, degree_weights

SIZES = {"user": 6, "film": 5, "tag": 3}


def make(*counts: int, seed: int = 0, **attrs: Any) -> MultiModalHeteroData:
    """Relations ``r0 (user, film)``, ``r1 (user, film, tag)``, ``r2 (user as follower, user as followee)``."""
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    for name, size in SIZES.items():
        data.add_modality(name, num_nodes=size, item_label=[f"kind {i % 2}" for i in range(size)])
    slots: list[Any] = [("user", "film"), ("user", "film", "tag"), (("user", "follower"), ("user", "followee"))]
    for number, count in enumerate(counts):
        sizes = [SIZES[s if isinstance(s, str) else s[0]] for s in slots[number]]
        cells = torch.cartesian_prod(*(torch.arange(n) for n in sizes))
        index = cells[torch.randperm(len(cells), generator=generator)[:count]].t()
        data.add_hyperedges(f"r{number}", index, modalities=slots[number], **(attrs if number == 0 else {}))
    return data


def mask(count: int, *positions: int) -> Tensor:
    return torch.zeros(count, dtype=torch.bool).index_fill(0, torch.tensor(positions, dtype=torch.long), True)


def columns(index: Tensor) -> set[tuple[int, ...]]:
    return {tuple(t) for t in index.flatten(1).t().tolist()}


def negatives(loader: RelationLoader) -> Tensor:
    """All negatives of a pass ``[k, M]``."""
    return torch.cat([b.negatives[:, b.negative_mask] for b in loader if b.negatives is not None], dim=1)


def same(a: Sequence[RelationBatch], b: Sequence[RelationBatch]) -> bool:
    return len(a) == len(b) and all(
        x.relation == y.relation
        and torch.equal(x.tuple_id, y.tuple_id)
        and x.negatives is not None
        and y.negatives is not None
        and torch.equal(x.negatives, y.negatives)
        for x, y in zip(a, b, strict=True)
    )


def check_epoch(data: MultiModalHeteroData, world_size: int, **options: Any) -> None:
    loaders = [
        RelationLoader(data, rank=r, world_size=world_size, num_negatives=0, **options) for r in range(world_size)
    ]
    ranks = [list(loader) for loader in loaders]
    assert {len(batches) for batches in ranks} == {len(loader) for loader in loaders}
    for step in zip(*ranks, strict=True):
        assert len({batch.relation for batch in step}) == 1
        assert max(map(len, step)) - min(map(len, step)) <= 1
        assert max(map(len, step)) == options["batch_size"] or not options["drop_last"]
    for name in data.hyperedge_types:
        relation = data.relation(name)
        own = [batch for batches in ranks for batch in batches if batch.relation == name]
        ids = torch.cat([batch.tuple_id for batch in own]) if own else torch.empty(0, dtype=torch.long)
        assert len(ids) == len(ids.unique())
        left = len(relation) - len(ids)
        assert left < world_size * options["batch_size"] if options["drop_last"] else left == 0
        for batch in own:
            assert torch.equal(batch.index, relation.index[:, batch.tuple_id])
            assert batch.negatives is batch.negative_mask is None


epochs = given(
    st.lists(st.integers(0, 18), min_size=1, max_size=3),
    st.integers(1, 4),
    st.fixed_dictionaries(
        {
            "batch_size": st.integers(1, 5),
            "shuffle": st.booleans(),
            "drop_last": st.booleans(),
            "interleave": st.sampled_from(["proportional", "round_robin"]),
            "seed": st.integers(0, 99),
        }
    ),
)


@epochs
@settings(max_examples=25, deadline=None)
def test_every_tuple_comes_once_over_the_ranks(counts: list[int], world_size: int, options: dict[str, Any]) -> None:
    check_epoch(make(*counts), world_size, **options)


@pytest.mark.slow
@epochs
@settings(max_examples=3000, deadline=None)
def test_every_tuple_of_many_problems(counts: list[int], world_size: int, options: dict[str, Any]) -> None:
    check_epoch(make(*counts), world_size, **options)


def test_relations_come_in_proportion() -> None:
    loader = RelationLoader(make(30, 80, 10), batch_size=2, num_negatives=0)
    names = [batch.relation for batch in loader]
    totals = {name: names.count(name) for name in ("r0", "r1", "r2")}
    assert totals == {"r0": 15, "r1": 40, "r2": 5}
    for length in range(len(names) + 1):
        for name, total in totals.items():
            assert abs(names[:length].count(name) - length * total / len(names)) < 1.5


def test_relations_come_in_turn() -> None:
    loader = RelationLoader(make(4, 6, 2), batch_size=2, num_negatives=0, interleave="round_robin")
    assert [batch.relation for batch in loader] == ["r0", "r1", "r2", "r0", "r1", "r1"]


def test_a_batch_carries_what_belongs_to_its_tuples() -> None:
    count = 9
    attrs = {key: torch.arange(count).float() + shift for key, shift in (("value", 1), ("weight", 100), ("time", 1000))}
    data = make(count, 4, **attrs)
    for batch in RelationLoader(data, batch_size=4, num_negatives=3, shuffle=True):
        assert batch.modalities == data.relation(batch.relation).modalities
        assert batch.negatives is not None
        assert batch.negatives.shape == (len(batch.modalities), len(batch), 3)
        for key, entries in attrs.items():
            found = getattr(batch, key)
            assert found is None if batch.relation == "r1" else torch.equal(found, entries[batch.tuple_id])


@pytest.mark.parametrize("count", [0, 1])
def test_few_tuples(count: int) -> None:
    assert len(list(RelationLoader(make(count)))) == count
    batches = [list(RelationLoader(make(count), rank=r, world_size=3, shuffle=True)) for r in range(3)]
    assert [len(b) for b in batches] == [count] * 3
    assert sum(len(b[0]) for b in batches if b) == count
    for batch in (b[0] for b in batches if b):
        assert batch.negatives is not None
        assert batch.negatives.shape == (2, len(batch), 1)
    assert list(RelationLoader(make(count), drop_last=True)) == []


def test_the_number_of_workers_changes_nothing() -> None:
    data = make(30, 40)
    options: dict[str, Any] = {"batch_size": 7, "num_negatives": 2, "shuffle": True, "seed": 3}
    plain = RelationLoader(data, **options)
    spread = RelationLoader(data, **options, num_workers=2, persistent_workers=True)
    for _ in range(2):
        assert same(list(plain), list(spread))
    assert plain.epoch == spread.epoch == 2
    spread.set_epoch(0)
    plain.set_epoch(0)
    assert same(list(plain), list(spread))


def test_passes_are_epochs_where_tuples_are_shuffled() -> None:
    data = make(20)
    loader = RelationLoader(data, batch_size=8, shuffle=True)
    first, second = list(loader), list(loader)
    assert not same(first, second)
    again = RelationLoader(data, batch_size=8, shuffle=True)
    again.set_epoch(1)
    assert same(list(again), second)
    assert not same(list(RelationLoader(data, batch_size=8, shuffle=True, seed=1)), first)
    # the passes of an ordered loader are alike, unless another epoch is chosen
    ordered = RelationLoader(data, batch_size=8)
    first = list(ordered)
    assert same(list(ordered), first)
    assert torch.equal(torch.cat([batch.tuple_id for batch in first]), torch.arange(20))
    ordered.set_epoch(1)
    assert not same(list(ordered), first)


def test_splits_and_what_is_known() -> None:
    count = 18
    data = make(count, test_mask=mask(count, 0, 1, 2), val_mask=mask(count, 3, 4))
    index = data.relation("r0").index
    parts = {"train": index[:, 5:], "val": index[:, 3:5], "test": index[:, :3], None: index}

    def drawn(split: str | None, known: Any = None) -> set[tuple[int, ...]]:
        loader = RelationLoader(data, split=split, known=known, num_negatives=200)
        assert columns(torch.cat([b.index for b in loader], dim=1)) == columns(parts[split])
        return columns(negatives(loader))

    train, val, test = (columns(parts[s]) for s in ("train", "val", "test"))
    assert drawn("train") & (train | val | test) == drawn("train", "train") & (val | test)
    assert drawn("train") & (val | test)  # what is held out is not hidden from the training
    assert not drawn("train") & train
    assert not drawn("val") & (train | val)
    assert drawn("val") & test
    for split in (None, "test", "train"):
        assert not drawn(split, None if split != "train" else "all") & (train | val | test)
    assert not drawn("test", ["train", "test"]) & (train | test)
    assert drawn("test", ["train", "test"]) & val
    assert drawn("test", "train") & test
    assert drawn("test", []) & train


def test_a_relation_without_masks_is_all_training() -> None:
    assert sum(len(batch) for batch in RelationLoader(make(7))) == 7
    with pytest.raises(ValueError, match=r"'val_mask' is missing from relation 'r0'"):
        RelationLoader(make(7), split="val")


def test_slots_by_position_name_and_role() -> None:
    data = make(10, 20, 10)

    def corrupted(relation: str, slots: Any, **options: Any) -> set[tuple[int, ...]]:
        batches = list(RelationLoader(data, relation, slots=slots, num_negatives=20, **options))
        differ = [(b.negatives != b.index[:, :, None])[:, b.negative_mask] for b in batches if b.negatives is not None]
        return {tuple(row.nonzero().squeeze(1).tolist()) for row in torch.cat(differ, dim=1).t()}

    assert corrupted("r1", None) == {(0,), (1,), (2,)}
    assert corrupted("r1", -1) == corrupted("r1", "tag") == corrupted("r1", ["tag"]) == {(2,)}
    assert corrupted("r1", ("user", "tag")) == corrupted("r1", [0, "tag", -1]) == {(0,), (2,)}
    assert corrupted("r1", ("user", "tag"), num_corrupted=2) == {(0, 2)}
    assert corrupted("r2", "user") == {(0,), (1,)}
    assert corrupted("r2", [("user", "followee")]) == {(1,)}
    assert corrupted("r2", {"r2": 0}) == {(0,)}
    loader = RelationLoader(data, slots={"r1": "film"}, num_negatives=20)
    for batch in loader:
        assert batch.negatives is not None
        differ = (batch.negatives != batch.index[:, :, None]).flatten(1).any(1).tolist()
        assert differ == ([False, True, False] if batch.relation == "r1" else [True, True])


def test_degrees_are_those_of_the_training_tuples() -> None:
    held = torch.cat([torch.full((20,), False), torch.full((4,), True)])
    index = torch.stack([torch.arange(24) % 4, torch.tensor([0] * 12 + [1] * 5 + [2] * 3 + [3] * 4)])
    data = MultiModalHeteroData().add_modality("user", num_nodes=4).add_modality("film", num_nodes=5)
    data.add_hyperedges("rates", index, modalities=("user", "film"), test_mask=held)
    options: dict[str, Any] = {"slots": "film", "distribution": "degree", "power": 0.5, "known": []}
    loader = RelationLoader(data, num_negatives=1000, **options)
    batch = next(iter(loader))
    assert batch.negatives is not None
    observed = torch.bincount(batch.negatives[1, batch.index[1] == 2].flatten(), minlength=5)
    weight = degree_weights(index[1, ~held], 5, 0.5)
    assert weight[3] == observed[3] == observed[2] == 0  # held out everywhere; the old item
    expected = weight[:2] / weight[:2].sum() * observed.sum()
    assert chisquare(observed[:2].numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("given_as", ["name", "strings", "tensor", "bool"])
@pytest.mark.parametrize("distribution", ["uniform", "degree"])
def test_negatives_of_the_same_type(given_as: str, distribution: str) -> None:
    data = make(12, 20)
    types = torch.arange(SIZES["film"]) % 2
    given_types = {"name": "item_label", "strings": data["film"].item_label, "tensor": types, "bool": types.bool()}
    options: dict[str, Any] = {"same_type": {"film": given_types[given_as]}, "distribution": distribution}
    for batch in RelationLoader(data, num_negatives=30, **options):
        assert batch.negatives is not None
        kept = types[batch.negatives[1]] == types[batch.index[1]][:, None]
        assert bool(kept.all())
        assert bool((batch.negatives[1] != batch.index[1][:, None]).any())


def test_where_all_tuples_are_positive() -> None:
    data = make(30)  # every pair of 6 users and 5 films
    for batch in RelationLoader(data, batch_size=8, num_negatives=2):
        assert batch.negatives is not None
        assert batch.negative_mask is not None
        assert not batch.negative_mask.any()
        assert torch.equal(batch.negatives, batch.index[:, :, None].expand(-1, -1, 2))


def test_ranks_are_those_of_the_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(20)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(distributed, "get_rank", lambda: 2)
    assert same(list(RelationLoader(data)), list(RelationLoader(data, rank=2, world_size=3)))
    assert sum(len(batch) for batch in RelationLoader(data, rank=0, world_size=1)) == 20


def test_ranks_draw_negatives_of_their_own() -> None:
    index = torch.zeros(2, 2, dtype=torch.long)  # the same tuple twice
    data = MultiModalHeteroData().add_modality("a", num_nodes=1000).add_modality("b", num_nodes=1000)
    data.add_hyperedges("r", index, modalities=("a", "b"))
    first, second = (negatives(RelationLoader(data, num_negatives=20, rank=r, world_size=2)) for r in range(2))
    assert not torch.equal(first, second)


def test_repr_and_length() -> None:
    loader = RelationLoader(make(10, 3), batch_size=4)
    assert len(loader) == 4
    assert repr(loader) == "RelationLoader(['r0', 'r1'], batches=4, batch_size=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relations": "r9"}, "there is no relation 'r9'"),
        ({"relations": []}, "'relations' must name one or more relations, each once"),
        ({"relations": ["r0", "r0"]}, "each once"),
        ({"split": "tran"}, r"'split' must be one of \['train', 'val', 'test'\] \(got 'tran'\). Did you mean 'train'"),
        ({"known": "every"}, "'known' must be one of"),
        ({"known": ["train", "all"]}, "'known' must be one of"),
        ({"distribution": "popular"}, "'distribution' must be one of"),
        ({"interleave": "mixed"}, "'interleave' must be one of"),
        ({"distribution": "degree", "power": -1}, "'power' must be at least 0"),
        ({"batch_size": 0}, r"'batch_size' must be at least 1 \(got 0\)"),
        ({"num_negatives": -1}, r"'num_negatives' must be at least 0 \(got -1\)"),
        ({"num_corrupted": 3}, "'num_corrupted' must be in"),
        ({"slots": "tag"}, "relation 'r0' has no modality 'tag'"),
        ({"slots": 5}, "'slots' must name slots in"),
        ({"slots": {"r5": 0}}, "'slots' must be one of"),
        ({"same_type": {"films": "item_label"}}, "there is no modality 'films'.*Did you mean 'film'"),
        ({"same_type": {"film": "item_labels"}}, "modality 'film' has no attribute 'item_labels'.*'item_label'"),
        ({"same_type": {"film": torch.zeros(2, dtype=torch.long)}}, "'same_type' of modality 'film' must be"),
        ({"same_type": {"film": torch.zeros(5)}}, "must be one whole number or string an item"),
        ({"rank": 1}, r"'rank' must be in \[0, 'world_size'\) \(got rank 1 and world_size 1\)"),
        ({"rank": 0, "world_size": 0}, "'rank' must be in"),
        ({"sampler": [1]}, "'sampler' is set by RelationLoader itself"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelationLoader(make(4, 4), **options)


def test_an_unknown_argument_is_told() -> None:
    with pytest.raises(TypeError, match=r"no argument 'num_negative' of RelationLoader.*Did you mean 'num_negatives'"):
        RelationLoader(make(4), num_negative=3)


def test_bad_data() -> None:
    with pytest.raises(ValueError, match="'data' must be a MultiModalHeteroData"):
        RelationLoader(HeteroData())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'relations' must name one or more relations"):
        RelationLoader(MultiModalHeteroData())
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    data.add_hyperedges("meets", {"user": [[0, 1], [2]]})
    with pytest.raises(ValueError, match=r"relation 'meets' is ragged.*leave it out of 'relations'"):
        RelationLoader(data)
