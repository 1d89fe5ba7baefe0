"""What the dimensions of the weights of a layer run over."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch.nn import Module

#: Layers of torch and of PyG, by name of class: a weight or a size -> what its dimensions run over.
#:
#: ``in``: the channels of the input, of the first of a pair; ``target``: those of the second. ``out``: the channels of
#: the output. ``wide``: those of all heads, before they are averaged where they are. ``heads``, ``channels``: heads
#: of the output, channels of one head. ``hidden``: channels that no other layer sees. ``-``: none of them. A star
#: behind a word: several times, one behind the other. A layer without any of ``out``, ``wide``, ``heads``, ``channels``
#: acts on every channel by itself: its output has the channels of its input. ``!``: an option that mixes all channels
#: of the output, where it is on.
_LINEAR = {"weight": "out in", "bias": "out"}
_NORM = {"weight": "in", "bias": "in", "running_mean": "in", "running_var": "in", "num_batches_tracked": ""}
_CONV = {"in_channels": "in", "out_channels": "channels"}
_ATTENTION = {"heads": "heads", "bias": "out", "res.weight": "out target", "lin_edge.weight": "wide -"}
_POLYNOMIAL = {**_CONV, "lins.*.weight": "out in", "bias": "out"}
_TABLE: Mapping[str, Mapping[str, str]] = {
    "torch.nn.modules.linear.Linear": {**_LINEAR, "in_features": "in", "out_features": "out"},
    "torch_geometric.nn.dense.linear.Linear": {**_LINEAR, "in_channels": "in", "out_channels": "out"},
    "torch.nn.modules.sparse.Embedding": {"weight": "- out", "embedding_dim": "out"},
    "torch.nn.modules.normalization.LayerNorm": {**_NORM, "normalized_shape": "in"},
    "torch.nn.modules.batchnorm.BatchNorm1d": {**_NORM, "num_features": "in"},
    "torch.nn.modules.activation.PReLU": {"weight": "in", "num_parameters": "in"},
    "torch_geometric.nn.norm.layer_norm.LayerNorm": {**_NORM, "in_channels": "in"},
    "torch_geometric.nn.norm.batch_norm.BatchNorm": {
        **{f"module.{name}": role for name, role in _NORM.items()},
        "in_channels": "in",
        "module.num_features": "in",
    },
    "torch_geometric.nn.norm.graph_norm.GraphNorm": {**_NORM, "mean_scale": "in", "in_channels": "in"},
    "torch_geometric.nn.conv.gcn_conv.GCNConv": {**_CONV, "lin.weight": "out in", "bias": "out"},
    "torch_geometric.nn.conv.sage_conv.SAGEConv": {
        **_CONV,
        "lin.weight": "in in",
        "lin.bias": "in",
        "lin_l.weight": "out in*",
        "lin_l.bias": "out",
        "lin_r.weight": "out target",
        "normalize": "!",
    },
    "torch_geometric.nn.conv.graph_conv.GraphConv": {
        **_CONV,
        "lin_rel.weight": "out in",
        "lin_rel.bias": "out",
        "lin_root.weight": "out target",
    },
    "torch_geometric.nn.conv.gat_conv.GATConv": {
        **_CONV,
        **_ATTENTION,
        "lin.weight": "wide in",
        "lin_src.weight": "wide in",
        "lin_dst.weight": "wide target",
        "att_*": "- heads channels",
    },
    "torch_geometric.nn.conv.gatv2_conv.GATv2Conv": {
        **_CONV,
        **_ATTENTION,
        "lin_l.weight": "wide in",
        "lin_r.weight": "wide target",
        "lin_?.bias": "wide",
        "att": "- heads channels",
    },
    "torch_geometric.nn.conv.hypergraph_conv.HypergraphConv": {
        **_CONV,
        "heads": "heads",
        "lin.weight": "wide in",
        "att": "- heads channels*",
        "bias": "out",
    },
    "torch_geometric.nn.conv.cheb_conv.ChebConv": _POLYNOMIAL,
    "torch_geometric.nn.conv.tag_conv.TAGConv": _POLYNOMIAL,
    "torch_geometric.nn.conv.sg_conv.SGConv": {**_CONV, "lin.weight": "out in", "lin.bias": "out"},
    "torch_geometric.nn.conv.ssg_conv.SSGConv": {**_CONV, "lin.weight": "out in", "lin.bias": "out"},
    "torch_geometric.nn.conv.simple_conv.SimpleConv": {},
    "torch_geometric.nn.conv.lg_conv.LGConv": {},
    "torch_geometric.nn.conv.appnp.APPNP": {},
}
_OUTPUT = ("out", "wide", "heads", "channels")


def roles_of(module: Module) -> Mapping[str, str] | None:
    """Return what the weights and sizes of a layer run over: its own ``channel_roles``, or what is known of its class.

    Returns:
        None for a module that is no layer known here.
    """
    own: Mapping[str, str] | None = getattr(module, "channel_roles", None)
    if own is not None:
        return own
    return _TABLE.get(f"{type(module).__module__}.{type(module).__qualname__}")


def role_of(roles: Mapping[str, str], name: str) -> str | None:
    """Return the role of a weight by its name within the layer."""
    for pattern, role in roles.items():
        if fnmatchcase(name, pattern):
            return role
    return None


def mixing_option(module: Module, roles: Mapping[str, str]) -> str | None:
    """Return the option by which a layer mixes all channels of its output, if one is on."""
    return next((name for name, role in roles.items() if role == "!" and getattr(module, name)), None)


def makes_channels(roles: Mapping[str, str]) -> bool:
    """Tell whether the output has channels of its own, rather than those of the input."""
    return any(word.rstrip("*") in _OUTPUT for role in roles.values() for word in role.split())
