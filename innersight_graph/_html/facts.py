"""What the evaluators measured about each box, as plain values for the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innersight_graph._html.scene import Scene
    from innersight_graph.report import Report

__all__ = ["class_names_of", "facts_record"]


def class_names_of(report: Report | None) -> tuple[str, ...]:
    """Return the class names the report knows, or none."""
    return ()


def facts_record(scene: Scene, report: Report | None, images: Any) -> dict[str, Any] | None:
    return getattr(report, "_facts", None)
