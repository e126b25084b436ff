"""Open up trained PyTorch models with graph analysis.

A model becomes a layered, signed NetworkX graph of neurons (`neuron_graph`), its neurons are grouped into communities
(`em_communities` and the classic methods), and every partition is scored on the live model (`evaluate`).
Names are imported when they are first used: importing this package imports neither torch nor networkx.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it, in the order of the imports (see the README's map of the package).
_HOMES = {
    "innersight_graph.errors": (
        "GraphSchemaError", "InnerSightError", "InputError", "MissingExtraError", "TraceError",
        "UnsupportedLayerError", "WriteError",
    ),
    "innersight_graph.graph.layered": ("Layer", "LayeredDiGraph", "Neuron"),
    "innersight_graph.graph.interchange": (
        "as_layered", "edge_arrays", "read_graph", "to_igraph", "to_pandas_edgelist", "write_graph",
    ),
    "innersight_graph.graph.matrices": ("adjacency",),
    "innersight_graph.graph.gauge": ("balance", "orient"),
    "innersight_graph.graph.profiles": ("SignedProfile", "binarize", "project_layer"),
    "innersight_graph.partition.record": ("Partition", "as_partition"),
    "innersight_graph.partition.comparing": ("Agreement", "agreement", "align"),
    "innersight_graph.partition.community_graph": ("community_graph",),
    "innersight_graph.partition.exchange": ("to_cdlib",),
    "innersight_graph.mixture.estimators": ("BernoulliMixture", "MultinomialMixture"),
    "innersight_graph.detection": ("detect",),
    "innersight_graph.detection.em": ("PartialResultWarning", "SelectionWarning", "em_communities"),
    "innersight_graph.detection.density": ("DensitySweep", "density_sweep"),
    "innersight_graph.detection.louvain": ("louvain_communities",),
    "innersight_graph.detection.leiden": ("leiden_communities",),
    "innersight_graph.detection.blockmodel": ("blockmodel_communities",),
    "innersight_graph.detection.spectral": (
        "Clusterability", "clusterability", "normalized_cut", "spectral_communities",
    ),
    "innersight_graph.detection.specialization": ("specialization_communities", "specialization_test"),
    "innersight_graph.detection.similarity": ("similarity_communities",),
    "innersight_graph.detection.geometric": ("connection_cost", "geometric_communities"),
    "innersight_graph.detection.coactivation": ("coactivation_communities",),
    "innersight_graph.detection.random": ("random_communities",),
    "innersight_graph.detection.degree": ("degree_communities",),
    "innersight_graph.detection.consensus": ("consensus_communities",),
    "innersight_graph.statistics": (
        "auc", "benjamini_hochberg", "bootstrap_interval", "holm", "matched_label_draws", "max_statistic",
        "mcnemar", "minimum_detectable_effect", "paired_difference_interval", "rank_sum", "seed_variance",
        "wilson_interval",
    ),
    "innersight_graph.neuronize.closing": ("Closing",),
    "innersight_graph.neuronize.build": ("neuron_graph",),
    "innersight_graph.neuronize.load": ("load_model",),
    "innersight_graph.neuronize.summary": ("GraphSummary", "summarize"),
    "innersight_graph.neuronize.trace": ("trace_model",),
    "innersight_graph.neuronize.walk": ("layer_edges",),
    "innersight_graph.data": (
        "ImageData", "Split", "load_afhq", "load_digits", "load_image_folder", "load_mnist", "make_faces",
    ),
    "innersight_graph.planted": (
        "compiled_programs", "detectability", "equivalent_graph", "merged_networks", "null_layers",
        "planted_blocks", "planted_hubs", "planted_layers", "planted_roles", "planted_scale", "shuffled",
        "two_digits_network",
    ),
    "innersight_graph.probe": ("Capture", "ablate", "activations", "capture", "similarities"),
    "innersight_graph.evaluation": (
        "Ablation", "ActivationLevel", "Checkpoint", "Consistency", "Embedding", "Evaluation", "NoiseSearch",
        "Occlusion", "PartitionScore", "Pruning", "Removal", "Sensitivity", "Structure", "error_profile",
        "flow", "noise_communities", "prune_to_key", "remove_neurons", "track",
    ),
    "innersight_graph.report": ("Report", "evaluate"),
    "innersight_graph.comparison": ("Comparison", "capabilities", "capability_table", "compare"),
    "innersight_graph.figures": (
        "ablation_heatmap", "activation_violins", "agreement_matrix", "alluvial", "criterion_curves",
        "embedding_scatter", "pruning_curves", "sensitivity_maps",
    ),
    "innersight_graph._html": ("Page", "export_gexf", "export_graphml", "make_page", "to_html", "to_pyvis"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
