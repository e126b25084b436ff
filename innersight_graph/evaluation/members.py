"""A partition as the evaluators see it: neurons per layer, the silent set apart, random groups of equal size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition, as_partition
from innersight_graph.statistics import MaxStatistic, jackknife_interval, matched_label_draws, max_statistic

__all__ = ["BLOCKS", "Evaluator", "LayerGroups", "Members", "intervals_of", "null_of_layers", "random_groups"]

# Blocks of samples, or of neighbours, that are left out in turn for an interval.
BLOCKS = 10

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class Evaluator(Protocol):
    """What `evaluate` calls. One file per evaluator; the file's name is the evaluator's name.

    An evaluator with ``cheap = True`` gets five times as many random partitions.
    """

    name: str

    def evaluate(
        self, G: Any, partition: Any, *, nulls: int = 0, seed: int | None = None, progress: bool = False, **options: Any
    ) -> Evaluation:
        """Score the communities of a partition of G."""


@dataclass(frozen=True)
class LayerGroups:
    """The communities of one layer.

    Attributes
    ----------
    layer : str
    depth : int
    labels : ndarray of int (n_neurons,)
        0 .. k-1, or -1 (unassigned).
    communities : ndarray of int (k,)
        Position of each label's community in the partition.
    sizes : ndarray of int (k,)
    tested : ndarray of bool (k,)
        False for the community of silent neurons: it was not found by the detector.
    """

    layer: str
    depth: int
    labels: IntArray
    communities: IntArray
    sizes: IntArray
    tested: NDArray[np.bool_]

    def one_hot(self) -> NDArray[np.bool_]:
        """Membership ``(k, n_neurons)``."""
        member: NDArray[np.bool_] = self.labels[None, :] == np.arange(len(self.communities))[:, None]
        return member

    def draws(self, n_draws: int, seed: int | None) -> IntArray:
        """Draw random labels ``(n_draws, n)``: the tested neurons permuted among themselves, silent ones left out.

        The draws depend on seed, layer and sizes only, so every evaluator sees the same random groups.
        """
        live = np.where((self.labels >= 0) & self.tested[self.labels], self.labels, -1)
        return matched_label_draws(live, n_draws, seed=seed, key=(self.depth, *map(ord, self.layer)))


@dataclass(frozen=True)
class Members:
    """A checked partition with its layers' groups."""

    graph: LayeredDiGraph
    partition: Partition
    layers: tuple[LayerGroups, ...]

    @classmethod
    def of(cls, G: Any, partition: Any) -> Members:
        """Read a partition (or any sets of nodes) of G."""
        graph = as_layered(G)
        P = as_partition(graph, partition)
        layers = []
        for name in P.layers:
            communities = np.array([i for i in range(len(P)) if P.layer_of(i) == name], dtype=np.intp)
            silent = P.stats.get(name, {}).get("silent")
            sizes = np.array([len(P[int(i)]) for i in communities], dtype=np.intp)
            depth = graph.layer(name).depth
            layers.append(LayerGroups(name, depth, P.labels(name), communities, sizes, communities != silent))
        return cls(graph, P, tuple(layers))

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which communities the detector found: all but the silent ones."""
        tested = np.ones(len(self.partition), dtype=bool)
        for groups in self.layers:
            tested[groups.communities] = groups.tested
        return tested

    @property
    def sizes(self) -> IntArray:
        """Neurons per community."""
        return np.array([len(community) for community in self.partition], dtype=np.intp)

    def spread(self, by_layer: Mapping[str, FloatArray]) -> FloatArray:
        """Put per-layer values of communities into the partition's order; communities of other layers get nan."""
        parts = list(by_layer.values())
        shape = (len(self.partition), *(parts[0].shape[1:] if parts else ()))
        values = np.full(shape, np.nan)
        for groups in self.layers:
            if groups.layer in by_layer:
                values[groups.communities] = by_layer[groups.layer]
        return values

    def profile_options(self) -> dict[str, Any]:
        """Binarisation as the detector used it, where the partition says so."""
        known = ("density", "gauge", "thresholds")
        return {key: self.partition.params[key] for key in known if self.partition.params.get(key) is not None}


def null_of_layers(
    members: Members,
    observed: Mapping[str, FloatArray],
    score: Callable[[LayerGroups, IntArray], FloatArray],
    *,
    nulls: int,
    seed: int | None,
    resolution: float = 0.0,
) -> MaxStatistic | None:
    """Test every tested community against random groups of its size, family-wise over all layers.

    Parameters
    ----------
    members : Members
        The partition.
    observed : mapping of layer to (k,)
        Scores of its communities, larger = more extreme.
    score : callable
        Scores of one layer's groups under other labels: ``(LayerGroups, labels (n,)) -> (k,)``.
    nulls : int
        Random partitions; 0 switches the test off.
    seed : int, optional
        Names the draws.
    resolution : float
        See `max_statistic`.

    Returns
    -------
    MaxStatistic or None
        Aligned with the partition, nan where no test was made.
    """
    if nulls < 1:
        return None
    drawn = {
        g.layer: np.array([score(g, labels) for labels in g.draws(nulls, seed)])
        for g in members.layers
        if g.layer in observed
    }
    return against_draws(members, observed, drawn, resolution=resolution)


def random_groups(
    members: Members,
    observed: Mapping[str, FloatArray],
    score: Callable[[LayerGroups, IntArray], FloatArray],
    *,
    nulls: int,
    seed: int | None,
    key: str = "null",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an evaluation's p-values under ``key`` and the details of its random groups; see `null_of_layers`."""
    null = null_of_layers(members, observed, score, nulls=nulls, seed=seed)
    if null is None:
        return {}, {}
    band = {"null_mean": null.mean, "null_low": null.low, "null_high": null.high, "n_draws": nulls}
    return {key: null.pvalue}, band


def intervals_of(
    members: Members, observed: Mapping[str, FloatArray], without: Mapping[str, Any]
) -> dict[str, FloatArray]:
    """Intervals of the communities' values from those with one block left out, ``(n_blocks, k)`` per layer."""
    limits = {layer: jackknife_interval(values, without[layer]) for layer, values in observed.items()}
    return {"per_community": members.spread(limits)}


def against_draws(
    members: Members, observed: Mapping[str, FloatArray], drawn: Mapping[str, FloatArray], *, resolution: float = 0.0
) -> MaxStatistic:
    """Test observed scores against drawn ones ``(n_draws, k)`` per layer; see `null_of_layers`."""
    items: list[tuple[int, float, FloatArray, tuple[int, int]]] = []
    for position, groups in enumerate(members.layers):
        if groups.layer not in observed:
            continue
        for k in np.flatnonzero(groups.tested):
            column = drawn[groups.layer][:, k]
            value = float(observed[groups.layer][k])
            if np.isfinite(value) and np.isfinite(column).all():
                items.append((int(groups.communities[k]), value, column, (position, int(groups.sizes[k]))))
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(item[3] for item in items))}
    n_draws = min((len(item[2]) for item in items), default=1)
    result = max_statistic(
        [item[1] for item in items],
        np.array([item[2][:n_draws] for item in items]).T.reshape(n_draws, len(items)),
        groups=[kinds[item[3]] for item in items],
        resolution=resolution,
    )
    where = np.array([item[0] for item in items], dtype=np.intp)
    columns = [result.pvalue, result.pvalue_pointwise, result.z, result.mean, result.low, result.high]
    aligned = [np.full(len(members.partition), np.nan) for _ in columns]
    for target, values in zip(aligned, columns, strict=True):
        target[where] = values
    pvalue, pointwise, z, mean, low, high = aligned
    return MaxStatistic(pvalue, pointwise, z, mean, low, high, result.pvalue_any)


def layer_mean(members: Members, per_layer: Mapping[str, float]) -> float:
    """Plain mean over the partitioned layers that could be measured, nan if there is none."""
    values = [per_layer[g.layer] for g in members.layers if g.layer in per_layer and np.isfinite(per_layer[g.layer])]
    return float(np.mean(values)) if values else float("nan")
