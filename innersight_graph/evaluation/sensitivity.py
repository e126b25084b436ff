"""`Sensitivity`: whether the members of a community listen to the same parts of the input (paper, Eq. 9)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.measured import Measured
from innersight_graph.evaluation.members import LayerGroups, Members, intervals_of, layer_mean, random_groups
from innersight_graph.evaluation.progress import watching
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import held
from innersight_graph.probe.jacobians import SensitivityGram, sensitivity_grams

__all__ = ["Sensitivity"]

FloatArray = NDArray[np.float64]


@final
class Sensitivity:
    """Similarity of input sensitivity within communities (S_in, Eq. 9).

    ``G_ij`` is the absolute value of the mean over samples of ``J Jᵀ``, with J the derivative of the layer's outputs
    (behind norm and activation) with respect to the input; a community scores the mean of ``G_ij / sqrt(G_ii G_jj)``
    over its pairs, in [0, 1].

    Parameters
    ----------
    model : Module
        The model that the graph was made from.
    data
        Batches of ``(inputs, targets)`` or inputs, a pair of tensors, or a tensor; targets are not used.
    spatial : {"mean", "sum"}
        A channel counts as the mean of its map, or position by position.
    method : {"auto", "exact", "sketch"}
        Exact Jacobians up to a budget, random directions beyond it (with their own error estimate).
    directions : int, default 16
        Random directions per sample of the sketch.
    literal : bool, default False
        As printed: no normalisation, and a normaliser that halves the mean over pairs.
    name : str, default "sensitivity"

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``value``: mean over layers of the size-weighted mean over communities; ``details["per_layer"]`` has each layer's;
    - ``per_community``: each community's mean over pairs, 0 for a single neuron;
    - ``intervals["per_community"]`` (m, 2): over the samples, a tenth of which is left out in turn (``nan`` where
      memory is too small for that, and for the sketch);
    - ``details["signed"]``: the same without taking absolute values (opposites do not count as alike);
    - ``maps["similarity/<layer>"]`` ``(n, n)``: the matrix itself, signed, normalised unless literal;
    - ``details["method"]``, ``details["agreement"]``: per layer, how it was computed and the sketch's split-half
      correlation;
    - ``p_values["null"]``, ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: random groups of equal size
      (with ``nulls``).

    Cost: one backward pass per neuron and batch (exact). The absolute value rewards merging opposites; look at
    ``signed`` too.

    References
    ----------
    Lange, Rolnick & Kording 2022, arXiv:2206.13652.
    """

    cheap: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        spatial: Literal["mean", "sum"] = "mean",
        method: Literal["auto", "exact", "sketch"] = "auto",
        directions: int = 16,
        literal: bool = False,
        name: str = "sensitivity",
    ) -> None:
        self.model = model
        self.data = held(data)
        self.spatial = spatial
        self.method = method
        self.directions = directions
        self.literal = literal
        self.name = name
        self._grams: Measured[dict[str, SensitivityGram]] = Measured()

    def evaluate(
        self,
        G: Any,
        partition: Any,
        *,
        nulls: int = 0,
        seed: int | None = None,
        progress: bool = False,
        max_memory: int | None = None,
        **options: Any,
    ) -> Evaluation:
        """Score a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        grams = self.grams(members.graph, [g.layer for g in members.layers], max_memory, progress)
        similarity = {layer: self.similarity(members.graph, layer) for layer in grams}
        observed = {g.layer: self.community_values(np.abs(similarity[g.layer]), g.labels) for g in members.layers}
        signed = {g.layer: self.community_values(similarity[g.layer], g.labels) for g in members.layers}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            return self.community_values(np.abs(similarity[groups.layer]), labels, len(groups.sizes))

        p_values, band = random_groups(members, observed, under, nulls=nulls, seed=seed)
        per_layer = {g.layer: float(np.average(observed[g.layer], weights=g.sizes)) for g in members.layers}
        details: dict[str, Any] = {
            "per_layer": per_layer,
            "signed": members.spread(signed),
            "method": {layer: gram.method for layer, gram in grams.items()},
            "agreement": {layer: gram.agreement for layer, gram in grams.items()},
            "literal": self.literal,
        } | band
        without = {
            g.layer: np.array([
                self.community_values(np.abs(self.scaled(gram)), g.labels) for gram in grams[g.layer].blocks
            ])
            for g in members.layers
        }  # fmt: skip
        return Evaluation(
            self.name, layer_mean(members, per_layer), members.spread(observed),
            maps={f"similarity/{layer}": matrix for layer, matrix in similarity.items()},
            intervals=intervals_of(members, observed, without), p_values=p_values, details=details,
        )  # fmt: skip

    def grams(
        self, G: LayeredDiGraph, layers: list[str], max_memory: int | None = None, progress: bool = False
    ) -> dict[str, SensitivityGram]:
        """Mean of J Jᵀ of each layer, computed once per graph."""
        known = self._grams.setdefault(G, {})
        missing = [layer for layer in layers if layer not in known]
        if missing:
            memory = {} if max_memory is None else {"max_memory": max_memory}
            known |= sensitivity_grams(
                self.model,
                self.data,
                G,
                missing,
                spatial=self.spatial,
                method=self.method,
                directions=self.directions,
                watch=watching(progress),
                **memory,
            )
        return {layer: known[layer] for layer in layers}

    def similarity(self, G: LayeredDiGraph, layer: str) -> FloatArray:
        """Signed similarity of each pair of neurons of a layer, normalised unless literal; one pass for all layers."""
        if layer not in self._grams.get(G, {}):
            self.grams(G, list(dict.fromkeys([layer, *G.hidden_layers])))
        return self.scaled(self._grams[G][layer].matrix)

    def scaled(self, gram: FloatArray) -> FloatArray:
        """Normalise a Gram matrix, unless literal."""
        return gram if self.literal else normalised(gram)

    def community_values(
        self, similarity: FloatArray, labels: NDArray[np.intp], n_groups: int | None = None
    ) -> FloatArray:
        """Mean over each community's pairs; halved when literal."""
        k = int(labels.max(initial=-1)) + 1 if n_groups is None else n_groups
        member = (labels[None, :] == np.arange(k)[:, None]).astype(np.float64)
        sizes = member.sum(axis=1)
        within = np.einsum("kn,kn->k", member @ similarity, member) - member @ np.diag(similarity)
        pairs = sizes * (sizes - 1)
        values: FloatArray = np.where(pairs > 0, within / np.maximum(pairs, 1), 0.0)
        return values / 2 if self.literal else values


def normalised(gram: FloatArray) -> FloatArray:
    """Cosine of the rows behind a Gram matrix; neurons without any sensitivity get 0."""
    scale = np.sqrt(np.clip(np.diag(gram), 0, None))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    cosine: FloatArray = gram * inverse[:, None] * inverse[None, :]
    return np.clip(cosine, -1.0, 1.0)
