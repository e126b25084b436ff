"""Gathers what the page holds: scenes to switch between, the comparison of partitions, the no-script fallback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from innersight_graph._html.curves import likeness, search_record
from innersight_graph._html.facts import class_names_of, facts_record
from innersight_graph._html.findings import WORDS, say
from innersight_graph._html.packing import clip, rounded
from innersight_graph._html.scene import Scene, build_scene
from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition, as_partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from innersight_graph.graph.layered import LayeredDiGraph
    from innersight_graph.report import Report

__all__ = ["Entry", "collect", "comparison", "fallback", "scene_records"]


@dataclass(frozen=True)
class Entry:
    """A scene, what it is called, and the report it was scored in."""

    label: str
    scene: Scene
    report: Report | None

    @property
    def partition(self) -> Partition:
        return self.scene.partition


def collect(
    G: Any,
    P: Any,
    report: Report | None,
    *,
    label: str | None,
    alternatives: Mapping[str, Any] | None,
    class_names: Sequence[Any] | None,
    max_edges: int | None,
) -> list[Entry]:
    """Build the scene of (G, P) and one for each alternative, in order."""
    graph = as_layered(G)
    partition = as_partition(graph, P)
    names = tuple(clip(name, 80) for name in (class_names if class_names is not None else class_names_of(report)))
    first = build_scene(graph, partition, class_names=names, max_edges=max_edges)
    entries = [Entry(label or partition.method, first, report)]
    for name, given in (alternatives or {}).items():
        other, theirs, scores = _alternative(name, given, graph)
        scene = build_scene(other, theirs, class_names=names, max_edges=max_edges)
        if other is graph:
            scene = replace(scene, edges=first.edges)
        entries.append(Entry(name, scene, scores))
    return entries


def _alternative(name: str, given: Any, graph: LayeredDiGraph) -> tuple[LayeredDiGraph, Partition, Report | None]:
    """Read a partition, a report, (partition, report) or (graph, partition, report)."""
    if hasattr(given, "evaluations"):
        given = (given.graph, given.partition, given)
    elif isinstance(given, Partition) or not isinstance(given, tuple):
        given = (graph, given, None)
    elif len(given) == 2:
        partition, report = given
        given = (graph if report is None else report.graph, partition, report)
    if len(given) != 3:
        raise InputError(
            f"The alternative {clip(name, 60)!r} has {len(given)} parts. Give a partition, a report, (partition, "
            f"report) or (graph, partition, report)."
        )
    other, partition, report = given
    layered = graph if other is None or other is graph else as_layered(other)
    return layered, as_partition(layered, partition), report


def scene_records(entries: Sequence[Entry], images: Any) -> list[dict[str, Any]]:
    """Return every scene as plain values; scenes on one graph share its connections."""
    records: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        shared = next((i for i in range(number) if entries[i].scene.graph is entry.scene.graph), None)
        record = entry.scene.record(entry.label, shared_with=shared)
        record["facts"] = facts_record(entry.scene, entry.report, images)
        record["search"] = search_record(entry.partition)
        record["lead"] = _lead(record, measured=bool(record["facts"] and record["facts"]["closings"]))
        record["findings"] = say(entry.scene, entry.report, record["facts"])
        records.append(record)
    return records


def comparison(
    entries: Sequence[Entry], scores: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any] | None:
    """Return agreement and scores of all partitions, or None for one alone; scores given replace the reports'."""
    if len(entries) < 2:
        return None
    names = [clip(entry.label, 60) for entry in entries]
    known = scores or {
        entry.label: {name: float(e.value) for name, e in entry.report.evaluations.items()}
        for entry in entries
        if entry.report is not None
    }
    columns = list(dict.fromkeys(name for values in known.values() for name in values))
    rows = [[rounded(known.get(entry.label, {}).get(name)) for name in columns] for entry in entries]
    nodes = entries[0].partition.nodes
    comparable = [i for i, entry in enumerate(entries) if entry.partition.nodes == nodes and entry.scene.detail.neurons]
    everyone_same = all(entry.partition.nodes == nodes for entry in entries)
    table = [[rounded(likeness(a.partition, b.partition)) for b in entries] for a in entries] if everyone_same else None
    return {
        "names": names, "columns": [clip(name, 40) for name in columns], "rows": rows,
        "scene": list(range(len(entries))),
        "sizes": [_found(entry.partition) for entry in entries], "agreement": table, "comparable": comparable,
        "note": _reading(columns),
    }  # fmt: skip


def _reading(columns: Sequence[str]) -> str | None:
    """Say how to read the columns of the scores."""
    if not columns:
        return None
    text = "Scores of the whole partition, each in its own unit; a dash: not run."
    if any(name.endswith(" specificity") for name in columns):
        text += (
            " Specificity: how many times more closing a community differs between classes than closing a random group "
            "of its size, mean over layers; 1 is chance. Supported: share of the communities of which that holds "
            "beyond chance, closed at zero and at the mean."
        )
    return text


def _found(P: Partition) -> int:
    """Return the number of communities without the silent groups, which no detector found."""
    silent = {stats.get("silent") for stats in P.stats.values()} - {None}
    return sum(bool(community) and position not in silent for position, community in enumerate(P))


def fallback(record: dict[str, Any], said: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return what the template writes as plain HTML: the table and the findings, readable without JavaScript."""
    facts = record["facts"]
    measured = bool(facts and facts["closings"])
    rows = []
    for box in record["boxes"]:
        if box["community"] is None:
            continue
        drop, name, certain = worst_of(facts, box["id"])
        rows.append({
            "name": box["name"], "size": f"{box['size']:,}", "worst": name if (drop or 0.0) > 0 else "–",
            "certain": certain, "drop": -np.inf if drop is None else drop,
            "points": "–" if drop is None else f"{-100 * drop:+.1f}".replace("-", "−"),
        })  # fmt: skip
    rows.sort(key=lambda row: -row["drop"])
    rows += [{"name": name, "size": "0", "worst": "", "certain": False, "points": "–"} for name in record["empty"]]
    findings = [{"word": WORDS[item["kind"]], "text": item["text"]} for item in [*record["findings"], *said]]
    return {"rows": rows[:400], "findings": findings, "measured": measured, "lead": record["lead"]}


def worst_of(facts: dict[str, Any] | None, box: str) -> tuple[float | None, str, bool]:
    """Return the largest class drop of a box as first closed, its class, and whether it may be named after it."""
    known = (facts or {"boxes": {}})["boxes"].get(box, {})
    effect = next(iter(known.get("close", {}).values()), None)
    if effect is None:
        return None, "–", False
    drops = [-np.inf if drop is None else drop for drop in effect.get("cls") or []]
    if not drops or not facts or len(drops) != len(facts["classes"]) or not np.isfinite(max(drops)):
        return effect.get("drop"), "all", (effect.get("pNull") or 1.0) <= 0.05
    at = int(np.argmax(drops))
    return drops[at], facts["classes"][at], known.get("verdict", {}).get("named") == at


def _lead(record: dict[str, Any], *, measured: bool) -> str:
    number = sum(box["role"] == "community" for box in record["boxes"])
    start = f"{number} communities of neurons, found by {record['method']}."
    if not measured:
        return (
            f"{start} Nothing was measured on the live model: evaluate the partition to learn what each of them does."
        )
    return f"{start} Each was closed in turn on the live model; the class that suffers most is listed, worst first."
