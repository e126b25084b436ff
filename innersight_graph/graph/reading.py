"""Reading a plain NetworkX graph, from wherever it comes, into layers, weight matrices, node ids and attributes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import GraphSchemaError
from innersight_graph.files import MALFORMED
from innersight_graph.graph.neuron import Layer, Neuron
from innersight_graph.graph.schema import RESERVED, layers_from_json

__all__ = ["read_networkx"]

Arrays = dict[str, dict[str, npt.NDArray[Any]]]
Read = tuple[
    tuple[Layer, ...],
    dict[tuple[str, str], Any],
    dict[tuple[str, str], str],
    Arrays,
    dict[str, list[Hashable]],
    dict[str, Any],
]
# A connection filled to this share is smaller as a matrix (4 bytes a cell) than as compressed rows (8 bytes an edge).
DENSE_SHARE = 0.5


def read_networkx(D: nx.Graph, weight: str) -> Read:
    """Return (layers, connections, kinds, node arrays, node ids, graph attributes) of any NetworkX graph."""
    if not isinstance(D, nx.Graph):
        raise GraphSchemaError(
            f"A graph was expected and {type(D).__name__} came. Pass a LayeredDiGraph (from neuron_graph, from_arrays "
            "or load) or any NetworkX graph."
        )
    if len(D) == 0:
        raise GraphSchemaError("The graph has no nodes. Pass a graph with at least one node.")
    key = _layer_key(D)
    return _read_one_layer(D, weight) if key is None else _read_layered(D, key, weight)


def _layer_key(D: nx.Graph) -> str | None:
    """Return the node attribute that names the layer of every node, or None for a graph without layers."""
    if not D.is_directed():
        return None
    for key in ("layer", "subset"):
        with_key = [node for node, data in D.nodes(data=True) if key in data]
        if len(with_key) == len(D):
            return key
        if key == "layer" and with_key:
            without = next(node for node, data in D.nodes(data=True) if key not in data)
            raise GraphSchemaError(
                f"{len(with_key)} of {len(D)} nodes carry the attribute 'layer'; node {without!r} does not. Give "
                "every node a layer, or none of them."
            )
    return None


# ---------------------------------------------------------------------- a graph without layers


def _read_one_layer(D: nx.Graph, weight: str) -> Read:
    nodes = list(D)
    number = {node: i for i, node in enumerate(nodes)}
    entries = [
        (number[u], number[v], _number(data.get(weight, 1.0), u, v, weight)) for u, v, data in D.edges(data=True)
    ]
    if not D.is_directed():
        entries = [*entries, *((j, i, w) for i, j, w in entries if i != j)]
    layer = Layer("graph", 0, len(nodes), "graph")
    graph = {**D.graph, "directed": D.is_directed()}
    connections = {("graph", "graph"): _matrix(entries, (len(nodes), len(nodes)))}
    return (layer,), connections, {}, {"graph": _node_arrays(D, nodes)}, {"graph": nodes}, graph


# ---------------------------------------------------------------------- a graph with layers


def _read_layered(D: nx.DiGraph, key: str, weight: str) -> Read:
    members: dict[Any, list[Hashable]] = {}
    for node, data in D.nodes(data=True):
        if data[key] is None or isinstance(data[key], (dict, list, set)):
            raise GraphSchemaError(
                f"The node {node!r} has {key}={data[key]!r}. Name the layers by text or number them, so that neurons "
                "can share one."
            )
        members.setdefault(data[key], []).append(node)
    place: dict[Hashable, tuple[str, int]] = {}
    layers = _layers(D, members)
    nodes: dict[str, list[Hashable]] = {}
    for layer, value in layers:
        nodes[layer.name] = _in_order(D, layer.name, members[value])
        place.update({node: (layer.name, i) for i, node in enumerate(nodes[layer.name])})
    entries: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    kinds: dict[tuple[str, str], str] = {}
    for u, v, data in D.edges(data=True):
        if weight not in data:
            raise GraphSchemaError(
                f"The edge {u!r} → {v!r} has no attribute {weight!r}; a layered graph of neurons needs a signed "
                "weight on every edge. Set it, name the attribute that holds it with weight=, or remove the layer "
                "attributes to study the plain graph."
            )
        pair = (place[u][0], place[v][0])
        entries.setdefault(pair, []).append((place[u][1], place[v][1], _number(data[weight], u, v, weight)))
        kind = data.get("kind", "value")
        kinds[pair] = "gate" if kind == "gate" else "value"
    width = {layer.name: layer.width for layer, _ in layers}
    connections = {pair: _compact(_matrix(found, (width[pair[0]], width[pair[1]]))) for pair, found in entries.items()}
    arrays = {name: _node_arrays(D, ids) for name, ids in nodes.items()}
    ids = {name: [_as_neuron(node, name, i) for i, node in enumerate(found)] for name, found in nodes.items()}
    graph = {name: value for name, value in D.graph.items() if name != "layers"}
    return tuple(layer for layer, _ in layers), connections, kinds, arrays, ids, graph


def _layers(D: nx.DiGraph, members: Mapping[Any, list[Hashable]]) -> list[tuple[Layer, Any]]:
    """Return (layer, its value in the graph), in order of depth."""
    remembered = _remembered_layers(D, members)
    depth = _depths(D, members)
    found = []
    for value, nodes in members.items():
        known = remembered.get(str(value))
        if known is None:
            kind = str(D.nodes[nodes[0]].get("kind", "unknown"))
            known = Layer(str(value), depth[value], len(nodes), kind)
        found.append((known, value))
    if len({layer.name for layer, _ in found}) < len(found):
        raise GraphSchemaError(
            "Two layers of the graph have the same name as text. Name the layers by different strings."
        )
    return sorted(found, key=lambda item: item[0].depth)


def _remembered_layers(D: nx.DiGraph, members: Mapping[Any, list[Hashable]]) -> dict[str, Layer]:
    """Return the layers as `to_networkx` wrote them, where they still describe this graph."""
    text = D.graph.get("layers")
    if not isinstance(text, str):
        return {}
    try:
        layers = layers_from_json(text)
    except GraphSchemaError:
        return {}
    except MALFORMED:
        return {}
    width = {str(value): len(nodes) for value, nodes in members.items()}
    return {layer.name: layer for layer in layers if width.get(layer.name) == layer.width}


def _depths(D: nx.DiGraph, members: Mapping[Any, list[Hashable]]) -> dict[Any, int]:
    """Return each layer's depth: its ``subset``, else its own number, its place in the flow, its place in the file."""
    subsets = {value: [D.nodes[node].get("subset") for node in nodes] for value, nodes in members.items()}
    if all(_is_integer(found[0]) and all(depth == found[0] for depth in found) for found in subsets.values()):
        return {value: int(found[0]) for value, found in subsets.items()}
    if all(_is_integer(value) for value in members):
        return {value: int(value) for value in members}
    home = {node: value for value, nodes in members.items() for node in nodes}
    flow = nx.DiGraph()
    flow.add_nodes_from(members)
    flow.add_edges_from({(home[u], home[v]): None for u, v in D.edges() if home[u] != home[v]})
    if nx.is_directed_acyclic_graph(flow):
        return {value: depth for depth, level in enumerate(nx.topological_generations(flow)) for value in level}
    return {value: depth for depth, value in enumerate(members)}


def _in_order(D: nx.DiGraph, name: str, nodes: list[Hashable]) -> list[Hashable]:
    """Return the nodes of a layer by their ``index``; in the graph's order where it is missing."""
    indices = [D.nodes[node].get("index") for node in nodes]
    if any(index is None for index in indices):
        return nodes
    if any(not _is_integer(index) for index in indices) or len(set(indices)) < len(indices):
        raise GraphSchemaError(
            f"The 'index' attributes of layer {name!r} are not different whole numbers. Number its neurons 0, 1, 2, "
            "…, or remove 'index'."
        )
    return [node for _, node in sorted(zip(indices, nodes, strict=True), key=lambda item: item[0])]


def _as_neuron(node: Hashable, layer: str, index: int) -> Hashable:
    """Return the `Neuron` a file format wrote as text or as a tuple; any other id as it is."""
    neuron = Neuron(layer, index)
    return neuron if node in (neuron, str(neuron)) else node


# ---------------------------------------------------------------------- values


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _number(value: Any, u: Hashable, v: Hashable, weight: str) -> float:
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise GraphSchemaError(
            f"The edge {u!r} → {v!r} has {weight}={repr(value)[:40]}. A finite number was expected; set it or "
            "remove the edge."
        )
    return number


def _matrix(entries: Sequence[tuple[int, int, float]], shape: tuple[int, int]) -> sparse.csr_array:
    """Return compressed rows in the order the edges came; parallel edges are summed, zeros stay edges."""
    summed: dict[tuple[int, int], float] = {}
    for i, j, w in entries:
        summed[i, j] = summed.get((i, j), 0.0) + w
    rows = np.fromiter((i for i, _ in summed), dtype=np.int32, count=len(summed))
    columns = np.fromiter((j for _, j in summed), dtype=np.int32, count=len(summed))
    weights = np.fromiter(summed.values(), dtype=np.float32, count=len(summed))
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=shape[0]))))
    return sparse.csr_array((weights[order], columns[order], indptr), shape=shape)


def _compact(matrix: sparse.csr_array) -> Any:
    """Return the smaller of the two forms; an edge of weight zero exists only in the sparse one."""
    if matrix.nnz < DENSE_SHARE * matrix.shape[0] * matrix.shape[1] or not matrix.data.all():
        return matrix
    return matrix.toarray()


def _node_arrays(D: nx.Graph, nodes: Sequence[Hashable]) -> dict[str, npt.NDArray[Any]]:
    """Return the attributes every node of a layer carries as numbers, truth values or text, one array each."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name in D.nodes[nodes[0]]:
        if name in RESERVED or not isinstance(name, str):
            continue
        values = [D.nodes[node].get(name) for node in nodes]
        kinds = {type(value) for value in values}
        if len(kinds) == 1 and issubclass(kinds.pop(), (bool, int, float, str, np.number, np.bool_)):
            arrays[name] = np.asarray(values)
    return arrays
