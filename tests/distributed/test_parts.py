from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch_geometric.nn import MLP
from torch_geometric.nn.module_dict import ModuleDict

from hyperlearn_pyg.distributed import ModalityParallel, ModalityPlan
from hyperlearn_pyg.distributed._parts import belongs_to, check_shared
from hyperlearn_pyg.nn import HeteroHypergraphConv

models = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("models.py"))))

THREE = models.case("user film tag", "", ["user", "film tag"])
PLACES = ["cpu", "cpu"]


def module(**parts):
    made = models.user_model(THREE)
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def shares_a_parameter():
    made = module()
    made.encoders["tag"].convs[0].bias = made.encoders["user"].convs[0].bias
    return made


def convolves_all():
    made = module()
    made.encoders["tag"] = torch.nn.Sequential(HeteroHypergraphConv({"user": 3, "tag": 3}, 4))
    return made


def without(name):
    made = module()
    made.__dict__[name] = None
    return made


# ---------------------------------------------------------------- refused in one process

GROUPS = [["user"], ["film", "tag"]]
REFUSED = [
    (module, "atuo", {}, ValueError, r"'plan' must be a ModalityPlan or 'auto' \(got 'atuo'\). Did you mean 'auto'\?"),
    (module, [["user"], ["filn", "tag"]], {}, ValueError, r"the plan places 'filn', which .* Did you mean 'film'\?"),
    (module, [["user"], ["film"]], {}, ValueError, r"the plan places no \['tag'\]: name every modality"),
    (module, [["user", "film", "tag"]] * 2, {}, ValueError, r"modality 'user' is placed twice, in the groups 0 and 1"),
    (module, GROUPS, {"devices": ["cpu", "gpu:0"]}, ValueError, r"rank 1: 'gpu:0' is no device: expected 'cpu'"),
    (module, GROUPS, {"devices": ["cpu", "cuda:99"]}, ValueError, r"rank 1: the device 'cuda:99' does not exist here"),
    (module, GROUPS, {"devices": ["cpu"] * 3}, ValueError, r"'devices' must name one device a rank, 2 \(got 3\)"),
    (
        module,
        GROUPS,
        {"devices": None},
        ValueError,
        r"made for 2 ranks, and this is one process: start it with 'torchrun",
    ),
    (
        module,
        GROUPS,
        {"exchange": "row"},
        ValueError,
        r"'exchange' must be one of .* \(got 'row'\). Did you mean 'rows'",
    ),
    (module, GROUPS, {"check": "allways"}, ValueError, r"'check' must be one of .* Did you mean 'always'\?"),
    (module, GROUPS, {"on_nonfinite": "rise"}, ValueError, r"'on_nonfinite' must be one of .* Did you mean 'raise'\?"),
    (module, GROUPS, {"checks": "first"}, TypeError, r"unexpected keyword argument 'checks'"),
    (lambda: without("encode"), GROUPS, {}, TypeError, r"Scorer must have a method encode\(name, data\) -> factors"),
    (lambda: without("decode"), GROUPS, {}, TypeError, r"Scorer must have a method decode\(rows, tuples\) -> scores"),
    (
        lambda: torch.nn.Linear(2, 2),
        GROUPS,
        {},
        TypeError,
        r"Linear must have 'encoders', a torch.nn.ModuleDict .* None",
    ),
    (
        shares_a_parameter,
        GROUPS,
        {},
        ValueError,
        r"the encoders of 'user' and 'tag' share a parameter: give each its own",
    ),
    (
        convolves_all,
        GROUPS,
        {},
        ValueError,
        r"'encoders.tag.0' \(HeteroHypergraphConv\) convolves several modalities at",
    ),
    (lambda: module(encoders=torch.nn.ModuleDict()), "auto", {}, ValueError, r"Scorer has no modality: its 'encoders'"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_refused_before_any_message(number):
    make, plan, options, kind, text = REFUSED[number]
    made = make()
    with pytest.raises(kind, match=text):
        ModalityParallel(
            made, plan if plan in ("auto", "atuo") else ModalityPlan(plan), **{"devices": PLACES, **options}
        )


def test_one_process_alone_takes_what_cannot_be_split():
    assert ModalityParallel(convolves_all()).local == ["user", "film", "tag"]
    assert ModalityParallel(module(norm=torch.nn.BatchNorm1d(2)), devices=PLACES).plan.world_size == 2


def test_the_automatic_plan_goes_by_the_sizes_of_encoders():
    made = module()
    made.encoders["film"] = torch.nn.Linear(1000, 100)
    assert ModalityParallel(made, devices=PLACES).plan.groups == (("film",), ("user", "tag"))
    with pytest.raises(ValueError, match="plan='auto' needs all encoders, that of 'film' is not here: pass the plan"):
        ModalityParallel(module(modalities=["user", "film", "tag"], encoders=torch.nn.ModuleDict({"user": made.mlp})))
    only = module(modalities=["user", "film", "tag"], encoders=torch.nn.ModuleDict({"user": made.mlp}))
    with pytest.raises(ValueError, match=r"the plan places \['film', 'tag'\] on rank 0, which has no encoder for it"):
        ModalityParallel(only, ModalityPlan([["user", "film", "tag"]]))


def test_a_module_without_a_loss_or_of_another_shape():
    model = ModalityParallel(module(), ModalityPlan(GROUPS), devices=PLACES)
    with pytest.raises(TypeError, match=r"Scorer has no loss of its own \(see hyperlearn_pyg.typing.LossModule\)"):
        model.loss(None)
    with pytest.raises(TypeError, match=r"'tuples' must have 'relation', 'modalities' and 'index'.* \(got int\)"):
        model(None, 3)
    assert model.unused is model.module.unused
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = model.nothing
    assert "user on cpu, film on cpu, tag on cpu" in repr(model)


@pytest.mark.parametrize("kind", [torch.nn.ModuleDict, ModuleDict])
def test_names_of_parameters_tell_the_modality(kind):
    names = ["user", "user_2"] if kind is torch.nn.ModuleDict else ["a.b", "a", "type"]
    made = module(encoders=kind({name: torch.nn.Linear(1, 1) for name in names}))
    found = {name: belongs_to(name, made.encoders, names) for name in made.state_dict()}
    assert sorted(m for m in found.values() if m is not None) == sorted(2 * names)
    assert {name for name, m in found.items() if m is None} == {n for n in found if not n.startswith("encoders.")}
    for name, modality in found.items():
        assert modality is None or made.state_dict()[name].data_ptr() in [
            p.data_ptr() for p in made.encoders[modality].parameters()
        ]


# ---------------------------------------------------------------- refused over several ranks


def refused(rank, world_size):
    out, plan = {}, ModalityPlan(GROUPS)
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("modality", "data"))
    cases = {
        "norm": (lambda: module(norm=torch.nn.BatchNorm1d(2)), plan, {}),
        "dropout": (lambda: module(mlp=torch.nn.Sequential(torch.nn.Dropout(0.1))), plan, {}),
        "couples": (convolves_all, plan, {}),
        "world": (module, ModalityPlan([["user", "film", "tag"]]), {}),
        "devices": (module, plan, {"devices": ["cpu"]}),
        "mesh": (module, plan, {"mesh": mesh}),
        "axes": (module, plan, {"mesh": init_device_mesh("cpu", (2,), mesh_dim_names=("rank",))}),
    }
    for name, (make, chosen, options) in cases.items():
        try:
            ModalityParallel(make(), chosen, **options)
        except ValueError as error:
            out[name] = str(error)
    assert ModalityParallel(module(drop=torch.nn.Dropout(0.0)), plan).local == GROUPS[rank]
    out["auto"] = [list(g) for g in ModalityParallel(module(), mesh=mesh).plan.groups]
    ring = init_device_mesh("cpu", (2,), mesh_dim_names=("modality",))
    out["ring"] = ModalityParallel(module(), plan, mesh=ring).local
    return out


def test_what_is_refused_on_several_ranks(ranks):
    one, other = ranks.run(refused, 2)
    assert (one.pop("ring"), other.pop("ring")) == (GROUPS[0], GROUPS[1])
    assert one == other
    assert one["auto"] == [["user", "film", "tag"]]
    for name, text in {
        "norm": "'norm' (BatchNorm1d) would see the tuples of one rank only",
        "dropout": "'mlp.0' (Dropout) would see the tuples of one rank only",
        "couples": "use a layer of one modality in each encoder",
        "world": "the plan is made for 1 ranks (1 groups x 1 replicas), there are 2",
        "devices": "'devices' must name one device a rank, 2 (got 1)",
        "mesh": "'mesh' has the shape (1, 2), the plan (2, 1)",
        "axes": "'mesh' must have the axes ('modality',) or ('modality', 'data') (got ('rank',))",
    }.items():
        assert text in one[name], name


def over_tuples(**options):
    return module(mlp=MLP([4, 4, 1], **options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "'mlp.norms.0.module' .BatchNorm1d."),
        ({"norm": "layer_norm"}, "'mlp.norms.0' .LayerNorm.*mode='node'"),
        ({"norm": "graph_norm"}, "'mlp.norms.0' .GraphNorm."),
        ({"norm": None, "dropout": 0.5}, "'mlp' .MLP."),
    ],
)
def test_decoders_of_pyg_that_work_over_tuples_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        check_shared(over_tuples(**options))


def test_decoders_of_pyg_that_work_tuple_by_tuple_are_taken():
    check_shared(over_tuples(norm=None))
    check_shared(over_tuples(norm="layer_norm", norm_kwargs={"mode": "node"}))


# ---------------------------------------------------------------- one more modality

GROWN = ["user", "film", "tag", "star"]
HYPER = models.case(
    "user film tag", "rates tags", ["user", "film tag"], model={"decoder": "cp_around_ones", "dropout": 0.3}
)


def add_to_user(model, freeze, **options):
    """A trained module of the user takes in 'star'; the same numbers in every process."""
    torch.manual_seed(4)
    extra = models.Scorer([*GROWN]).double().encoders["star"]
    if isinstance(model, ModalityParallel):
        model.add_modality("star", extra, freeze_others=freeze, **options)
        return
    model.encoders["star"] = extra
    if freeze:
        freeze_plain(model, "encoders.star")


def freeze_plain(model, *new):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(new))
    for name, encoder in model.encoders.items():
        encoder.train(f"encoders.{name}" in new)


def user_grown(model, c, scores_of, freeze, **options):
    """Train, add, train on. Returns losses, the state before, and that after."""
    first, _ = models.user_loop(model, c, torch.optim.Adam(model.parameters(), lr=0.02), range(3), scores_of)
    before = models.copied(model.state_dict())
    add_to_user(model, freeze, **options)
    between = {name: torch.equal(value, model.state_dict()[name]) for name, value in before.items()}
    later, optimizer = {**c, "names": GROWN}, torch.optim.Adam(model.parameters(), lr=0.02)
    losses, grads = models.user_loop(model, later, optimizer, range(3, 8), scores_of)
    kept = {name: torch.equal(value, model.state_dict()[name]) for name, value in before.items()}
    return {"losses": first + losses, "grads": grads, "between": between, "kept": kept}


def user_spread(rank, world_size, c, freeze, options):
    model = ModalityParallel(models.user_model(c), models.plan_of(c)).train()
    out = user_grown(model, c, models.spread_scores, freeze, **options)
    assert model.names == GROWN
    return {**out, "state": model.full_state_dict(), "local": model.local}


def user_plain(c, freeze):
    model = models.user_model(c).train()
    return {**user_grown(model, c, models.plain_scores, freeze), "state": models.copied(model.state_dict())}


def several(rank, world_size, calls):
    return [globals()[name](rank, world_size, *arguments) for name, *arguments in calls]


ADDED = [
    (["user", "film tag"], {}, False, 1, 0),
    (["user", "film tag"], {"group": 1}, True, 1, 1),
    (["user film tag", ""], {}, True, 1, 1),
    (["user film tag"], {}, True, 2, 0),
]


def test_a_module_of_the_user_takes_one_more_modality(ranks):
    cases = [models.case("user film tag", "", groups, replicas=replicas) for groups, _, _, replicas, _ in ADDED]
    calls = [("user_spread", c, entry[2], entry[1]) for c, entry in zip(cases, ADDED, strict=True)]
    found = list(zip(*ranks.run(several, 2, calls), strict=True))
    for c, (_, _, freeze, replicas, group), results in zip(cases, ADDED, found, strict=True):
        # frozen encoders read the running means, and there Adam's drift of biases in front of BatchNorm shows
        models.compare(results, user_plain(c, freeze), tolerance=1e-10 if freeze else 1e-12)
        for rank, result in enumerate(results):
            assert all(result["between"].values())
            assert not freeze or all(result["kept"].values())
            assert ("star" in result["local"]) == (rank // replicas == group)


def hyper_grown(model, freeze):
    losses = []
    data = models.hyper_data(HYPER["names"], HYPER["relations"])
    inputs, optimizer = model.train().prepare(data, ("train",)), torch.optim.Adam(model.parameters(), lr=0.02)
    losses += models.hyper_loop(model, HYPER, inputs, optimizer, range(3))[0]
    before = models.copied(model.state_dict())
    data, options = models.hyper_data([*HYPER["names"], "place"], [*HYPER["relations"], "at"]), {}
    if isinstance(model, ModalityParallel):
        options = {"freeze_others": freeze}
    torch.manual_seed(4)
    model.add_modality("place", data=data, **options)
    if freeze and not options:
        freeze_plain(model, "encoders.place", "encoders.user.added.at", "decoders.at")
    between = {name: torch.equal(value, model.state_dict()[name]) for name, value in before.items()}
    inputs, optimizer = model.prepare(data, ("train",)), torch.optim.Adam(model.parameters(), lr=0.02)
    more, grads = models.hyper_loop(model, HYPER, inputs, optimizer, range(3, 8))
    kept = {name: torch.equal(value, model.state_dict()[name]) for name, value in before.items()}
    return {"losses": losses + more, "grads": grads, "between": between, "kept": kept}


def hyper_spread(rank, world_size, groups, replicas, freeze):
    with models.double():
        _, plain = models.hyper_model(HYPER)
        model = ModalityParallel(plain, ModalityPlan(groups, replicas=replicas))
        out = hyper_grown(model, freeze)
        return {**out, "state": model.full_state_dict()}


def hyper_plain(freeze):
    with models.double():
        _, model = models.hyper_model(HYPER)
        return {**hyper_grown(model, freeze), "state": models.copied(model.state_dict())}


def test_hyperlearn_takes_one_more_modality(ranks):
    groups = [[["user"], ["film", "tag"]], [["user", "film", "tag"], []]]
    calls = [("hyper_spread", g, 1, freeze) for g in groups for freeze in (False, True)]
    calls += [("hyper_spread", [["user", "film", "tag"]], 2, True)]
    found = zip(*ranks.run(several, 2, calls), strict=True)
    for (*_, freeze), results in zip(calls, found, strict=True):
        models.compare(results, hyper_plain(freeze))
        for result in results:
            assert all(result["between"].values())
            assert not freeze or all(result["kept"].values())


def not_added(rank, world_size):
    """Refused on all ranks, and the ranks train on as before."""
    model, texts = ModalityParallel(models.user_model(THREE), models.plan_of(THREE)).train(), []
    extra = models.Scorer(["star"]).double().encoders["star"]
    calls = [
        ("star", None, {}),
        ("user", extra, {}),
        ("star", extra, {"group": 2}),
        ("star", extra, {"relations": ["r"]}),
        (("star", "day")[rank], extra, {"group": 1}),
    ]
    for number, (name, encoder, options) in enumerate(calls):
        try:
            model.add_modality(name, encoder, **options)
        except ValueError as error:
            texts.append(str(error))
        if number < 4:
            models.user_loop(model, THREE, torch.optim.SGD(model.parameters(), lr=0.1), [0], models.spread_scores)
    return texts


def test_what_cannot_be_added_is_refused_on_all_ranks(ranks):
    one, other = ranks.run(not_added, 2)
    assert one[0] == "an encoder is needed for 'star' on the rank that is to hold it"
    assert other[0] == f"modality 'star' was not added on all ranks: rank 0: {one[0]}"
    assert one[1:] == other[1:]
    assert one[1] == "there is a modality 'user' already"
    assert one[2] == "'group' must be below 2, the number of groups of ranks (got 2)"
    assert one[3] == "Scorer has no add_modality that would take ['relations']"
    assert one[4].startswith("the ranks differ in 'plan': rank 0 has [['user'], ['film', 'tag', 'star']]")


def test_ranks_that_nobody_joined_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    module = torch.nn.Module()
    module.encoders = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 1)})
    module.encode = module.decode = lambda *_: torch.zeros(0)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"started 2 processes, but there is no process group.*connected\(\)"):
        ModalityParallel(module)
    assert ModalityParallel(module, devices=["cpu"]).local == ["a"]
