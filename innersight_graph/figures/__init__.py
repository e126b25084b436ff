"""Static figures in one style: every function returns a `matplotlib.figure.Figure`."""

from __future__ import annotations

from innersight_graph.figures.groups import alluvial
from innersight_graph.figures.heat import ablation_heatmap, agreement_matrix, sensitivity_maps
from innersight_graph.figures.lines import activation_violins, criterion_curves, embedding_scatter, pruning_curves
from innersight_graph.figures.style import to_png, to_svg

__all__ = [
    "ablation_heatmap", "activation_violins", "agreement_matrix", "alluvial", "criterion_curves", "embedding_scatter",
    "pruning_curves", "sensitivity_maps", "to_png", "to_svg",
]  # fmt: skip
