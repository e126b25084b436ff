"""The planted benchmark's tasks: graphs with a known answer, from easy to impossible, and graphs with none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.partition import Partition
from innersight_graph.planted import (
    null_layers,
    planted_blocks,
    planted_hubs,
    planted_layers,
    planted_roles,
    planted_scale,
)

__all__ = ["TASKS", "Task", "measurements"]

Maker = Callable[[int], tuple[Any, Partition]]


@dataclass(frozen=True)
class Task:
    """One row of the leaderboard.

    Attributes
    ----------
    name : str
        ``family/setting``.
    make : callable
        Seed to (graph, truth).
    number : int or None
        Communities of each layer, for methods that must be told; None for a graph without any.
    about : str
        One line for the reader.
    slow : bool
        Left out unless asked for.
    """

    name: str
    make: Maker
    number: int | None
    about: str
    slow: bool = False

    @property
    def family(self) -> str:
        """The part of the name before the slash."""
        return self.name.split("/")[0]


def measurements(G: Any, seed: int, n_samples: int = 500) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a one-hidden-layer graph as a ReLU network on Gaussian inputs: its outputs and their covariances.

    Parameters
    ----------
    G : LayeredDiGraph
        With layers ``input``, ``hidden1``, ``output``.
    seed : int
        Of the inputs.
    n_samples : int
        How many.

    Returns
    -------
    features, similarities : dict
        What methods that look at activations need in place of a live model.
    """
    W = G.matrix("input", "hidden1")
    W = np.asarray(W.toarray() if hasattr(W, "toarray") else W, dtype=float)
    inputs = np.random.default_rng(seed).standard_normal((n_samples, W.shape[0]))
    outputs: npt.NDArray[np.float64] = np.maximum(inputs @ W, 0.0).T
    return {"hidden1": outputs}, {"hidden1": np.cov(outputs)}


def _compiled(rotate: bool, noise: float) -> Maker:
    def make(seed: int) -> tuple[Any, Partition]:
        from innersight_graph.planted.programs import compiled_programs

        model, truth = compiled_programs(rotate=rotate, noise=noise, seed=seed)
        return _graph_of(model), truth

    return make


def _merged(cross: float) -> Maker:
    def make(seed: int) -> tuple[Any, Partition]:
        from innersight_graph.planted.networks import merged_networks

        model, truth = merged_networks(cross=cross, seed=seed)
        return _graph_of(model), truth

    return make


def _graph_of(model: Any) -> Any:
    import warnings

    import torch

    from innersight_graph.neuronize import neuron_graph

    first = next(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return neuron_graph(model, example=torch.zeros(1, first.shape[1], dtype=first.dtype))


def _seeded(generator: Callable[..., tuple[Any, Partition]], *args: Any, **options: Any) -> Maker:
    return lambda seed: generator(*args, seed=seed, **options)


def _tasks() -> list[Task]:
    made = [
        Task(f"layers/{snr:g}", _seeded(planted_layers, 4, snr=snr), 4, f"signed groups, λ = {snr:g}")
        for snr in (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)
    ]
    made += [
        Task(f"roles/{s:g}", _seeded(planted_roles, s), 4, f"sign roles, strength {s:g}") for s in (0.05, 0.1, 0.2)
    ]
    made.append(Task("roles/flip 0.05", _seeded(planted_roles, 0.05, flip=True), 4, "roles whose sign flips by target"))
    made += [
        Task(f"hubs/{sigma:g}", _seeded(planted_hubs, sigma), 4, f"log-normal hubs, σ = {sigma:g}")
        for sigma in (0.5, 1.0, 1.5)
    ]
    made += [
        Task(f"signs of blocks/{e:g}", _seeded(planted_blocks, e, keep=0.2), 4, f"largest 20 % as signs, noise {e:g}")
        for e in (0.6, 1.0, 1.2)
    ]
    made += [
        Task(f"blocks/{e:g}", _seeded(planted_blocks, e), 4, f"dense weights, noise {e:g}") for e in (1.0, 1.2, 1.4)
    ]
    unequal = (96, 80, 48, 16)
    made.append(Task("blocks/unequal", _seeded(planted_blocks, 1.0, sizes=unequal), 4, f"groups of {unequal}"))
    made += [
        Task(f"programs/{n:g}", _compiled(False, n), 4, f"compiled programs, weight noise {n:g}") for n in (0.0, 0.1)
    ]
    made += [
        Task(f"merged/{c:g}", _merged(c), 3, f"three trained nets in one, cross weights {c:g}") for c in (0.0, 0.2, 0.5)
    ]
    made += [
        Task(f"null/{kind}", _seeded(null_layers, kind), None, "nothing to find")
        for kind in ("signs", "hubs", "balance", "gaussian", "heavy", "init")
    ]
    made.append(Task("null/rotated", _compiled(True, 0.0), None, "programs in a rotated basis: no neuron is special"))
    made.append(Task("scale/11008", _seeded(planted_scale), 64, "11,008 neurons, 64 groups", slow=True))
    return made


TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _tasks()})
