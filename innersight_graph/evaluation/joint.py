"""Closing several communities of a layer together (Table 1): all subsets while few, greedy and sampled beyond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innersight_graph.evaluation.closings import ClosingRun
from innersight_graph.evaluation.members import LayerGroups, Members

__all__ = ["MAX_SUBSETS", "joint_closings"]

# Subsets per layer that are all closed; beyond, greedy growth and a sample.
MAX_SUBSETS = 4096


def joint_closings(
    run: ClosingRun, members: Members, value: Any, size: int, *, seed: int | None = None
) -> list[dict[str, Any]]:
    """Close subsets of 2 to ``size`` communities of each layer.

    Returns
    -------
    list of dict
        ``communities``: positions in the partition; ``layer``; ``drop``; ``class_drop`` (C,); ``accuracy``;
        ``interaction``: the drop minus the sum of the single drops (of a pair: drop(AB) - drop(A) - drop(B); negative:
        one covers for the other's loss only once, positive: they back each other up); ``found``: ``"all"``,
        ``"greedy"`` or ``"sampled"``.
    """
    results = []
    for groups in members.layers:
        if not run.can_close(groups.layer, value):
            continue
        one_hot = groups.one_hot()
        single = _drops(run, groups.layer, one_hot, value)[0]
        for subsets, found in _subsets(run, groups, one_hot, value, min(size, len(one_hot)), seed):
            drops, class_drops = _drops(run, groups.layer, _unions(one_hot, subsets), value)
            for subset, drop, class_drop in zip(subsets, drops, class_drops, strict=True):
                results.append(
                    {
                        "communities": [int(groups.communities[k]) for k in subset],
                        "layer": groups.layer,
                        "drop": float(drop),
                        "class_drop": class_drop,
                        "accuracy": run.scores.baseline - float(drop),
                        "interaction": float(drop - single[list(subset)].sum()),
                        "found": found,
                    }
                )
    return results


def _subsets(
    run: ClosingRun, groups: LayerGroups, one_hot: NDArray[np.bool_], value: Any, size: int, seed: int | None
) -> Iterator[tuple[list[tuple[int, ...]], str]]:
    """Subsets of 2 to ``size`` groups with how they were found."""
    k = len(one_hot)
    if sum(comb(k, r) for r in range(2, size + 1)) <= MAX_SUBSETS:
        everything = [subset for r in range(2, size + 1) for subset in combinations(range(k), r)]
        if everything:
            yield everything, "all"
        return
    grown: tuple[int, ...] = ()
    path = []
    for _ in range(size):
        options = [tuple(sorted((*grown, c))) for c in range(k) if c not in grown]
        drops = _drops(run, groups.layer, _unions(one_hot, options), value)[0]
        grown = options[int(drops.argmax())]
        if len(grown) > 1:
            path.append(grown)
    yield path, "greedy"
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed or 0, groups.depth])))
    sampled: set[tuple[int, ...]] = set()
    while len(sampled) < min(MAX_SUBSETS // 4, comb(k, size)):
        sampled.add(tuple(sorted(rng.choice(k, int(rng.integers(2, size + 1)), replace=False).tolist())))
    yield sorted(sampled - set(path)), "sampled"


def _unions(one_hot: NDArray[np.bool_], subsets: Sequence[tuple[int, ...]]) -> NDArray[np.bool_]:
    return np.array([one_hot[list(subset)].any(axis=0) for subset in subsets])


def _drops(
    run: ClosingRun, layer: str, table: NDArray[np.bool_], value: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    outcome = run.outcome(run.close(layer, torch.from_numpy(table), value)[0])
    return outcome.drop, outcome.class_drop
