"""What the demo's numbers say, each claim with its number and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.data import ImageData, Split
from innersight_graph.demo.network import WIDTHS
from innersight_graph.evaluation.noise import NoiseSearch
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition, agreement
from innersight_graph.provenance import digest, environment
from innersight_graph.report import Report

__all__ = ["count_of", "own_sentences", "summarise"]

LEVEL = 0.05
OWN_FINDINGS = ("Training makes", "Activation and", "Closing a noise")


def summarise(
    model: nn.Module,
    data: ImageData,
    G: LayeredDiGraph,
    found: Mapping[str, Partition],
    reports: Mapping[str, Report],
    noise: NoiseSearch,
    seed: int,
) -> dict[str, Any]:
    """Collect what ``summary.json`` holds."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    summary: dict[str, Any] = {
        "seed": seed,
        "environment": environment(),
        "fingerprint": {"data": digest([*data.train, *data.validation, *data.test]), "graph": G.fingerprint},
        "data": {"name": data.name, **{name: len(split.targets) for name, split in splits.items()}},
        "model": {
            "widths": list(WIDTHS),
            "parameters": sum(p.numel() for p in model.parameters()),
            "accuracy": {name: _accuracy(model, split) for name, split in splits.items()},
        },
        "graph": {
            "neurons": len(G),
            "edges": G.number_of_edges(),
            "silent": {name: int(G.node_attributes[name]["silent"].sum()) for name in G.hidden_layers},
        },
        "communities": {name: {layer: count_of(P, layer) for layer in P.layers} for name, P in found.items()},
        "agreement": {
            f"em, {name}": {layer: agreement(found["em"], found[name], layer=layer).ari for layer in G.hidden_layers}
            for name in ("louvain", "leiden", "as many without signs")
        },
        "specificity_ratio": {name: _ratios(report) for name, report in reports.items()},
        "ablation": _closings(found["em"], reports["em"], data.classes),
        "noise": {
            "community": noise.name,
            "validation_gain": float(noise.validation_gain),
            "test_gain": float(noise.test_gain),
            "p_value": float(noise.pvalue),
        },
    }
    summary["findings"] = _findings(summary, reports["em"], noise)
    return summary


def _ratios(report: Report) -> dict[str, float]:
    return dict(report.evaluations["ablation"].details["specificity_ratio"])


def _closings(P: Partition, report: Report, classes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return what closing each community costs."""
    ablation = report.evaluations["ablation"]
    worst, named = ablation.details["most_hurt"], ablation.details["named_class"]
    return {
        name: {
            "neurons": len(P[i]),
            "drop": float(ablation.per_community[i]),
            "p_value": _number(ablation.p_values["per_community"][i]),
            "worst_class": classes[int(worst[i])],
            "worst_class_drop": float(ablation.maps["class_drop"][i].max()),
            "named_class": classes[int(named[i])] if named[i] >= 0 else None,
        }
        for i, name in enumerate(P.names)
    }


def count_of(P: Partition, layer: str) -> int:
    """Count the communities found in a layer; the silent neurons are set aside, not found."""
    return int(P.stats.get(layer, {}).get("n_communities", len(set(P.labels(layer).tolist()) - {-1})))


def _number(value: Any) -> float | None:
    """Return a float for JSON, None where nothing was tested."""
    return None if np.isnan(value) else float(value)


def _correct(model: nn.Module, split: Split) -> NDArray[np.bool_]:
    with torch.no_grad():
        right: torch.Tensor = model(split.inputs).argmax(1) == split.targets
    return np.asarray(right.numpy())


def _accuracy(model: nn.Module, split: Split) -> float:
    return float(_correct(model, split).mean())


def _findings(summary: Mapping[str, Any], report: Report, noise: NoiseSearch) -> list[dict[str, Any]]:
    """Say what the numbers support and what they do not, each with the number."""
    return [
        *_specificity_findings(summary["specificity_ratio"]["em"], report),
        _training_finding(summary["communities"]["em untrained"]),
        _sign_finding(summary),
        _naming_finding(summary["ablation"]),
        _noise_finding(noise),
    ]


def _finding(claim: str, supported: bool, number: str) -> dict[str, Any]:
    return {"claim": claim, "supported": bool(supported), "number": number}


def _specificity_findings(ratios: Mapping[str, float], report: Report) -> list[dict[str, Any]]:
    p = report.evaluations["ablation"].p_values["partition"]
    claim = "Closing a community of {} hits some digits and spares others, more than a random group of its size."
    number = "variance over digits {:.1f} times that of random groups, p = {:.3f}"
    return [_finding(claim.format(layer), p[layer] <= LEVEL, number.format(r, p[layer])) for layer, r in ratios.items()]


def _training_finding(untrained: Mapping[str, int]) -> dict[str, Any]:
    return _finding(
        "Training makes the communities: the same network with untrained weights has none (one per layer).",
        all(count == 1 for count in untrained.values()),
        "communities in untrained weights: " + ", ".join(f"{layer} {count}" for layer, count in untrained.items()),
    )


def _sign_finding(summary: Mapping[str, Any]) -> dict[str, Any]:
    signed, unsigned = summary["specificity_ratio"]["em"], summary["specificity_ratio"]["as many without signs"]
    alone = summary["communities"]["em without signs"]
    pairs = ", ".join(f"{layer} {signed[layer]:.1f} and {unsigned[layer]:.1f}" for layer in signed)
    return _finding(
        "Activation and inhibition must be kept apart.",
        all(signed[layer] > unsigned[layer] for layer in signed),
        f"variance over digits against random groups with signs and, as many groups, without: {pairs}; left to itself "
        f"EM finds without signs {', '.join(f'{count} in {layer}' for layer, count in alone.items())}",
    )


def _naming_finding(closings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    tested = [entry for name, entry in closings.items() if not name.endswith("/silent")]
    named = sum(entry["named_class"] is not None for entry in tested)
    return _finding(
        "Most communities can be called the detector of one digit.",
        named > len(tested) / 2,
        f"{named} of {len(tested)} are beyond random groups and name the same digit closed at zero and at their mean",
    )


def _noise_finding(noise: NoiseSearch) -> dict[str, Any]:
    number = "closing no community raises validation accuracy"
    if noise.community >= 0:
        number = (
            f"{noise.name}: {100 * noise.validation_gain:+.2f} points on validation, "
            f"{100 * noise.test_gain:+.2f} on test (p = {noise.pvalue:.2f})"
        )
    return _finding(
        "Closing a noise community, chosen on validation images, improves the network on test images.",
        noise.discovered,
        number,
    )


def own_sentences(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the findings that the page cannot read from the report itself, as (verdict, sentence)."""
    chosen = [f for f in summary["findings"] if f["claim"].startswith(OWN_FINDINGS)]
    return [("yes" if f["supported"] else "no", f"{f['claim'].rstrip('.')}: {f['number']}.") for f in chosen]
