"""`track`: communities and their scores across the checkpoints of a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from innersight_graph.errors import InputError
from innersight_graph.evaluation.progress import steps
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition, agreement

__all__ = ["Checkpoint", "track"]


@dataclass(frozen=True)
class Checkpoint:
    """One step of `track`.

    Attributes
    ----------
    label : str
    graph : LayeredDiGraph
    partition : Partition
    scores : dict of str to float
        Value of each evaluator.
    evaluations : dict of str to Evaluation
    ari : float or None
        Agreement with the previous checkpoint's partition (mean over layers), None at the first.
    """

    label: str
    graph: LayeredDiGraph
    partition: Partition
    scores: dict[str, float]
    evaluations: dict[str, Any]
    ari: float | None


def track(
    model: Any,
    checkpoints: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]],
    example: Any,
    *,
    detector: Callable[[LayeredDiGraph], Partition],
    evaluators: Callable[[Any, LayeredDiGraph], Iterable[Any]] = lambda model, G: (),
    nulls: int = 0,
    seed: int | None = None,
    progress: bool = False,
) -> list[Checkpoint]:
    """Detect and score communities at every checkpoint of one model.

    Parameters
    ----------
    model : Module
        Gets each checkpoint's weights in turn (in a copy; the given model is not changed).
    checkpoints : mapping of label to state_dict, or iterable of state_dicts
        In order of training.
    example : tensor, tuple or mapping
        One input, to trace the model.
    detector : callable
        ``graph -> Partition``, e.g. ``lambda G: em_communities(G, seed=0)``.
    evaluators : callable, optional
        ``(model, graph) -> evaluators``: made anew for every checkpoint, as its weights differ.
    nulls, seed
        As in `Ablation.evaluate` and its kin.
    progress : bool, default False
        Show a bar with the time left on anything over two seconds.

    Returns
    -------
    list of Checkpoint

    Raises
    ------
    InputError
        No checkpoints, or one that does not fit the model.
    """
    import copy

    from innersight_graph.neuronize.build import neuron_graph

    named = (
        dict(checkpoints)
        if isinstance(checkpoints, Mapping)
        else {str(i): state for i, state in enumerate(checkpoints)}
    )
    if not named:
        raise InputError("No checkpoints came; pass the state_dicts of a training run, as a list or by label.")
    found: list[Checkpoint] = []
    for label, state in steps(list(named.items()), "checkpoints", progress):
        own = copy.deepcopy(model)
        try:
            own.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"Checkpoint {label!r} does not fit the model: {reason}. Pass state_dicts of this model."
            ) from error
        G = neuron_graph(own, example=example)
        P = detector(G)
        results = {e.name: e.evaluate(G, P, nulls=nulls, seed=seed) for e in evaluators(own, G)}
        ari = float(agreement(found[-1].partition, P).ari) if found else None
        found.append(Checkpoint(label, G, P, {name: float(e) for name, e in results.items()}, results, ari))
    return found
