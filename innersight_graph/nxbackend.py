"""The NetworkX backend ``innersight``: NetworkX functions on arrays, and our detectors as NetworkX dispatchables.

``nx.pagerank(G, weight="activation", backend="innersight")`` reads a LayeredDiGraph's arrays without a copy;
``nx.community.leiden_communities(H, backend="innersight")`` works on releases where NetworkX has only the name.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph._nxinfo import FUNCTIONS, detector_names
from innersight_graph.detection._layers import resolve_seed
from innersight_graph.detection._modular import SIGNS, Objective, objective
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.matrices import adjacency

__all__ = ["BackendInterface"]

Node = Hashable
Labels = npt.NDArray[np.intp]
STORED = ("weight", "activation", "inhibition")
# Up to this many stored entries NetworkX's own Louvain takes well under a second, and its partitions are kept.
SMALL = 20_000


class ArrayGraph:
    """A graph as this backend computes on it: its nodes in order, and one sparse matrix per edge attribute asked for.

    Parameters
    ----------
    graph : networkx.Graph
        A LayeredDiGraph's matrices are read from its arrays; any other graph's are made by NetworkX, once.
    """

    __networkx_backend__ = "innersight"

    def __init__(self, graph: nx.Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = list(graph)
        self.directed = bool(graph.is_directed())
        self._matrices: dict[str | None, sparse.csr_array] = {}

    def is_directed(self) -> bool:
        """Tell whether edges have a direction; NetworkX's own decorators ask."""
        return self.directed

    def is_multigraph(self) -> bool:
        """Tell whether parallel edges can exist; NetworkX's own decorators ask."""
        return bool(self.graph.is_multigraph())

    def __len__(self) -> int:
        return len(self.nodes)

    @functools.cached_property
    def number(self) -> dict[Node, int]:
        """Node → its row."""
        return {node: i for i, node in enumerate(self.nodes)}

    def matrix(self, weight: str | None) -> sparse.csr_array:
        """Return the adjacency matrix, float64, or int64 where weights are whole; an undirected one is symmetric."""
        if weight not in self._matrices:
            self._matrices[weight] = self._read(weight)
        return self._matrices[weight]

    def _read(self, weight: str | None) -> sparse.csr_array:
        if isinstance(self.graph, LayeredDiGraph) and self.graph.has_derived_attributes:
            known = weight in STORED
            return adjacency(self.graph, weight if known else None, dtype=np.float64 if known else np.int64)
        if len(self.nodes) == 0:
            return sparse.csr_array((0, 0), dtype=np.float64)
        try:
            return sparse.csr_array(nx.to_scipy_sparse_array(self.graph, weight=weight, backend="networkx"))
        except (TypeError, ValueError) as error:
            raise NotImplementedError(f"the edge attribute {weight!r} is not a number on every edge") from error


def _arrays(G: Any) -> ArrayGraph:
    if isinstance(G, LayeredDiGraph):
        return G.remember("nxbackend", lambda: ArrayGraph(G))
    return G if isinstance(G, ArrayGraph) else ArrayGraph(G)


# ---------------------------------------------------------------------- communities


def _refuse_signs(A: sparse.csr_array, weight: str | None, function: str, choices: str) -> None:
    if A.data.size and A.data.min() < 0:
        raise InputError(
            f"{function} was given negative weights ({weight!r}), for which its objective is not defined. Choose "
            f"{choices}."
        )


WHAT_TO_DO = (
    "sign='signed' (positive minus negative part), sign='positive' or sign='absolute', or the edge attribute "
    "weight='activation' or weight='inhibition'"
)


def _objective(
    G: Any, weight: str | None, resolution: float, sign: str | None, function: str
) -> tuple[ArrayGraph, Objective]:
    graph = _arrays(G)
    A = graph.matrix(weight)
    if sign is None:
        _refuse_signs(A, weight, function, WHAT_TO_DO)
    elif sign not in SIGNS:
        raise InputError(f"sign={sign!r} is unknown. Use one of {', '.join(map(repr, SIGNS))}.")
    if not graph.directed:
        # A loop counts twice in an undirected degree.
        A = A + sparse.diags_array(A.diagonal(), dtype=A.dtype)
    return graph, objective(A, sign or "positive", directed=graph.directed, resolution=resolution)


def _as_sets(graph: ArrayGraph, labels: Labels) -> list[set[Node]]:
    """Return communities by size, then first member, so that their order depends on the partition alone."""
    members: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(i)
    ordered = sorted(members.values(), key=lambda found: (-len(found), found[0]))
    return [{graph.nodes[i] for i in found} for found in ordered]


def _check_level(max_level: int | None) -> None:
    if max_level is not None and max_level <= 0:
        raise ValueError("max_level argument must be a positive integer or None")


def _last(levels: Iterator[list[set[Node]]], max_level: int | None) -> list[set[Node]]:
    _check_level(max_level)
    found: list[set[Node]] = []
    for number, level in enumerate(levels, start=1):
        found = level
        if number == max_level:
            break
    return found


def louvain_partitions(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    threshold: float = 1e-7,
    seed: Any = None,
    *,
    sign: str | None = None,
) -> Iterator[list[set[Node]]]:
    """Yield the partition of each Louvain level until modularity gains no more than the threshold."""
    graph, target = _objective(G, weight, resolution, sign, "Louvain")
    if sign is None and graph.matrix(None).nnz <= SMALL:
        yield from nx.community.louvain_partitions(graph.graph, weight, resolution, threshold, seed, backend="networkx")
        return
    reached = target.value(np.arange(len(graph), dtype=np.intp))
    for labels in _louvain_labels(target, resolve_seed(seed)):
        yield _as_sets(graph, labels)
        value = target.value(labels)
        if value - reached <= threshold:
            return
        reached = value


def _louvain_labels(target: Objective, seed: int) -> Iterator[Labels]:
    from innersight_graph.detection._handover import igraph_levels
    from innersight_graph.detection.louvain import louvain_levels

    if target.directed or len(target.parts) > 1:
        return louvain_levels(target, np.random.default_rng(seed))
    try:
        return igraph_levels(target, seed)
    except MissingExtraError:
        return louvain_levels(target, np.random.default_rng(seed))


def louvain_communities(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    threshold: float = 1e-7,
    max_level: int | None = None,
    seed: Any = None,
    *,
    sign: str | None = None,
) -> list[set[Node]]:
    """Return the last level of `louvain_partitions`, or level ``max_level``."""
    return _last(louvain_partitions(G, weight, resolution, threshold, seed, sign=sign), max_level)


def leiden_partitions(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    seed: Any = None,
    *,
    metric: str = "modularity",
    theta: float = 0.01,
    sign: str | None = None,
) -> Iterator[list[set[Node]]]:
    """Yield the partition of each Leiden level; ``theta`` is accepted for newer releases, leidenalg chooses its own."""
    from innersight_graph.detection.leiden import leiden_levels

    graph, target = _objective(G, weight, resolution, sign, "Leiden")
    for labels in leiden_levels(target, resolve_seed(seed) >> 1, metric):
        yield _as_sets(graph, labels)


def leiden_communities(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    max_level: int | None = None,
    seed: Any = None,
    *,
    metric: str = "modularity",
    theta: float = 0.01,
    sign: str | None = None,
) -> list[set[Node]]:
    """Return the last level of `leiden_partitions`, or level ``max_level``."""
    levels = leiden_partitions(G, weight, resolution, seed, metric=metric, theta=theta, sign=sign)
    return _last(levels, max_level)


def modularity(
    G: Any,
    communities: Iterable[Collection[Node]],
    weight: str | None = "weight",
    resolution: float = 1,
    *,
    sign: str | None = None,
) -> float:
    """Return the modularity of a partition; with ``sign="signed"`` that of Gómez, Jensen & Arenas (2009)."""
    graph, target = _objective(G, weight, resolution, sign, "modularity")
    found = [set(community) for community in communities]
    labels = np.full(len(graph), -1, dtype=np.intp)
    for k, community in enumerate(found):
        labels[[graph.number[node] for node in community if node in graph.number]] = k
    if sum(map(len, found)) != len(graph) or (labels < 0).any():
        raise nx.community.quality.NotAPartition(graph.graph, found)
    if not any(A.nnz for A, _ in target.parts):
        raise ZeroDivisionError("division by zero: the graph has no weight, so its modularity is not defined")
    return target.value(labels)


# ---------------------------------------------------------------------- matrices


def to_scipy_sparse_array(
    G: Any,
    nodelist: Collection[Node] | None = None,
    dtype: Any = None,
    weight: str | None = "weight",
    format: str = "csr",
) -> Any:
    """Return the adjacency matrix as a SciPy sparse array."""
    graph = _arrays(G)
    A = _selected(graph, nodelist, weight)
    if dtype is not None:
        A = A.astype(dtype)
    try:
        return A.asformat(format, copy=True)
    except ValueError as error:
        raise nx.NetworkXError(f"Unknown sparse matrix format: {format}") from error


def _selected(graph: ArrayGraph, nodelist: Collection[Node] | None, weight: str | None) -> sparse.csr_array:
    if len(graph) == 0:
        raise nx.NetworkXError("Graph has no nodes or edges")
    A = graph.matrix(weight)
    if nodelist is None:
        return A
    chosen = list(nodelist)
    if not chosen:
        raise nx.NetworkXError("nodelist has no nodes")
    if len(set(chosen)) < len(chosen):
        raise nx.NetworkXError("nodelist contains duplicates.")
    strangers = {node for node in chosen if node not in graph.number}
    if strangers:
        raise nx.NetworkXError(f"Nodes {strangers} in nodelist is not in G")
    rows = [graph.number[node] for node in chosen]
    return A[rows][:, rows]


def to_numpy_array(
    G: Any,
    nodelist: Collection[Node] | None = None,
    dtype: Any = None,
    order: Any = None,
    multigraph_weight: Any = sum,
    weight: str | None = "weight",
    nonedge: float = 0.0,
) -> npt.NDArray[Any]:
    """Return the adjacency matrix as a NumPy array, ``nonedge`` where there is no edge."""
    graph = _arrays(G)
    if len(graph) == 0 and not nodelist:
        return np.zeros((0, 0), dtype=dtype, order=order)
    entries = sparse.coo_array(_selected(graph, nodelist, weight))
    table = np.full(entries.shape, nonedge, dtype=dtype, order=order)
    table[entries.row, entries.col] = entries.data
    return table


# ---------------------------------------------------------------------- degrees and reciprocity


def _degree_share(counts: npt.NDArray[np.intp], graph: ArrayGraph) -> dict[Node, float]:
    if len(graph) <= 1:
        return dict.fromkeys(graph.nodes, 1)
    scale = 1.0 / (len(graph) - 1.0)
    return {node: count * scale for node, count in zip(graph.nodes, counts.tolist(), strict=True)}


def _counts(graph: ArrayGraph) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the numbers of outgoing and of incoming edges of every node."""
    A = graph.matrix(None)
    ones = A.data.astype(np.int64)
    rows = np.repeat(np.arange(len(graph)), np.diff(A.indptr))
    out = np.bincount(rows, weights=ones, minlength=len(graph)).astype(np.intp)
    return out, np.bincount(A.indices, weights=ones, minlength=len(graph)).astype(np.intp)


def degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's degree over the number of other nodes; a loop counts twice."""
    graph = _arrays(G)
    out, into = _counts(graph)
    loops = graph.matrix(None).diagonal().astype(np.intp)
    return _degree_share(out + into if graph.directed else out + loops, graph)


def in_degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's number of incoming edges over the number of other nodes."""
    graph = _arrays(G)
    return _degree_share(_counts(graph)[1], graph)


def out_degree_centrality(G: Any) -> dict[Node, float]:
    """Return each node's number of outgoing edges over the number of other nodes."""
    graph = _arrays(G)
    return _degree_share(_counts(graph)[0], graph)


def overall_reciprocity(G: Any) -> float:
    """Return the share of edges whose reverse is an edge."""
    graph = _arrays(G)
    A = graph.matrix(None)
    if A.nnz == 0:
        raise nx.NetworkXError("Not defined for empty graphs")
    both = int((A != 0).multiply((A != 0).T).sum())
    # A loop is its own reverse, but not a pair of edges.
    return float((both - int((A.diagonal() != 0).sum())) / A.nnz)


def reciprocity(G: Any, nodes: Any = None) -> float | dict[Node, float | None]:
    """Return the overall reciprocity, or each given node's; None for a node without edges."""
    graph = _arrays(G)
    if nodes is None:
        return overall_reciprocity(graph)
    A = (graph.matrix(None) != 0).astype(np.int64)
    mutual = np.asarray(A.multiply(A.T).sum(axis=1)).ravel().tolist()
    out, into = _counts(graph)
    total = (out + into).tolist()
    one = isinstance(nodes, Hashable) and nodes in graph.number
    share = {n: 2 * mutual[i] / total[i] if total[i] else None for n, i in _wanted(graph, [nodes] if one else nodes)}
    if one and share[nodes] is None:
        raise nx.NetworkXError("Not defined for isolated nodes.")
    return share[nodes] if one else share  # type: ignore[return-value]


def _wanted(graph: ArrayGraph, nodes: Iterable[Node]) -> Iterator[tuple[Node, int]]:
    return ((node, graph.number[node]) for node in nodes if node in graph.number)


def number_of_selfloops(G: Any) -> int:
    """Return the number of edges from a node to itself."""
    return int(_arrays(G).matrix(None).diagonal().sum())


def is_negatively_weighted(G: Any, edge: Any = None, weight: str = "weight") -> bool:
    """Tell whether any edge, or one edge, has a negative weight."""
    A = _arrays(G).matrix(weight)
    return bool(A.data.size and A.data.min() < 0)


# ---------------------------------------------------------------------- PageRank


def pagerank(
    G: Any,
    alpha: float = 0.85,
    personalization: Mapping[Node, float] | None = None,
    max_iter: int = 100,
    tol: float = 1e-6,
    nstart: Mapping[Node, float] | None = None,
    weight: str | None = "weight",
    dangling: Mapping[Node, float] | None = None,
) -> dict[Node, float]:
    """Return the PageRank of every node by power iteration, as `networkx.pagerank` defines it."""
    graph = _arrays(G)
    n = len(graph)
    if n == 0:
        return {}
    A = graph.matrix(weight).astype(np.float64)
    _refuse_signs(A, weight, "PageRank", "weight='activation', weight='inhibition' or weight=None")
    strength = np.asarray(A.sum(axis=1)).ravel()
    sinks = np.flatnonzero(strength == 0)
    step = sparse.csr_array(sparse.diags_array(1.0 / np.where(strength == 0, 1.0, strength)) @ A).T.tocsr()
    uniform = np.full(n, 1.0 / n)
    jump = uniform if personalization is None else _distribution(graph, personalization)
    x = uniform if nstart is None else _distribution(graph, nstart)
    sink_target = jump if dangling is None else _distribution(graph, dangling)
    for _ in range(max_iter):
        before = x
        x = alpha * (step @ x + x[sinks].sum() * sink_target) + (1.0 - alpha) * jump
        if np.abs(x - before).sum() < n * tol:
            return dict(zip(graph.nodes, x.tolist(), strict=True))
    raise nx.PowerIterationFailedConvergence(max_iter)


def _distribution(graph: ArrayGraph, values: Mapping[Node, float]) -> npt.NDArray[np.float64]:
    given = np.array([values.get(node, 0.0) for node in graph.nodes], dtype=np.float64)
    if given.sum() == 0:
        raise ZeroDivisionError("the given values of the nodes sum to zero")
    return np.asarray(given / given.sum())


# ---------------------------------------------------------------------- our detectors as dispatchables


def _dispatchable(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return NetworkX's decorator for functions other packages may implement, or nothing where it is gone.

    Its name has an underscore: NetworkX promises it to nobody, so this is the one place that uses it.
    """
    try:
        decorator = nx._dispatchable
    except AttributeError:
        return lambda function: function
    keep = {"preserve_edge_attrs": True, "preserve_node_attrs": True, "preserve_graph_attrs": True}
    found: Callable[[Callable[..., Any]], Callable[..., Any]] = decorator(name=name, **keep)
    return found


def _detector(method: str) -> Callable[..., Any]:
    """Return a detector as a pure function from a graph to a list of sets, without a ``backend`` of its own."""
    detect = getattr(importlib.import_module(f"innersight_graph.detection.{method}"), f"{method}_communities")
    communities: Any = _pure(detect)
    signature = inspect.signature(detect)
    own = [parameter for name, parameter in signature.parameters.items() if name != "backend"]
    communities.__signature__ = signature.replace(parameters=own)
    # NetworkX compiles the decorated function with these, not with the defaults of the signature.
    communities.__defaults__ = detect.__defaults__
    communities.__kwdefaults__ = {k: v for k, v in (detect.__kwdefaults__ or {}).items() if k != "backend"}
    communities.__name__ = communities.__qualname__ = f"innersight_{method}_communities"
    communities.__module__ = __name__
    found: Callable[..., Any] = communities
    return found


def _pure(detect: Callable[..., Any]) -> Callable[..., list[set[Node]]]:
    @functools.wraps(detect)
    def communities(G: Any, *args: Any, **options: Any) -> list[set[Node]]:
        graph = G.graph if isinstance(G, ArrayGraph) else G
        return [set(community) for community in detect(graph, *args, **options)]

    return communities


_DETECTORS = {f"innersight_{method}_communities": _detector(method) for method in detector_names()}
globals().update({name: _dispatchable(name)(function) for name, function in _DETECTORS.items()})


# ---------------------------------------------------------------------- what NetworkX calls


class BackendInterface:
    """The object NetworkX's dispatcher talks to; one attribute per function this backend implements."""

    @staticmethod
    def convert_from_nx(graph: Any, **_: Any) -> Any:
        """Return a graph this backend computes on: a LayeredDiGraph as it is, any other with room for its matrices."""
        return graph if isinstance(graph, LayeredDiGraph) else ArrayGraph(graph)

    @staticmethod
    def convert_to_nx(obj: Any, **_: Any) -> Any:
        """Return a NetworkX graph for a graph of this backend, and anything else as it is."""
        return obj.graph if isinstance(obj, ArrayGraph) else obj

    @staticmethod
    def can_run(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | str:
        """Return True, or why this call cannot run here."""
        if name == "is_negatively_weighted" and (len(args) > 1 or kwargs.get("edge") is not None):
            return "one edge is looked up faster in the graph itself"
        if name == "to_numpy_array":
            return _plain_numbers(*args, **kwargs)
        return True

    @staticmethod
    def should_run(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | str:
        """Return True, or why converting a graph for this call would gain nothing."""
        graph = args[0] if args else kwargs.get("G")
        if isinstance(graph, (LayeredDiGraph, ArrayGraph)) or name.startswith(("leiden", "louvain", "innersight")):
            return True
        return "making the matrix of a plain graph takes longer than the function itself"


def _plain_numbers(
    G: Any,
    nodelist: Any = None,
    dtype: Any = None,
    order: Any = None,
    multigraph_weight: Any = sum,
    weight: Any = "weight",
    nonedge: Any = 0.0,
) -> bool | str:
    """Return True if `to_numpy_array` is asked for one number per edge, else why not."""
    graph = G.graph if isinstance(G, ArrayGraph) else G
    if dtype is not None and np.dtype(dtype).fields is not None:
        return "an array of several attributes is made by NetworkX"
    if graph.is_multigraph() and multigraph_weight is not sum:
        return "only the sum of parallel edges is read from the matrix"
    return True


for _name in FUNCTIONS:
    setattr(BackendInterface, _name, staticmethod(globals()[_name]))
for _name, _function in _DETECTORS.items():
    setattr(BackendInterface, _name, staticmethod(_function))
