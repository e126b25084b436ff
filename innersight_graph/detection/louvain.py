"""Louvain's method for signed modularity, and the same objective on other optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.detection._handover import check_backend, others_labels
from innersight_graph.detection._modular import Objective, modular_communities
from innersight_graph.partition import Partition

__all__ = ["louvain_communities"]

Labels = npt.NDArray[np.intp]
FloatArray = npt.NDArray[np.float64]
Parts = tuple[tuple[sparse.csr_array, float], ...]
MAX_PASSES = 100
# A move must raise the objective by more than rounding can: relative to the total weight.
LEAST_GAIN = 1e-11


def louvain_communities(
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
    """Find communities by Louvain's method, the classic baseline, on signed weights.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    scope : {"layer", "graph"}, default "layer"
        ``"layer"``: the one-mode projection of each layer (`project_layer`), comparable with `em_communities`.
        ``"graph"``: the directed graph of all layers with its weights; communities may span layers and are cut by
        layer.
    sign : {"signed", "positive", "absolute"}, default "signed"
        ``"signed"``: positive and negative weights each against their own configuration null, subtracted.
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
        The same seed gives the same partition on every machine.
    backend : str, optional
        None: this package's own signed Louvain. ``"igraph"``, ``"networkx"``, ``"cugraph"`` or any installed NetworkX
        backend: theirs, unsigned and undirected (both directions are added).

    Returns
    -------
    Partition
        ``stats[layer]``: ``n_communities``, ``modularity`` (signed, of the layer or the whole graph), ``stability``.

    Raises
    ------
    InputError
        An unknown option or layer, or something the chosen backend cannot do.
    MissingExtraError
        The backend is not installed.

    Notes
    -----
    A visit to a neuron costs its number of neighbours; a projection is dense, so a layer of n neurons costs about n²
    per pass and 8 n² bytes.

    References
    ----------
    Blondel et al. 2008, doi:10.1088/1742-5468/2008/10/P10008; signed modularity: Gómez, Jensen & Arenas 2009,
    doi:10.1103/PhysRevE.80.016114.

    Examples
    --------
    >>> import networkx as nx
    >>> P = louvain_communities(nx.barbell_graph(4, 0), scope="graph", seed=0)
    >>> [sorted(c) for c in P]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    if backend is not None:
        check_backend(backend, "louvain", sign, seed)

    def run(target: Objective) -> Callable[[int], Labels]:
        if backend is None:
            return lambda start: _louvain(target, np.random.default_rng(start))
        return others_labels(target, "louvain", backend, seeded=seed is not None)

    return modular_communities(
        G, run, method="louvain", scope=scope, sign=sign, resolution=resolution, density=density, gauge=gauge,
        thresholds=thresholds, n_init=n_init, layers=layers, seed=seed, backend=backend,
    )  # fmt: skip


def _louvain(target: Objective, rng: np.random.Generator) -> Labels:
    *_, labels = louvain_levels(target, rng)
    return labels


def louvain_levels(target: Objective, rng: np.random.Generator) -> Iterator[Labels]:
    """Yield labels 0 to k - 1 level by level: move nodes one by one, merge communities, until nothing moves."""
    labels = np.arange(target.size, dtype=np.intp)
    parts = target.parts
    while True:
        moved = _move_nodes(parts, target.resolution, rng)
        merged = np.unique(moved, return_inverse=True)[1].astype(np.intp)
        labels = merged[labels]
        yield labels
        if merged.max() + 1 == merged.size:
            return
        into = sparse.csr_array((np.ones(merged.size), (np.arange(merged.size), merged)))
        parts = tuple((sparse.csr_array(into.T @ A @ into), coefficient) for A, coefficient in parts)


def _move_nodes(parts: Parts, resolution: float, rng: np.random.Generator) -> Labels:
    """Move each node to the neighbouring community that raises the objective most, until a whole pass moves none."""
    pull, nulls = _pull(parts), [_Null(A, c, resolution) for A, c in parts if A.sum() > 0]
    least = LEAST_GAIN * sum(float(A.sum()) for A, _ in parts)
    size = pull.shape[0]
    labels, sizes = np.arange(size, dtype=np.intp), np.ones(size, dtype=np.intp)
    for _ in range(MAX_PASSES):
        moves = 0
        for i in rng.permutation(size).tolist():
            home = int(labels[i])
            for null in nulls:
                null.leave(i, home)
            sizes[home] -= 1
            best = _best(i, home, labels, sizes, pull, nulls, least)
            for null in nulls:
                null.enter(i, best)
            sizes[best] += 1
            labels[i] = best
            moves += best != home
        if not moves:
            break
    return labels


def _best(
    i: int, home: int, labels: Labels, sizes: Labels, pull: sparse.csr_array, nulls: list[_Null], least: float
) -> int:
    """Return the community a node outside all of them should enter; its old one unless another is better."""
    span = slice(pull.indptr[i], pull.indptr[i + 1])
    around, place = np.unique(np.append(labels[pull.indices[span]], home), return_inverse=True)
    gain = np.bincount(place[:-1], weights=pull.data[span], minlength=around.size).astype(np.float64)
    for null in nulls:
        gain -= null.expected(i, around)
    best = int(np.argmax(gain))
    stay = gain[place[-1]]
    if sizes[home] and stay < -least and gain[best] < 0:
        # To be alone gains nothing, which is more than any company offers here.
        return int(np.flatnonzero(sizes == 0)[0])
    return int(around[best]) if gain[best] > stay + least else home


def _pull(parts: Parts) -> sparse.csr_array:
    """Return the signed weight between every two nodes, both directions added, without loops."""
    A = sparse.csr_array(sum(coefficient * (part + part.T) for part, coefficient in parts))
    A = sparse.csr_array(A - sparse.diags_array(A.diagonal()))
    A.eliminate_zeros()
    return A


class _Null:
    """The configuration null of one part: what two nodes' strengths let expect, summed by community."""

    def __init__(self, A: sparse.csr_array, coefficient: float, resolution: float) -> None:
        self.factor = coefficient * resolution / float(A.sum())
        self.out: FloatArray = np.asarray(A.sum(axis=1), dtype=np.float64).ravel()
        self.into: FloatArray = np.asarray(A.sum(axis=0), dtype=np.float64).ravel()
        self.total_out, self.total_into = self.out.copy(), self.into.copy()

    def leave(self, i: int, community: int) -> None:
        self.total_out[community] -= self.out[i]
        self.total_into[community] -= self.into[i]

    def enter(self, i: int, community: int) -> None:
        self.total_out[community] += self.out[i]
        self.total_into[community] += self.into[i]

    def expected(self, i: int, communities: Labels) -> FloatArray:
        """Return the expected weight between a node and each community, both directions."""
        both = self.out[i] * self.total_into[communities] + self.into[i] * self.total_out[communities]
        return np.asarray(self.factor * both)
