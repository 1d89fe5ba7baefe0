from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyperlearn_pyg.distributed import ModalityParallel, checkpoint
from hyperlearn_pyg.ops.seeds import derive_seed

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))

HYPER = models.case(
    "user film tag star",
    "tags cast",
    ["user star", "film tag"],
    model={"decoder": "cp_around_ones", "dropout": 0.3},
    wrap={"seed": 5},
)
OTHER = {**HYPER, "groups": [["tag"], ["user", "film", "star"]], "exchange": "full"}
ALONE = {**HYPER, "groups": [["user", "film", "tag", "star"]]}
EMPTY = {**HYPER, "groups": [["user", "film", "tag", "star"], []]}
REPLICAS = {**ALONE, "replicas": 2}
MESH = {**HYPER, "replicas": 2}
START, END = 4, 9


# ---------------------------------------------------------------- saving, and going on elsewhere


def undisturbed():
    """The losses of the plain model, which draws as ``seed=5`` says."""
    with models.double():
        data, model = models.hyper_model(HYPER)
        inputs, losses = model.train().prepare(data, ("train",)), []
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(END):
            batch, _ = models.hyper_draw(HYPER, inputs, step)
            loss = model.loss(
                inputs, batch, generator=torch.Generator().manual_seed(step), seed=derive_seed(5, step + 1)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses


def start(c):
    data, plain = models.hyper_model(c)
    model = ModalityParallel(plain, models.plan_of(c), **c["wrap"]).train()
    return model, model.prepare(data, ("train",)), torch.optim.Adam(model.parameters(), lr=0.02)


def saved(rank, world_size, c, folder, asynchronous=False):
    """Train, save in between, and go on."""
    with models.double():
        model, inputs, optimizer = start(c)
        before, _ = models.hyper_loop(model, c, inputs, optimizer, range(START))
        model.save(folder, START, optimizer=optimizer, extra={"note": "here"}, asynchronous=asynchronous)
        after, _ = models.hyper_loop(model, c, inputs, optimizer, range(START, END))
        model.wait()
        return before + after


def resumed(rank, world_size, c, folder):
    """Load what was saved into a model that starts elsewhere, and go on."""
    with models.double():
        model, inputs, optimizer = start(c)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(3)
        told = model.load(folder, optimizer=optimizer)
        return told, models.hyper_loop(model, c, inputs, optimizer, range(START, END))[0]


def several(rank, world_size, calls):
    return [globals()[name](rank, world_size, *arguments) for name, *arguments in calls]


def check_losses(found, wanted):
    for losses in found:
        torch.testing.assert_close(
            torch.tensor(losses, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=1e-11
        )


def test_training_goes_on_under_any_placement(ranks, tmp_path):
    wanted, one, two, later = undisturbed(), tmp_path / "one", tmp_path / "two", tmp_path / "later"
    check_losses([saved(0, 1, ALONE, one)], wanted)
    places = (HYPER, OTHER, EMPTY, REPLICAS)
    calls = [("saved", HYPER, two), ("saved", REPLICAS, later, True)]
    calls += [("resumed", c, folder) for folder in (one, two, later) for c in places]
    found = ranks.run(several, 2, calls)
    for results in found:
        check_losses(results[:2], wanted)
        assert all(told == {"step": START, "note": "here"} for told, _ in results[2:])
        check_losses([losses for _, losses in results[2:]], wanted[START:])
    _, losses = resumed(0, 1, ALONE, two)
    check_losses([losses], wanted[START:])
    assert found[0][2][1] == found[1][2][1]  # on all ranks to the last bit
    names = set(models.hyper_model(ALONE)[1].state_dict())
    assert set(checkpoint.load(two / Path(checkpoint.newest(two)).name).tensors) == names


@pytest.mark.slow
def test_training_goes_on_in_a_mesh(ranks, tmp_path):
    wanted, two, four = undisturbed(), tmp_path / "two", tmp_path / "four"
    ranks.run(several, 2, [("saved", HYPER, two)])
    for results in ranks.run(several, 4, [("resumed", MESH, two), ("saved", MESH, four)]):
        check_losses([results[0][1]], wanted[START:])
        check_losses([results[1]], wanted)
    for results in ranks.run(several, 2, [("resumed", OTHER, four)]):
        check_losses([results[0][1]], wanted[START:])


def kept(rank, world_size, folder):
    with models.double():
        model, _, _ = start(HYPER)
        out = [model.load(folder)]
        for step in range(5):
            model.save(folder, step, keep=2)
        model.save(folder, 9, keep=2, asynchronous=True)
        model.save(folder, 10, keep=2, asynchronous=True)
        model.wait()
        return [*out, model.load(folder)["step"]]


def test_old_checkpoints_are_deleted(ranks, tmp_path):
    assert ranks.run(kept, 2, tmp_path) == [[None, 10]] * 2
    assert len(list(tmp_path.glob("save-*/COMMIT"))) == 2


def test_what_a_checkpoint_lacks_stays_where_not_strict(tmp_path):
    with models.double():
        model, inputs, optimizer = start(ALONE)
        models.hyper_loop(model, ALONE, inputs, optimizer, range(2))
        model.save(tmp_path, 1, optimizer=optimizer)
        grown, _, _ = start(ALONE)
        data = models.hyper_data([*ALONE["names"], "place"], [*ALONE["relations"], "at"])
        grown.add_modality("place", data=data)
        new = models.copied(grown.state_dict())
        optimizer = torch.optim.Adam(grown.parameters(), lr=0.5)
        with pytest.raises(ValueError, match=r"holds no tensor 'encoders.user.added.at'"):
            grown.load(tmp_path)
        assert grown.load(tmp_path, optimizer=optimizer, strict=False) == {"step": 1}
        old = model.state_dict()
        for name, value in grown.state_dict().items():
            assert torch.equal(value, old.get(name, new[name])), name
        assert len(optimizer.state) == len([p for p in model.parameters() if p.grad is not None])


# ---------------------------------------------------------------- gathering


class Buffered(torch.nn.Module):
    """An encoder with a buffer that no checkpoint holds."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, width, dtype=torch.float64))
        self.register_buffer("scale", torch.full((), 0.5, dtype=torch.float64), persistent=False)

    def forward(self, x, edge_index):
        return x @ self.weight * self.scale


def gathered(rank, world_size, groups, replicas):
    c = models.case("user film tag star", "", groups, replicas=replicas)
    plain = models.user_model(c)
    plain.encoders["tag"] = Buffered(5)
    state = models.copied(plain.state_dict())
    model = ModalityParallel(plain, models.plan_of(c)).train()
    out = [set(model.state_dict()), [name for name, _ in model.named_parameters()]]
    full = model.full_state_dict()
    out.append(full.keys() == state.keys() and all(torch.equal(full[k], state[k]) for k in state))
    models.user_loop(model, c, torch.optim.Adam(model.parameters(), lr=0.02), range(3), models.spread_scores)
    whole, factors = model.gather_module(), model.gather_factors(models.user_data(c["names"]))
    model.eval()
    data, batches = models.user_data(c["names"]), models.user_batches(c, 1)
    with torch.no_grad():
        scores = model(data, batches)
        if whole is not None:
            tables = {name: whole.eval().encode(name, data) for name in c["names"]}
            plain_scores = [whole.decode(tables, batch) for batch in batches]
            assert list(factors) == c["names"]
            assert all(torch.equal(factors[name], tables[name]) for name in factors)
            assert [name for name, _ in whole.named_parameters()] == list(
                dict.fromkeys(n for n, _ in whole.named_parameters())
            )
            assert set(whole.state_dict()) == set(state)
            for mine, theirs in zip(scores, plain_scores, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    # the whole plain state goes back in; what is not of this rank is passed over
    assert not model.load_state_dict(state).missing_keys
    again = model.full_state_dict()
    assert again.keys() == full.keys()
    assert all(torch.equal(again[k], state[k]) for k in again)
    try:
        model.load_state_dict({**state, "strange": torch.ones(1)})
    except RuntimeError as error:
        out.append("strange" in str(error))
    return out, whole is not None, factors is not None


GROUPS = [["user", "tag"], ["film", "star"]]


def check_gathered(found, groups, replicas):
    for rank, ((held, _, same, refused), whole, factors) in enumerate(found):
        own = groups[rank // replicas]
        assert {name.split(".")[1] for name in held if name.startswith("encoders.")} == set(own)
        assert {"unused", "mlp.0.weight"} < held
        assert (same, whole, factors) == (rank == 0,) * 3
        assert refused


def test_gathering_a_module_of_the_user(ranks):
    check_gathered(ranks.run(gathered, 2, [" ".join(g) for g in GROUPS], 1), GROUPS, 1)
    check_gathered(ranks.run(gathered, 2, [" ".join(reversed(g)) for g in reversed(GROUPS)], 1), GROUPS[::-1], 1)


@pytest.mark.slow
def test_gathering_from_a_mesh(ranks):
    check_gathered(ranks.run(gathered, 4, [" ".join(g) for g in GROUPS], 2), GROUPS, 2)


def hyper_gathered(rank, world_size, c):
    with models.double():
        model, inputs, optimizer = start(c)
        models.hyper_loop(model, c, inputs, optimizer, range(2))
        factors, whole = model.gather_factors(inputs), model.gather_module()
        assert model.training
        if rank:
            return factors, whole
        data, _ = models.hyper_model(c)
        tables = whole.eval()(data)
        assert all(torch.equal(tables[name], factors[name]) for name in tables)
        index = whole.prepare(data).tuples["tags"].index[:, :3]
        return whole.predict(data, "tags", index).shape, sorted(factors)


def test_gathering_hyperlearn(ranks):
    wanted = (torch.Size([3]), ["film", "star", "tag", "user"])
    assert ranks.run(hyper_gathered, 2, HYPER) == [wanted, (None, None)]
    assert hyper_gathered(0, 1, ALONE) == wanted
