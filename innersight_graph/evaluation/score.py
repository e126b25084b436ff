"""`PartitionScore`: the paper's Q (Eq. 13), as an evaluator and as a criterion for the number of communities."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from innersight_graph.evaluation.consistency import Consistency
from innersight_graph.evaluation.members import LayerGroups, Members, intervals_of, layer_mean, random_groups
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.evaluation.sensitivity import Sensitivity
from innersight_graph.evaluation.structure import Structure
from innersight_graph.graph.interchange import as_layered
from innersight_graph.probe.batches import held

__all__ = ["CriterionName", "PartitionScore"]

FloatArray = NDArray[np.float64]


class CriterionName(str):
    """The name a criterion leaves in ``P.params``, with its data: scoring on them again can then be refused.

    Copies, pickles and files keep the text alone.
    """

    __slots__ = ("data",)
    data: Any

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self[:],)


@final
class PartitionScore:
    """Weighted sum of sensitivity, consistency and structure (Eq. 13).

    Per layer: ``Σ_c ω_c (α S_in + S_out) + β S_stru``.

    Called with a partition it returns its value, so that it can choose the number of communities as in the paper:
    ``em_communities(G, range(1, 21), criterion=PartitionScore(model, validation, G))``.

    Parameters
    ----------
    model : Module
        The model that G was made from.
    data
        Batches or tensors, as for `Sensitivity`; pass validation data.
    G : LayeredDiGraph or networkx graph
        Needed when the score is called as a criterion, which is given partitions only.
    alpha, beta : float, default 1
        Weights of S_in and S_stru; ω is a community's share of its layer's neurons.
    literal : bool, default False
        All three terms as printed, and the second term as printed too: Eq. 13 repeats S_in where S_out is meant.
    name : str, default "score"

    Attributes
    ----------
    history : dict
        ``history[layer][r] = (S_in, S_out, S_stru)`` for each partition of r communities the score was called with.
    sensitivity : Sensitivity
        What computes S_in; what it measured on the model is kept for other uses.

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``value``: mean over layers; ``details["per_layer"]`` has each layer's Q;
    - ``per_community``: each community's share of its layer's Q;
    - ``intervals["per_community"]`` (m, 2): over the samples, a tenth of which is left out in turn;
    - ``details["S_in"]``, ``["S_out"]``, ``["S_stru"]``: terms per layer; ``details["alpha"]``, ``["beta"]``;
    - ``p_values["null"]`` and ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]`` (with ``nulls``).

    As a selector it is not to be trusted alone: on random weights it picks the largest number offered.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        G: Any,
        alpha: float = 1.0,
        beta: float = 1.0,
        literal: bool = False,
        name: str = "score",
    ) -> None:
        self.model = model
        self.data = held(data)
        self.graph = as_layered(G)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.literal = literal
        self.name = CriterionName(name)
        self.name.data = self.data
        self.history: dict[str, dict[int, tuple[float, float, float]]] = {}
        self.sensitivity = Sensitivity(model, self.data, literal=literal)
        self._consistency = Consistency(model, self.data, literal=literal)
        self._structure = Structure(literal=literal)

    def __call__(self, partition: Any) -> float:
        """Score a partition, usually of one layer, and remember its terms in `history`."""
        members = Members.of(self.graph, partition)
        values = []
        for groups in members.layers:
            terms = self._terms(members, groups, groups.labels)
            summed = tuple(float(v) for v in self._summed(groups, terms))
            self.history.setdefault(groups.layer, {})[len(groups.sizes)] = (summed[0], summed[1], summed[2])
            values.append(float(self._combined(groups, terms).sum()))
        return float(np.mean(values)) if values else float("nan")

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
        members = Members.of(self.graph if G is None else G, partition)
        layers = [g.layer for g in members.layers]
        self.sensitivity.grams(members.graph, layers, max_memory)
        self._consistency.deviations(members.graph, layers, max_memory)
        terms = {g.layer: self._terms(members, g, g.labels) for g in members.layers}
        observed = {g.layer: self._combined(g, terms[g.layer]) for g in members.layers}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            return self._combined(groups, self._terms(members, groups, labels))

        p_values, band = random_groups(members, observed, under, nulls=nulls, seed=seed)
        per_layer = {layer: float(values.sum()) for layer, values in observed.items()}
        summed = {g.layer: self._summed(g, terms[g.layer]) for g in members.layers}
        details: dict[str, Any] = {
            "per_layer": per_layer,
            "alpha": self.alpha,
            "beta": self.beta,
            "literal": self.literal,
        }
        for position, key in enumerate(("S_in", "S_out", "S_stru")):
            details[key] = {layer: float(values[position]) for layer, values in summed.items()}
        details |= band
        without = {g.layer: self._without(members, g, terms[g.layer]) for g in members.layers}
        return Evaluation(
            self.name[:],
            layer_mean(members, per_layer),
            members.spread(observed),
            {},
            intervals_of(members, observed, without),
            p_values,
            details=details,
        )

    def best_numbers(self, layer: str, alphas: ArrayLike, betas: ArrayLike) -> NDArray[np.intp]:
        """Return the number of communities with the largest Q among those tried, for each pair of weights.

        Parameters
        ----------
        layer : str
            A layer the score was called for.
        alphas, betas : array_like (a,), (b,)
            Weights to try.

        Returns
        -------
        ndarray of int (a, b)
        """
        tried = sorted(self.history[layer])
        terms = np.array([self.history[layer][r] for r in tried])
        second = terms[:, 0] if self.literal else terms[:, 1]
        a, b = np.asarray(alphas, dtype=float)[:, None, None], np.asarray(betas, dtype=float)[None, :, None]
        scores = a * terms[:, 0] + second + b * terms[:, 2]
        best: NDArray[np.intp] = np.array(tried, dtype=np.intp)[scores.argmax(axis=2)]
        return best

    def _terms(self, members: Members, groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
        """S_in, S_out and S_stru of each community ``(3, k)``."""
        k = len(groups.sizes)
        similarity = self.sensitivity.similarity(members.graph, groups.layer)
        deviation = self._consistency.deviations(members.graph, [groups.layer])[groups.layer]
        profile = members.profile_options()
        return np.stack([
            self.sensitivity.community_values(np.abs(similarity), labels, k),
            self._consistency.community_parts(deviation, labels, k)[0],
            self._structure.terms(members.graph, groups.layer, labels, profile, k).sum(axis=0),
        ])  # fmt: skip

    def _without(self, members: Members, groups: LayerGroups, terms: FloatArray) -> list[FloatArray]:
        """Each community's share of Q with one block of the samples left out in turn."""
        grams = self.sensitivity.grams(members.graph, [groups.layer])[groups.layer].blocks
        deviation = self._consistency.deviations(members.graph, [groups.layer])[groups.layer]
        parts = list(self._consistency.blocks(deviation))
        if len(parts) != len(grams):
            return []
        found = []
        for gram, part in zip(grams, parts, strict=True):
            similarity = np.abs(self.sensitivity.scaled(gram))
            heard = self.sensitivity.community_values(similarity, groups.labels)
            said = self._consistency.community_parts(part, groups.labels)[0]
            found.append(self._combined(groups, np.stack([heard, said, terms[2]])))
        return found

    def _summed(self, groups: LayerGroups, terms: FloatArray) -> FloatArray:
        share = groups.sizes / groups.sizes.sum()
        return np.array([terms[0] @ share, terms[1] @ share, terms[2].sum()])

    def _combined(self, groups: LayerGroups, terms: FloatArray) -> FloatArray:
        share = groups.sizes / groups.sizes.sum()
        second = terms[0] if self.literal else terms[1]
        combined: FloatArray = share * (self.alpha * terms[0] + second) + self.beta * terms[2]
        return combined
