"""How alike two partitions of one graph are, and which of their communities correspond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.partition.record import Partition

__all__ = ["Agreement", "agreement", "align"]

Labels = npt.NDArray[np.intp]


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
        return pd.DataFrame(
            {name: [a.ari, a.ami, a.vi, a.n_p, a.n_r] for name, a in rows.items()}, ["ari", "ami", "vi", "n_p", "n_r"]
        ).T


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
    Hubert & Arabie 1985, doi:10.1007/BF01908075; Vinh, Epps & Bailey 2010 (AMI); Meilă 2007,
    doi:10.1016/j.jmva.2006.11.013.

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
        Number of a community in R → number of its partner in P, within the same layer, one to one; communities without
        a partner that shares a neuron are left out.

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
