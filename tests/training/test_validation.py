from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlearn_pyg import MultiModalHeteroData
from hyperlearn_pyg.datasets import MovieLens100K
from hyperlearn_pyg.errors import InputError
from hyperlearn_pyg.training import SplitKind, TrainConfig, fit, hold_out, split_kind
from hyperlearn_pyg.transforms import RandomRelationSplit, check_leaks

from .dense import make_model


def make(seed: int = 0, users: int = 60, films: int = 50, count: int = 1500) -> MultiModalHeteroData:
    """Ratings of times, and tags, without a split; some users rate more than others."""
    generator = torch.Generator().manual_seed(seed)
    data = MultiModalHeteroData()
    for name, size in (("user", users), ("film", films), ("tag", 7)):
        data.add_modality(name, num_nodes=size)
    user = (torch.rand(count, generator=generator).square() * users).long()
    index = torch.stack([user, torch.randint(films, (count,), generator=generator)]).unique(dim=1)
    index = index[:, torch.randperm(index.size(1), generator=generator)]
    time = torch.randint(10_000, (index.size(1),), generator=generator)
    data.add_hyperedges("rates", index, modalities=("user", "film"), time=time)
    tags = torch.stack([torch.randint(n, (300,), generator=generator) for n in (films, 7)]).unique(dim=1)
    return data.add_hyperedges("tags", tags, modalities=("film", "tag"))


def as_u1(data: MultiModalHeteroData, share: float = 0.43, users: int = 25) -> MultiModalHeteroData:
    """Only the first users have test ratings, a share of theirs."""
    user = data.relation("rates").index[0]
    draw = torch.rand(len(user), generator=torch.Generator().manual_seed(1))
    data["rates"].test_mask = (draw < share) & (user < users)
    return data


def masks(data: MultiModalHeteroData, name: str = "rates") -> list[Tensor]:
    return [data[name][f"{split}_mask"] for split in ("train", "val", "test")]


def check_parts(data: MultiModalHeteroData, name: str = "rates") -> None:
    """No entry in two parts, nor a tuple, and the test untouched."""
    assert int(torch.stack(masks(data, name)).sum(0).max()) <= 1
    check_leaks(data)


@pytest.mark.parametrize("seed", range(3))
def test_kinds_are_told_apart(seed: int) -> None:
    def kind(**how: object) -> SplitKind:
        return split_kind(RandomRelationSplit(seed=seed, test=0.2, val=0.1, **how)(make(seed)), "rates")

    assert kind() == SplitKind("tuple")
    assert kind(by="item", modality="user") == SplitKind("item", "user")
    assert kind(by="item", modality="film") == SplitKind("item", "film")
    assert kind(relation="rates", by="time") == SplitKind("time")
    found = split_kind(as_u1(make(seed)), "rates")
    assert (found.kind, found.modality) == ("share", "user")
    assert found.share == pytest.approx(0.43, abs=0.05)


def test_what_has_no_test_or_no_tuples_is_drawn_by_tuple() -> None:
    data = make()
    assert split_kind(data, "rates") == SplitKind("tuple")
    data["rates"].test_mask = torch.ones(len(data.relation("rates")), dtype=torch.bool)
    assert split_kind(data, "rates") == SplitKind("tuple")
    ragged = {"user": torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])}
    data.add_hyperedges("groups", ragged, num_hyperedges=2, test_mask=torch.tensor([True, False]))
    assert split_kind(data, "groups") == SplitKind("tuple")


def test_where_each_item_has_one_entry_all_draws_look_alike() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=40)
    mask = torch.arange(40) < 8
    data.add_hyperedges("r", torch.arange(40)[None], modalities=("user",), test_mask=mask)
    assert split_kind(data, "r") == SplitKind("tuple")


@given(st.integers(0, 50), st.sampled_from(["tuple", "user", "film", "time", "share"]), st.floats(0.05, 0.3))
@settings(max_examples=25, deadline=None)
def test_validation_is_drawn_as_the_test(seed: int, how: str, fraction: float) -> None:
    data = make(seed)
    if how == "share":
        data = as_u1(data)
    elif how in ("user", "film"):
        data = RandomRelationSplit(by="item", modality=how, val=0.0, test=0.2, seed=seed)(data)
        del data["rates"].val_mask, data["tags"].test_mask, data["tags"].val_mask, data["tags"].train_mask
    else:
        data = RandomRelationSplit("rates", by=how, val=0.0, test=0.2, seed=seed)(data)
    before = data["rates"].test_mask.clone()
    out = hold_out(data, fraction, seed, like="test")
    check_parts(out)
    assert torch.equal(out["rates"].test_mask, before)
    train, val, _ = masks(out)
    index, time = data.relation("rates").index, data["rates"].time
    assert val.any()
    if how in ("user", "film"):
        row = index[0 if how == "user" else 1]
        assert not torch.isin(row[val], row[train]).any()
    elif how == "time":
        assert time[val].min() >= time[train].max()
    elif how == "share":
        user = index[0]
        held = torch.bincount(user[val], minlength=60)
        left = torch.bincount(user[train], minlength=60)
        assert (left[held > 0] > 0).all()
        rest = held + left
        assert torch.allclose(held[held > 0] / rest[held > 0].double(), torch.tensor(0.43).double(), atol=0.3)
        assert int(val.sum()) >= min(fraction * int((~before).sum()), 0.3 * int((~before).sum())) - 1
    again = hold_out(data, fraction, seed, like="test")
    assert torch.equal(again["rates"].val_mask, val)
    assert not torch.equal(hold_out(data, fraction, seed + 1, like="test")["rates"].val_mask, val) or how == "time"


def cold(data: MultiModalHeteroData, name: str = "rates") -> bool:
    """Whether some item has validation entries and no training entry."""
    view, (train, val, _) = data.relation(name), masks(data, name)
    rows = zip(view.index, view.modalities, strict=True)
    every = [
        (i[val], torch.cat([o[train] for o, m in zip(view.index, view.modalities, strict=True) if m == own]))
        for i, own in rows
    ]
    return any(not torch.isin(held, left).all() for held, left in every)


@given(st.integers(0, 50), st.floats(0.0, 0.9), st.integers(1, 1500))
@settings(max_examples=25, deadline=None)
def test_a_warm_draw_leaves_each_item_a_training_entry(seed: int, fraction: float, count: int) -> None:
    data = make(seed, count=count)
    out = hold_out(data, fraction, seed, like="warm")
    train, val = out["rates"].get("train_mask"), out["rates"].get("val_mask")
    if train is None:  # nothing was asked for
        assert fraction == 0
        return
    out["rates"].test_mask = torch.zeros_like(train)
    assert bool((train ^ val).all())
    assert not cold(out)
    assert int(val.sum()) <= fraction * len(val)
    spare = len(val) - sum(int((torch.bincount(i) > 0).sum()) for i in data.relation("rates").index)
    assert int(val.sum()) >= min(int(fraction * len(val)), spare)


def test_a_test_without_cold_entries_is_found_and_drawn_again() -> None:
    data = make(users=400, films=300)
    data["rates"].test_mask = hold_out(data, 0.2, 0, like="warm")["rates"].val_mask
    assert split_kind(data, "rates") == SplitKind("warm")
    out = hold_out(data, 0.1, 1, like="test")
    check_parts(out)
    assert out["rates"].val_mask.any()
    assert not cold(out)
    assert cold(hold_out(data, 0.1, 1))


def test_by_share_those_without_a_test_entry_come_first() -> None:
    data = as_u1(make())
    user, out = data.relation("rates").index[0], hold_out(as_u1(make()), 0.1, 0, like="test")
    assert bool((user[out["rates"].val_mask] >= 25).all())
    more = hold_out(as_u1(make(), users=58), 0.3, 0, like="share", modality="user")
    assert bool((user[more["rates"].val_mask] < 58).any())  # there are not enough


def test_by_item_the_same_items_leave_all_relations() -> None:
    out = hold_out(make(), 0.2, 0, like="item", modality="film")
    for name, row in (("rates", 1), ("tags", 0)):
        check = out.relation(name).index[row]
        assert not torch.isin(check[out[name].val_mask], check[out[name].train_mask]).any()
    cold = out.relation("rates").index[1][out["rates"].val_mask].unique()
    assert not torch.isin(out.relation("tags").index[0][out["tags"].train_mask], cold).any()
    mixed = hold_out(make(), 0.2, 0, like="item", modality="user")
    assert int(mixed["tags"].val_mask.sum()) == int(0.2 * len(mixed.relation("tags")))  # by tuple


def test_without_a_modality_that_of_the_test_counts() -> None:
    data = RandomRelationSplit("rates", by="item", modality="user", val=0.0, test=0.2)(make())
    del data["rates"].val_mask
    out = hold_out(data, 0.1, 0, like="item")
    user = out.relation("rates").index[0]
    assert not torch.isin(user[out["rates"].val_mask], user[out["rates"].train_mask]).any()


def test_by_time_relations_without_times_are_drawn_by_tuple() -> None:
    out = hold_out(make(), 0.1, 0, like="time")
    assert out["rates"].time[out["rates"].val_mask].min() >= out["rates"].time[out["rates"].train_mask].max()
    assert int(out["tags"].val_mask.sum()) == int(0.1 * len(out.relation("tags")))


def test_a_repeated_tuple_is_in_one_part() -> None:
    data = MultiModalHeteroData().add_modality("user", num_nodes=3)
    data.add_modality("film", num_nodes=4)
    index = torch.tensor([[0, 0, 1, 1, 2, 2] * 2, [0, 1, 2, 3, 0, 1] * 2])
    data.add_hyperedges("rates", index, modalities=("user", "film"), test_mask=torch.zeros(12, dtype=torch.bool))
    out = hold_out(data, 0.4, 0, like="share", modality="user")
    check_parts(out)
    assert out["rates"].val_mask.any()


def test_sizes_zero_and_one() -> None:
    for count in (0, 1):
        data = MultiModalHeteroData().add_modality("user", num_nodes=1)
        data.add_hyperedges("r", torch.zeros(1, count, dtype=torch.long), modalities=("user",), time=torch.zeros(count))
        for like in ("tuple", "test"):
            assert int(hold_out(data, 0.5, 0, like=like)["r"].val_mask.sum()) == 0
    assert int(hold_out(data, 0.5, 0, like="share", modality="user")["r"].val_mask.sum()) == 0


def test_errors() -> None:
    data = make()
    with pytest.raises(ValueError, match=r"'like' must be one of \['tuple', .*'test'\] \(got 'item '\)"):
        hold_out(data, 0.1, 0, like="item ")
    with pytest.raises(ValueError, match=r"name the 'modality' to draw by item: no test was drawn in that way"):
        hold_out(data, 0.1, 0, like="item")
    with pytest.raises(ValueError, match=r"has the modality 'users'. Did you mean 'user'"):
        hold_out(data, 0.1, 0, like="share", modality="users")
    del data["rates"].time
    with pytest.raises(ValueError, match="no relation to draw from by time has a 'time'"):
        hold_out(data, 0.1, 0, like="time")
    with pytest.raises(InputError, match=r"train\.val_kind = 'time': no relation"):
        fit(make_model(data), data, epochs=0, val_kind="time", progress=False)
    with pytest.raises(InputError, match=r"train\.val_kind: expected one of .* \(got 'test'\)"):
        TrainConfig(val_kind="test")


def test_a_training_validates_as_the_test_was_drawn() -> None:
    data = as_u1(make())
    result = fit(
        make_model(data), data, epochs=1, eval_every=1, val_kind="like_test", device="cpu", progress=False, refit=False
    )
    assert result.validation["relations"].keys() == {"rates", "tags"}


def test_u1_of_movielens(data_dir: Callable[[str], Path], tmp_path: Path) -> None:
    raw = tmp_path / "ml" / "raw"
    raw.mkdir(parents=True)
    for file in data_dir("ml-100k").iterdir():
        (raw / file.name).symlink_to(file.resolve())
    data = MovieLens100K(str(tmp_path / "ml"))[0]
    found = split_kind(data, "rates")
    assert (found.kind, found.modality) == ("share", "user")
    assert found.share == pytest.approx(20_000 / 52_467)
    out = hold_out(data, 0.1, 0, like="test")
    user = out.relation("rates").index[0]
    held = user[out["rates"].val_mask]
    assert len(held) == pytest.approx(8000, rel=0.05)
    assert not torch.isin(held, user[out["rates"].test_mask]).any()
