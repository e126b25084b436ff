"""`ActivationLevel`: how active each community is on each sample, by class, and where errors stand (Fig. 3c)."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.closings import classified
from innersight_graph.evaluation.members import LayerGroups, Members, random_groups
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.probe.batches import held
from innersight_graph.statistics import auc

__all__ = ["ActivationLevel", "error_profile"]

FloatArray = NDArray[np.float64]


@final
class ActivationLevel:
    """Mean activation of each community per sample, by class (the paper's community activation level).

    Parameters
    ----------
    model : Module
        The model that the graph was made from.
    data
        Batches of ``(inputs, targets)`` or a pair of tensors, targets being classes.
    output : callable, str or int, optional
        Which part of the model's result holds the class scores.
    name : str, default "activation"

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``per_community`` (m,): how well the level tells one class from the others, ``|2 AUC - 1|`` of its best class;
      ``value``: mean;
    - ``intervals["per_community"]`` (m, 2): DeLong's, of the best class;
    - ``maps["level"]`` (m, n): mean output of the members (maps averaged) on each sample, in the order of the data;
    - ``maps["class_level"]`` (m, C): mean level by class; ``maps["auc"]`` (m, C): class against the rest,
      ``intervals["auc"]``;
    - ``details["targets"]``, ``["predicted"]`` (n,), ``["best_class"]`` (m,), ``["top_samples"]`` (m, ≤ 8): samples
      with the highest level;
    - ``details["errors"]`` (e,): positions of misclassified samples; ``maps["error_percentile"]`` (m, e, C): the
      percentile of each one's level among the correctly classified samples of each class;
    - ``p_values["null"]``, ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: against random groups (with
      ``nulls``).
    """

    def __init__(self, model: Any, data: Any, *, output: Any = None, name: str = "activation") -> None:
        self.model = model
        self.data = held(data)
        self.output = output
        self.name = name

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
        """Measure a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        scores, predictions, outputs = classified(
            self.model, self.data, members, output=self.output, max_memory=max_memory
        )
        tables = {layer: table.astype(np.float64) for layer, table in outputs.items()}
        targets = np.asarray(scores.classes)
        levels = {g.layer: self._levels(tables, g, g.labels, scores.n) for g in members.layers}
        areas = {layer: class_areas(level, targets, scores.n_classes) for layer, level in levels.items()}
        observed = {layer: separation(area) for layer, area in areas.items()}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            return separation(class_areas(self._levels(tables, groups, labels, scores.n), targets, scores.n_classes))

        p_values, band = random_groups(members, observed, under, nulls=nulls, seed=seed)
        level, area = members.spread(levels), members.spread(areas)
        right = scores.each > 0
        errors = np.flatnonzero(~right)
        details: dict[str, Any] = {
            "targets": targets,
            "predicted": predictions,
            "best_class": np.where(
                np.isnan(area).all(axis=1), -1, np.nan_to_num(np.abs(2 * area - 1), nan=-1.0).argmax(axis=1)
            ),
            "top_samples": np.argsort(-np.nan_to_num(level, nan=-np.inf), axis=1, kind="stable")[:, :8],
            "errors": errors,
            "n": scores.n,
            "accuracy": scores.baseline,
        }
        details |= band
        per_community = members.spread(observed)
        limits = _area_intervals(level, targets, scores.n_classes)
        chosen = per_community[members.tested]
        return Evaluation(
            self.name, float(np.nanmean(chosen)) if np.isfinite(chosen).any() else float("nan"), per_community,
            {
                "level": level,
                "class_level": _class_means(level, targets, scores.n_classes),
                "auc": area,
                "error_percentile": _percentiles(level, targets, right, errors, scores.n_classes),
            },
            {"auc": limits, "per_community": _separation_intervals(area, limits)},
            p_values, details=details,
        )  # fmt: skip

    def _levels(
        self, tables: dict[str, FloatArray], groups: LayerGroups, labels: NDArray[np.intp], n: int
    ) -> FloatArray:
        k = len(groups.sizes)
        if groups.layer not in tables:
            return np.full((k, n), np.nan)
        member = (labels[None, :] == np.arange(k)[:, None]).astype(np.float64)
        return np.asarray(member @ tables[groups.layer] / np.maximum(member.sum(axis=1, keepdims=True), 1))


def error_profile(model: Any, data: Any, G: Any, partition: Any, *, output: Any = None) -> list[dict[str, Any]]:
    """Profile every misclassified sample: which communities behave as for another class.

    Parameters
    ----------
    model, data, G, partition
        As for `ActivationLevel`.
    output : callable, str or int, optional
        Which part of the model's result holds the class scores.

    Returns
    -------
    list of dict
        For each misclassified sample: ``sample`` (position in the data), ``true``, ``predicted``, and ``communities``:
        a list sorted by how much they speak for the wrong class, each with ``community``, ``level``,
        ``percentile_true``, ``percentile_predicted`` (percentile of the level among correctly classified samples of
        that class, 50 = typical) and ``leaning`` (how much closer to typical it is for the predicted class than for the
        true one, in percentile points).
    """
    members = Members.of(G, partition)
    e = ActivationLevel(model, data, output=output).evaluate(members.graph, members.partition)
    names = members.partition.names
    profiles = []
    for column, sample in enumerate(e.details["errors"].tolist()):
        true, predicted = int(e.details["targets"][sample]), int(e.details["predicted"][sample])
        rows: list[dict[str, Any]] = []
        for i, name in enumerate(names):
            here, there = (float(e.maps["error_percentile"][i, column, c]) for c in (true, predicted))
            if np.isnan(here) or np.isnan(there):
                continue
            rows.append({
                "community": name, "level": float(e.maps["level"][i, sample]), "percentile_true": here,
                "percentile_predicted": there, "leaning": abs(here - 50) - abs(there - 50),
            })  # fmt: skip
        rows.sort(key=lambda row: -row["leaning"])
        profiles.append({"sample": sample, "true": true, "predicted": predicted, "communities": rows})
    return profiles


def class_areas(levels: FloatArray, targets: NDArray[np.intp], n_classes: int) -> FloatArray:
    """Area under the ROC curve of each community's level, each class against the rest: (k, C)."""
    from scipy.stats import rankdata

    ranks = rankdata(levels, axis=1)
    areas = np.full((len(levels), n_classes), np.nan)
    for c in range(n_classes):
        inside = targets == c
        n, rest = int(inside.sum()), int((~inside).sum())
        if n and rest:
            areas[:, c] = (ranks[:, inside].sum(axis=1) - n * (n + 1) / 2) / (n * rest)
    areas[np.isnan(levels).any(axis=1)] = np.nan
    return areas


def separation(areas: FloatArray) -> FloatArray:
    """How far the best class stands from the others, 0 to 1."""
    distance = np.abs(2 * areas - 1)
    known = ~np.isnan(distance).all(axis=1)
    best = np.full(len(areas), np.nan)
    best[known] = np.nanmax(distance[known], axis=1)
    return best


def _class_means(levels: FloatArray, targets: NDArray[np.intp], n_classes: int) -> FloatArray:
    means = np.full((len(levels), n_classes), np.nan)
    for c in np.unique(targets):
        means[:, c] = levels[:, targets == c].mean(axis=1)
    return means


def _area_intervals(levels: FloatArray, targets: NDArray[np.intp], n_classes: int) -> FloatArray:
    limits = np.full((len(levels), n_classes, 2), np.nan)
    for i, level in enumerate(levels):
        for c in range(n_classes):
            inside = targets == c
            if np.isfinite(level).all() and inside.any() and not inside.all():
                result = auc(level[inside], level[~inside])
                limits[i, c] = result.low, result.high
    return limits


def _separation_intervals(areas: FloatArray, limits: FloatArray) -> FloatArray:
    """Interval of the best class's separation, from that of its area (which class is best is taken as known)."""
    result = np.full((len(areas), 2), np.nan)
    for i in np.flatnonzero(~np.isnan(areas).all(axis=1)):
        best = int(np.nanargmax(np.abs(2 * areas[i] - 1)))
        ends = np.sort((2 * limits[i, best] - 1) * (1 if areas[i, best] >= 0.5 else -1))
        result[i] = np.clip(ends, 0.0, 1.0)
    return result


def _percentiles(
    levels: FloatArray, targets: NDArray[np.intp], right: NDArray[np.bool_], errors: NDArray[np.intp], n_classes: int
) -> FloatArray:
    """Percentile of each error's level among the correctly classified samples of each class, ties counting half."""
    result = np.full((len(levels), len(errors), n_classes), np.nan)
    for c in range(n_classes):
        typical = levels[:, right & (targets == c)]
        if not typical.shape[1]:
            continue
        for i in range(len(levels)):
            ordered = np.sort(typical[i])
            own = levels[i, errors]
            below = np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")
            result[i, :, c] = np.where(np.isnan(own), np.nan, 100 * below / (2 * len(ordered)))
    return result
