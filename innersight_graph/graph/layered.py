"""The graph of neurons: a frozen `networkx.DiGraph` whose edges are stored once, as one array per pair of layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from os import PathLike
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, TypeVar

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED, parse_json
from innersight_graph.graph.adjacency import Adjacency, Neighbours, NodeAtlas, NodeIndex
from innersight_graph.graph.blocks import Block, DenseBlock, ReadOnlyDict
from innersight_graph.graph.degrees import ArrayDegreeView, ArrayInDegreeView, ArrayOutDegreeView
from innersight_graph.graph.neuron import Layer, Neuron

__all__ = ["Layer", "LayeredDiGraph", "Neuron"]

Pair = tuple[str, str]
Matrix: TypeAlias = npt.NDArray[np.float32] | sparse.csr_array
T = TypeVar("T")

EDGE_KINDS = ("value", "gate")
# Resident bytes of one edge with attributes in a plain networkx.DiGraph, measured on a million edges.
PLAIN_BYTES_PER_EDGE = 371


def _refuse(*_: Any, **__: Any) -> NoReturn:
    """Raise NetworkXError: the graph is frozen."""
    raise nx.NetworkXError(
        "Frozen graph can't be modified: a LayeredDiGraph is read from its arrays. Work on G.copy() or "
        "G.to_networkx(), which are plain mutable graphs."
    )


class LayeredDiGraph(nx.DiGraph):  # type: ignore[misc]
    """A layered signed graph of neurons: a real, frozen `networkx.DiGraph` over arrays.

    Every NetworkX function that reads a DiGraph reads this one. Nodes carry ``layer``, ``index``, ``subset`` (the
    depth, what `networkx.multipartite_layout` reads), ``kind`` and whatever per-layer arrays were given; edges carry
    ``weight`` (signed), ``activation`` (its positive part), ``inhibition`` (its negative part, as a positive number)
    and ``kind``. All of them are made from the arrays when asked for. An absent edge is a zero.

    Make one with `from_arrays`, `from_networkx`, `load` or `innersight_graph.neuron_graph`; calling the class makes a
    plain mutable `networkx.DiGraph`, which is what NetworkX expects of ``G.__class__()``.

    Attributes
    ----------
    layers : tuple of Layer
        In order of depth.
    connections : mapping from (source, target) to array
        float32 of shape (n_source, n_target), dense or `scipy.sparse.csr_array`; read-only views, not copies.
    kinds : mapping from (source, target) to str
        ``"value"``, or ``"gate"`` for connections that multiply instead of adding; gates carry no activation or
        inhibition.
    node_attributes : mapping from layer name to {name: array of shape (width,)}

    Notes
    -----
    A dense connection costs nothing beyond its array, a sparse one twice its arrays once predecessors are read.
    A plain DiGraph with the same attributes costs about 371 bytes per edge.

    Examples
    --------
    >>> import networkx as nx, numpy as np
    >>> layers = [Layer("input", 0, 2, "input"), Layer("fc", 1, 2, "linear")]
    >>> G = LayeredDiGraph.from_arrays(layers, {("input", "fc"): np.array([[1.5, 0.0], [-2.0, 0.5]])})
    >>> G
    LayeredDiGraph(2 layers, 4 neurons, 3 edges)
    >>> G.edges[("input", 1), ("fc", 0)]["inhibition"]
    2.0
    >>> nx.is_directed_acyclic_graph(G), nx.is_frozen(G)
    (True, True)
    """

    node_dict_factory = NodeAtlas
    adjlist_outer_dict_factory = Adjacency
    adjlist_inner_dict_factory = Neighbours
    edge_attr_dict_factory = ReadOnlyDict
    layers: tuple[Layer, ...]
    connections: Mapping[Pair, Matrix]
    kinds: Mapping[Pair, str]
    node_attributes: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    _index: NodeIndex
    _blocks: Mapping[Pair, Block]
    _memory: dict[str, Any]

    # ------------------------------------------------------------------ making one

    def __new__(cls, incoming_graph_data: Any = None, **attributes: Any) -> Any:
        """Return a plain mutable DiGraph: NetworkX calls ``G.__class__()`` when it needs a graph to fill."""
        return nx.DiGraph(incoming_graph_data, **attributes)

    @classmethod
    def _build(
        cls,
        index: NodeIndex,
        blocks: Mapping[Pair, Block],
        arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]],
        graph: Mapping[str, Any],
        node_data: Sequence[ReadOnlyDict] | None = None,
    ) -> LayeredDiGraph:
        self: LayeredDiGraph = object.__new__(cls)
        self.graph = dict(graph)
        self.layers = index.layers
        self.connections = MappingProxyType(
            {p: b.weights if isinstance(b, DenseBlock) else b.matrix for p, b in blocks.items()}
        )
        self.kinds = MappingProxyType({pair: block.kind for pair, block in blocks.items()})
        self.node_attributes = MappingProxyType(
            {name: MappingProxyType(dict(values)) for name, values in arrays.items()}
        )
        self._index, self._blocks, self._node_data, self._memory = index, blocks, node_data, {}
        forward: list[dict[int, Block]] = [{} for _ in index.layers]
        backward: list[dict[int, Block]] = [{} for _ in index.layers]
        for (s, t), block in sorted(blocks.items(), key=lambda item: tuple(map(index.number, item[0]))):
            forward[index.number(s)][index.number(t)] = block
            backward[index.number(t)][index.number(s)] = block.transposed
        self._node = NodeAtlas(index, self.node_attributes, node_data)
        self._adj = Adjacency(index, forward)
        self._pred = Adjacency(index, backward)
        # No cache of conversions: ours costs nothing, and NetworkX warns at every use of a cached one.
        self.__networkx_cache__ = None
        self.frozen = True
        return self

    @classmethod
    def from_arrays(
        cls,
        layers: Iterable[Layer],
        connections: Mapping[Pair, Any],
        *,
        kinds: Mapping[Pair, str] | None = None,
        node_attributes: Mapping[str, Mapping[str, Any]] | None = None,
        nodes: Mapping[str, Sequence[Hashable]] | None = None,
        graph: Mapping[str, Any] | None = None,
    ) -> LayeredDiGraph:
        """Make a graph from one weight matrix per pair of layers.

        Parameters
        ----------
        layers : iterable of Layer
            Any order; the graph keeps them by depth.
        connections : mapping from (source, target) to array-like, shape (n_source, n_target)
            Signed weights, dense or any `scipy.sparse` format; float32 dense arrays are used as they are, without a
            copy.
        kinds : mapping from (source, target) to {"value", "gate"}, optional
            ``"value"`` where not given.
        node_attributes : mapping from layer name to {name: array-like of shape (width,)}, optional
            Shown as node attributes, e.g. ``silent``, ``head``.
        nodes : mapping from layer name to sequence, optional
            The user's own node ids; `Neuron(layer, index)` where not given.
        graph : mapping, optional
            Graph attributes.

        Returns
        -------
        LayeredDiGraph

        Raises
        ------
        GraphSchemaError
            Two layers of one name, a connection of an unknown layer or of the wrong shape, NaN or infinite weights.

        Examples
        --------
        >>> import numpy as np
        >>> layers = [Layer("a", 0, 3, "input"), Layer("b", 1, 2, "linear")]
        >>> LayeredDiGraph.from_arrays(layers, {("a", "b"): np.eye(3, 2)}).number_of_edges()
        2
        """
        from innersight_graph.graph.schema import check_arrays, check_connections, check_layers

        ordered = check_layers(layers)
        blocks = check_connections(ordered, connections, kinds or {})
        return cls._build(NodeIndex(ordered, nodes), blocks, check_arrays(ordered, node_attributes or {}), graph or {})

    @classmethod
    def from_networkx(cls, D: nx.Graph, *, weight: str = "weight") -> LayeredDiGraph:
        """Make a graph from any NetworkX graph.

        A directed graph whose nodes carry ``layer`` (or ``subset``) becomes layered; its edges must carry ``weight``.
        Any other graph becomes one layer named ``"graph"``; its missing weights count as 1, parallel edges are summed.
        Node ids, numeric and text node attributes and graph attributes are kept.

        Parameters
        ----------
        D : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
            Not changed and not referenced.
        weight : str, default "weight"
            The edge attribute that holds the signed weight.

        Returns
        -------
        LayeredDiGraph

        Raises
        ------
        GraphSchemaError
            Some nodes carry a layer and some do not, an edge of a layered graph has no weight, a weight is not a finite
            number.

        Examples
        --------
        >>> D = nx.DiGraph()
        >>> D.add_node("x", subset=0), D.add_node("y", subset=1), D.add_edge("x", "y", weight=-2)
        (None, None, None)
        >>> LayeredDiGraph.from_networkx(D).layers
        (Layer(name='0', depth=0, width=1, kind='unknown', ...), Layer(name='1', depth=1, ...))
        """
        from innersight_graph.graph.reading import read_networkx

        layers, connections, kinds, arrays, nodes, graph = read_networkx(D, weight)
        from innersight_graph.graph.schema import check_connections

        blocks = check_connections(layers, connections, kinds, keep_order=True)
        return cls._build(NodeIndex(layers, nodes), blocks, arrays, graph)

    def to_networkx(self, max_edges: int | None = 1_000_000) -> nx.DiGraph:
        """Return a plain mutable `networkx.DiGraph` with all attributes.

        Parameters
        ----------
        max_edges : int or None, default 1_000_000
            Refuse above this number of edges; None: never refuse.

        Returns
        -------
        networkx.DiGraph
            The layers' shapes and closing points stand in ``graph["layers"]`` as JSON text, so that files keep them.

        Raises
        ------
        InputError
            The graph has more edges; the message says how many gigabytes the plain graph would take.
        """
        edges = self.number_of_edges()
        if max_edges is not None and edges > max_edges:
            raise InputError(
                f"This graph has {edges:,} edges; as a plain networkx.DiGraph it would take about "
                f"{edges * PLAIN_BYTES_PER_EDGE / 1e9:.1f} GB, and the limit is max_edges={max_edges:,}. Pass a "
                "larger max_edges (or None), take G.subgraph(...) first, or stay on this graph: every NetworkX "
                "function reads it."
            )
        from innersight_graph.graph.schema import layers_to_json

        plain = self.copy()
        plain.graph.setdefault("layers", layers_to_json(self.layers))
        return plain

    # ------------------------------------------------------------------ arrays

    def layer(self, name: str) -> Layer:
        """Return the layer of that name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(repr(layer.name) for layer in self.layers)
        raise InputError(f"This graph has no layer {name!r}. Its layers are {known}; name one of them.")

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """Names of the layers between an input and an output; of a one-layer graph, its only layer."""
        if len(self.layers) == 1:
            return (self.layers[0].name,)
        sources = {s for s, t in self.connections if s != t}
        targets = {t for s, t in self.connections if s != t}
        return tuple(x.name for x in self.layers if x.kind != "input" and x.name in sources and x.name in targets)

    def incoming(self, name: str) -> tuple[str, ...]:
        """Return the names of the layers that feed a layer by value connections, in order of depth."""
        self.layer(name)
        return tuple(s.name for s in self.layers if self.kinds.get((s.name, name)) == "value")

    def outgoing(self, name: str) -> tuple[str, ...]:
        """Return the names of the layers a layer feeds by value connections, in order of depth."""
        self.layer(name)
        return tuple(t.name for t in self.layers if self.kinds.get((name, t.name)) == "value")

    def matrix(self, source: str, target: str) -> Matrix:
        """Return the weights from one layer to another, float32 (n_source, n_target), dense or CSR; read-only."""
        try:
            return self.connections[source, target]
        except KeyError:
            pairs = ", ".join(f"{s} → {t}" for s, t in self.connections)
            raise InputError(f"No connection {source} → {target} in this graph. It has: {pairs}.") from None

    def nodes_of(self, layer: str) -> list[Hashable]:
        """Return the node ids of a layer in index order."""
        self.layer(layer)
        return list(self._index.ids(self._index.number(layer)))

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """Return a value derived from this graph, computed once: the graph is frozen, so it cannot go stale."""
        if key not in self._memory:
            self._memory[key] = compute()
        value: T = self._memory[key]
        return value

    @property
    def fingerprint(self) -> str:
        """A digest of layers, node ids, node attributes and weights as they are stored; results carry it.

        Graphs that differ in any of these have different ones. Computed once, at about a gigabyte a second.
        """
        from innersight_graph.graph.storage import fingerprint

        return self.remember("fingerprint", lambda: fingerprint(self))

    @property
    def record(self) -> dict[str, Any]:
        """How `neuron_graph` made the graph: its options, the model's class, a digest of the data, versions.

        Kept as JSON in ``G.graph["record"]``, which NetworkX and the file formats carry along; empty for other graphs.
        """
        try:
            found = parse_json(self.graph.get("record", "{}"))
        except MALFORMED:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def has_derived_attributes(self) -> bool:
        """Whether edge attributes are made from the weights; a mirrored graph keeps whatever its edges carried."""
        return self._node_data is None

    # ------------------------------------------------------------------ what NetworkX asks of a graph

    def number_of_edges(self, u: Hashable = None, v: Hashable = None) -> int:
        """Return the number of edges, or of edges from u to v; constant time."""
        if u is not None:
            return int(self.has_edge(u, v))
        return sum(block.nnz for block in self._blocks.values())

    @cached_property
    def degree(self) -> ArrayDegreeView:
        """Degrees, with the interface of `networkx.DiGraph.degree`; those of all nodes come from the arrays at once."""
        return ArrayDegreeView(self)

    @cached_property
    def in_degree(self) -> ArrayInDegreeView:
        """In-degrees, likewise."""
        return ArrayInDegreeView(self)

    @cached_property
    def out_degree(self) -> ArrayOutDegreeView:
        """Out-degrees, likewise."""
        return ArrayOutDegreeView(self)

    def to_directed_class(self) -> type[nx.DiGraph]:
        """Return the class of a mutable directed copy."""
        return nx.DiGraph  # type: ignore[no-any-return]

    def to_undirected_class(self) -> type[nx.Graph]:
        """Return the class of an undirected copy."""
        return nx.Graph  # type: ignore[no-any-return]

    add_node = add_nodes_from = remove_node = remove_nodes_from = _refuse
    add_edge = add_edges_from = add_weighted_edges_from = remove_edge = remove_edges_from = _refuse
    clear = clear_edges = update = _refuse

    # ------------------------------------------------------------------ files and Python's own protocols

    def save(self, path: str | PathLike[str]) -> None:
        """Write the graph to one ``.npz`` file, without pickle; an interrupted write leaves the old file whole."""
        from innersight_graph.graph.storage import write_npz

        write_npz(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> LayeredDiGraph:
        """Read a graph written by `save`; nothing in the file is executed."""
        from innersight_graph.graph.storage import read_npz

        return read_npz(path)

    def __repr__(self) -> str:
        return f"LayeredDiGraph({len(self.layers)} layers, {len(self)} neurons, {self.number_of_edges()} edges)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (
            self._index,
            dict(self._blocks),
            {n: dict(v) for n, v in self.node_attributes.items()},
            self.graph,
            self._node_data,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> LayeredDiGraph:
        return _restore(self._index, self._blocks, self.node_attributes, deepcopy(self.graph, memo), self._node_data)


def _restore(*parts: Any) -> LayeredDiGraph:
    return LayeredDiGraph._build(*parts)
