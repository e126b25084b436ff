"""`Consistency`: whether the members of a community rise and fall together over samples (paper, Eq. 10 and 11)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.measured import Measured
from innersight_graph.evaluation.members import BLOCKS, LayerGroups, Members, intervals_of, layer_mean, random_groups
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import held
from innersight_graph.probe.tables import measured

__all__ = ["Consistency"]

FloatArray = NDArray[np.float64]
# Samples handled at a time, so that no second table of their size is made.
_AT_ONCE = 4096


@final
class Consistency:
    """Agreement of the members' deviations from their own means (S_out = |Γ| ncs, Eq. 10 and 11).

    With d a neuron's deviation from its mean over samples (a map counts by its mean over positions): ``ncs = 1 / (1 +
    s)``, where s is the sample variance of ``d / (max d - min d)``, averaged over members; and ``Γ = Σ d / Σ |d|`` over
    the *members* of the community, per sample, absolute values averaged over samples and corrected for the chance level
    ``n^-1/2`` of n independent neurons.

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
    - ``intervals["per_community"]`` (m, 2): over the samples, a tenth of which is left out in turn;
    - ``details["ncs"]``, ``["gamma"]`` (corrected, 0 for a single neuron), ``["gamma_raw"]``: its parts;
    - ``p_values["null"]``, ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: random groups of equal size
      (with ``nulls``).

    At least two samples are needed. Memory: one float64 per neuron and sample is kept; with ``max_memory`` a table that
    would not fit is refused.
    """

    def __init__(self, model: Any, data: Any, *, literal: bool = False, name: str = "consistency") -> None:
        self.model = model
        self.data = held(data)
        self.literal = literal
        self.name = name
        self._deviations: Measured[dict[str, FloatArray]] = Measured()

    def evaluate(
        self,
        G: Any,
        partition: Any,
        *,
        nulls: int = 0,
        seed: int | None = None,
        max_memory: int | None = None,
        **options: Any,
    ) -> Evaluation:
        """Score a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        deviations = self.deviations(members.graph, [g.layer for g in members.layers], max_memory)
        parts = {g.layer: self.community_parts(deviations[g.layer], g.labels) for g in members.layers}
        observed = {layer: p[0] for layer, p in parts.items()}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            return self.community_parts(deviations[groups.layer], labels, len(groups.sizes))[0]

        p_values, band = random_groups(members, observed, under, nulls=nulls, seed=seed)
        per_layer = {g.layer: float(np.average(observed[g.layer], weights=g.sizes)) for g in members.layers}
        details: dict[str, Any] = {"per_layer": per_layer, "literal": self.literal} | band
        for position, key in enumerate(("ncs", "gamma", "gamma_raw"), start=1):
            details[key] = members.spread({layer: p[position] for layer, p in parts.items()})
        without = {
            g.layer: [self.community_parts(part, g.labels)[0] for part in self.blocks(deviations[g.layer])]
            for g in members.layers
        }
        return Evaluation(
            self.name, layer_mean(members, per_layer), members.spread(observed), {},
            intervals_of(members, observed, without), p_values, details=details,
        )  # fmt: skip

    def blocks(self, deviation: FloatArray) -> Iterator[FloatArray]:
        """Yield the deviations from the mean without one block of the samples at a time."""
        n = deviation.shape[1]
        for block in range(min(BLOCKS, n) if n > 2 else 0):
            part = deviation[:, np.arange(n) % BLOCKS != block]
            yield part - part.mean(axis=1, keepdims=True)

    def deviations(self, G: LayeredDiGraph, layers: list[str], max_memory: int | None = None) -> dict[str, FloatArray]:
        """Deviations from the mean over samples ``(n_neurons, n_samples)``, measured once per graph."""
        known = self._deviations.setdefault(G, {})
        missing = [layer for layer in layers if layer not in known]
        if missing:
            tables = measured(self.model, self.data, G, missing, max_memory=max_memory)
            lone = next((layer for layer, table in tables.items() if table.shape[1] < 2), None)
            if lone is not None:
                raise InputError(
                    f"One sample came for layer {lone!r}; whether neurons rise and fall together can only be seen on "
                    "two samples or more. Pass more data."
                )
            for layer in missing:
                # A layer without a tensor of its own scores nan.
                table = tables.pop(layer, None)
                known[layer] = np.full((G.layer(layer).width, 2), np.nan) if table is None else table.astype(np.float64)
                known[layer] -= known[layer].mean(axis=1, keepdims=True)
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
            raw = np.zeros(k)
            for start in range(0, deviation.shape[1], _AT_ONCE):
                some = deviation[:, start : start + _AT_ONCE]
                size_of_sum, sum_of_sizes = np.abs(member @ some), member @ np.abs(some)
                ratio = np.divide(size_of_sum, sum_of_sizes, out=np.zeros_like(size_of_sum), where=sum_of_sizes > 0)
                raw += ratio.sum(axis=1) / deviation.shape[1]
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
