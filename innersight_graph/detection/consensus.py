"""`consensus_communities`: what several partitions agree on, and how sure each neuron is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection._layers import resolve_seed
from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition

__all__ = ["consensus_communities"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def consensus_communities(
    partitions: Any,
    *,
    of: str = "blockmodel",
    n_runs: int = 10,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
    **options: Any,
) -> Partition:
    """Find the partition that agrees best with several others: of several seeds, several methods, or both.

    Parameters
    ----------
    partitions : sequence of Partition, or a graph
        Partitions of the same neurons. A graph is partitioned `n_runs` times first.
    of, n_runs, **options
        For a graph: the detector, how often to run it, and what to pass it. Not used with partitions.
    layers : str, iterable of str, or None
        Layers to keep; None is all that every partition covers.
    seed : int, optional
        Of the runs; the consensus itself is not random.

    Returns
    -------
    Partition
        ``stats[layer]`` holds ``confidence`` (for each neuron, the share of partitions that put it together with an
        average other member of its community), ``agreement`` (mean ARI with the partitions) and ``stability`` (mean ARI
        among them). A neuron is unassigned where most partitions leave it so.

    Raises
    ------
    InputError
        If there are no partitions, or they are of different graphs.

    Notes
    -----
    Candidates are the cuts of the average-linkage tree of the co-assignment shares and the partitions themselves; the
    one with the highest mean ARI is returned, of equals the one with fewest communities. Memory n² floats a layer.

    References
    ----------
    Monti et al., Consensus clustering, 2003, doi:10.1023/A:1023949509487.

    Examples
    --------
    >>> import networkx as nx
    >>> from innersight_graph.detection.louvain import louvain_communities
    >>> G = nx.barbell_graph(4, 0)
    >>> runs = [louvain_communities(G, scope="graph", seed=s) for s in range(3)]
    >>> [sorted(c) for c in consensus_communities(runs)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    entropy = resolve_seed(seed)
    if isinstance(partitions, Partition) or not isinstance(partitions, Sequence):
        runs = _run(partitions, of, n_runs, layers, entropy, options)
    else:
        runs = list(partitions)
    if not runs or not all(isinstance(run, Partition) for run in runs):
        raise InputError(
            "consensus_communities needs at least one Partition, or a graph to partition. Pass a list of partitions."
        )
    if any(run.nodes != runs[0].nodes for run in runs):
        raise InputError(
            "These partitions are of different graphs: their neurons differ. Detect all of them on one graph."
        )
    covered = [name for name in runs[0].nodes if all(name in run.layers for run in runs)]
    wanted = covered if layers is None else [layers] if isinstance(layers, str) else list(layers)
    if not wanted or not set(wanted) <= set(covered):
        raise InputError(
            f"The partitions have the layers {', '.join(map(repr, covered)) or 'none'} in common, and {wanted!r} "
            "was asked for. "
            "Choose among the common ones."
        )
    labels, stats, silent = {}, {}, {}
    for name in wanted:
        votes = np.stack([run.labels(name) for run in runs])
        labels[name], stats[name] = _consensus(votes)
        silent[name] = _always_silent(runs, name)
    G = _bare(runs[0], silent)
    params = {"methods": sorted({run.method for run in runs}), "n_partitions": len(runs)}
    found = Partition.from_labels(G, labels, method="consensus", params=params, seed=entropy, stats=stats)
    for name, members in silent.items():
        count = len(found.restrict(name))
        stats[name]["n_communities"] = count
        if members.any():
            home = found.nodes[name][int(np.flatnonzero(members)[0])]
            index = next((i for i, c in enumerate(found) if home in c), None)
            if index is not None and len(found[index]) == int(members.sum()):
                stats[name] |= {"silent": index, "n_communities": count - 1}
    return Partition.from_labels(G, labels, method="consensus", params=params, seed=entropy, stats=stats)


def _run(G: Any, of: str, n_runs: int, layers: Any, entropy: int, options: dict[str, Any]) -> list[Partition]:
    from innersight_graph.detection import detect
    from innersight_graph.detection.em import whole_results

    if n_runs < 1:
        raise InputError(f"n_runs={n_runs} came; at least one run was expected.")
    seeds = np.random.SeedSequence(entropy).generate_state(n_runs)
    with whole_results():
        return [detect(G, of, layers=layers, seed=int(s), **options) for s in seeds]


def _consensus(votes: Ints) -> tuple[Ints, dict[str, Any]]:
    """Consensus of the labels in the rows of `votes`, -1 where unassigned."""
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    assigned = np.flatnonzero((votes >= 0).mean(axis=0) >= 0.5)
    labels = np.full(votes.shape[1], -1, dtype=np.intp)
    confidence = np.zeros(votes.shape[1])
    if assigned.size == 0:
        return labels, {"confidence": confidence.tolist(), "agreement": 1.0, "stability": 1.0}
    inner = votes[:, assigned]
    together = np.mean([(row[:, None] == row) & (row >= 0)[:, None] for row in inner], axis=0)
    candidates = [row for row in inner if (row >= 0).all()]
    if assigned.size > 1:
        distance = 1.0 - together
        np.fill_diagonal(distance, 0.0)
        tree = linkage(squareform(distance, checks=False), method="average")
        most = max(int(row.max()) + 1 for row in inner) + 1
        sizes = list(range(1, min(most, assigned.size) + 1))
        candidates = [*cut_tree(tree, n_clusters=sizes).T, *candidates]
    else:
        candidates = [np.zeros(1, dtype=np.intp)]
    scores = [float(np.mean([_ari(candidate, row) for row in inner])) for candidate in candidates]
    best = max(range(len(candidates)), key=lambda i: (round(scores[i], 12), -len(np.unique(candidates[i])), -i))
    labels[assigned] = candidates[best]
    same = candidates[best][:, None] == candidates[best]
    np.fill_diagonal(same, False)
    others = same.sum(axis=1)
    confidence[assigned] = np.where(
        others > 0, (together * same).sum(axis=1) / np.maximum(others, 1), np.diag(together)
    )
    pairs = [_ari(a, b) for i, a in enumerate(inner) for b in inner[:i]]
    return labels, {
        "confidence": confidence.tolist(),
        "agreement": scores[best],
        "stability": float(np.mean(pairs)) if pairs else 1.0,
    }


def _ari(a: Ints, b: Ints) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(a, b))


def _always_silent(runs: Sequence[Partition], layer: str) -> npt.NDArray[np.bool_]:
    """Return which neurons every partition keeps in its silent community."""
    silent = np.ones(len(runs[0].nodes[layer]), dtype=bool)
    for run in runs:
        index = run.stats.get(layer, {}).get("silent")
        members = run[index] if index is not None else frozenset()
        silent &= np.array([node in members for node in run.nodes[layer]], dtype=bool)
    return silent


def _bare(partition: Partition, silent: dict[str, npt.NDArray[np.bool_]]) -> LayeredDiGraph:
    """Return a graph without connections that has the partition's layers and neurons."""
    layers = [Layer(name, depth, len(nodes), "linear") for depth, (name, nodes) in enumerate(partition.nodes.items())]
    attributes = {name: {"silent": members} for name, members in silent.items() if members.any()}
    return LayeredDiGraph.from_arrays(layers, {}, nodes=dict(partition.nodes), node_attributes=attributes)
