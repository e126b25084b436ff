"""What Louvain and Leiden share: the matrix they work on, the sign policy, the objective, restarts, stability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.detection._layers import assemble, check_starts, live_layers, resolve_seed, seed_sequence
from innersight_graph.errors import InputError
from innersight_graph.graph.gauge import balance
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.matrices import adjacency
from innersight_graph.graph.profiles import SignedProfile, binarize, check_profile_options, projection
from innersight_graph.partition import Partition

__all__ = ["SIGNS", "Objective", "modular_communities"]

Labels = npt.NDArray[np.intp]
# Given an objective, prepares what all its starts share and returns a function from the seed of a start to labels.
Run = Callable[["Objective"], Callable[[int], Labels]]
SIGNS = ("signed", "positive", "absolute")


@dataclass(frozen=True)
class Objective:
    """Modularity of a non-negative matrix, or of two with opposite signs, each against its own configuration null.

    Attributes
    ----------
    parts : tuple of (scipy.sparse.csr_array, float)
        Non-negative matrices (n, n) in float64 without empty ones, and the coefficient of each: +1 and, if signed, -1.
    directed : bool
        An undirected matrix is symmetric.
    resolution : float
    """

    parts: tuple[tuple[sparse.csr_array, float], ...]
    directed: bool
    resolution: float

    @property
    def size(self) -> int:
        """Number of nodes."""
        return int(self.parts[0][0].shape[0])

    def value(self, labels: Labels) -> float:
        """Return the signed modularity of a labelling (Gómez, Jensen & Arenas 2009, doi:10.1103/PhysRevE.80.016114).

        The numerators of the positive and the negative part are subtracted and divided by the total size of all
        weights. Without negative weights this is Newman's modularity, or Leicht and Newman's for a directed graph.
        """
        numerator, total = 0.0, 0.0
        for A, coefficient in self.parts:
            m = float(A.sum())
            if m == 0:
                continue
            out = np.bincount(labels, weights=np.asarray(A.sum(axis=1)).ravel())
            into = np.bincount(labels, weights=np.asarray(A.sum(axis=0)).ravel(), minlength=out.size)
            rows = np.repeat(labels, np.diff(A.indptr))
            inside = float(A.data[rows == labels[A.indices]].sum())
            numerator += coefficient * (inside - self.resolution * float(out @ into) / m)
            total += m
        return numerator / total if total else 0.0


def objective(A: Any, sign: str, *, directed: bool, resolution: float) -> Objective:
    """Return the objective of a signed matrix under a sign policy."""
    A = sparse.csr_array(A, dtype=np.float64)
    parts = [(_part(A, lambda w: np.maximum(w, 0.0)), 1.0)]
    if sign == "absolute":
        parts = [(_part(A, np.abs), 1.0)]
    if sign == "signed" and (A.data < 0).any():
        parts.append((_part(A, lambda w: np.maximum(-w, 0.0)), -1.0))
    return Objective(tuple(parts), directed, resolution)


def _part(A: sparse.csr_array, of: Callable[[Any], Any]) -> sparse.csr_array:
    part = sparse.csr_array((of(A.data), A.indices.copy(), A.indptr.copy()), shape=A.shape)
    part.sum_duplicates()
    part.eliminate_zeros()
    return part


def modular_communities(
    G: Any,
    run: Run,
    *,
    method: str,
    scope: str,
    sign: str,
    resolution: float,
    density: float,
    gauge: str,
    thresholds: Mapping[str, float] | None,
    n_init: int,
    layers: str | Iterable[str] | None,
    seed: Any,
    backend: str | None,
) -> Partition:
    """Run a modularity optimiser several times per layer, or on the whole graph, and keep the best labelling."""
    G = as_layered(G)
    _check(scope, sign, resolution, n_init)
    check_profile_options(density, gauge, thresholds)
    number = resolve_seed(seed)
    scopes = {"layer": _by_layer, "graph": _whole_graph}
    options = {"density": density, "gauge": gauge, "thresholds": thresholds}
    labels, stats = scopes[scope](G, run, sign, resolution, options, n_init, layers, number)
    params = {"scope": scope, "sign": sign, "resolution": resolution, **options, "n_init": n_init, "backend": backend}
    return assemble(G, labels, method=method, params=params, seed=number, stats=stats)


def _check(scope: str, sign: str, resolution: float, n_init: int) -> None:
    if scope not in ("layer", "graph"):
        raise InputError(
            f"scope={scope!r} is unknown. Use 'layer' (each layer's projection) or 'graph' (the whole graph)."
        )
    if sign not in SIGNS:
        raise InputError(f"sign={sign!r} is unknown. Use one of {', '.join(map(repr, SIGNS))}.")
    if not isinstance(resolution, Real) or not (np.isfinite(resolution) and resolution >= 0):
        raise InputError(
            f"resolution={resolution!r} came; a finite number from 0 up was expected, 1.0 being plain modularity."
        )
    check_starts(n_init)


Found = tuple[dict[str, Labels], dict[str, dict[str, Any]]]


def _by_layer(
    G: LayeredDiGraph,
    run: Run,
    sign: str,
    resolution: float,
    options: Mapping[str, Any],
    n_init: int,
    layers: str | Iterable[str] | None,
    seed: int,
) -> Found:
    labels, stats = {}, {}
    for name, live, _ in live_layers(G, layers):
        U = _similarity(binarize(G, name, **options), sign)[np.ix_(live, live)]
        target = objective(U, sign, directed=False, resolution=resolution)
        starts = _restarts(run, target, n_init, seed, name)
        labels[name] = starts[0]
        stats[name] = {"modularity": target.value(starts[0]) if live.size else 0.0, "stability": _stability(starts)}
    return labels, stats


def _similarity(profile: SignedProfile, sign: str) -> npt.NDArray[np.float64]:
    """Return the projection a sign policy asks for; ``"absolute"`` counts shared strong neighbours of any sign."""
    if sign != "absolute":
        return projection(profile, sign)
    # (A + I)(A + I)ᵀ, from AAᵀ + IIᵀ and (A - I)(A - I)ᵀ.
    return 2.0 * projection(profile, "positive") - projection(profile, "signed")


def _whole_graph(
    G: LayeredDiGraph,
    run: Run,
    sign: str,
    resolution: float,
    options: Mapping[str, Any],
    n_init: int,
    layers: str | Iterable[str] | None,
    seed: int,
) -> Found:
    wanted = {name: live for name, live, _ in live_layers(G, layers)}
    kept, start, place = [], 0, 0
    span: dict[str, slice] = {}
    for name, live, _ in live_layers(G, [layer.name for layer in G.layers]):
        kept.append(live + start)
        span[name] = slice(place, place + live.size)
        start, place = start + G.layer(name).width, place + live.size
    nodes = np.concatenate(kept)
    A = _value_weights(balance(G) if options["gauge"] == "balanced" else G)[nodes][:, nodes]
    directed = G.graph.get("directed", True) is not False
    if not directed:
        # A loop counts twice in an undirected degree.
        A = sparse.csr_array(A + sparse.diags_array(A.diagonal()))
    target = objective(A, sign, directed=directed, resolution=resolution)
    starts = _restarts(run, target, n_init, seed, "")
    quality = target.value(starts[0])
    labels = {name: starts[0][span[name]] for name in wanted}
    stats = {
        name: {"modularity": quality, "stability": _stability([found[span[name]] for found in starts])}
        for name in wanted
    }
    return labels, stats


def _value_weights(G: LayeredDiGraph) -> sparse.csr_array:
    return adjacency(G, "activation") - adjacency(G, "inhibition")


def _restarts(run: Run, target: Objective, n_init: int, seed: int, layer: str) -> list[Labels]:
    """Return the labellings of all starts, best first; the earlier start wins a tie."""
    if target.size == 0:
        return [np.zeros(0, dtype=np.intp)]
    seeds = [int(seed_sequence(seed, layer, start).generate_state(1)[0] >> 1) for start in range(n_init)]
    find = run(target)
    found = [find(start) for start in seeds]
    return sorted(found, key=lambda labels: -round(target.value(labels), 12))


def _stability(starts: list[Labels], most: int = 5) -> float | None:
    """Return the mean adjusted Rand index between the best starts; None if there is only one."""
    from sklearn.metrics import adjusted_rand_score

    pairs = list(combinations(starts[:most], 2))
    return float(np.mean([adjusted_rand_score(a, b) for a, b in pairs])) if pairs else None
