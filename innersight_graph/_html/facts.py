"""What the evaluators measured about each box, as plain values for the panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from innersight_graph._html.packing import clip, rounded
from innersight_graph._html.sights import activation_by_box, heat_by_box, picture_record, samples_by_box

if TYPE_CHECKING:
    from innersight_graph._html.scene import Scene
    from innersight_graph.evaluation.result import Evaluation
    from innersight_graph.report import Report

__all__ = ["ablation_of", "class_names_of", "facts_record"]

WAYS = {"zero": "to 0", "mean": "to its mean", "resample": "resampled"}
# Joint closings are kept on the page up to this number, largest drops first.
MOST_JOINT = 3000


def ablation_of(report: Report | None) -> Evaluation | None:
    """Return the first evaluation that closed communities, or None."""
    if report is None:
        return None
    return next((found for found in report.evaluations.values() if ways_of(found)), None)


def ways_of(evaluation: Evaluation) -> list[str]:
    """Return how an ablation closed the neurons, the reported way first; empty for other evaluations."""
    ways = [key.removeprefix("drop/") for key in evaluation.maps if key.startswith("drop/")]
    first = "drop/" + str(evaluation.details.get("value", "")) if ways else ""
    return sorted(ways, key=lambda way: f"drop/{way}" != first and not _is_first(evaluation, way))


def _is_first(evaluation: Evaluation, way: str) -> bool:
    return np.array_equal(evaluation.maps[f"drop/{way}"], evaluation.per_community, equal_nan=True)


def class_names_of(report: Report | None) -> tuple[str, ...]:
    """Return the class names the report knows, or none."""
    found = ablation_of(report)
    names = () if found is None else tuple(map(str, found.details.get("class_names", ())))
    # A bare number in a sentence could be anything.
    return tuple(f"class {name}" for name in names) if names and all(name.isdecimal() for name in names) else names


def facts_record(scene: Scene, report: Report | None, images: Any) -> dict[str, Any] | None:
    """Return everything the panel shows that was measured, or None if nothing was."""
    if report is None or not report.evaluations:
        return None
    evaluations = report.evaluations.values()
    ablation = ablation_of(report)
    names = scene.class_names or class_names_of(report)
    boxes: dict[str, dict[str, Any]] = {
        box.id: {"scores": _scores(evaluations, box.community)} for box in scene.boxes if box.community is not None
    }
    record: dict[str, Any] = {
        "classes": [clip(name, 80) for name in names],
        "closings": [],
        "joint": {},
        "boxes": boxes,
    }
    if ablation is not None:
        _add_closings(record, scene, ablation)
    record["mapTop"] = {str(layer): rounded(top) for layer, top in heat_by_box(boxes, scene, evaluations).items()}
    levels = activation_by_box(boxes, scene, evaluations, len(names))
    record["images"] = picture_record(boxes, images, names, samples_by_box(scene, evaluations))
    record["levels"] = levels
    return record


def _scores(evaluations: Iterable[Evaluation], community: int) -> dict[str, Any]:
    """Value and family-wise p of a community under every evaluator that gives one number per community."""
    scores = {}
    for found in evaluations:
        if len(found.per_community) > community and not ways_of(found):
            scores[clip(found.name, 40)] = [
                rounded(found.per_community[community]),
                _at(found.p_values.get("null"), community),
            ]
    return scores


def _at(values: Any, *index: int) -> float | None:
    """One entry of an array as a plain number; None where there is no array or no such entry."""
    if values is None or not isinstance(values, np.ndarray | list | tuple):
        return None
    array = np.asarray(values, dtype=float)
    if array.ndim < len(index) or any(i >= size for i, size in zip(index, array.shape, strict=False)):
        return None
    return rounded(array[index]) if array.ndim == len(index) else None


def _add_closings(record: dict[str, Any], scene: Scene, ablation: Evaluation) -> None:
    details = ablation.details
    ways = ways_of(ablation)
    for position, way in enumerate(ways):
        record["closings"].append({
            "key": clip(way, 40), "label": WAYS.get(way, f"to {clip(way, 12)}"),
            "baseline": rounded(details.get("baseline")),
            "n": rounded(details.get("n")), "split": clip(details.get("split") or "", 40),
            "nulls": rounded(details.get("n_draws")),
            "metric": clip(details.get("metric", "classification"), 40),
            "classBaseline": rounded(np.asarray(details.get("class_accuracy", []), dtype=float)),
        })  # fmt: skip
        for box in scene.boxes:
            if box.community is not None:
                close = record["boxes"][box.id].setdefault("close", {})
                close[clip(way, 40)] = _closing(ablation, box.community, way, first=position == 0)
    for box in scene.boxes:
        if box.community is not None:
            record["boxes"][box.id]["verdict"] = _verdict(details, box.community)
    record["joint"][clip(ways[0], 40)] = _joint(scene, details.get("joint") or ())


def _closing(ablation: Evaluation, community: int, way: str, *, first: bool) -> dict[str, Any]:
    """Return the drops of one community closed in one way, with intervals, tests and random groups."""
    details, maps, intervals, p = ablation.details, ablation.maps, ablation.intervals, ablation.p_values
    suffix = "" if first else f"/{way}"
    chance = details.get(f"null_class_drop{suffix}")
    band, low, typical = (_band(chance, part, community) for part in ("high", "low", "mean"))
    null = details.get(f"null_drop{suffix}") or {}
    worst = details.get(f"null_worst{suffix}") or {}
    record: dict[str, Any] = {
        "drop": _at(maps[f"drop/{way}"], community),
        "cls": _row(maps.get(f"class_drop/{way}"), community),
        "bandAll": _at(null.get("high"), community), "lowAll": _at(null.get("low"), community),
        "typicalAll": _at(null.get("mean"), community),
        "band": band, "low": low, "typical": typical, "typicalWorst": _at(worst.get("mean"), community),
        "pNull": _at(p.get(f"null{suffix}"), community), "pSpecific": _at(p.get(f"specificity{suffix}"), community),
    }  # fmt: skip
    if first:
        interval, by_class = intervals.get("per_community"), intervals.get("class_drop")
        record |= {
            "lo": _at(interval, community, 0), "hi": _at(interval, community, 1),
            "clo": _row(by_class, community, 0), "chi": _row(by_class, community, 1),
            "p": _at(p.get("per_community"), community), "cp": _row(p.get("class_drop"), community),
        }  # fmt: skip
    return {key: value for key, value in record.items() if value is not None}


def _row(values: Any, community: int, *last: int) -> list[float | None] | None:
    if values is None:
        return None
    array = np.asarray(values, dtype=float)
    if community >= len(array):
        return None
    row = array[community][..., last[0]] if last else array[community]
    return [None if not np.isfinite(value) else float(f"{value:.4g}") for value in np.atleast_1d(row)]


def _band(null: Any, part: str, community: int) -> list[float | None] | None:
    return _row(null.get(part), community) if isinstance(null, Mapping) else None


def _verdict(details: Mapping[str, Any], community: int) -> dict[str, Any]:
    """Return what the evaluator concluded: the class to name a community after (or -1), agreement, support."""
    keys = {"named": "named_class", "agree": "agreement", "supported": "supported", "flip": "sign_flip"}
    found: dict[str, Any] = {}
    for key, name in keys.items():
        values = details.get(name)
        if values is not None and len(values) > community:
            value: Any = np.asarray(values)[community]
            found[key] = int(value) if key == "named" else bool(value)
    if not details.get("n_draws"):
        found["supported"] = None  # no random groups were drawn: nothing can be concluded
    return found


def _joint(scene: Scene, closings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    ids = {box.community: box.id for box in scene.boxes if box.community is not None}
    chosen = sorted(closings, key=lambda found: -abs(found["drop"]))[:MOST_JOINT]
    return {
        "+".join(sorted(ids[k] for k in found["communities"])): {
            "drop": rounded(found["drop"]), "cls": rounded(np.asarray(found["class_drop"], dtype=float)),
        }
        for found in chosen
        if all(k in ids for k in found["communities"])
    }  # fmt: skip
