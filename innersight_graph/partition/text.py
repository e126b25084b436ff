"""A partition as JSON text: the same partition always gives the same text."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innersight_graph.errors import InputError
from innersight_graph.graph.neuron import Neuron
from innersight_graph.graph.storage import decode_node, encode_node
from innersight_graph.partition.record import Partition, restore

__all__ = ["partition_text", "read_partition"]

Node = Hashable
FORMAT = "innersight-partition/1"


def partition_text(P: Partition) -> str:
    """Return the text of a partition: node ids once per layer, communities as positions."""
    position = {name: {node: i for i, node in enumerate(nodes)} for name, nodes in P.nodes.items()}
    record = {
        "format": FORMAT,
        "method": P.method,
        "params": _plain(P.params),
        "seed": P.seed,
        "layers": {name: _encoded(name, nodes) for name, nodes in P.nodes.items()},
        "communities": [
            {"name": name, "layer": layer, "neurons": sorted(position[layer][node] for node in community)}
            for name, layer, community in zip(P.names, P._layers, P.communities, strict=True)
        ],
        "stats": _plain(P.stats),
        "responsibilities": None if P.responsibilities is None else _plain(P.responsibilities),
    }
    return json.dumps(record, indent=1)


def read_partition(source: str | os.PathLike[str]) -> Partition:
    """Return the partition in a file, or in the text itself."""
    text = source if isinstance(source, str) and source.lstrip().startswith("{") else _read(Path(source))
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
        nodes = {name: _decoded(name, ids) for name, ids in record["layers"].items()}
        layers = tuple(entry["layer"] for entry in record["communities"])
        communities = tuple(frozenset(nodes[e["layer"]][i] for i in e["neurons"]) for e in record["communities"])
        shares = record["responsibilities"]
        if shares is not None:
            shares = {name: np.asarray(table, dtype=np.float64) for name, table in shares.items()}
        return restore(
            communities, record["method"], record["params"], record["seed"], record["stats"], shares, nodes, layers
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"This is not a partition of this package, or it is damaged ({type(error).__name__}: {error}). Write "
            "it again with P.to_json."
        ) from error


def _plain(value: Any) -> Any:
    """Return nested data as JSON holds it: no NumPy scalars, no tuples, text as keys, callables by name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple, range)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "__qualname__", type(value).__name__)


def _encoded(layer: str, nodes: Sequence[Node]) -> Any:
    """Return a layer's node ids, or only their number where they are the layer's own neurons."""
    if all(node == (layer, i) for i, node in enumerate(nodes)):
        return len(nodes)
    return [encode_node(node) for node in nodes]


def _decoded(layer: str, ids: Any) -> tuple[Node, ...]:
    if isinstance(ids, int):
        return tuple(Neuron(layer, i) for i in range(ids))
    return tuple(decode_node(node) for node in ids)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The partition {str(path)!r} cannot be read ({error}). Give a file written by P.to_json."
        ) from error
