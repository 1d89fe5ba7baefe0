from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hyperlearn_pyg._io import atomic_path, load_torch, save_torch
from hyperlearn_pyg.data import MultiModalHeteroData
from hyperlearn_pyg.errors import InputError, did_you_mean
from hyperlearn_pyg.nn.decoder import KruskalDecoder, LevelDecoder
from hyperlearn_pyg.nn.models.build import make_decoder
from hyperlearn_pyg.nn.models.config import ModelConfig
from hyperlearn_pyg.nn.models.hyperlearn import HyperLearn
from hyperlearn_pyg.nn.models.inputs import RelationSpec
from hyperlearn_pyg.nn.models.rows import slot_rows

MODEL_FILE = "model.pt"
_FORMAT = 1


@dataclass
class Run:
    """A finished training run as it lies in a directory: everything to score tuples and to find neighbours.

    Attributes:
        path: the directory.
        config: how the model was made.
        relations: what the model knows of each relation.
        decoders: the decoder of each relation.
        factors: for each modality ``[N, R + number of its relations]``: factors, then biases.
        ids: for each modality the ids of its items.
        names: for each modality the names of its items; the ids where there are none.
    """

    path: Path
    config: ModelConfig
    relations: dict[str, RelationSpec]
    decoders: dict[str, KruskalDecoder]
    factors: dict[str, Tensor]
    ids: dict[str, list[str]]
    names: dict[str, list[str]]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Read a directory that ``hyperlearn fit`` wrote.

        Raises:
            InputError: there is no run, or a file of it is missing, damaged or of another model.
        """
        path = Path(path)
        state = _load(path / MODEL_FILE)
        try:
            config = ModelConfig(**state["config"])
            relations = {
                name: RelationSpec(
                    tuple(r["modalities"]), tuple(r["sizes"]), r["has_value"], tuple(r["boundaries"]), tuple(r["slots"])
                )
                for name, r in state["relations"].items()
            }
            decoders = {name: make_decoder(spec, config) for name, spec in relations.items()}
            for name, decoder in decoders.items():
                decoder.load_state_dict(state["decoders"][name])
        except (RuntimeError, KeyError, TypeError, InputError) as error:
            raise InputError(f"'{path / MODEL_FILE}' is that of another model: {error}") from error
        ids, names = {}, {}
        for modality, factors in state["factors"].items():
            table = _read_embeddings(path / "embeddings" / embedding_file(modality))
            if "id" not in table.column_names:
                raise InputError(f"'{path / 'embeddings' / embedding_file(modality)}' has no column 'id': train again")
            ids[modality] = [str(v) for v in table["id"].to_pylist()]
            names[modality] = (
                [str(v) for v in table["name"].to_pylist()] if "name" in table.column_names else ids[modality]
            )
            if len(ids[modality]) != len(factors):
                raise InputError(
                    f"'{path}': model and embeddings differ, {len(factors)} and {len(ids[modality])} items of "
                    f"'{modality}': one of the files is of another run"
                )
        return cls(path, config, relations, decoders, state["factors"], ids, names)

    @torch.no_grad()
    def score(self, relation: str, index: Tensor) -> Tensor:
        """Score tuples ``[k, E]``: values, or logits of a 0/1 relation. Returns ``[E]``."""
        decoder, spec = self.decoders[relation], self.relations[relation]
        rank, bias = self.config.rank, decoder.bias
        rows = [
            slot_rows(self.factors[m], self.relations, relation, slot, rank=rank, bias=bias)
            for slot, m in enumerate(spec.modalities)
        ]
        out: Tensor = decoder.predict(rows, index)
        return out

    def find(self, modality: str, item: str) -> int:
        """Return the row of an item, by its id or else its name (any case; a unique beginning will do).

        Raises:
            InputError: no such modality or item, or several items of that name.
        """
        if modality not in self.ids:
            raise InputError(self._no_modality(modality))
        if item in self.ids[modality]:
            return self.ids[modality].index(item)
        names = [name.casefold() for name in self.names[modality]]
        for matches in (
            [i for i, name in enumerate(names) if name == item.casefold()],
            [i for i, name in enumerate(names) if name.startswith(item.casefold())],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                some = ", ".join(f"{self.ids[modality][i]} ({self.names[modality][i]})" for i in matches[:3])
                raise InputError(f"{item!r} fits {len(matches)} items of '{modality}', such as {some}: give the id")
        hint = did_you_mean(item, [*self.ids[modality], *self.names[modality]])
        hint = hint or f" Its ids look like {', '.join(map(repr, self.ids[modality][:3]))}"
        raise InputError(f"no item {item!r} in '{modality}', neither as id nor as name.{hint}")

    def neighbors(self, modality: str, item: int, to: str | None = None, k: int = 10) -> list[tuple[int, float]]:
        """Return the ``k`` items nearest to an item, with their scores, best first.

        Within a modality: cosine similarity of the factors; the item itself is left out. Across modalities: the inner
        product of the factors, weighted column by column as the first relation that holds both modalities does with
        the other slots at the mean of their columns.
        """
        to = to or modality
        for name in (modality, to):
            if name not in self.factors:
                raise InputError(self._no_modality(name))
        scores = self._cosine(modality, item) if to == modality else self._across(modality, item, to)
        best = scores.topk(min(k, int((scores > -torch.inf).sum())))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def _no_modality(self, name: str) -> str:
        known = ", ".join(map(repr, self.factors))
        return f"no modality {name!r} in this run.{did_you_mean(name, self.factors)} It has: {known}"

    def _cosine(self, modality: str, item: int) -> Tensor:
        table = torch.nn.functional.normalize(self.factors[modality][:, : self.config.rank], dim=1)
        scores = table @ table[item]
        scores[item] = -torch.inf
        return scores

    @torch.no_grad()
    def _across(self, modality: str, item: int, to: str) -> Tensor:
        for name, spec in self.relations.items():
            if modality in spec.modalities and to in spec.modalities:
                decoder = self.decoders[name]
                zero = [torch.zeros(n, 1) for n in spec.sizes]  # the biases would name the same items for everyone
                plain = [self.factors[m][:, : self.config.rank] for m in spec.modalities]
                rows = [torch.cat([p, z], dim=1) if decoder.bias else p for p, z in zip(plain, zero, strict=True)]
                columns = decoder.all_columns(rows)
                own, other = spec.modalities.index(modality), spec.modalities.index(to)
                weight = columns[own][item].clone()
                if isinstance(decoder, LevelDecoder):
                    weight *= decoder.trend()
                for slot, column in enumerate(columns):
                    if slot not in (own, other):
                        weight *= column.mean(0)
                return columns[other] @ weight
        raise InputError(f"no relation holds both '{modality}' and '{to}': nothing compares their items")


def save_model(path: Path, model: HyperLearn, factors: Mapping[str, Tensor]) -> None:
    """Write the weights, and what :meth:`Run.load` needs to score without the data."""
    state = {
        "format": _FORMAT,
        "config": model.config.to_dict(),
        "relations": {
            name: {
                "modalities": list(spec.modalities),
                "sizes": list(spec.sizes),
                "has_value": spec.has_value,
                "boundaries": list(spec.boundaries),
                "slots": list(spec.slots),
            }
            for name, spec in model.relations.items()
        },
        "decoders": {name: model.decoders[name].state_dict() for name in model.relations},
        "factors": {name: table.detach().float().cpu() for name, table in factors.items()},
        "model": model.state_dict(),
    }
    save_torch(state, path)


def save_embeddings(folder: Path, data: MultiModalHeteroData, model: HyperLearn, factors: Mapping[str, Tensor]) -> None:
    """Write ``<modality>.parquet`` for every modality: ``id``, ``name`` where items have one, ``vector``."""
    folder.mkdir(exist_ok=True)
    for modality, table in factors.items():
        vectors = table[:, : model.rank].detach().float().cpu().contiguous()
        flat = pa.array(vectors.numpy().reshape(-1), type=pa.float32())
        columns: dict[str, Any] = {"id": pa.array(item_texts(data, modality, "item_id"), type=pa.string())}
        if "item_name" in data[modality]:
            columns["name"] = pa.array(item_texts(data, modality, "item_name"), type=pa.string())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, model.rank)
        with atomic_path(folder / embedding_file(modality)) as temporary:
            pq.write_table(pa.table(columns), temporary)


def embedding_file(modality: str) -> str:
    """Return the file name of a modality's embeddings; characters that no file name should hold are quoted."""
    return f"{quote(modality, safe=' ')}.parquet"


def item_texts(data: MultiModalHeteroData, modality: str, key: str) -> list[str]:
    """Return an attribute of a modality's items as texts; their numbers where it is missing."""
    values: Sequence[Any] = data[modality].get(key, range(int(data[modality].num_nodes)))
    return [str(value) for value in values]


def save_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON with two spaces of indent, whole or not at all; numbers that are not finite become null."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    from hyperlearn_pyg import __version__

    packages = ("torch", "torch_geometric", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
    return {"hyperlearn_pyg": __version__, "python": platform.python_version(), **{p: version(p) for p in packages}}


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"'{path}' is missing: name a directory that 'hyperlearn fit' has written to the end")
    return load_torch(path, _FORMAT, {"decoders", "factors"}, "model", "name another directory or train again")


def _read_embeddings(path: Path) -> pa.Table:
    if not path.is_file():
        raise InputError(f"'{path}' is missing: train again, or copy the whole directory of the run")
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"'{path}' is damaged ({error}): train again") from error
