from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing, to_hetero_with_bases

from hyperlearn_pyg import HypergraphConv, nn
from hyperlearn_pyg.nn.conv._layer import HypergraphLayer

INDEX = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])


def test_pyg_knows_every_layer_as_one_of_its_own() -> None:
    for layer in (nn.UniGATConv(3, 2), nn.ChebHypergraphConv(3, 2, 2), HypergraphConv(3, 2)):
        assert isinstance(layer, HypergraphLayer)
        assert isinstance(layer, MessagePassing)


def test_a_hook_on_messages_scales_them_and_not_the_degrees() -> None:
    conv, scale = HypergraphConv(3, 2, bias=False), torch.tensor([2.0, 0.0, 1.0, 1.0])
    x = torch.randn(3, 3)
    handle = conv.register_message_forward_hook(lambda module, inputs, out: scale[:, None] * out)
    out = conv(x, INDEX, torch.ones(2))
    whole = nn.HGNNPConv(3, 2, bias=False)
    whole.lin.weight.data = conv.lin.weight.data
    dense, sent = torch.zeros(2, 3, 2)
    dense[INDEX[0], INDEX[1]], sent[INDEX[0], INDEX[1]] = 1, scale
    expected = (sent / dense.sum(1, keepdim=True)) @ ((sent / dense.sum(0)).t() @ conv.lin(x))
    torch.testing.assert_close(out, expected)
    handle.remove()
    torch.testing.assert_close(conv(x, INDEX), whole(x, INDEX))


def test_hooks_that_cannot_be_called_are_refused() -> None:
    conv, x = HypergraphConv(3, 2), torch.randn(3, 3)
    conv.register_message_forward_hook(lambda module, inputs, out: out.expand(-1, 2))
    with pytest.raises(ValueError, match=r"must keep their shape \(got \[4, 2\] for \[4, 1\]\)"):
        conv(x, INDEX)
    other = nn.UniGCNConv(3, 2)
    other.register_propagate_forward_pre_hook(lambda module, inputs: None)
    with pytest.raises(ValueError, match="hooks in '_propagate_forward_pre_hooks' have no place here: UniGCNConv"):
        other(x, INDEX)


def test_to_hetero_with_bases_weighs_edge_types() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = HypergraphConv(3, 2, bias=False, direction="to_hyperedge")

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            out: Tensor = self.conv(x, edge_index)
            return out

    types = [("a", "to", "b"), ("b", "to", "a")]
    model = to_hetero_with_bases(Net(), (["a", "b"], types), num_bases=2)
    x, index = {"a": torch.randn(3, 3), "b": torch.randn(2, 3)}, {types[0]: INDEX, types[1]: INDEX.flip(0)}
    out = model(x, index)
    for (source, _, target), edge_index in index.items():
        dense = torch.zeros(len(x[target]), len(x[source]))
        dense[edge_index[1], edge_index[0]] = 1
        mean = (dense / dense.sum(1, keepdim=True)) @ x[source]
        which = types.index((source, "to", target))
        expected = sum(conv.edge_type_weight[0, which] * conv.lin(mean) for conv in model.conv.convs)
        torch.testing.assert_close(out[target], expected)


def test_one_tensor_is_both_sides_of_a_layer_of_one_direction() -> None:
    x, index = torch.randn(3, 3), torch.tensor([[0, 1, 2], [1, 2, 2]])
    for conv in (HypergraphConv(3, 2, direction="to_hyperedge"), nn.UniSAGEConv(3, 2, direction="to_node")):
        assert torch.equal(conv(x, index), conv((x, x), index))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.randn(3), r"'x' must have shape \[\*, N, 3\] \(got \[3\]\)"),
        (torch.randn(3, 4), r"'x' must have shape \[\*, N, 3\] \(got \[3, 4\]\)"),
        ((torch.randn(3, 4), None), r"'x\[0\]' must have shape \[\*, N, 3\]"),
        ([torch.randn(3, 3)], r"'x' must be a tensor \(got list\); a pair is a tuple"),
        (None, r"'x' must be a tensor \(got NoneType\)"),
    ],
)
def test_features_of_another_form_are_refused(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HypergraphConv(3, 2)(x, INDEX)
