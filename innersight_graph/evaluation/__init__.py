"""Evaluators: what a partition means on the live model. One file per evaluator."""

from __future__ import annotations

from innersight_graph.evaluation.ablation import Ablation
from innersight_graph.evaluation.consistency import Consistency
from innersight_graph.evaluation.occlusion import Occlusion
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.evaluation.score import PartitionScore
from innersight_graph.evaluation.sensitivity import Sensitivity
from innersight_graph.evaluation.structure import Structure

__all__ = ["Ablation", "Consistency", "Evaluation", "Occlusion", "PartitionScore", "Sensitivity", "Structure"]
