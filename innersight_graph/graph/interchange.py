"""From and to the formats other tools speak."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import networkx as nx
import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.files import (
    MALFORMED,
    MAX_TEXT_BYTES,
    check_source,
    check_target,
    parse_json,
    read_text,
    whole_file,
)
from innersight_graph.graph.layered import LayeredDiGraph

__all__ = ["as_layered", "edge_arrays", "read_graph", "to_igraph", "to_pandas_edgelist", "write_graph"]

# Graph formats nest a handful of elements; programs that read deeper nesting run out of stack, or drop what is inside.
DEEPEST = 100
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_layered(G: Any) -> LayeredDiGraph:
    """Return G as a LayeredDiGraph: itself, or a layered DiGraph read, or any NetworkX graph as one layer.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        A directed graph whose nodes carry ``layer`` or ``subset`` is read as layered; any other graph is one layer
        named ``"graph"`` with the connection ``("graph", "graph")``, and ``G.graph["directed"]`` tells which kind it
        came from.

    Returns
    -------
    LayeredDiGraph
        The same object if G is one already.

    Raises
    ------
    GraphSchemaError
        G is not a graph, or a layered graph lacks layers or weights.

    Examples
    --------
    >>> import networkx as nx
    >>> K = as_layered(nx.karate_club_graph())
    >>> K.hidden_layers, K.graph["directed"], as_layered(K) is K
    (('graph',), False, True)
    """
    return G if isinstance(G, LayeredDiGraph) else LayeredDiGraph.from_networkx(G)


# ---------------------------------------------------------------------- files


def write_graph(G: Any, path: str | PathLike[str], *, max_edges: int | None = 1_000_000) -> None:
    """Write a graph to a file; the suffix names the format.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    path : path
        ``.npz`` (arrays, any size), ``.graphml``, ``.gexf`` or ``.json`` (node-link data). The file appears whole or
        not at all.
    max_edges : int or None, default 1_000_000
        Text formats refuse above this number of edges.

    Raises
    ------
    InputError
        An unknown suffix, a folder that does not exist, or too many edges.
    """
    layered, target = as_layered(G), Path(path)
    suffix = _known_suffix(target)
    check_target(target, "graph")
    if suffix == ".npz":
        layered.save(target)
        return
    plain = layered.to_networkx(max_edges)
    with whole_file(target, "graph") as temporary:
        try:
            _WRITERS[suffix](plain, temporary)
        except (nx.NetworkXError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This graph cannot be written as {suffix[1:]} ({error}). Rename the node or attribute, remove it, or "
                "write the graph as .npz."
            ) from error


def read_graph(path: str | PathLike[str]) -> LayeredDiGraph:
    """Read a graph written by `write_graph`, or a layered graph another program wrote in one of these formats.

    Parameters
    ----------
    path : path
        ``.npz``, ``.graphml``, ``.gexf`` or ``.json``.

    Returns
    -------
    LayeredDiGraph
        Node ids that say ``layer:index`` become `Neuron` again.

    Raises
    ------
    InputError
        No such file, an unknown suffix, or a damaged file.
    GraphSchemaError
        The graph lacks layers or weights.
    """
    source = Path(path)
    suffix = _known_suffix(source)
    if suffix == ".npz":
        return LayeredDiGraph.load(source)
    check_source(source, "graph", MAX_TEXT_BYTES)
    try:
        graph = _READERS[suffix](source)
    except (nx.NetworkXError, expat.ExpatError, *MALFORMED) as error:
        raise InputError(
            f"{str(source)!r} cannot be read as {suffix[1:]} ({error}). Write it again with write_graph."
        ) from error
    return LayeredDiGraph.from_networkx(graph)


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".npz", *_WRITERS):
        raise InputError(
            f"The file name {path.name!r} ends in {suffix!r}; one of .npz, {', '.join(_WRITERS)} was expected, as the "
            "ending names the format."
        )
    return suffix


def _check_xml(graph: nx.DiGraph) -> None:
    """Raise ValueError on text that XML cannot hold, which one of the libraries below writes nevertheless."""
    for node, data in graph.nodes(data=True):
        for text in (str(node), *filter(lambda value: isinstance(value, str), data.values())):
            if NOT_XML.search(text):
                raise ValueError(f"the node {node!r} has a control character, for which XML has no place")


def _write_graphml(graph: nx.DiGraph, path: Path) -> None:
    _check_xml(graph)
    nx.write_graphml(graph, path)


def _check_source_xml(path: Path) -> None:
    """Raise ValueError on an XML file that no graph writer makes.

    A document type's entities can expand without end or name other files; of nodes with the same id all but one would
    be lost without a word.
    """
    depth, nodes = 0, set()

    def refuse(*_: Any) -> NoReturn:
        raise ValueError("it has a document type definition, which graphs do not need and attacks use")

    def enter(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"its elements are nested more than {DEEPEST} deep")
        if name.rpartition(":")[2] == "node":
            if attributes.get("id") in nodes:
                raise ValueError(f"two of its nodes have the id {attributes['id']!r}")
            nodes.add(attributes.get("id"))

    def leave(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    with path.open("rb") as file:
        parser.ParseFile(file)


def _read_graphml(path: Path) -> nx.DiGraph:
    _check_source_xml(path)
    graph = nx.read_graphml(path)
    # NetworkX adds the format's own defaults as graph attributes.
    for name in ("node_default", "edge_default"):
        graph.graph.pop(name, None)
    return graph


def _write_json(graph: nx.DiGraph, path: Path) -> None:
    path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")), encoding="utf-8")


def _read_json(path: Path) -> nx.DiGraph:
    record = parse_json(read_text(path, "graph"))
    if not isinstance(record.get("graph", {}), dict):
        raise ValueError(f"its entry 'graph' is {record['graph']!r}; a mapping of attributes was expected")
    graph = nx.node_link_graph(record, edges="edges")
    if len(graph) != len(record["nodes"]):
        raise ValueError("two of its nodes have one id, or an edge names a node that is not there")
    return graph


def _write_gexf(graph: nx.DiGraph, path: Path) -> None:
    # GEXF keeps the attribute name "kind" of an edge for itself, and has no graph attributes.
    _check_xml(graph)
    named = graph.copy()
    for _, _, data in named.edges(data=True):
        data["connection"] = data.pop("kind")
    nx.write_gexf(named, path)


def _read_gexf(path: Path) -> nx.DiGraph:
    _check_source_xml(path)
    graph = nx.read_gexf(path)
    for _, _, data in graph.edges(data=True):
        data["kind"] = data.pop("connection", "value")
    return graph


_WRITERS = {".graphml": _write_graphml, ".gexf": _write_gexf, ".json": _write_json}
_READERS = {".graphml": _read_graphml, ".gexf": _read_gexf, ".json": _read_json}


# ---------------------------------------------------------------------- other libraries


def to_igraph(G: Any, *, signed: bool = True) -> Any:
    """Return the graph as a directed `igraph.Graph`.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    signed : bool, default True
        Whether ``weight`` keeps its sign; False gives its size, for algorithms that take no negative weights.
        ``activation`` and ``inhibition`` are there in both cases.

    Returns
    -------
    igraph.Graph
        Vertices in the graph's node order with ``name`` (text), ``layer``, ``index``, ``subset``, ``kind`` and
        per-layer attributes; edges with ``weight``, ``activation``, ``inhibition``, ``kind``. Undirected if G came from
        an undirected graph.

    Raises
    ------
    MissingExtraError
        igraph is not installed.

    Examples
    --------
    >>> import networkx as nx
    >>> to_igraph(nx.path_graph(3)).is_directed()
    False
    """
    try:
        import igraph
    except ImportError:
        raise MissingExtraError("igraph", "leiden", "to_igraph") from None
    layered = as_layered(G)
    table = edge_arrays(layered)
    directed = layered.graph.get("directed") is not False
    kept = np.ones(len(table["weight"]), dtype=bool) if directed else table["source"] <= table["target"]
    pairs = np.stack([table["source"], table["target"]], axis=1)[kept]
    graph = igraph.Graph(n=len(layered), edges=pairs.tolist(), directed=directed)
    data = [dict(attributes) for attributes in layered._node.values()]
    names = dict.fromkeys(name for attributes in data for name in attributes)
    for name in names:
        graph.vs[name] = [attributes.get(name) for attributes in data]
    graph.vs["name"] = [str(node) for node in layered]
    for name in ("weight", "activation", "inhibition", "kind"):
        values = table[name] if signed or name != "weight" else np.abs(table[name])
        graph.es[name] = values[kept].tolist()
    return graph


def to_pandas_edgelist(G: Any) -> Any:
    """Return the edges as a `pandas.DataFrame`: source, target, weight, activation, inhibition, kind.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph

    Returns
    -------
    pandas.DataFrame
        One row per edge in the order of the arrays; source and target are the graph's own node ids.

    Raises
    ------
    MissingExtraError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtraError("pandas", "pandas", "to_pandas_edgelist") from None
    layered = as_layered(G)
    nodes = np.empty(len(layered), dtype=object)
    nodes[:] = list(layered)
    table = edge_arrays(layered)
    ends = {end: nodes[table[end]].tolist() for end in ("source", "target")}
    return pd.DataFrame(
        {
            **{name: pd.Series(ids, dtype=object) for name, ids in ends.items()},
            **{k: table[k] for k in table if k not in ends},
        }
    )


def edge_arrays(G: Any) -> dict[str, npt.NDArray[Any]]:
    """Return all edges as arrays: source and target (positions in node order), weight, activation, inhibition, kind.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph

    Returns
    -------
    dict of ndarray, shape (n_edges,)
        int64 positions, float64 weights, kinds as text.

    Examples
    --------
    >>> import networkx as nx
    >>> edge_arrays(nx.DiGraph([(0, 1)]))["weight"].tolist()
    [1.0]
    """
    layered = as_layered(G)
    starts = np.cumsum([0, *(layer.width for layer in layered.layers)]).tolist()
    start = {layer.name: first for layer, first in zip(layered.layers, starts, strict=False)}
    parts: dict[str, list[npt.NDArray[Any]]] = {"source": [], "target": [], "weight": [], "kind": []}
    for (source, target), block in layered._blocks.items():
        rows, columns, weights = block.triples()
        parts["source"].append(rows.astype(np.int64) + start[source])
        parts["target"].append(columns.astype(np.int64) + start[target])
        parts["weight"].append(weights.astype(np.float64))
        parts["kind"].append(np.full(len(weights), block.kind))
    empty = {"source": np.int64, "target": np.int64, "weight": np.float64, "kind": str}
    table = {name: np.concatenate(found) if found else np.zeros(0, empty[name]) for name, found in parts.items()}
    value = np.where(table["kind"] == "value", table["weight"], 0.0)
    kind = table.pop("kind")
    return {**table, "activation": np.maximum(value, 0.0), "inhibition": np.maximum(-value, 0.0), "kind": kind}
