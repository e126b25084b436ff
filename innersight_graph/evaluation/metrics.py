"""What counts as a right answer: per-sample scores of a model's outputs, larger is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from innersight_graph.errors import InputError

__all__ = ["Metric", "choose_metric"]


@dataclass(frozen=True)
class Metric:
    """A per-sample score.

    Attributes
    ----------
    name : str
    score : callable
        ``(outputs (groups, samples, *), targets (samples, *)) -> (groups, samples)``, larger is better.
    loss : callable or None
        The same for a loss, smaller is better.
    binary : bool
        Whether a sample scores 0 or 1: exact McNemar and Wilson apply, and targets of one number are classes.
    """

    name: str
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None
    binary: bool


def choose_metric(metric: Any, outputs: torch.Tensor, targets: torch.Tensor) -> Metric:
    """Return the named metric, wrap a callable, or tell from one run's outputs and targets which one fits."""
    if callable(metric):
        return Metric(getattr(metric, "__name__", "metric"), _per_sample(metric), None, False)
    if metric is None:
        metric = _fitting(outputs, targets)
    if metric not in _METRICS:
        raise InputError(
            f"metric={metric!r} is unknown; use {', '.join(map(repr, _METRICS))}, or a function of (outputs, targets)."
        )
    chosen = _METRICS[metric]
    _check(chosen.name, outputs, targets)
    return chosen


def _fitting(outputs: torch.Tensor, targets: torch.Tensor) -> str:
    if targets.is_floating_point():
        return "regression"
    return "language" if targets.ndim == 2 and outputs.ndim == 3 else "classification"


def _check(name: str, outputs: torch.Tensor, targets: torch.Tensor) -> None:
    fits = {
        "classification": lambda: targets.ndim == 1 and outputs.ndim <= 2 and not targets.is_floating_point(),
        "language": lambda: outputs.ndim == 3 and targets.shape == outputs.shape[:2],
        "regression": lambda: outputs.numel() == targets.numel(),
    }[name]()
    if not fits:
        raise InputError(
            f"The model's outputs have the shape {tuple(outputs.shape)} and the targets {tuple(targets.shape)} "
            f"({targets.dtype}), which does "
            f"not fit the metric {name!r}; pass metric= as 'classification' (scores per class, whole-number "
            f"targets), 'regression', "
            "'language' (scores per token and word, a target per token), or a function."
        )
    if name == "classification" and outputs.ndim == 2 and outputs.shape[1] > 1:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= outputs.shape[1]:
            raise InputError(
                f"The targets run from {low} to {high} but the model has {outputs.shape[1]} outputs; classes must "
                f"be numbered from 0 in the "
                "order of the outputs."
            )


def _per_sample(function: Callable[..., Any]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Lift a user's function of one run's outputs to groups of runs."""

    def score(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows = [torch.as_tensor(function(one, targets)).double() for one in outputs]
        wrong = next((row for row in rows if row.shape != (len(targets),)), None)
        if wrong is not None:
            raise InputError(
                f"The metric function returned the shape {tuple(wrong.shape)} for {len(targets)} samples; it must "
                f"return one number per "
                "sample, larger is better."
            )
        return torch.stack(rows)

    return score


def _right_class(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if _one_score(outputs):
        return (outputs.reshape(len(outputs), -1) > 0).long() == targets
    return outputs.argmax(-1) == targets


def _class_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = outputs.float()
    if _one_score(outputs):
        flat = logits.reshape(len(outputs), -1)
        wanted = targets.float().expand_as(flat)
        return torch.nn.functional.binary_cross_entropy_with_logits(flat, wanted, reduction="none")
    return -logits.log_softmax(-1).gather(-1, targets.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def _one_score(outputs: torch.Tensor) -> bool:
    """Whether two classes share one score, above or below 0."""
    return outputs.ndim == 2 or outputs.shape[-1] == 1


def _right_tokens(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counted = targets >= 0
    right = (outputs.argmax(-1) == targets) & counted
    return right.double().sum(-1) / counted.sum(-1).clamp(min=1)


def _token_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counted = targets >= 0
    chosen = targets.clamp(min=0).expand(outputs.shape[:-1]).unsqueeze(-1)
    each = -outputs.float().log_softmax(-1).gather(-1, chosen).squeeze(-1)
    return (each * counted).sum(-1) / counted.sum(-1).clamp(min=1)


def _squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    wanted = targets.reshape(1, len(targets), -1).double()
    return ((outputs.reshape(len(outputs), len(targets), -1).double() - wanted) ** 2).mean(-1)


_METRICS = {
    "classification": Metric("classification", lambda o, t: _right_class(o, t).float(), _class_loss, True),
    "language": Metric("language", _right_tokens, _token_loss, False),
    "regression": Metric("regression", lambda o, t: -_squared_error(o, t), _squared_error, False),
}
