"""`prune_to_key`: how far a model can be cut down to its key communities, against random groups (Table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innersight_graph.errors import UnsupportedLayerError
from innersight_graph.evaluation.closings import ClosingRun
from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.noise import check_apart, graph_for
from innersight_graph.evaluation.progress import steps
from innersight_graph.evaluation.removal import Removal, remove_neurons
from innersight_graph.partition import Partition
from innersight_graph.statistics import matched_label_draws

__all__ = ["Pruning", "prune_to_key"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Pruning:
    """The whole curve from the full model to one without any neuron of the partition.

    Attributes
    ----------
    order : tuple of int
        Communities in the order they are closed, the least needed first (judged on validation data).
    kept : ndarray of int (m + 1,)
        Neurons of the partition left after each step; ``kept[0]`` is all of them.
    validation, test : ndarray (m + 1,)
        Accuracy after each step.
    random : ndarray (nulls, m + 1)
        Test accuracy of the same search over random groups of the same sizes, interpolated to the same numbers of
        neurons.
    key : tuple of int
        Communities that stay: the smallest set on the curve whose validation accuracy is within ``tolerance`` of the
        full model's.
    key_step : int
        Position of that set on the curve.
    removal : Removal or None
        The smaller model without the other communities' neurons.
    refusal : str
        Why there is no smaller model, ``""`` if there is one.
    selected_on_test : bool
    """

    order: tuple[int, ...]
    kept: NDArray[np.intp]
    validation: FloatArray
    test: FloatArray
    random: FloatArray
    key: tuple[int, ...]
    key_step: int
    removal: Removal | None
    refusal: str
    selected_on_test: bool = False

    @property
    def model(self) -> torch.nn.Module | None:
        """The smaller model, or None."""
        return None if self.removal is None else self.removal.model

    def against_random(self) -> float:
        """Average test accuracy along the curve minus that of random groups at equal numbers of neurons."""
        if not len(self.random) or len(self.test) < 3:
            return float("nan")
        return float((self.test[1:-1] - self.random.mean(axis=0)[1:-1]).mean())

    def finding(self) -> str:
        """Say it in one sentence."""
        stamp = " Chosen and reported on the same data: the figures are flattered." if self.selected_on_test else ""
        said = (
            f"{len(self.key)} of {len(self.order)} communities ({self.kept[self.key_step]} of {self.kept[0]} "
            f"neurons) keep test accuracy at "
            f"{100 * self.test[self.key_step]:.1f} % (full model {100 * self.test[0]:.1f} %)."
        )
        difference = self.against_random()
        if np.isfinite(difference):
            verdict = "better" if difference > 0 else "worse"
            beyond = float((self.random.mean(axis=1) < self.test.mean()).mean())
            said += (
                f" At equal numbers of neurons the curve lies {abs(100 * difference):.1f} points {verdict} than "
                f"that of random groups of the same "
                f"sizes (above {100 * beyond:.0f} % of them)."
            )
        return said + stamp


def prune_to_key(
    model: Any,
    partition: Partition,
    *,
    select: Any,
    test: Any,
    graph: Any = None,
    tolerance: float = 0.01,
    greedy: bool = True,
    nulls: int = 20,
    seed: int | None = None,
    physical: bool = True,
    output: Any = None,
    allow_test_selection: bool = False,
    progress: bool = False,
) -> Pruning:
    """Close communities one after another, the least needed first, and cut the model down to those that matter.

    Parameters
    ----------
    model : Module
        The model that the partition's graph was made from; it is not changed.
    partition : Partition
        Its communities; the silent ones are free and go first.
    select, test
        Two different data sets of ``(inputs, targets)`` batches: one decides the order, one is reported.
    graph : LayeredDiGraph, optional
        The partition's graph; without it the model is traced again.
    tolerance : float, default 0.01
        Loss of validation accuracy that the key set may cost.
    greedy : bool, default True
        Measure again after each step (``m (m + 1) / 2`` closings); False: rank once by loss per neuron.
    nulls : int, default 20
        Random partitions of the same sizes that go through the same search.
    seed : int, optional
        Names them.
    physical : bool, default True
        Build the smaller model.
    output : callable, str or int, optional
        Which part of the model's result holds the class scores.
    allow_test_selection : bool, default False
        Permit ``select`` and ``test`` to be the same data; the result is then marked.
    progress : bool, default False
        Show a bar with the time left on anything over two seconds.

    Returns
    -------
    Pruning

    Raises
    ------
    InputError
        The same data for choosing and reporting (unless allowed).
    """
    flattery = "the order of pruning would be fitted to what is reported"
    same = check_apart(select, test, allow_test_selection, flattery)
    members = Members.of(graph_for(model, partition, graph, select), partition)
    layers = [g.layer for g in members.layers]
    own = _Groups.of(members)
    others = _Groups.drawn(members, nulls, seed)
    with ClosingRun(model, select, members.graph, layers, output=output) as run:
        # The own partition first, then the random ones.
        searches = [_search(run, groups, greedy) for groups in steps([own, *others], "orders of pruning", progress)]
        (order, validation), random_orders = searches[0], [order for order, _ in searches[1:]]
    with ClosingRun(model, test, members.graph, layers, output=output) as run:
        reported = _curve(run, own, order)
        random = np.array(
            [
                _along(own, order, groups, o, _curve(run, groups, o))
                for groups, o in steps(list(zip(others, random_orders, strict=True)), "random groups", progress)
            ]
        )
    enough = np.flatnonzero(validation >= validation[0] - tolerance - 1e-12)
    step = int(enough.max())
    removal, refusal = (
        (None, "not asked for") if not physical else _cut(model, members, own, order[:step], select, output)
    )
    return Pruning(
        tuple(order), own.left(order), validation, reported, random.reshape(len(others), len(order) + 1),
        tuple(sorted(order[step:])), step, removal, refusal, same,
    )  # fmt: skip


@dataclass(frozen=True)
class _Groups:
    """Groups over all layers: group i has the neurons ``tables[layer][i]``."""

    tables: dict[str, NDArray[np.bool_]]
    sizes: NDArray[np.intp]

    @classmethod
    def of(cls, members: Members) -> _Groups:
        m = len(members.partition)
        tables = {}
        for groups in members.layers:
            tables[groups.layer] = np.zeros((m, len(groups.labels)), dtype=bool)
            tables[groups.layer][groups.communities] = groups.one_hot()
        return cls(tables, members.sizes)

    @classmethod
    def drawn(cls, members: Members, nulls: int, seed: int | None) -> list[_Groups]:
        m = len(members.partition)
        found = [
            cls({g.layer: np.zeros((m, len(g.labels)), dtype=bool) for g in members.layers}, members.sizes)
            for _ in range(nulls)
        ]
        for groups in members.layers:
            draws = matched_label_draws(groups.labels, nulls, seed=seed, key=(groups.depth, *map(ord, groups.layer)))
            for one, labels in zip(found, draws, strict=True):
                one.tables[groups.layer][groups.communities] = labels[None, :] == np.arange(len(groups.sizes))[:, None]
        return found

    def unions(self, sets: list[list[int]]) -> dict[str, torch.Tensor]:
        """One row per set: all its groups closed."""
        return {
            layer: torch.from_numpy(np.array([table[s].any(axis=0) for s in sets]))
            for layer, table in self.tables.items()
        }

    def left(self, order: list[int]) -> NDArray[np.intp]:
        """Neurons left after each step."""
        return int(self.sizes.sum()) - np.concatenate([[0], np.cumsum(self.sizes[order])]).astype(np.intp)


def _search(run: ClosingRun, groups: _Groups, greedy: bool) -> tuple[list[int], FloatArray]:
    """Order in which groups go, and the accuracy after each step."""
    m = len(groups.sizes)
    if not greedy:
        drops = run.outcome(run.close_joint(groups.unions([[i] for i in range(m)]), 0.0)[0]).drop
        order = np.argsort(drops / np.maximum(groups.sizes, 1), kind="stable").tolist()
        return order, _curve(run, groups, order)
    gone: list[int] = []
    curve = [run.scores.baseline]
    while len(gone) < m:
        options = [i for i in range(m) if i not in gone]
        each = run.close_joint(groups.unions([[*gone, i] for i in options]), 0.0)[0]
        accuracy = each.mean(axis=1)
        # Equal accuracies: the larger group goes first.
        best = max(range(len(options)), key=lambda k: (accuracy[k], groups.sizes[options[k]], -options[k]))
        gone.append(options[best])
        curve.append(float(accuracy[best]))
    return gone, np.array(curve)


def _curve(run: ClosingRun, groups: _Groups, order: list[int]) -> FloatArray:
    sets = [order[: i + 1] for i in range(len(order))]
    return np.concatenate([[run.scores.baseline], run.close_joint(groups.unions(sets), 0.0)[0].mean(axis=1)])


def _along(own: _Groups, order: list[int], other: _Groups, other_order: list[int], curve: FloatArray) -> FloatArray:
    """Another curve at this one's numbers of neurons."""
    return np.interp(own.left(order), other.left(other_order)[::-1], curve[::-1])


def _cut(
    model: Any, members: Members, own: _Groups, gone: list[int], data: Any, output: Any
) -> tuple[Removal | None, str]:
    neurons = {}
    for layer, table in own.tables.items():
        cut = np.flatnonzero(table[gone].any(axis=0)) if gone else np.zeros(0, dtype=np.intp)
        if len(cut) == table.shape[1]:
            # A layer of no neurons is no layer: one stays, which is closed in the masked model.
            return None, f"every neuron of layer {layer!r} would go, and a layer cannot be empty"
        neurons[layer] = cut
    try:
        return remove_neurons(model, members.graph, neurons, data, output=output), ""
    except UnsupportedLayerError as error:
        return None, str(error)
