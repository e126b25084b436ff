"""Communities across densities: how much the threshold, rather than the network, decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection._layers import resolve_seed
from innersight_graph.detection.em import em_communities, whole_results
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.mixture.criteria import adjusted_rand
from innersight_graph.partition import Partition

__all__ = ["DensitySweep", "density_sweep"]

_DENSITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class DensitySweep:
    """Partitions of one graph at several densities.

    Attributes
    ----------
    densities : tuple of float
        Ascending.
    partitions : tuple of Partition
        One for each density.
    agreement : mapping from layer name to ndarray of float64, shape (n_densities, n_densities)
        Adjusted Rand index of every two densities, silent neurons left out.
    n_communities : mapping from layer name to tuple of int
        The chosen number at each density.
    plateau : tuple of float
        Neighbouring densities whose partitions agree best with one another (mean over layers).
    recommended : float
        The density of the plateau that agrees best with the rest of it.
    """

    densities: tuple[float, ...]
    partitions: tuple[Partition, ...]
    agreement: Mapping[str, NDArray[np.float64]]
    n_communities: Mapping[str, tuple[int, ...]]
    plateau: tuple[float, ...]
    recommended: float

    @property
    def partition(self) -> Partition:
        """The partition at the recommended density."""
        return self.partitions[self.densities.index(self.recommended)]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: a row per layer and pair of densities, with ARI and numbers of communities."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "DensitySweep.to_pandas") from None
        rows = [
            (layer, a, b, float(table[i, j]), self.n_communities[layer][i], self.n_communities[layer][j])
            for layer, table in self.agreement.items()
            for i, a in enumerate(self.densities)
            for j, b in enumerate(self.densities)
        ]
        return pd.DataFrame(rows, columns=["layer", "density", "other", "ari", "n_communities", "n_other"])


def density_sweep(G: Any, densities: Iterable[float] = _DENSITIES, *, seed: Any = None, **options: Any) -> DensitySweep:
    """Find communities at several densities and say where the choice of density matters least.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    densities : iterable of float, default (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
        Fractions in (0, 1], at least two.
    seed : int, random generator or None
        The same for every density.
    **options
        As in `em_communities`, without `density` and `thresholds`.

    Returns
    -------
    DensitySweep

    Raises
    ------
    InputError
        Fewer than two densities, or an option that fixes the density.

    Notes
    -----
    The threshold of Definition 2 moves communities more than the algorithm does: a result that holds at one density
    only is a statement about the threshold. Cost: one `em_communities` for each density.

    Examples
    --------
    >>> import networkx as nx
    >>> sweep = density_sweep(nx.barbell_graph(6, 0), [0.5, 1.0], n_communities=2, seed=0)
    >>> sweep.agreement["graph"].shape
    (2, 2)
    """
    G = as_layered(G)
    chosen = tuple(sorted({float(density) for density in densities}))
    if len(chosen) < 2:
        raise InputError(f"densities={chosen!r} came; at least two different fractions in (0, 1] were expected.")
    fixed = {"density", "thresholds"} & set(options)
    if fixed:
        raise InputError(f"{fixed.pop()!r} was given to density_sweep, which chooses densities itself. Leave it out.")
    used_seed = resolve_seed(seed)
    with whole_results():
        partitions = tuple(em_communities(G, density=density, seed=used_seed, **options) for density in chosen)
    layers = partitions[0].layers
    tables = {layer: _agreement(partitions, layer) for layer in layers}
    counts = {layer: tuple(int(P.stats[layer]["n_communities"]) for P in partitions) for layer in layers}
    start, stop, best = _plateau(np.mean([_evidence(tables[layer], counts[layer]) for layer in layers], axis=0))
    return DensitySweep(
        chosen,
        partitions,
        MappingProxyType(tables),
        MappingProxyType(counts),
        chosen[start:stop],
        chosen[best],
    )


def _agreement(partitions: tuple[Partition, ...], layer: str) -> NDArray[np.float64]:
    labels = []
    for P in partitions:
        row = P.labels(layer)
        silent = P.stats[layer].get("silent")
        # Neurons that never fire were set aside by every partition.
        labels.append(row if silent is None else row[[node not in P[silent] for node in P.nodes[layer]]])
    return np.array([[adjusted_rand(a, b) for b in labels] for a in labels])


def _evidence(table: NDArray[np.float64], counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return agreements that speak for a density: two findings of nothing agree perfectly and say nothing."""
    found = np.array(counts) > 1
    return np.asarray(table * np.outer(found, found))


def _plateau(agreement: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return the stretch of three neighbours (or all two) that agree best, and its most central member."""
    width = min(3, len(agreement))
    blocks = [agreement[i : i + width, i : i + width] for i in range(len(agreement) - width + 1)]
    start = int(np.argmax([(block.sum() - width) / (width * (width - 1)) for block in blocks]))
    return start, start + width, start + int(np.argmax(blocks[start].sum(axis=1)))
