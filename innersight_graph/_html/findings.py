"""What the measurements support and what they do not, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from innersight_graph._html.packing import clip

if TYPE_CHECKING:
    from innersight_graph._html.scene import Scene
    from innersight_graph.partition import Partition
    from innersight_graph.report import Report

__all__ = ["WORDS", "say"]

WORDS = {"yes": "Supported", "no": "Not supported", "open": "Cannot be decided here", "info": "For reading"}
# Below this agreement of the best starts, another seed is likely to give other communities.
STABLE = 0.8


def say(scene: Scene, report: Report | None, facts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return sentences about one scene, each with its verdict and the boxes it speaks of."""
    said = _about_the_search(scene.partition)
    if report is None or facts is None:
        text = (
            "The communities were found from the graph alone. What they do was not measured on the live model, so "
            "this page cannot "
            "say what they are for."
        )
        return [{"kind": "open", "text": text}, *said]
    said += [{"kind": "no", "text": clip(warning, 2000)} for warning in report.environment.get("warnings", ())]
    for found in report.evaluations.values():
        said += [_verdict(sentence) for sentence in found.details.get("findings", ())]
    return [*_named(scene, facts), *said, *_provenance(report)]


def _verdict(sentence: str) -> dict[str, Any]:
    """Sort a sentence of an evaluator by the verdict it opens with."""
    for kind in ("yes", "no", "open"):
        opening = f"{WORDS[kind]}:"
        if sentence.startswith(opening):
            text = sentence.removeprefix(opening).strip()
            return {"kind": kind, "text": clip(text[:1].upper() + text[1:], 2000)}
    return {"kind": "info", "text": clip(sentence, 2000)}


def _provenance(report: Report) -> list[dict[str, Any]]:
    """Return what the figures were computed with, so that they can be computed again."""
    environment = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    if not versions:
        return []
    settings = ", ".join(f"{key} {environment[key]}" for key in ("seed", "nulls") if environment.get(key) is not None)
    text = f"Computed with {versions}, Python {environment.get('python', '')}" + (f"; {settings}." if settings else ".")
    return [{"kind": "info", "text": clip(text, 600)}]


def _named(scene: Scene, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the communities that may be named after a class, largest drop first."""
    rows = []
    for box in scene.boxes:
        known = facts["boxes"].get(box.id, {})
        named = known.get("verdict", {}).get("named", -1)
        effect: dict[str, Any] = next(iter(known.get("close", {}).values()), {})
        if named >= 0 and effect.get("cls") and named < len(facts["classes"]):
            rows.append((effect["cls"][named] or 0.0, box, facts["classes"][named]))
    if not rows:
        return []
    rows.sort(key=lambda row: -row[0])
    listed = ", ".join(f"{clip(box.name, 40)} for {name} (−{100 * drop:.0f} points)" for drop, box, name in rows[:8])
    text = f"These matter for one class more than random groups do, set to zero and to their mean alike: {listed}."
    return [{"kind": "yes", "text": text, "boxes": [box.id for _, box, _ in rows]}]


def _about_the_search(P: Partition) -> list[dict[str, Any]]:
    said = []
    for layer in P.layers:
        stats = P.stats.get(layer) or {}
        stability, found = stats.get("stability"), stats.get("n_communities")
        if isinstance(stability, float | np.floating) and np.isfinite(stability) and stability < STABLE:
            text = (
                f"Communities of {clip(layer, 60)} as the only answer: the best starts of the search agree to "
                f"{stability:.2f} (adjusted "
                "Rand index), so another seed may give others."
            )
            said.append({"kind": "no", "text": text})
        if found == 1:
            text = f"Layer {clip(layer, 60)} has no communities that the search could tell from one single group."
            said.append({"kind": "no", "text": text})
    return said
