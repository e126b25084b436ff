"""Evaluators: what a partition means on the live model. One file per evaluator."""

from __future__ import annotations

from innersight_graph.evaluation.ablation import Ablation
from innersight_graph.evaluation.activation import ActivationLevel, error_profile
from innersight_graph.evaluation.consistency import Consistency
from innersight_graph.evaluation.embedding import Embedding
from innersight_graph.evaluation.flowing import flow
from innersight_graph.evaluation.noise import NoiseSearch, noise_communities
from innersight_graph.evaluation.occlusion import Occlusion
from innersight_graph.evaluation.pruning import Pruning, prune_to_key
from innersight_graph.evaluation.removal import Removal, remove_neurons
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.evaluation.score import PartitionScore
from innersight_graph.evaluation.sensitivity import Sensitivity
from innersight_graph.evaluation.structure import Structure
from innersight_graph.evaluation.tracking import Checkpoint, track

__all__ = [
    "Ablation",
    "ActivationLevel",
    "Checkpoint",
    "Consistency",
    "Embedding",
    "Evaluation",
    "NoiseSearch",
    "Occlusion",
    "PartitionScore",
    "Pruning",
    "Removal",
    "Sensitivity",
    "Structure",
    "error_profile",
    "flow",
    "noise_communities",
    "prune_to_key",
    "remove_neurons",
    "track",
]
