"""Scores of a partition on the live network: what closing communities does, against random groups of their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

import innersight_graph as isg
from innersight_graph.evaluation.members import LayerGroups, Members
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.capturing import eager
from innersight_graph.probe.groups import GroupCloser
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites
from real.networks import Network

Floats = NDArray[np.float64]
ACCURACY, LOG_PROBABILITY = 0, 1


class Closings:
    """The network under closings: drops of accuracy and of the right answer's log-probability within each group."""

    def __init__(self, network: Network, G: isg.LayeredDiGraph) -> None:
        self.network, self.graph = network, G
        self.of_group = torch.nn.functional.one_hot(network.groups).double()
        self.of_group /= self.of_group.sum(0)
        self._stack = ExitStack()
        self._effects: dict[str, Floats] = {}

    def __enter__(self) -> Closings:
        inner = self._stack.enter_context(undisturbed(self.network.model))
        self._stack.enter_context(eager(inner))
        self._closer = GroupCloser(inner, find_sites(inner, self.graph, self.network.layers))
        (self._batch,) = Batches((self.network.inputs, self.network.targets), inner, batch_size=10_000)
        logits, levels = self._closer.clean(self._batch)
        self._clean = self._by_group(logits[None])
        self._means = {layer: values.mean(0) for layer, values in levels.items()}
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def drops(self, layer: str, table: NDArray[np.bool_], *, mean: bool = False) -> Floats:
        """Drops (2, n_closings, n_groups) when each row of the table is closed, at zero or at the mean."""
        out = torch.zeros(2, len(table), self.of_group.shape[1], dtype=torch.float64)
        fill: Any = self._means if mean else 0.0
        for rows, samples, logits in self._closer.run(self._batch, layer, torch.from_numpy(table), fill):
            out[:, rows] += self._by_group(logits, samples)
        drops: Floats = (self._clean - out).numpy()
        return drops

    def effects(self, layer: str) -> Floats:
        """Drops of log-probability (n_neurons, n_groups) when single neurons are closed; made once."""
        if layer not in self._effects:
            single = np.eye(self.graph.layer(layer).width, dtype=bool)
            self._effects[layer] = self.drops(layer, single)[LOG_PROBABILITY]
        return self._effects[layer]

    def _by_group(self, logits: torch.Tensor, samples: slice = slice(None)) -> torch.Tensor:
        targets = self.network.targets[samples]
        right = (logits.argmax(-1) == targets).double()
        sure = logits.double().log_softmax(-1).gather(-1, targets.expand(logits.shape[:-1])[..., None])[..., 0]
        return torch.stack([right, sure]) @ self.of_group[samples]


def score(
    closings: Closings, P: isg.Partition, *, nulls: int, seed: int, mean: bool = False
) -> Mapping[str, dict[str, float]]:
    """Score every layer of a partition, at the mean too if asked; `FIELDS` in `table` says what is measured."""
    return {
        groups.layer: _score_layer(closings, groups, nulls, seed, mean)
        for groups in Members.of(closings.graph, P).layers
        if groups.layer in closings.network.layers and groups.tested.any()
    }


def _score_layer(closings: Closings, groups: LayerGroups, nulls: int, seed: int, also_mean: bool) -> dict[str, float]:
    own = groups.one_hot()[groups.tested]
    labels = groups.draws(nulls, seed)
    random = (labels[:, None, :] == np.flatnonzero(groups.tested)[None, :, None]).reshape(-1, own.shape[1])
    shape = (2, nulls, len(own), -1)
    zero, zero_null = closings.drops(groups.layer, own), closings.drops(groups.layer, random).reshape(shape)
    beyond = _beyond(zero[LOG_PROBABILITY], zero_null[LOG_PROBABILITY])
    at_mean: dict[str, float] = {}
    if also_mean:
        mean = closings.drops(groups.layer, own, mean=True)[LOG_PROBABILITY]
        mean_null = closings.drops(groups.layer, random, mean=True).reshape(shape)[LOG_PROBABILITY]
        beyond_mean, same = _beyond(mean, mean_null), zero[LOG_PROBABILITY].argmax(1) == mean.argmax(1)
        at_mean = {"share_mean": float(beyond_mean.mean()), "named": float((beyond & beyond_mean & same).mean())}
    spread, spread_null = zero.var(-1).mean(1), zero_null.var(-1).mean(2)
    p = (1 + (spread_null[LOG_PROBABILITY] >= spread[LOG_PROBABILITY]).sum()) / (nulls + 1)
    return {
        "communities": len(own),
        "ratio": _ratio(spread[ACCURACY], spread_null[ACCURACY].mean()),
        "ratio_lp": _ratio(spread[LOG_PROBABILITY], spread_null[LOG_PROBABILITY].mean()),
        "p": float(p),
        "share": float(beyond.mean()),
        **at_mean,
        "range": float(np.ptp(zero[ACCURACY], axis=1).mean()),
        "range_null": float(np.ptp(zero_null[ACCURACY], axis=2).mean()),
        **_single_neurons(closings, groups),
    }


def _beyond(own: Floats, random: Floats) -> NDArray[np.bool_]:
    """Whether a community's range over groups exceeds that of 95 % of random communities of its size."""
    beyond: NDArray[np.bool_] = np.ptp(own, axis=1) > np.quantile(np.ptp(random, axis=2), 0.95, axis=0) + 1e-9
    return beyond


def _ratio(own: float, random: float) -> float:
    return float(own / random) if random > 0 else float("nan")


def _single_neurons(closings: Closings, groups: LayerGroups) -> dict[str, float]:
    """Variance of single neurons' effects that the labels explain (null 0), and agreement with preferred groups."""
    live = np.flatnonzero((groups.labels >= 0) & groups.tested[groups.labels])
    labels = groups.labels[live]
    effects = closings.effects(groups.layer)[live]
    k, n = len(np.unique(labels)), len(live)
    within = sum(float(((effects[labels == c] - effects[labels == c].mean(0)) ** 2).sum()) for c in np.unique(labels))
    total = float(((effects - effects.mean(0)) ** 2).sum())
    explained = 1 - within / total * (n - 1) / (n - k) if n > k and total > 0 else float("nan")
    return {"r2": explained, "ami": float(adjusted_mutual_info_score(effects.argmax(1), labels))}
