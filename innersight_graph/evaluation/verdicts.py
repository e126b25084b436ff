"""From the arrays of an ablation to statements: which class a community serves, and what is and is not supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.evaluation.closings import Outcome, Scores
from innersight_graph.evaluation.members import Members
from innersight_graph.statistics import mcnemar

__all__ = ["LEVEL", "class_verdicts", "findings_of"]

LEVEL = 0.05


def class_verdicts(
    members: Members, outcomes: Mapping[str, Outcome], p_values: Mapping[str, Any], scores: Scores
) -> dict[str, Any]:
    """Compare the ways of closing community by community; keys as documented in `Ablation`."""
    first, mean = next(iter(outcomes.values())), outcomes["mean"]
    zero = outcomes["zero"]
    m = len(members.partition)
    flip = np.zeros(m, dtype=bool)
    if scores.metric.binary:
        significant = [_raw_p(outcome, scores) < LEVEL for outcome in (zero, mean)]
        flip = significant[0] & significant[1] & (zero.drop * mean.drop < 0)
    if scores.n_classes < 2:
        return {"sign_flip": flip}
    hurt, hurt_mean = zero.class_drop.argmax(axis=1), mean.class_drop.argmax(axis=1)
    affected = (zero.class_drop.max(axis=1) > 0) & (mean.class_drop.max(axis=1) > 0)
    agreement = (hurt == hurt_mean) & affected
    supported = np.zeros(m, dtype=bool)
    if "specificity" in p_values and "specificity/mean" in p_values:
        with np.errstate(invalid="ignore"):
            supported = (p_values["specificity"] <= LEVEL) & (p_values["specificity/mean"] <= LEVEL)
    return {
        "specificity": first.class_drop.var(axis=1),
        "class_index": _class_index(first.class_drop),
        "most_hurt": np.where(np.isnan(zero.drop), -1, hurt),
        "most_hurt/mean": np.where(np.isnan(mean.drop), -1, hurt_mean),
        "agreement": agreement,
        "sign_flip": flip,
        "supported": supported,
        "named_class": np.where(supported & agreement, hurt, -1),
    }


def findings_of(members: Members, p_values: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Say in words what is supported and what is not."""
    tested = members.tested
    m = int(tested.sum())
    said = [f"{m} communities were closed on {details['n']} samples."]
    if details["metric"] == "classification":
        single, family = (100 * details["minimum_detectable"][key] for key in ("single", "family"))
        said.append(
            f"A single drop below {single:.1f} points cannot be told from chance on so many samples "
            f"({family:.1f} points when all communities are tested together)."
        )
    said.append(_count("change the score when closed (exact McNemar or paired t, Holm)", p_values["per_community"], m))
    if "null" in p_values:
        said.append(_count("cost more than random groups of equal size in the same layer", p_values["null"], m))
    said += _unevenness(p_values.get("partition", {}), details)
    if "specificity/mean" in p_values:
        supported, named = int(details["supported"].sum()), int((details["named_class"] >= 0).sum())
        verdict = "Supported" if supported else "Not supported"
        said.append(
            f"{verdict}: {supported} of {m} communities are class-specific beyond random groups whether closed at "
            f"zero or at the mean; "
            f"for {named} of them both name the same class, and only these may be named after it."
        )
    silent = int((~tested).sum())
    if silent:
        said.append(f"{silent} groups of neurons that never fire are listed apart and took no part in these counts.")
    return said


def _unevenness(p_values: Mapping[str, float], details: Mapping[str, Any]) -> list[str]:
    """Say in which layers the partition as a whole is class-specific; a deep network has too many for one line each."""
    ratios = details.get("specificity_ratio", {})
    said = []
    for verdict, holds in (("Supported", True), ("Not supported", False)):
        layers = [
            f"{layer} (variance over classes {ratios[layer]:.1f} times as large, p = {p:.3g})"
            if np.isfinite(ratios[layer])
            else f"{layer} (no class moved)"
            for layer, p in p_values.items()
            if (p <= LEVEL) == holds
        ]
        if layers:
            said.append(
                f"{verdict}: closing a community hits the classes more unevenly than closing random groups of equal "
                f"size (Holm over layers) in {', '.join(layers)}."
            )
    least = len(p_values) / (1 + details["n_draws"])
    if least > LEVEL:
        said.append(
            f"Cannot be decided: with {details['n_draws']} random partitions and {len(p_values)} layers no p-value can "
            f"fall below {least:.2g}. Pass a larger nulls, fewer layers, or a larger time_budget."
        )
    return said


def _count(what: str, pvalues: NDArray[np.float64], m: int) -> str:
    with np.errstate(invalid="ignore"):
        hits = int((np.asarray(pvalues) <= LEVEL).sum())
    return f"{'Supported' if hits else 'Not supported'}: {hits} of {m} communities {what}."


def _raw_p(outcome: Outcome, scores: Scores) -> NDArray[np.float64]:
    change = scores.each[None, :] - outcome.each
    return mcnemar((change > 0).sum(1), (change < 0).sum(1)).pvalue


def _class_index(drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """(Largest drop - mean of the others) over the sum of their absolute values; 0 where nothing changes."""
    ordered = np.sort(drops, axis=1)
    top, others = ordered[:, -1], ordered[:, :-1].mean(axis=1)
    total = np.abs(top) + np.abs(others)
    index: NDArray[np.float64] = np.divide(top - others, total, out=np.zeros_like(top), where=total > 0)
    return index
