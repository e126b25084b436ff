"""`Consistency`: whether the members of a community rise and fall together over samples (paper, Eq. 10 and 11)."""

from __future__ import annotations

from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.members import LayerGroups, Members, layer_mean, null_of_layers
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import held
from innersight_graph.probe.tables import measured

__all__ = ["Consistency"]

FloatArray = NDArray[np.float64]


@final
class Consistency:
    """Agreement of the members' deviations from their own means (S_out = |Γ| ncs, Eq. 10 and 11).

    With d a neuron's deviation from its mean over samples (a map counts by its mean over positions): ``ncs = 1 / (1
    + s)``, where s is
    the sample variance of ``d / (max d - min d)``, averaged over members; and ``Γ = Σ d / Σ |d|`` over the *members*
    of the community,
    per sample, absolute values averaged over samples and corrected for the chance level ``n^-1/2`` of n independent
    neurons.

    Parameters
    ----------
    model : Module
        The model that the graph was made from.
    data
        Batches of ``(inputs, targets)`` or inputs, a pair of tensors, or a tensor; targets are not used.
    literal : bool, default False
        Eq. 11 as printed sums each neuron's deviations over *samples*, which is 0 for any data; so is S_out then.
    name : str, default "consistency"

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``value``: mean over layers of the size-weighted mean over communities; ``details["per_layer"]`` has each layer's;
    - ``per_community``: S_out of each community;
    - ``details["ncs"]``, ``["gamma"]`` (corrected, 0 for a single neuron), ``["gamma_raw"]``: its parts;
    - ``p_values["null"]``, ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: random groups of equal
    size (with ``nulls``).

    Memory: one float32 per neuron and sample.
    """

    def __init__(self, model: Any, data: Any, *, literal: bool = False, name: str = "consistency") -> None:
        self.model = model
        self.data = held(data)
        self.literal = literal
        self.name = name
        self._deviations: WeakKeyDictionary[LayeredDiGraph, dict[str, FloatArray]] = WeakKeyDictionary()

    def evaluate(
        self, G: Any, partition: Any, *, nulls: int = 0, seed: int | None = None, progress: bool = False, **options: Any
    ) -> Evaluation:
        """Score a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        deviations = self.deviations(members.graph, [g.layer for g in members.layers])
        parts = {g.layer: self.community_parts(deviations[g.layer], g.labels) for g in members.layers}
        observed = {layer: p[0] for layer, p in parts.items()}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            return self.community_parts(deviations[groups.layer], labels, len(groups.sizes))[0]

        null = null_of_layers(members, observed, under, nulls=nulls, seed=seed)
        per_layer = {g.layer: float(np.average(observed[g.layer], weights=g.sizes)) for g in members.layers}
        details: dict[str, Any] = {"per_layer": per_layer, "literal": self.literal}
        for position, key in enumerate(("ncs", "gamma", "gamma_raw"), start=1):
            details[key] = members.spread({layer: p[position] for layer, p in parts.items()})
        p_values = {}
        if null is not None:
            p_values["null"] = null.pvalue
            details |= {"null_mean": null.mean, "null_low": null.low, "null_high": null.high, "n_draws": nulls}
        return Evaluation(
            self.name, layer_mean(members, per_layer), members.spread(observed), p_values=p_values, details=details
        )

    def deviations(self, G: LayeredDiGraph, layers: list[str]) -> dict[str, FloatArray]:
        """Deviations from the mean over samples ``(n_neurons, n_samples)``, measured once per graph."""
        known = self._deviations.setdefault(G, {})
        missing = [layer for layer in layers if layer not in known]
        if missing:
            tables = measured(self.model, self.data, G, missing)
            for layer in missing:
                # A layer without a tensor of its own scores nan.
                wide = (
                    tables[layer].astype(np.float64) if layer in tables else np.full((G.layer(layer).width, 1), np.nan)
                )
                known[layer] = wide - wide.mean(axis=1, keepdims=True)
        return {layer: known[layer] for layer in layers}

    def community_parts(
        self, deviation: FloatArray, labels: NDArray[np.intp], n_groups: int | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """S_out, ncs, corrected Γ and raw Γ of each community of one layer."""
        k = int(labels.max(initial=-1)) + 1 if n_groups is None else n_groups
        member = (labels[None, :] == np.arange(k)[:, None]).astype(np.float64)
        sizes = np.maximum(member.sum(axis=1), 1)
        ncs = member @ neuron_consistency(deviation) / sizes
        if self.literal:
            total = np.abs(deviation).sum(axis=1)
            over_samples = np.divide(deviation.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
            gamma = raw = np.abs(member @ over_samples / sizes)
        else:
            size_of_sum, sum_of_sizes = np.abs(member @ deviation), member @ np.abs(deviation)
            ratio = np.divide(size_of_sum, sum_of_sizes, out=np.zeros_like(size_of_sum), where=sum_of_sizes > 0)
            raw = ratio.mean(axis=1)
            chance = sizes**-0.5
            gamma = np.where(sizes > 1, (raw - chance) / np.where(sizes > 1, 1 - chance, 1.0), 0.0)
        return np.abs(gamma) * ncs, ncs, gamma, raw


def neuron_consistency(deviation: FloatArray) -> FloatArray:
    """Normalised consistency score of each neuron (Eq. 10): 1 for a constant neuron."""
    span = deviation.max(axis=1) - deviation.min(axis=1)
    scaled = np.divide(deviation, span[:, None], out=np.zeros_like(deviation), where=span[:, None] > 0)
    variance = (scaled**2).sum(axis=1) / max(deviation.shape[1] - 1, 1)
    score: FloatArray = 1.0 / (1.0 + variance)
    return score
