"""Partition: communities of neurons in a fixed order, with how they were found; and how alike two partitions are."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.storage import decode_node, encode_node

__all__ = ["Agreement", "Partition", "agreement", "align", "as_partition"]

Node = Hashable
Labels = npt.NDArray[np.intp]
FORMAT = "innersight-partition/1"


@dataclass(frozen=True, eq=False, repr=False)
class Partition(Sequence[frozenset[Node]]):
    """Communities of neurons: a sequence of frozensets of the graph's own nodes, each within one layer.

    Make one with a detector, or with `from_labels` or `from_communities`.

    Attributes
    ----------
    communities : tuple of frozenset
        By depth of their layer, then size descending, then the least node in the graph's order.
    method : str
        The detector's name.
    params : mapping
        Its options.
    seed : int or None
    stats : mapping from layer name to dict
        What the detector measured there; wall times are not part of it, so equal runs give equal files.
    responsibilities : mapping from layer name to ndarray of shape (n_neurons, n_communities), or None
        Columns in the order of `labels`.
    nodes : mapping from layer name to tuple
        All layers of the graph and their nodes in order, by which a partition knows its graph.

    Examples
    --------
    >>> import networkx as nx
    >>> P = Partition.from_labels(nx.path_graph(4), {"graph": [1, 1, 1, 0]}, method="by hand")
    >>> P
    Partition(2 communities of 4 of 4 neurons, method='by hand')
    >>> P.labels("graph"), P.names
    (array([0, 0, 0, 1]), ('graph/c0', 'graph/c1'))
    """

    communities: tuple[frozenset[Node], ...]
    method: str
    params: Mapping[str, Any]
    seed: int | None
    stats: Mapping[str, Mapping[str, Any]]
    responsibilities: Mapping[str, npt.NDArray[np.float64]] | None
    nodes: Mapping[str, tuple[Node, ...]]
    _layers: tuple[str, ...] = field(default=())

    # ------------------------------------------------------------------ making one

    @classmethod
    def from_labels(
        cls,
        G: Any,
        labels: Mapping[str, npt.ArrayLike],
        *,
        method: str,
        params: Mapping[str, Any] | None = None,
        seed: int | None = None,
        stats: Mapping[str, Mapping[str, Any]] | None = None,
        responsibilities: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Partition:
        """Make a partition from one community number per neuron.

        Parameters
        ----------
        G : LayeredDiGraph or networkx graph
        labels : mapping from layer name to array of int, shape (n_neurons,)
            Any non-negative numbers; -1 where a neuron is in no community. Layers left out are not partitioned.
        method, params, seed, stats
            Kept as they are.
        responsibilities : mapping from layer name to array, shape (n_neurons, n_communities), optional
            Column k belongs to label k; columns are reordered with the communities, those without a member come last.

        Returns
        -------
        Partition

        Raises
        ------
        InputError
            An unknown layer, or labels or responsibilities of the wrong shape.
        """
        G = as_layered(G)
        nodes = {layer.name: tuple(G.nodes_of(layer.name)) for layer in G.layers}
        found: dict[str, Labels] = {}
        orders: dict[str, Labels] = {}
        for name, given in labels.items():
            width = G.layer(name).width
            found[name], orders[name] = _canonical(_checked_labels(given, name, width))
        shares = None
        if responsibilities is not None:
            shares = {name: _reordered(table, orders[name], name, len(nodes[name])) for name, table in responsibilities.items()}
        communities, layers = [], []
        for name in (name for name in nodes if name in found):
            for k in range(found[name].max(initial=-1) + 1):
                communities.append(frozenset(nodes[name][i] for i in np.flatnonzero(found[name] == k).tolist()))
                layers.append(name)
        return cls(
            tuple(communities), method, MappingProxyType(dict(params or {})), seed, MappingProxyType(dict(stats or {})),
            None if shares is None else MappingProxyType(shares), MappingProxyType(nodes), tuple(layers),
        )  # fmt: skip

    @classmethod
    def from_communities(cls, G: Any, communities: Iterable[Iterable[Node]], *, method: str = "given", **about: Any) -> Partition:
        """Make a partition from sets of nodes, such as NetworkX's community functions return.

        Parameters
        ----------
        G : LayeredDiGraph or networkx graph
        communities : iterable of iterables of nodes
            Disjoint; a set that spans layers is cut into its parts, one per layer.
        method, **about
            ``method``, ``params``, ``seed`` and ``stats`` as in `from_labels`.

        Returns
        -------
        Partition

        Raises
        ------
        InputError
            A node that is not in G, or one that is in two communities.
        """
        G = as_layered(G)
        place = {node: (layer.name, i) for layer in G.layers for i, node in enumerate(G.nodes_of(layer.name))}
        labels: dict[str, Labels] = {}
        for k, community in enumerate(communities):
            for node in community:
                if node not in place:
                    raise InputError(
                        f"The node {node!r} of community {k} is not in the graph: this is a partition of another graph. "
                        "Pass the graph it was made from."
                    )
                name, i = place[node]
                row = labels.setdefault(name, np.full(G.layer(name).width, -1, dtype=np.intp))
                if row[i] not in (-1, k):
                    raise InputError(f"The node {node!r} is in communities {row[i]} and {k}. Communities must be disjoint.")
                row[i] = k
        return cls.from_labels(G, labels, method=method, **about)

    # ------------------------------------------------------------------ reading one

    @property
    def names(self) -> tuple[str, ...]:
        """The communities' names: layer, then number within the layer, or ``silent`` for neurons that never fire."""
        names, number = [], -1
        for i, layer in enumerate(self._layers):
            number = number + 1 if i and self._layers[i - 1] == layer else 0
            silent = self.stats.get(layer, {}).get("silent") == i
            names.append(f"{layer}/silent" if silent else f"{layer}/c{number}")
        return tuple(names)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that have communities, in order of depth."""
        return tuple(dict.fromkeys(self._layers))

    def layer_of(self, community: int) -> str:
        """Return the name of the layer of a community."""
        return self._layers[community]

    def labels(self, layer: str) -> Labels:
        """Return the community number of every neuron of a layer in the graph's order: 0 to k - 1, -1 where unassigned."""
        if layer not in self.nodes:
            raise InputError(f"This partition knows no layer {layer!r}; its graph has {', '.join(map(repr, self.nodes))}.")
        position = {node: i for i, node in enumerate(self.nodes[layer])}
        labels = np.full(len(position), -1, dtype=np.intp)
        for k, i in enumerate(i for i, name in enumerate(self._layers) if name == layer):
            labels[[position[node] for node in self.communities[i]]] = k
        return labels

    def restrict(self, layer: str) -> Partition:
        """Return the partition of one layer alone."""
        self.labels(layer)
        kept = [i for i, name in enumerate(self._layers) if name == layer]
        stats = {}
        if layer in self.stats:
            stats[layer] = dict(self.stats[layer])
            silent = stats[layer].get("silent")
            if silent is not None:
                stats[layer]["silent"] = kept.index(silent)
        shares = None if self.responsibilities is None else {k: v for k, v in self.responsibilities.items() if k == layer}
        return Partition(
            tuple(self.communities[i] for i in kept), self.method, self.params, self.seed, MappingProxyType(stats),
            None if shares is None else MappingProxyType(shares), self.nodes, (layer,) * len(kept),
        )  # fmt: skip

    def cover(self, G: Any) -> list[frozenset[Node]]:
        """Return the communities and, for each layer, one more of its unassigned neurons: every node exactly once.

        NetworkX's measures (`networkx.community.modularity`, …) accept nothing less.
        """
        self.check(G)
        assigned = frozenset().union(*self.communities) if self.communities else frozenset()
        rest = [frozenset(node for node in nodes if node not in assigned) for nodes in self.nodes.values()]
        return [*self.communities, *(community for community in rest if community)]

    def check(self, G: Any) -> None:
        """Raise InputError unless this is a partition of G."""
        G = as_layered(G)
        theirs = {layer.name: tuple(G.nodes_of(layer.name)) for layer in G.layers}
        if theirs != self.nodes:
            mine = ", ".join(f"{name} ({len(nodes)})" for name, nodes in self.nodes.items())
            other = ", ".join(f"{name} ({len(nodes)})" for name, nodes in theirs.items())
            raise InputError(
                f"This is a partition of another graph: it knows the layers {mine}, and the graph has {other}, or names its nodes "
                "differently. Pass the graph it was made from, or detect communities again."
            )

    # ------------------------------------------------------------------ a sequence of sets

    @overload
    def __getitem__(self, item: int) -> frozenset[Node]: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[frozenset[Node], ...]: ...
    def __getitem__(self, item: int | slice) -> frozenset[Node] | tuple[frozenset[Node], ...]:
        return self.communities[item]

    def __len__(self) -> int:
        return len(self.communities)

    def __iter__(self) -> Iterator[frozenset[Node]]:
        return iter(self.communities)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Partition):
            return NotImplemented
        return self.communities == other.communities and self._layers == other._layers and self.nodes == other.nodes

    def __hash__(self) -> int:
        return hash(self.communities)

    def __repr__(self) -> str:
        assigned, known = sum(map(len, self.communities)), sum(map(len, self.nodes.values()))
        return f"Partition({len(self)} communities of {assigned} of {known} neurons, method={self.method!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        shares = None if self.responsibilities is None else dict(self.responsibilities)
        plain = (self.communities, self.method, dict(self.params), self.seed, dict(self.stats), shares, dict(self.nodes), self._layers)
        return _restore, plain

    # ------------------------------------------------------------------ files and tables

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the partition as JSON text and write it to a file if a path is given; equal partitions give equal text."""
        position = {name: {node: i for i, node in enumerate(nodes)} for name, nodes in self.nodes.items()}
        record = {
            "format": FORMAT,
            "method": self.method,
            "params": _plain(self.params),
            "seed": self.seed,
            "layers": {name: _encoded(name, nodes) for name, nodes in self.nodes.items()},
            "communities": [
                {"name": name, "layer": layer, "neurons": sorted(position[layer][node] for node in community)}
                for name, layer, community in zip(self.names, self._layers, self.communities, strict=True)
            ],
            "stats": _plain(self.stats),
            "responsibilities": None if self.responsibilities is None else _plain(self.responsibilities),
        }
        text = json.dumps(record, indent=1)
        if path is not None:
            _write_whole(Path(path), text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Partition:
        """Read a partition from a file, or from the text itself, as written by `to_json`."""
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
            return _restore(
                communities, record["method"], record["params"], record["seed"], record["stats"], shares, nodes, layers
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(
                f"This is not a partition of this package, or it is damaged ({type(error).__name__}: {error}). Write it again with P.to_json."
            ) from error

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, one row per neuron: node, layer, index, community, label, name."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "Partition.to_pandas") from None
        home = {node: i for i, community in enumerate(self.communities) for node in community}
        names = self.names
        rows = []
        for layer, nodes in self.nodes.items():
            labels = self.labels(layer).tolist()
            for index, node in enumerate(nodes):
                i = home.get(node, -1)
                rows.append((node, layer, index, i, labels[index], names[i] if i >= 0 else ""))
        return pd.DataFrame(rows, columns=["node", "layer", "index", "community", "label", "name"])


def as_partition(G: Any, communities: Any) -> Partition:
    """Return a Partition of G: the given one after checking that it is G's, or one made from sets of nodes.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    communities : Partition or iterable of sets of nodes

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        It is a partition of another graph.
    """
    if isinstance(communities, Partition):
        communities.check(G)
        return communities
    return Partition.from_communities(G, communities)


def _restore(
    communities: Any, method: str, params: Any, seed: int | None, stats: Any, shares: Any, nodes: Any, layers: tuple[str, ...]
) -> Partition:
    views = [MappingProxyType(part) for part in (params, stats, nodes)]
    return Partition(communities, method, views[0], seed, views[1], None if shares is None else MappingProxyType(shares), views[2], layers)


# ---------------------------------------------------------------------- labels


def _checked_labels(given: npt.ArrayLike, name: str, width: int) -> Labels:
    labels = np.asarray(given)
    if labels.shape != (width,) or labels.dtype.kind not in "iu" or (labels < -1).any():
        raise InputError(
            f"The labels of layer {name!r} have shape {labels.shape} and type {labels.dtype}; one whole number from -1 up per neuron, "
            f"shape ({width},), was expected."
        )
    return labels.astype(np.intp)


def _canonical(labels: Labels) -> tuple[Labels, Labels]:
    """Return the labels renumbered by size, then first member, and the old number of each new one."""
    old, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    real = old >= 0
    old, first, sizes = old[real], first[real], sizes[real]
    order = old[np.lexsort((first, -sizes))]
    renumbered = np.full(labels.shape, -1, dtype=np.intp)
    for k, number in enumerate(order.tolist()):
        renumbered[labels == number] = k
    return renumbered, order


def _reordered(table: npt.ArrayLike, order: Labels, name: str, width: int) -> npt.NDArray[np.float64]:
    array = np.asarray(table, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != width or (order.size and array.shape[1] <= order.max()):
        raise InputError(
            f"The responsibilities of layer {name!r} have shape {array.shape}; ({width}, number of communities) was expected."
        )
    rest = [k for k in range(array.shape[1]) if k not in set(order.tolist())]
    return array[:, [*order.tolist(), *rest]]


# ---------------------------------------------------------------------- text


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
    from innersight_graph.graph.neuron import Neuron

    if isinstance(ids, int):
        return tuple(Neuron(layer, i) for i in range(ids))
    return tuple(decode_node(node) for node in ids)


def _write_whole(path: Path, text: str) -> None:
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else "stands in a folder that does not exist"
        raise InputError(f"The partition cannot be written to {str(path)!r}, which {problem}. Give the path of a file.")
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The partition {str(path)!r} cannot be read ({error}). Give a file written by P.to_json.") from error


# ---------------------------------------------------------------------- comparing two partitions


@dataclass(frozen=True)
class Agreement:
    """How alike two partitions are.

    Attributes
    ----------
    ari : float
        Adjusted Rand index: 1 for equal partitions, 0 expected by chance.
    ami : float
        Adjusted mutual information: likewise.
    vi : float
        Variation of information, in nats: 0 for equal partitions.
    n_p, n_r : int
        Numbers of communities compared.
    layers : mapping from layer name to Agreement
        The same per layer.
    """

    ari: float
    ami: float
    vi: float
    n_p: int
    n_r: int
    layers: Mapping[str, Agreement] = field(default_factory=dict, repr=False)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: one row per layer and one named ``"overall"``."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "Agreement.to_pandas") from None
        rows = {**self.layers, "overall": self}
        return pd.DataFrame({name: [a.ari, a.ami, a.vi, a.n_p, a.n_r] for name, a in rows.items()}, ["ari", "ami", "vi", "n_p", "n_r"]).T


def agreement(P: Partition, R: Partition, *, layer: str | None = None) -> Agreement:
    """Return how alike two partitions of one graph are, per layer and overall.

    Parameters
    ----------
    P, R : Partition
        Compared on the neurons both assign; silent neurons, which both set aside, do not count.
    layer : str, optional
        Compare this layer only.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        The partitions belong to different graphs, or share no neuron.

    References
    ----------
    Hubert & Arabie 1985, doi:10.1007/BF01908075; Vinh, Epps & Bailey 2010 (AMI); Meilă 2007, doi:10.1016/j.jmva.2006.11.013.

    Examples
    --------
    >>> import networkx as nx
    >>> G = nx.path_graph(4)
    >>> P = Partition.from_communities(G, [{0, 1}, {2, 3}])
    >>> agreement(P, P)
    Agreement(ari=1.0, ami=1.0, vi=0.0, n_p=2, n_r=2)
    """
    if P.nodes != R.nodes:
        raise InputError("The two partitions belong to different graphs. Detect both on the same graph, then compare.")
    names = [layer] if layer is not None else [name for name in P.layers if name in R.layers]
    pairs = {name: _common(P, R, name) for name in names}
    pairs = {name: pair for name, pair in pairs.items() if pair[0].size}
    if not pairs:
        raise InputError("The two partitions assign no neuron in common. Detect both on the same layers.")
    if layer is not None:
        return _compare(*pairs[layer])
    a = np.concatenate([a + P._layers.index(name) for name, (a, _) in pairs.items()])
    b = np.concatenate([b + R._layers.index(name) for name, (_, b) in pairs.items()])
    return _compare(a, b, {name: _compare(*pair) for name, pair in pairs.items()})


def _common(P: Partition, R: Partition, layer: str) -> tuple[Labels, Labels]:
    a, b = _spoken(P, layer), _spoken(R, layer)
    both = (a >= 0) & (b >= 0)
    return a[both], b[both]


def _spoken(P: Partition, layer: str) -> Labels:
    """Return the labels of a layer with its silent neurons unassigned."""
    labels = P.labels(layer)
    silent = P.stats.get(layer, {}).get("silent")
    if silent is not None:
        labels[labels == silent - P._layers.index(layer)] = -1
    return labels


def _compare(a: Labels, b: Labels, layers: Mapping[str, Agreement] | None = None) -> Agreement:
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    ami = float(adjusted_mutual_info_score(a, b))
    found = (len(np.unique(a)), len(np.unique(b)))
    return Agreement(float(adjusted_rand_score(a, b)), ami, _variation(a, b), *found, layers=dict(layers or {}))


def _variation(a: Labels, b: Labels) -> float:
    """Return the variation of information, 2 H(a, b) - H(a) - H(b), in nats."""
    joint = 2.0 * _entropy(np.stack([a, b], axis=1)) - _entropy(a[:, None]) - _entropy(b[:, None])
    # Rounding leaves ±1e-16 where the partitions are equal.
    return max(0.0, joint) if joint > 1e-12 else 0.0


def _entropy(rows: Labels) -> float:
    shares = np.unique(rows, axis=0, return_counts=True)[1] / len(rows)
    return float(-np.sum(shares * np.log(shares)))


def align(P: Partition, R: Partition) -> dict[int, int]:
    """Return which community of P each community of R corresponds to: the matching with the most neurons in common.

    Parameters
    ----------
    P, R : Partition
        Of the same graph.

    Returns
    -------
    dict
        Number of a community in R → number of its partner in P, within the same layer, one to one; communities without a
        partner that shares a neuron are left out.

    Raises
    ------
    InputError
        The partitions belong to different graphs.

    Examples
    --------
    >>> import networkx as nx
    >>> G = nx.path_graph(5)
    >>> P = Partition.from_communities(G, [{0, 1, 2}, {3, 4}])
    >>> R = Partition.from_communities(G, [{0, 1}, {2, 3, 4}])
    >>> align(P, R)
    {0: 1, 1: 0}
    """
    from scipy.optimize import linear_sum_assignment

    if P.nodes != R.nodes:
        raise InputError("The two partitions belong to different graphs. Detect both on the same graph, then align.")
    partner: dict[int, int] = {}
    for layer in R.layers:
        mine = [i for i, name in enumerate(P._layers) if name == layer]
        theirs = [i for i, name in enumerate(R._layers) if name == layer]
        overlap = np.array([[len(R[r] & P[p]) for p in mine] for r in theirs]).reshape(len(theirs), len(mine))
        for r, p in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[r, p]:
                partner[theirs[r]] = mine[p]
    return dict(sorted(partner.items()))
