from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from hyperlearn_pyg.errors import InputError, did_you_mean

ENCODERS = ("diffusion", "relation", "embedding", "partner", "hypergraph_conv", "residual")
DECODERS = ("cp", "cp_around_ones", "pairwise", "pairwise_cp", "tucker")
ROLES = ("shared", "separate", "independent")
VALUE_LOSSES = ("squared", "all_cells", "cross_entropy", "expected_level")
LINK_LOSSES = ("logistic", "softmax", "in_batch_softmax", "full_softmax", "all_cells")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a :class:`~hyperlearn_pyg.nn.HyperLearn` is made of. Frozen; can be printed, compared and saved.

    Attributes:
        preset: name of the preset that the rest was taken from.
        rank: width of the item factors.
        encoder: encoder of each modality: ``"diffusion"`` (the paper's), ``"relation"``, ``"embedding"``,
            ``"partner"`` (embedding and partners), ``"hypergraph_conv"`` (over the training relation, by level) or
            ``"residual"`` (a deep stack over the training relation).
        decoder: ``"cp"``, ``"cp_around_ones"``, ``"pairwise"``, ``"pairwise_cp"`` (their sum) or ``"tucker"``.
        roles: factors of a modality that plays several roles (as the source and the target of a relation, say):
            ``"shared"``; ``"separate"``, one table for each name that a slot of it has in any relation, those of the
            second and later names added to what the encoder gives; or ``"independent"``, these tables alone.
        pair_counts: add the log-counts of pairs among the training entries to the scores of 0/1 relations, each with a
            learnt weight (not with ``"all_cells"``).
        common_neighbors: add what two items have in common in the graph of the training entries (Adamic and Adar's sum)
            to the scores of 0/1 relations of two slots of one modality, such as friendships, with learnt weights; these
            relations then have no pair counts (not with ``"all_cells"``).
        bias: an additive bias for every item and relation.
        features: let item features in.
        clamp: keep predicted values inside the range of the training values.
        value_loss: loss of relations with values: ``"squared"`` or ``"all_cells"``; or with the level of a value as
            one more mode of the decoder, ``"cross_entropy"`` over the levels or ``"expected_level"``, the squared error
            of their mean.
        link_loss: loss of 0/1 relations: ``"logistic"`` or ``"softmax"`` against candidates drawn uniformly,
            ``"in_batch_softmax"`` (those, and the items of the batch), ``"full_softmax"`` (against all items) or
            ``"all_cells"``.
        num_negatives: candidates a slot of the sampled losses.
        negatives: what they are drawn from: ``"all"`` items, or those ``"seen"`` in some training entry, so that
            items without one are not pushed down.
        predict: for relations by name, the slots whose items are to be predicted: the losses against candidates then
            compare the items of these slots alone. A slot is the name of a modality (all its slots), or
            ``"modality.role"``. All slots for a relation that is not named. Not for relations with values.
        relation_weights: what the loss of a relation counts beside those of others, by name; one where it is not named.
        unobserved: weight of the cells not observed in ``"all_cells"``.
        smoothness: weight of the Dirichlet energy of the factors on the intra-modal graphs.
        l2: weight of the mean squared norm of the gathered rows (0/1 relations, and levels).
        n3: weight of the mean cubed norm of the gathered rows (0/1 relations, and levels).
        table_l2: weight of the sum of squares of the hyperedge tables, per training entry.
        hidden: width of the encoder's hidden layers.
        max_table_parameters: the hyperedge tables of all modalities together hold no more numbers than this; on large
            data they are narrower than ``hidden`` (relation encoder).
        feature_hidden: width of the hidden layer of the item features (relation encoder).
        cheb_order: number of Chebyshev terms (diffusion encoder).
        steps: number of diffusion steps (diffusion encoder).
        blocks: number of residual blocks (residual encoder).
        dropout: dropout probability of hidden units.
        context_dropout: dropout probability of the columns of the product of the slots that a tuple is told by, in the
            losses of 0/1 relations against candidates (decoders ``"cp"``, ``"cp_around_ones"`` and ``"tucker"``).
        node_dropout: dropout probability of whole hyperedges (relation encoder).
    """

    preset: str = "custom"
    rank: int = 32
    encoder: str = "relation"
    decoder: str = "cp"
    roles: str = "shared"
    pair_counts: bool = False
    common_neighbors: bool = False
    bias: bool = True
    features: bool = True
    clamp: bool = True
    value_loss: str = "squared"
    link_loss: str = "logistic"
    num_negatives: int = 200
    negatives: str = "all"
    predict: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    relation_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    unobserved: float = 0.05
    smoothness: float = 0.0
    l2: float = 0.0
    n3: float = 0.0
    table_l2: float = 0.0
    hidden: int = 100
    max_table_parameters: int = 100_000_000
    feature_hidden: int = 64
    cheb_order: int = 5
    steps: int = 10
    blocks: int = 8
    dropout: float = 0.0
    context_dropout: float = 0.0
    node_dropout: float = 0.0

    def __post_init__(self) -> None:
        for key, choices in (
            ("encoder", ENCODERS),
            ("decoder", DECODERS),
            ("roles", ROLES),
            ("value_loss", VALUE_LOSSES),
            ("link_loss", LINK_LOSSES),
            ("negatives", ("all", "seen")),
        ):
            value = getattr(self, key)
            if value not in choices:
                hint = did_you_mean(value, choices)
                raise InputError(f"model.{key}: expected one of {list(choices)} (got {value!r}).{hint}")
        for key in ("pair_counts", "common_neighbors"):
            if getattr(self, key) and self.link_loss == "all_cells":
                raise InputError(
                    f"model.{key}: counts have no norm over all cells, which link_loss = 'all_cells' sums over; choose "
                    "another model.link_loss"
                )
        for key in (
            "rank",
            "num_negatives",
            "hidden",
            "max_table_parameters",
            "feature_hidden",
            "cheb_order",
            "blocks",
        ):
            if getattr(self, key) < 1:
                raise InputError(f"model.{key}: expected a whole number of at least 1 (got {getattr(self, key)!r})")
        for key in ("unobserved", "smoothness", "l2", "n3", "table_l2", "steps"):
            if not 0 <= getattr(self, key) < math.inf:
                raise InputError(f"model.{key}: expected a number of at least 0 (got {getattr(self, key)!r})")
        for key in ("dropout", "context_dropout", "node_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise InputError(f"model.{key}: expected a number in [0, 1) (got {getattr(self, key)!r})")

        if self.context_dropout and (self.decoder.startswith("pairwise") or self.link_loss == "all_cells"):
            raise InputError(
                "model.context_dropout: it drops columns of a product in a loss against candidates: model.decoder must "
                f"be 'cp', 'cp_around_ones' or 'tucker' (got {self.decoder!r}), model.link_loss any but 'all_cells' "
                f"(got {self.link_loss!r})"
            )
        object.__setattr__(self, "predict", _slot_names(self.predict))
        object.__setattr__(self, "relation_weights", _weights(self.relation_weights))
        if self.predict and self.link_loss == "all_cells":
            raise InputError(
                "model.predict: 'all_cells' compares no items of a slot; leave it empty or choose another "
                "model.link_loss"
            )

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some values changed; unknown names raise :class:`InputError`."""
        check_keys(type(self), changes, "model")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a plain dict."""
        predict = {name: list(slots) for name, slots in self.predict.items()}
        return {**asdict(self), "predict": predict, "relation_weights": dict(self.relation_weights)}


def _weights(weights: Any) -> dict[str, float]:
    """Check the weights of relations."""
    if not isinstance(weights, Mapping):
        raise InputError(f"model.relation_weights: expected weights by relation, as {{made = 0.5}} (got {weights!r})")
    for relation, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            raise InputError(f"model.relation_weights.{relation}: expected a number of at least 0 (got {weight!r})")
    return {str(relation): float(weight) for relation, weight in weights.items()}


def _slot_names(predict: Any) -> dict[str, tuple[str, ...]]:
    """Bring the slots to predict to one form: relation -> names; a pair (modality, role) becomes ``modality.role``."""
    if not isinstance(predict, Mapping):
        raise InputError(f"model.predict: expected slots by relation, as {{made = ['artist']}} (got {predict!r})")
    out = {}
    for relation, slots in predict.items():
        named = [slots] if isinstance(slots, str) else slots
        named = [".".join(s) if isinstance(s, tuple) else s for s in named] if isinstance(named, Sequence) else []
        if not named or not all(isinstance(slot, str) for slot in named):
            raise InputError(
                f"model.predict.{relation}: expected the names of one or more slots (got {slots!r}); leave the "
                "relation out to predict all of them"
            )
        out[str(relation)] = tuple(dict.fromkeys(named))
    return out


def check_keys(config: type, values: Mapping[str, Any], section: str) -> None:
    """Check the names and the types of ``values`` against the fields of a config dataclass.

    Raises:
        InputError: an unknown name (with the closest known one), or a value of another type.
    """
    known = {field.name: str(field.type) for field in fields(config)}
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"{section}.{name} is unknown.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}"
            )
        wanted = known[name].split(" | ")
        kinds = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}
        allowed = tuple(kind for w in wanted for kind in kinds.get(w, (object,)))
        if not isinstance(value, allowed) or (isinstance(value, bool) and "bool" not in wanted):
            raise InputError(f"{section}.{name}: expected {known[name]} (got {value!r})")
