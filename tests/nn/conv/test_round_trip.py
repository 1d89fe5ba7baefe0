from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_geometric.transforms as pyg_transforms
from torch import Tensor
from torch_geometric.nn import HeteroConv, to_hetero

from hyperlearn_pyg import MultiModalHeteroData, nn

INDEX = torch.tensor([[0, 1, 1, 1, 2, 3, 0], [0, 0, 1, 1, 1, 1, 2]])
WEIGHT = torch.tensor([0.7, 1.2, 0.3, 0.5])
LAYERS: dict[str, Callable[..., Any]] = {
    "AllDeepSetsConv": lambda c, **k: nn.AllDeepSetsConv(c, 4, **k),
    "AllSetTransformerConv": lambda c, **k: nn.AllSetTransformerConv(c, 4, heads=2, **k),
    "HNHNConv": lambda c, **k: nn.HNHNConv(c, 4, **k),
    "UniGATConv": lambda c, **k: nn.UniGATConv(c, 2, heads=2, **k),
    "UniGCNConv": lambda c, **k: nn.UniGCNConv(c, 4, **k),
    "UniGCNConv with loops": lambda c, **k: nn.UniGCNConv(c, 4, add_self_loops=True, **k),
    "UniGINConv": lambda c, **k: nn.UniGINConv(c, 4, eps=0.3, **k),
    "UniSAGEConv": lambda c, **k: nn.UniSAGEConv(c, 4, aggr="mean", **k),
}


def halves(name: str, whole: Any) -> tuple[Any, Any]:
    """Two layers of one direction that hold the parameters of one of both; the second maps the nodes as the first."""
    there = LAYERS[name](6, direction="to_hyperedge").eval()
    back = LAYERS[name]((4, 6), direction="to_node").eval()
    assert not there.load_state_dict(whole.state_dict(), strict=False).missing_keys
    own = back.state_dict()
    for key, value in whole.state_dict().items():
        key = key.replace("lin.", "lin_target.") if key.startswith("lin.") else key
        if key in own:
            own[key].copy_(value)
    if hasattr(back, "lin"):
        own["lin.weight"].copy_(torch.eye(4))
    return there, back


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("static", [(), (2, 3)])
def test_two_halves_make_the_round_trip(name: str, static: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    whole = LAYERS[name](6).eval()
    there, back = halves(name, whole)
    x, values = torch.randn(*static, 5, 6), torch.rand(INDEX.size(1))
    out, edges = whole(x, INDEX, WEIGHT, incidence_weight=values, return_hyperedges=True)
    half = there((x, None), INDEX, WEIGHT, 4, incidence_weight=values)
    torch.testing.assert_close(half, edges)
    rest, same = back((half, x), INDEX.flip(0), WEIGHT, incidence_weight=values, return_hyperedges=True)
    torch.testing.assert_close(rest, out)
    assert same is half


@pytest.mark.parametrize("name", [name for name in LAYERS if "loops" not in name])
def test_on_the_membership_edge_types_of_a_data_object(name: str) -> None:
    data = MultiModalHeteroData()
    data.add_modality("user", x=torch.randn(5, 8)).add_modality("film", x=torch.randn(4, 6))
    index = torch.stack([torch.arange(9) % 5, torch.arange(9) % 4])
    data.add_hyperedges("rates", index, modalities=("user", "film"))
    data["rates"].x = torch.randn(9, 3)
    data = pyg_transforms.ToUndirected()(data)

    def make(edge_type: tuple[str, str, str]) -> Any:
        direction = "to_hyperedge" if edge_type[2] == "rates" else "to_node"
        return LAYERS[name]((-1, -1), direction=direction)

    conv = HeteroConv({edge_type: make(edge_type) for edge_type in data.edge_types})
    out = conv(data.x_dict, data.edge_index_dict)
    assert {k: tuple(v.shape) for k, v in out.items()} == {"user": (5, 4), "film": (4, 4), "rates": (9, 4)}
    sum(v.square().sum() for v in out.values()).backward()
    assert all(p.grad is not None for p in conv.parameters())  # none without use: DistributedDataParallel would stop

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = LAYERS[name]((-1, -1), direction="to_node")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out: Tensor = self.conv(x, edge_index)
            return out

    out = to_hetero(Net(), data.metadata())(data.x_dict, data.edge_index_dict)
    assert {k: tuple(v.shape) for k, v in out.items()} == {"user": (5, 4), "film": (4, 4), "rates": (9, 4)}


def test_attention_weights_make_the_output() -> None:
    x = torch.randn(5, 6)
    for loops in (False, True):
        conv = nn.UniGATConv(6, 2, heads=2, add_self_loops=loops, bias=False)
        out, edges, (index, alpha) = conv(
            x, INDEX, WEIGHT, incidence_weight=torch.ones(7), return_hyperedges=True, return_attention_weights=True
        )
        features = torch.cat([edges, conv.lin(x)]) if loops else edges
        assert index.shape == (2, 12 if loops else 7)
        weighed = alpha[:, :, None] * features.view(-1, 2, 2)[index[1]]
        torch.testing.assert_close(torch.zeros(5, 2, 2).index_add(0, index[0], weighed).flatten(1), out)
    conv = nn.AllSetTransformerConv(6, 4, heads=2)
    _, (index, (into_edges, into_nodes)) = conv(x, INDEX, return_attention_weights=True)
    assert index is INDEX
    for alpha, key in ((into_edges, INDEX[1]), (into_nodes, INDEX[0])):
        total = torch.zeros(5, 2).index_add(0, key, alpha)
        torch.testing.assert_close(total[key.unique()], torch.ones(len(key.unique()), 2))
    _, (_, alpha) = nn.UniGATConv(6, 2, heads=2)(torch.randn(3, 5, 6), INDEX, return_attention_weights=True)
    assert alpha.shape == (7, 3, 2)


def test_errors() -> None:
    x = torch.randn(5, 6)
    with pytest.raises(ValueError, match=r"needs one direction: UniGCNConv\(..., direction='to_hyperedge'\)"):
        nn.UniGCNConv(6, 4)((x, None), INDEX)
    with pytest.raises(ValueError, match="a pair as 'in_channels' needs direction="):
        nn.UniGCNConv((6, 4), 4)
    with pytest.raises(ValueError, match="UniGINConv reads the nodes themselves"):
        nn.UniGINConv(6, 4, direction="to_node")((x, None), INDEX)
    with pytest.raises(ValueError, match=r"'x\[1\]' must have shape \[\*, N, 3\] \(got \[5, 6\]\)"):
        nn.UniGINConv((6, 3), 4, direction="to_node")((x, x), INDEX)
    with pytest.raises(ValueError, match="UniGCNConv has no attention here"):
        nn.UniGCNConv(6, 4)(x, INDEX, return_attention_weights=True)
    with pytest.raises(ValueError, match="'direction' must be 'auto', 'to_hyperedge' or 'to_node'"):
        nn.HNHNConv(6, 4, direction="up")
    with pytest.raises(TypeError, match="abstract"):
        nn.conv._round_trip.RoundTripConv(6, 4, direction="auto", cached=True, validate=True)
