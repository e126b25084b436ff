"""A graph as one ``.npz`` file: arrays as arrays, everything else as one JSON text, no pickle; and its record."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED, MAX_TEXT_BYTES, check_source, check_unpacked, parse_json, whole_file
from innersight_graph.graph.schema import layers_from_json, layers_to_json
from innersight_graph.provenance import digest, environment

if TYPE_CHECKING:
    from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["MAX_NEURONS", "decode_node", "encode_node", "fingerprint", "read_npz", "write_npz"]

FORMAT = "innersight-graph/1"
# A layer is written as one number, so that a short file can name any number of neurons: more than this are refused,
# and more than the file has bytes.
MAX_NEURONS = 10_000_000


def encode_node(node: Any) -> Any:
    """Return a node id as JSON: text, numbers and None as they are, tuples as lists."""
    if isinstance(node, tuple):
        return [encode_node(part) for part in node]
    if isinstance(node, np.generic):
        return node.item()
    if node is None or isinstance(node, (str, int, float, bool)):
        return node
    raise InputError(
        f"The node id {node!r} ({type(node).__name__}) cannot be written to a file. Rename the nodes to text, numbers "
        "or tuples of them, for example with networkx.relabel_nodes."
    )


def decode_node(value: Any) -> Any:
    """Return the node id written by `encode_node`."""
    return tuple(decode_node(part) for part in value) if isinstance(value, list) else value


def fingerprint(G: LayeredDiGraph) -> str:
    """Return the digest of a graph's content; ids and attributes that no file can hold count by their type only."""
    connections = sorted((*pair, G.kinds[pair]) for pair in G.connections)
    attributes = {
        layer: [
            (name, str(values[name].dtype) if values[name].dtype.hasobject else values[name]) for name in sorted(values)
        ]
        for layer, values in G.node_attributes.items()
    }
    ids = {name: [_lasting(node) for node in given] for name, given in G._index.own_ids.items()}
    weights = [(connection, G.connections[connection[:2]]) for connection in connections]
    return str(digest([layers_to_json(G.layers), weights, attributes, ids]))


def _lasting(node: Any) -> Any:
    """Return a node id as it is written, or the name of its type: a `repr` may hold an address or a set's order."""
    try:
        return encode_node(node)
    except InputError:
        return type(node).__qualname__


def write_npz(G: LayeredDiGraph, path: str | os.PathLike[str]) -> None:
    """Write a graph; the file appears whole or not at all."""
    from innersight_graph.graph.streams import repeated_readings

    arrays: dict[str, npt.NDArray[Any]] = {}
    connections = []
    first = repeated_readings(G)
    numbers = {pair: number for number, pair in enumerate(G.connections)}
    for number, (pair, weights) in enumerate(G.connections.items()):
        record = {"source": pair[0], "target": pair[1], "kind": G.kinds[pair], "sparse": sparse.issparse(weights)}
        connections.append(record)
        if pair in first:
            # A stream's readers have one array for all its writers; it is written once.
            record["stored"] = numbers[first[pair], pair[1]]
            continue
        parts = (
            {"": weights} if not record["sparse"] else {p: getattr(weights, p) for p in ("data", "indices", "indptr")}
        )
        arrays.update({f"connection{number}{part}": array for part, array in parts.items()})
    attributes: list[list[str]] = []
    for layer, values in G.node_attributes.items():
        for name, array in values.items():
            if array.dtype.hasobject:
                raise InputError(
                    f"The node attribute {name!r} of layer {layer!r} holds Python objects, which are not written to "
                    "files. Give numbers, truth values or text."
                )
            arrays[f"attribute{len(attributes)}"] = array
            attributes.append([layer, name])
    try:
        manifest = json.dumps(
            {
                "format": FORMAT,
                "layers": json.loads(layers_to_json(G.layers)),
                "connections": connections,
                "attributes": attributes,
                "nodes": {name: [encode_node(node) for node in ids] for name, ids in G._index.own_ids.items()},
                "graph": G.graph,
            }
        )
    except TypeError as error:
        raise InputError(
            f"A graph attribute cannot be written as JSON ({error}). Remove it from G.graph or make it text or numbers."
        ) from error
    # Not read back: what it says of the content, the content says; it is there for who has the file only.
    origin = json.dumps({"graph": G.fingerprint, "made": G.record, **environment()}, sort_keys=True)
    texts = {"manifest": np.array(manifest), "record": np.array(origin)}
    with whole_file(path, "graph") as temporary, temporary.open("wb") as file:
        np.savez(file, **{**texts, **arrays})  # type: ignore[arg-type]


def read_npz(path: str | os.PathLike[str]) -> LayeredDiGraph:
    """Read a graph written by `write_npz`; the file is data only, nothing in it is executed."""
    from innersight_graph.graph.layered import LayeredDiGraph

    source = check_source(path, "graph")
    try:
        arrays = _read_arrays(source)
        if arrays["manifest"].nbytes > 4 * MAX_TEXT_BYTES:
            raise ValueError(f"its manifest has {arrays['manifest'].nbytes:,} bytes")
        manifest = parse_json(str(arrays["manifest"]))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        layers = layers_from_json(json.dumps(manifest["layers"]))
        most = max(MAX_NEURONS, source.stat().st_size)
        if sum(layer.width for layer in layers) > most:
            raise ValueError(f"its layers have more than {most:,} neurons")
        return LayeredDiGraph._build(*_parts(layers, manifest, arrays))
    except MALFORMED as error:
        raise InputError(
            f"{str(path)!r} is not a graph file of this package, or it is damaged ({type(error).__name__}: {error}). "
            "Write it again with G.save."
        ) from error


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    check_unpacked(path)
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return dict(file)


def _parts(layers: list[Any], manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[Any, ...]:
    from innersight_graph.graph.adjacency import NodeIndex
    from innersight_graph.graph.schema import check_arrays, check_connections, check_layers

    ordered = check_layers(layers)
    width = {layer.name: layer.width for layer in ordered}
    connections, kinds = {}, {}
    for number, record in enumerate(manifest["connections"]):
        pair = (record["source"], record["target"])
        kinds[pair] = record["kind"]
        name = f"connection{record.get('stored', number)}"
        if record["sparse"]:
            parts = tuple(arrays[name + part] for part in ("data", "indices", "indptr"))
            matrix = sparse.csr_array(parts, shape=(width[pair[0]], width[pair[1]]))
            # Without this, indices beyond the shape would be read from memory that is not the array's.
            matrix.check_format(full_check=True)
            connections[pair] = matrix
        else:
            connections[pair] = arrays[name]
    attributes: dict[str, dict[str, Any]] = {}
    for number, (layer, name) in enumerate(manifest["attributes"]):
        attributes.setdefault(layer, {})[name] = arrays[f"attribute{number}"]
    nodes = {name: [decode_node(node) for node in ids] for name, ids in manifest["nodes"].items()}
    if not isinstance(manifest["graph"], dict):
        raise TypeError("its graph attributes are not a mapping")
    blocks = check_connections(ordered, connections, kinds, keep_order=True)
    return NodeIndex(ordered, nodes), blocks, check_arrays(ordered, attributes), manifest["graph"]
