"""A partition as JSON text: the same partition always gives the same text."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED, parse_json, read_text
from innersight_graph.graph.neuron import Neuron
from innersight_graph.graph.storage import MAX_NEURONS, decode_node, encode_node
from innersight_graph.partition.record import Partition, restore

__all__ = ["partition_text", "plain", "read_partition"]

Node = Hashable
FORMAT = "innersight-partition/1"


def partition_text(P: Partition) -> str:
    """Return the text of a partition: node ids once per layer, communities as positions."""
    position = {name: {node: i for i, node in enumerate(nodes)} for name, nodes in P.nodes.items()}
    record = {
        "format": FORMAT,
        "method": P.method,
        "params": plain(P.params),
        "seed": P.seed,
        "record": plain(P.record),
        "layers": {name: _encoded(name, nodes) for name, nodes in P.nodes.items()},
        "communities": [
            {"name": name, "layer": layer, "neurons": sorted(position[layer][node] for node in community)}
            for name, layer, community in zip(P.names, P._layers, P.communities, strict=True)
        ],
        "stats": plain(P.stats),
        "responsibilities": None if P.responsibilities is None else plain(P.responsibilities),
    }
    return json.dumps(record, indent=1)


def read_partition(source: str | os.PathLike[str]) -> Partition:
    """Return the partition in a file, or in the text itself."""
    text = source if isinstance(source, str) and source.lstrip().startswith("{") else read_text(source, "partition")
    try:
        record = parse_json(text)
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r}")
        nodes = _nodes(record["layers"])
        layers = tuple(entry["layer"] for entry in record["communities"])
        communities = _communities(record["communities"], nodes)
        shares = record["responsibilities"]
        if shares is not None:
            shares = {name: _table(table, len(nodes[name]), layers.count(name)) for name, table in shares.items()}
        _check_about(record, layers)
        about = (record["method"], record["params"], record["seed"], record["stats"])
        # Written by hand or by an earlier version, a partition may have no record.
        return restore(communities, *about, shares, nodes, layers, record.get("record", {}))
    except MALFORMED as error:
        raise InputError(
            f"This is not a partition of this package, or it is damaged ({type(error).__name__}: {error}). Write it "
            "again with P.to_json."
        ) from error


def _nodes(layers: Mapping[str, Any]) -> dict[str, tuple[Node, ...]]:
    """Return the node ids of every layer; a short text must not ask for memory without end."""
    numbers = [ids if isinstance(ids, int) else len(ids) for ids in layers.values()]
    if sum(numbers) > MAX_NEURONS or min(numbers, default=1) < 1:
        raise ValueError(f"its layers have {numbers} neurons; 1 to {MAX_NEURONS:,} were expected")
    nodes = {name: _decoded(name, ids) for name, ids in layers.items()}
    if len(set().union(*nodes.values())) < sum(numbers):
        raise ValueError("a node id occurs twice")
    return nodes


def _communities(entries: Sequence[Any], nodes: Mapping[str, tuple[Node, ...]]) -> tuple[frozenset[Node], ...]:
    """Return the communities, which must not be empty nor share neurons, by layer in the order of the layers."""
    depth = [list(nodes).index(entry["layer"]) for entry in entries]
    if depth != sorted(depth):
        raise ValueError("its communities are not in the order of the layers")
    taken: set[tuple[str, int]] = set()
    communities = []
    for entry in entries:
        ids, members = nodes[entry["layer"]], entry["neurons"]
        if not members or any(type(i) is not int or not 0 <= i < len(ids) for i in members):
            raise ValueError(f"the neurons {str(members)[:60]} of a community are not in its layer {entry['layer']!r}")
        before = len(taken)
        taken.update((entry["layer"], i) for i in members)
        if len(taken) < before + len(members):
            raise ValueError(f"a neuron of layer {entry['layer']!r} is in two communities")
        communities.append(frozenset(ids[i] for i in members))
    return tuple(communities)


def _table(values: Any, n_neurons: int, n_communities: int) -> npt.NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != n_neurons or table.shape[1] < n_communities or not np.isfinite(table).all():
        raise ValueError(f"its responsibilities have shape {table.shape}, or are not finite")
    return table


def _check_about(record: Mapping[str, Any], layers: Sequence[str]) -> None:
    """Raise ValueError unless method, seed, params and stats are what a partition has."""
    seed, stats = record["seed"], record["stats"]
    if not isinstance(record["method"], str) or not isinstance(record["params"], dict):
        raise ValueError("its method is not text or its params are not a mapping")
    if not isinstance(record.get("record", {}), dict):
        raise ValueError("its record is not a mapping")
    if seed is not None and type(seed) is not int:
        raise ValueError(f"its seed is {seed!r}")
    for layer, about in stats.items():
        silent = about.get("silent")
        if silent is not None and (type(silent) is not int or layer not in layers[silent : silent + 1]):
            raise ValueError(f"its silent community {silent!r} is not one of layer {layer!r}")


def plain(value: Any) -> Any:
    """Return nested data as JSON holds it: no NumPy scalars, no tuples, text as keys, callables by name."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
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
