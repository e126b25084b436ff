"""The search over the number of communities, and the sweep over densities, as curves for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from innersight_graph._html.packing import clip, rounded
from innersight_graph.detection.density import DensitySweep
from innersight_graph.errors import InputError
from innersight_graph.partition import Partition, agreement

__all__ = ["likeness", "search_record", "sweep_record"]


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
        tested = stats.get("held_out")
        # Files keep the numbers of communities as text.
        held_out = {int(r): value for r, value in tested.items()} if isinstance(tested, Mapping) else {}
        second = [held_out.get(r) for r, _ in points] if held_out else None
        records.append({
            "heldOut": rounded(second), "title": clip(layer, 80), "x": [r for r, _ in points],
            "y": [rounded(value) for _, value in points],
            "chosen": rounded(stats.get("n_communities")), "label": clip(_criterion_name(P), 40),
            "stability": rounded(stability) if isinstance(stability, float | int | np.floating) else None,
        })  # fmt: skip
    return records


def _criterion_name(P: Partition) -> str:
    name = P.params.get("criterion", "criterion")
    return name.upper() if isinstance(name, str) and len(name) <= 4 else str(name)


def sweep_record(sweep: Any) -> dict[str, Any] | None:
    """Return panels of a density sweep: how alike the partitions are, and how many communities each layer gets.

    Parameters
    ----------
    sweep : DensitySweep, mapping from density to Partition, or None

    Raises
    ------
    InputError
        It is neither.
    """
    if sweep is None:
        return None
    partitions = sweep
    if isinstance(sweep, DensitySweep):
        partitions = dict(zip(sweep.densities, sweep.partitions, strict=True))
    if not isinstance(partitions, Mapping) or not partitions:
        raise InputError(
            f"sweep is a {type(sweep).__name__}; a mapping from density to Partition was expected, such as "
            f"density_sweep(G) returns."
        )
    densities = sorted(partitions)
    found = [partitions[density] for density in densities]
    alike = [[rounded(likeness(P, R)) for R in found] for P in found]
    names = [f"{density:g}" for density in densities]
    panels: list[dict[str, Any]] = [
        {"title": "Agreement between densities (adjusted Rand index)", "names": names, "matrix": alike}
    ]
    for layer in found[0].layers:
        counts = [_count(P, layer) for P in found]
        panels.append({
            "title": clip(layer, 60), "x": [float(density) for density in densities], "series": [{"y": counts}],
            "xLabel": "density of valid connections", "yLabel": "communities",
        })  # fmt: skip
    words = (
        "Which connections count as valid is a choice; these partitions differ by it alone. Where they disagree, the "
        "choice and not the network made the communities."
    )
    if isinstance(sweep, DensitySweep):
        plateau = ", ".join(f"{density:g}" for density in sweep.plateau)
        words += f" They agree best over {plateau}; recommended: {sweep.recommended:g}."
    return {"words": words, "panels": panels}


def _count(P: Partition, layer: str) -> int:
    stats = P.stats.get(layer) or {}
    return int(stats.get("n_communities", len(set(P.labels(layer).tolist()) - {-1})))


def likeness(P: Partition, R: Partition) -> float:
    """Return the adjusted Rand index of two partitions, NaN where they share no neuron."""
    try:
        return float(agreement(P, R).ari)
    except InputError:
        return float("nan")
