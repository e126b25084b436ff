"""The search over the number of communities, and the sweep over densities, as curves for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from innersight_graph._html.packing import clip, rounded

if TYPE_CHECKING:
    from innersight_graph.partition import Partition

__all__ = ["search_record", "sweep_record"]


def search_record(P: Partition) -> list[dict[str, Any]]:
    """Return one curve per layer from ``stats[layer]["criterion"]``, a mapping from r to the criterion's value."""
    records = []
    for layer in P.layers:
        stats = P.stats.get(layer) or {}
        curve = stats.get("criterion")
        if not isinstance(curve, Mapping) or not curve:
            continue
        points = sorted((int(r), value) for r, value in curve.items())
        stability = stats.get("stability")
        records.append({
            "title": clip(layer, 80), "x": [r for r, _ in points], "y": [rounded(value) for _, value in points],
            "chosen": rounded(stats.get("n_communities")), "label": clip(_criterion_name(P), 40),
            "stability": rounded(stability) if isinstance(stability, float | int | np.floating) else None,
        })  # fmt: skip
    return records


def _criterion_name(P: Partition) -> str:
    name = P.params.get("criterion", "criterion")
    return name.upper() if isinstance(name, str) and len(name) <= 4 else str(name)


def sweep_record(sweep: Any) -> dict[str, Any] | None:
    """Return the panels of a density sweep."""
    if sweep is None:
        return None
    raise NotImplementedError
