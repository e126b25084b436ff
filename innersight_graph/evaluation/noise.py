"""`noise_communities`: is the model better without some community? Chosen on validation, reported on test (Table 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.closings import ClosingRun
from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.progress import steps
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition
from innersight_graph.probe.batches import same_data
from innersight_graph.probe.closing import graph_of
from innersight_graph.statistics import matched_label_draws, mcnemar, paired_difference_interval

__all__ = ["NoiseSearch", "noise_communities"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseSearch:
    """What `noise_communities` found.

    Attributes
    ----------
    community : int
        Position of the chosen community in the partition, -1 if none raises validation accuracy.
    name : str
        Its name, ``""`` if none.
    validation_gain, test_gain : float
        Accuracy with it closed minus clean accuracy; 0 if none was chosen.
    interval : ndarray (2,)
        95 % interval of the test gain.
    pvalue : float
        Exact McNemar on the test samples; one test, since one community was chosen beforehand. 1 if none was chosen.
    discovered : bool
        The gain holds on test data: positive and ``pvalue < 0.05``.
    gains : ndarray (m,)
        Validation gain of every community; ``nan`` for silent and unclosable ones.
    baseline : dict
        Clean accuracy by split, ``"validation"`` and ``"test"``.
    random_validation, random_test : ndarray (nulls,)
        Best validation gain among random groups of equal sizes, and the test gain of that best group: what the same
        search finds in groups without meaning.
    selected_on_test : bool
        The same data served for choosing and reporting.
    """

    community: int
    name: str
    validation_gain: float
    test_gain: float
    interval: FloatArray
    pvalue: float
    discovered: bool
    gains: FloatArray
    baseline: dict[str, float]
    random_validation: FloatArray
    random_test: FloatArray
    selected_on_test: bool = False

    def finding(self) -> str:
        """Say it in one sentence."""
        stamp = " Chosen and reported on the same data: the gain is flattered." if self.selected_on_test else ""
        if self.community < 0:
            return f"Not supported: closing no community raises validation accuracy, so none is noise.{stamp}"
        verdict = "Supported" if self.discovered else "Not supported"
        return (
            f"{verdict}: {self.name} was chosen on validation data ({100 * self.validation_gain:+.1f} points when "
            f"closed); on test data "
            f"closing it changes accuracy by {100 * self.test_gain:+.1f} points (p = {self.pvalue:.3g}).{stamp}"
        )


def noise_communities(
    model: Any,
    partition: Partition,
    *,
    select: Any,
    test: Any,
    graph: Any = None,
    layers: Iterable[str] | None = None,
    value: float | str = 0.0,
    nulls: int = 0,
    seed: int | None = None,
    output: Any = None,
    allow_test_selection: bool = False,
    progress: bool = False,
) -> NoiseSearch:
    """Find the community whose closing raises accuracy most, on validation data, and look once at test data.

    Parameters
    ----------
    model : Module
        The model that the partition's graph was made from.
    partition : Partition
        Its communities; silent ones are left out.
    select, test
        Two different data sets of batches ``(inputs, targets)``: one to choose on, one to report on.
    graph : LayeredDiGraph, optional
        The partition's graph; without it the model is traced again.
    layers : iterable of str, optional
        Where to look; the paper looks in the last hidden layer. Default: every partitioned layer.
    value : float, "mean" or "resample"
        How to close.
    nulls : int, default 0
        Repeat the whole search on this many random partitions of the same sizes.
    seed : int, optional
        Names them.
    output : callable, str or int, optional
        Which part of the model's result holds the class scores.
    allow_test_selection : bool, default False
        Permit ``select`` and ``test`` to be the same data; the result is then marked.
    progress : bool, default False
        Show a bar with the time left on anything over two seconds.

    Returns
    -------
    NoiseSearch

    Raises
    ------
    InputError
        The same data for choosing and reporting (unless allowed), or no community to choose from.
    """
    flattery = "the best of several communities always looks good where it was chosen"
    same = check_apart(select, test, allow_test_selection, flattery)
    members = Members.of(graph_for(model, partition, graph, select), partition)
    chosen_layers = set(partition.layers if layers is None else layers)
    where = [g for g in members.layers if g.layer in chosen_layers]
    if not any(g.tested.any() for g in where):
        raise InputError(
            f"There is no community to choose from in the layers {sorted(chosen_layers)}; the partition has "
            f"{partition.layers}."
        )
    names = [g.layer for g in where]
    tables: list[tuple[str, NDArray[np.bool_], NDArray[np.intp]]] = [
        (g.layer, g.one_hot()[g.tested], g.communities[g.tested]) for g in where
    ]
    drawn = [(g.layer, _draws(g, nulls, seed)) for g in where]
    with ClosingRun(model, select, members.graph, names, output=output) as run:
        closable = {g.layer for g in where if run.can_close(g.layer, value)}
        gains = np.full(len(partition), np.nan)
        for layer, table, communities in steps(tables, "closings", progress):
            if layer in closable:
                gains[communities] = -run.outcome(_close(run, layer, table, value)).drop
        random = {
            layer: -run.outcome(_close(run, layer, t.reshape(-1, t.shape[-1]), value)).drop.reshape(t.shape[:2])
            for layer, t in steps(drawn, "random groups", progress)
            if nulls and layer in closable
        }
        validation = run.scores.baseline
    best = int(np.nanargmax(gains)) if np.isfinite(gains).any() else -1
    best = best if best >= 0 and gains[best] > 0 else -1
    picks = _random_picks(random, nulls)
    with ClosingRun(model, test, members.graph, names, output=output) as run:
        clean, baseline = run.scores.each, run.scores.baseline
        lost = gained = 0
        if best >= 0:
            layer = partition.layer_of(best)
            row = next(t[c == best] for name, t, c in tables if name == layer)
            each = _close(run, layer, row, value)[0]
            lost, gained = int((clean > each).sum()), int((each > clean).sum())
        tests = dict(drawn)
        random_test = np.zeros(nulls)
        for draw, (name, k, _) in enumerate(steps(picks, "random groups on test data", progress)):
            if name:
                random_test[draw] = -run.outcome(_close(run, name, tests[name][draw, k : k + 1], value)).drop[0]
        n = run.scores.n
    gain = (gained - lost) / n
    pvalue = float(mcnemar(lost, gained).pvalue) if best >= 0 else 1.0
    return NoiseSearch(
        best, partition.names[best] if best >= 0 else "", float(gains[best]) if best >= 0 else 0.0, gain,
        paired_difference_interval(gained, lost, n), pvalue, bool(gain > 0 and pvalue < 0.05), gains,
        {"validation": validation, "test": baseline}, np.array([gain for _, _, gain in picks]), random_test, same,
    )  # fmt: skip


def check_apart(select: Any, test: Any, allowed: bool, flattery: str) -> bool:
    """Return whether the data for choosing and for reporting are the same, which is refused unless allowed."""
    same = same_data(select, test)
    if same and not allowed:
        raise InputError(
            f"select and test are the same data: {flattery}. Pass validation data as select, or "
            "allow_test_selection=True and have the result say so."
        )
    return same


def graph_for(model: Any, partition: Partition, graph: Any, data: Any) -> LayeredDiGraph:
    """Return the partition's graph: the given one, or the model traced with the first sample of the data."""
    G = as_layered(graph) if graph is not None else graph_of(model, data)
    partition.check(G)
    return G


def _close(run: ClosingRun, layer: str, table: NDArray[np.bool_], value: Any) -> FloatArray:
    import torch

    return run.close(layer, torch.from_numpy(np.ascontiguousarray(table)), value)[0]


def _draws(groups: Any, nulls: int, seed: int | None) -> NDArray[np.bool_]:
    """Random groups of the tested communities' sizes: (nulls, k, n)."""
    live = np.where((groups.labels >= 0) & groups.tested[groups.labels], groups.labels, -1)
    labels = matched_label_draws(live, nulls, seed=seed, key=(groups.depth, *map(ord, groups.layer)))
    table: NDArray[np.bool_] = labels[:, None, :] == np.flatnonzero(groups.tested)[None, :, None]
    return table


def _random_picks(random: dict[str, FloatArray], nulls: int) -> list[tuple[str, int, float]]:
    """For each draw the best group over all layers: layer (empty: none gains), row, validation gain."""
    picks = []
    for draw in range(nulls):
        best = max(((float(t[draw].max()), layer) for layer, t in random.items()), default=(0.0, ""))
        gain, layer = best if best[0] > 0 else (0.0, "")
        picks.append((layer, int(random[layer][draw].argmax()) if layer else 0, gain))
    return picks
