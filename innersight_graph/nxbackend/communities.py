"""NetworkX's community functions on signed objectives: Louvain, Leiden, modularity."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.detection._layers import resolve_seed
from innersight_graph.detection._modular import SIGNS, Objective, objective
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.nxbackend.arrays import ArrayGraph, arrays_of, refuse_signs

__all__ = ["leiden_communities", "leiden_partitions", "louvain_communities", "louvain_partitions", "modularity"]

Node = Hashable
Labels = npt.NDArray[np.intp]
# Up to this size NetworkX's own Louvain takes well under a second, and its partitions are kept.
SMALL_EDGES = 10_000

WHAT_TO_DO = (
    "sign='signed' (positive minus negative part), sign='positive' or sign='absolute', or the edge attribute "
    "weight='activation' or weight='inhibition'"
)


class BackendInputError(InputError, nx.NetworkXError):  # type: ignore[misc]
    """An argument that cannot be used, also for callers who catch NetworkX's own error."""


def _objective(
    G: Any, weight: str | None, resolution: float, sign: str | None, function: str
) -> tuple[ArrayGraph, Objective]:
    graph = arrays_of(G)
    A = graph.matrix(weight)
    if sign is None:
        refuse_signs(A, weight, function, WHAT_TO_DO)
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
    if sign is None and graph.graph.number_of_edges() <= SMALL_EDGES:
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


def _networkxs_metric() -> str:
    """Return the objective of the installed NetworkX, so that a call means the same with and without the backend."""
    theirs = getattr(nx.community, "leiden_communities", None)  # release 3.4 has none
    metric = inspect.signature(theirs).parameters.get("metric") if theirs else None
    return str(metric.default) if metric else "modularity"


def leiden_partitions(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    seed: Any = None,
    *,
    metric: str | None = None,
    theta: float = 0.01,
    sign: str | None = None,
) -> Iterator[list[set[Node]]]:
    """Yield the partition of each Leiden level; ``theta`` is accepted for newer releases, leidenalg chooses its own."""
    from innersight_graph.detection.leiden import leiden_levels

    if metric not in (None, "modularity", "cpm"):
        raise BackendInputError(f"metric={metric!r} is unknown. Use 'modularity' or 'cpm'.")
    graph, target = _objective(G, weight, resolution, sign, "Leiden")
    for labels in leiden_levels(target, resolve_seed(seed) >> 1, metric or _networkxs_metric()):
        yield _as_sets(graph, labels)


def leiden_communities(
    G: Any,
    weight: str | None = "weight",
    resolution: float = 1,
    max_level: int | None = None,
    seed: Any = None,
    *,
    metric: str | None = None,
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
