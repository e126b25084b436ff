"""Partition: communities of neurons in a fixed order, with how they were found."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.provenance import digest, environment

__all__ = ["Partition", "as_partition"]

Node = Hashable
Labels = npt.NDArray[np.intp]


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
    record : mapping
        Where it comes from: ``graph`` (the graph's `LayeredDiGraph.fingerprint`), ``data`` (digests of what else was
        given: features, similarities), ``versions`` of the packages that computed it, ``python`` and ``platform``.

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
    record: Mapping[str, Any] = field(default_factory=dict)

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
        data: Mapping[str, Any] | None = None,
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
        data : mapping from name to arrays, optional
            What the detector saw beside the graph; only its digest is kept, in ``record``.

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
            shares = {
                name: _reordered(table, orders[name], name, len(nodes[name]))
                for name, table in responsibilities.items()
            }
        communities, layers = [], []
        for name in (name for name in nodes if name in found):
            for k in range(found[name].max(initial=-1) + 1):
                communities.append(frozenset(nodes[name][i] for i in np.flatnonzero(found[name] == k).tolist()))
                layers.append(name)
        return cls(
            tuple(communities), method, MappingProxyType(dict(params or {})), seed, MappingProxyType(dict(stats or {})),
            None if shares is None else MappingProxyType(shares), MappingProxyType(nodes), tuple(layers),
            MappingProxyType(
                {"graph": G.fingerprint, "data": {k: digest(v) for k, v in (data or {}).items()}, **environment()}
            ),
        )  # fmt: skip

    @classmethod
    def from_communities(
        cls, G: Any, communities: Iterable[Iterable[Node]], *, method: str = "given", **about: Any
    ) -> Partition:
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
                        f"The node {node!r} of community {k} is not in the graph: this is a partition of another "
                        "graph. Pass the graph it was made from."
                    )
                name, i = place[node]
                row = labels.setdefault(name, np.full(G.layer(name).width, -1, dtype=np.intp))
                if row[i] not in (-1, k):
                    raise InputError(
                        f"The node {node!r} is in communities {row[i]} and {k}. Communities must be disjoint."
                    )
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
        """Return the community of every neuron of a layer in the graph's order: 0 to k - 1, -1 where unassigned."""
        if layer not in self.nodes:
            raise InputError(
                f"This partition knows no layer {layer!r}; its graph has {', '.join(map(repr, self.nodes))}."
            )
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
        shares = (
            None if self.responsibilities is None else {k: v for k, v in self.responsibilities.items() if k == layer}
        )
        return Partition(
            tuple(self.communities[i] for i in kept), self.method, self.params, self.seed, MappingProxyType(stats),
            None if shares is None else MappingProxyType(shares), self.nodes, (layer,) * len(kept), self.record,
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
                f"This is a partition of another graph: it knows the layers {mine}, and the graph has {other}, or "
                "names its nodes differently. Pass the graph it was made from, or detect communities again."
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
        plain = (
            self.communities,
            self.method,
            dict(self.params),
            self.seed,
            dict(self.stats),
            shares,
            dict(self.nodes),
            self._layers,
            dict(self.record),
        )
        return restore, plain

    # ------------------------------------------------------------------ files and tables

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the partition as JSON text, written to a file if a path is given; equal partitions give equal text."""
        from innersight_graph.files import write_text
        from innersight_graph.partition.text import partition_text

        text = partition_text(self)
        if path is not None:
            write_text(path, text, "partition")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Partition:
        """Read a partition from a file, or from the text itself, as written by `to_json`."""
        from innersight_graph.partition.text import read_partition

        return read_partition(source)

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


def restore(
    communities: Any,
    method: str,
    params: Any,
    seed: int | None,
    stats: Any,
    shares: Any,
    nodes: Any,
    layers: tuple[str, ...],
    record: Mapping[str, Any],
) -> Partition:
    views = [MappingProxyType(part) for part in (params, stats, nodes, record)]
    return Partition(
        communities,
        method,
        views[0],
        seed,
        views[1],
        None if shares is None else MappingProxyType(shares),
        views[2],
        layers,
        views[3],
    )


# ---------------------------------------------------------------------- labels


def _checked_labels(given: npt.ArrayLike, name: str, width: int) -> Labels:
    labels = np.asarray(given)
    if labels.shape != (width,) or labels.dtype.kind not in "iu" or (labels < -1).any():
        raise InputError(
            f"The labels of layer {name!r} have shape {labels.shape} and type {labels.dtype}; one whole number from "
            f"-1 up per neuron, shape ({width},), was expected."
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
            f"The responsibilities of layer {name!r} have shape {array.shape}; ({width}, number of communities) was "
            "expected."
        )
    rest = [k for k in range(array.shape[1]) if k not in set(order.tolist())]
    return array[:, [*order.tolist(), *rest]]
