"""The Leiden method for signed modularity, by leidenalg, and the same objective on other optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._handover import check_backend, igraph_of, others_labels
from innersight_graph.detection._modular import Objective, modular_communities
from innersight_graph.errors import MissingExtraError
from innersight_graph.partition import Partition

__all__ = ["leiden_communities"]

Labels = npt.NDArray[np.intp]
# An improvement below this is rounding.
LEAST_GAIN = 1e-10


def leiden_communities(
    G: Any,
    *,
    scope: str = "layer",
    sign: str = "signed",
    resolution: float = 1.0,
    density: float = 0.5,
    gauge: str = "balanced",
    thresholds: Mapping[str, float] | None = None,
    n_init: int = 10,
    layers: str | Iterable[str] | None = None,
    seed: Any = None,
    backend: str | None = None,
) -> Partition:
    """Find communities by the Leiden method on signed weights: the strongest classic baseline.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    scope : {"layer", "graph"}, default "layer"
        ``"layer"``: the one-mode projection of each layer (`project_layer`), comparable with `em_communities`.
        ``"graph"``: the directed graph of all layers with its weights; communities may span layers and are cut by
        layer.
    sign : {"signed", "positive", "absolute"}, default "signed"
        ``"signed"``: a positive and a negative layer with weights +1 and -1, each with its own configuration null.
        ``"positive"``: agreements (of the whole graph: positive weights) only. ``"absolute"``: signs ignored; on
        trained networks a straw man.
    resolution : float, default 1.0
        Above 1: smaller communities.
    density, gauge, thresholds
        As in `binarize`; of these, ``scope="graph"`` uses the gauge only.
    n_init : int, default 10
        Independent starts; the best is kept and ``stats[layer]["stability"]`` is the mean ARI between the five best.
    layers : str, iterable of str, or None
        None: every hidden layer.
    seed : int, random generator or None
        The same seed gives the same partition.
    backend : str, optional
        None: leidenalg, which alone optimises signed modularity. ``"igraph"``, ``"networkx"``, ``"cugraph"`` or any
        installed NetworkX backend: theirs, unsigned and undirected (both directions are added).

    Returns
    -------
    Partition
        ``stats[layer]``: ``n_communities``, ``modularity`` (signed, of the layer or the whole graph), ``stability``.

    Raises
    ------
    InputError
        An unknown option or layer, or something the chosen backend cannot do.
    MissingExtraError
        leidenalg (extra ``leiden``) or the backend is not installed.

    References
    ----------
    Traag, Waltman & van Eck 2019, doi:10.1038/s41598-019-41695-z; signed modularity: Gómez, Jensen & Arenas 2009,
    doi:10.1103/PhysRevE.80.016114.

    Examples
    --------
    >>> import networkx as nx
    >>> P = leiden_communities(nx.barbell_graph(4, 0), scope="graph", seed=0)
    >>> [sorted(c) for c in P]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    if backend is not None:
        check_backend(backend, "leiden", sign, seed)

    def run(target: Objective) -> Callable[[int], Labels]:
        if backend is None:
            return _leidenalg(target)
        return others_labels(target, "leiden", backend, seeded=seed is not None)

    return modular_communities(
        G, run, method="leiden", scope=scope, sign=sign, resolution=resolution, density=density, gauge=gauge,
        thresholds=thresholds, n_init=n_init, layers=layers, seed=seed, backend=backend,
    )  # fmt: skip


def _leidenalg(target: Objective) -> Callable[[int], Labels]:
    """Return a start: all parts optimised at once as layers of a multiplex, until nothing improves."""
    multiplex = _multiplex(target, "modularity")

    def start(seed: int) -> Labels:
        layers, coefficients = multiplex()
        if not layers:
            return np.arange(target.size, dtype=np.intp)
        _optimiser(seed).optimise_partition_multiplex(layers, layer_weights=coefficients, n_iterations=-1)
        return np.asarray(layers[0].membership, dtype=np.intp)

    return start


def leiden_levels(target: Objective, seed: int, metric: str = "modularity") -> Iterator[Labels]:
    """Yield labels as they improve: level by level in a first pass, then pass by pass; with two signs pass by pass."""
    multiplex = _multiplex(target, metric)
    layers, coefficients = multiplex()
    if not layers:
        yield np.arange(target.size, dtype=np.intp)
        return
    optimiser = _optimiser(seed)
    if len(layers) > 1:
        yield from _passes(optimiser, layers, coefficients)
        return
    for labels in _aggregations(optimiser, lambda: multiplex()[0][0]):
        yield labels
    layers[0].set_membership(labels.tolist())
    quality = layers[0].quality()
    for labels in _passes(optimiser, layers, coefficients):
        if layers[0].quality() > quality + LEAST_GAIN:
            yield labels


def _passes(optimiser: Any, layers: list[Any], coefficients: list[float]) -> Iterator[Labels]:
    while True:
        gain = optimiser.optimise_partition_multiplex(layers, layer_weights=coefficients, n_iterations=1)
        yield np.asarray(layers[0].membership, dtype=np.intp)
        if gain <= LEAST_GAIN:
            return


def _aggregations(optimiser: Any, fresh: Callable[[], Any]) -> Iterator[Labels]:
    """Run the method's three phases (move, refine, aggregate) one level at a time."""
    partition, refined = fresh(), fresh()
    merged = refined.aggregate_partition()
    optimiser.move_nodes(merged)
    while True:
        partition.from_coarse_partition(merged, refined.membership)
        yield np.asarray(partition.membership, dtype=np.intp)
        refined = fresh()
        optimiser.merge_nodes_constrained(refined, partition)
        merged = refined.aggregate_partition(partition)
        # The next level starts from the communities, not from their refinement.
        home = dict(zip(refined.membership, partition.membership, strict=True))
        merged.set_membership([home[k] for k in range(len(refined))])
        if optimiser.move_nodes(merged) <= LEAST_GAIN:
            return


def _module() -> Any:
    try:
        import leidenalg
    except ImportError:
        raise MissingExtraError("leidenalg", "leiden", "leiden_communities") from None
    return leidenalg


def _optimiser(seed: int) -> Any:
    optimiser = _module().Optimiser()
    optimiser.set_rng_seed(seed)
    return optimiser


def _multiplex(target: Objective, metric: str) -> Callable[[], tuple[list[Any], list[float]]]:
    """Return a function that makes one partition per part, every node alone, and gives their coefficients."""
    leidenalg = _module()
    kinds = {"modularity": leidenalg.RBConfigurationVertexPartition, "cpm": leidenalg.CPMVertexPartition}
    # leidenalg refuses negative weights by a bare BaseException, and an empty layer adds nothing.
    parts = [(igraph_of(A, target.directed), coefficient) for A, coefficient in target.parts if A.nnz]

    def fresh() -> tuple[list[Any], list[float]]:
        options = {"resolution_parameter": target.resolution}
        layers = [kinds[metric](graph, weights=weights, **options) for (graph, weights), _ in parts]
        return layers, [coefficient for _, coefficient in parts]

    return fresh
