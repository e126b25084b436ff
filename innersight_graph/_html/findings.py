"""What the measurements support and what they do not, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innersight_graph._html.scene import Scene
    from innersight_graph.report import Report

__all__ = ["WORDS", "say"]

WORDS = {"yes": "Supported", "no": "Not supported", "open": "Cannot be decided here", "info": "For reading"}


def say(scene: Scene, report: Report | None, facts: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return sentences about one scene."""
    if report is None or facts is None:
        text = "The communities were found from weights alone. What they do was not measured, so this page cannot say."
        return [{"kind": "open", "text": text}]
    return []
