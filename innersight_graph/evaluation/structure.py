"""`Structure`: whether the members of a community share connections (paper, Eq. 12)."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.measured import Measured
from innersight_graph.evaluation.members import BLOCKS, LayerGroups, Members, intervals_of, layer_mean, random_groups
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.profiles import binarize, projection

__all__ = ["Structure"]

FloatArray = NDArray[np.float64]
# The constant that keeps the printed formula from dividing by zero.
ZETA = 1e-6


@final
class Structure:
    """Modularity of shared valid connections, activation and inhibition added (S_stru, Eq. 12).

    Two neurons are linked as strongly as they have valid neighbours in common, in the previous and the next layers;
    activation and inhibition are two such networks, and their modularities under the communities are added. It needs no
    data.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph, optional
        Taken when `evaluate` is not given one.
    literal : bool, default False
        Keep the printed constant 1e-6 in the denominators; without it each term equals NetworkX's modularity exactly.
    name : str, default "structure"

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``value``: mean over the partitioned layers of the layer's score; ``details["per_layer"]`` has each;
    - ``per_community``: each community's term (its layer's terms add up to the layer's score);
    - ``intervals["per_community"]`` (m, 2): over the neighbours, a tenth of which is left out in turn (with other
      neighbours of the same kind, would it be the same?);
    - ``details["activation"]``, ``details["inhibition"]``: the two parts per community;
    - ``p_values["null"]`` (with ``nulls``): family-wise against random groups of equal size in the same layer;
      ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: their mean and central 95 %.

    Density, gauge and thresholds are those the partition was made with (``P.params``). Neurons in no community are left
    out; a layer without shared connections scores 0. Cost: one product of the layer's profile with itself, ``n² M``.

    References
    ----------
    Newman 2006, doi:10.1073/pnas.0601602103.

    Examples
    --------
    >>> import networkx as nx
    >>> from innersight_graph.partition import Partition
    >>> two = nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4))
    >>> P = Partition.from_communities(two, [range(4), range(4, 8)])
    >>> float(Structure().evaluate(two, P))
    0.5
    """

    cheap: ClassVar[bool] = True

    def __init__(self, G: Any = None, *, literal: bool = False, name: str = "structure") -> None:
        self.graph = G
        self.literal = literal
        self.name = name
        self._overlaps: Measured[dict[Any, tuple[FloatArray, FloatArray]]] = Measured()

    def evaluate(
        self, G: Any, partition: Any, *, nulls: int = 0, seed: int | None = None, progress: bool = False, **options: Any
    ) -> Evaluation:
        """Score a partition of G; see the class for what is returned."""
        members = Members.of(self.graph if G is None else G, partition)
        profile = members.profile_options()
        parts = {g.layer: self.terms(members.graph, g.layer, g.labels, profile) for g in members.layers}
        total = {layer: terms.sum(axis=0) for layer, terms in parts.items()}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            terms = self.terms(members.graph, groups.layer, labels, profile, len(groups.sizes))
            summed: FloatArray = terms.sum(axis=0)
            return summed

        p_values, band = random_groups(members, total, under, nulls=nulls, seed=seed)
        per_layer = {layer: float(terms.sum()) for layer, terms in total.items()}
        details: dict[str, Any] = {
            "per_layer": per_layer,
            "activation": members.spread({layer: terms[0] for layer, terms in parts.items()}),
            "inhibition": members.spread({layer: terms[1] for layer, terms in parts.items()}),
            "literal": self.literal,
        } | band
        intervals = intervals_of(
            members, total, {g.layer: self._without(members.graph, g, profile) for g in members.layers}
        )
        return Evaluation(
            self.name, layer_mean(members, per_layer), members.spread(total), {}, intervals, p_values, details=details
        )

    def layer_score(self, G: Any, partition: Any, layer: str) -> float:
        """Score of one layer alone."""
        members = Members.of(G, partition)
        groups = next(g for g in members.layers if g.layer == layer)
        return float(self.terms(members.graph, layer, groups.labels, members.profile_options()).sum())

    def terms(
        self,
        G: LayeredDiGraph,
        layer: str,
        labels: NDArray[np.intp],
        profile: dict[str, Any],
        n_groups: int | None = None,
    ) -> FloatArray:
        """Terms of Eq. 12: ``(2, k)``, activation and inhibition."""
        k = int(labels.max(initial=-1)) + 1 if n_groups is None else n_groups
        member = (labels[None, :] == np.arange(k)[:, None]).astype(np.float64)
        overlaps = self._overlap(G, layer, profile)
        return np.array([self._modularity(member @ overlap @ member.T) for overlap in overlaps])

    def _modularity(self, U: FloatArray) -> FloatArray:
        """Terms of one sign from the communities' shared neighbours ``(k, k)``."""
        total = U.sum() + (ZETA if self.literal else 0.0)
        terms: FloatArray = np.diag(U) / total - (U.sum(axis=1) / total) ** 2 if total > 0 else np.zeros(len(U))
        return terms

    def _without(self, G: LayeredDiGraph, groups: LayerGroups, profile: dict[str, Any]) -> FloatArray:
        """Both signs' terms together with one block of the neighbours left out in turn: ``(n_blocks, k)``."""
        signs = binarize(G, groups.layer, **profile)
        member = groups.one_hot().astype(np.float64)
        n_blocks = min(BLOCKS, signs.activation_in.shape[1] + signs.activation_out.shape[1])
        found = np.zeros((n_blocks, len(member)))
        for table in (
            np.hstack([signs.activation_in, signs.activation_out]),
            np.hstack([signs.inhibition_in, signs.inhibition_out]),
        ):
            # Members that have each neighbour; a neuron shares none with itself.
            counts = member @ table.astype(np.float64)
            for block in range(n_blocks):
                kept = counts[:, np.arange(table.shape[1]) % BLOCKS != block]
                found[block] += self._modularity(kept @ kept.T - np.diag(kept.sum(axis=1)))
        return found

    def _overlap(self, G: LayeredDiGraph, layer: str, profile: dict[str, Any]) -> tuple[FloatArray, FloatArray]:
        """Shared valid neighbours of each pair of neurons, zero diagonal; activation, inhibition."""
        known = self._overlaps.setdefault(G, {})
        key = (layer, repr(sorted(profile.items(), key=str)))
        if key not in known:
            signs = binarize(G, layer, **profile)
            known[key] = (projection(signs, "activation"), projection(signs, "inhibition"))
        return known[key]
