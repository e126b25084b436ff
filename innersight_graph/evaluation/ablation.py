"""`Ablation`: what the model loses when a community is closed (the paper's differential outcome, Fig. 1a)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.closings import ClosingRun, Outcome, Scores
from innersight_graph.evaluation.joint import joint_closings
from innersight_graph.evaluation.members import Members, against_draws
from innersight_graph.evaluation.progress import Interrupted, steps
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.evaluation.verdicts import class_verdicts, findings_of
from innersight_graph.probe.batches import held
from innersight_graph.statistics import holm, minimum_detectable_effect

__all__ = ["Ablation"]

FloatArray = NDArray[np.float64]
Value = float | str


@final
class Ablation:
    """Accuracy drop of the live model when each community's neurons are closed, per class and overall.

    Parameters
    ----------
    model : Module
        The model that the graph was made from; it comes back bit-identical.
    data
        Batches of ``(inputs, targets)`` or a pair of tensors: held-out data.
    value : float, "mean" or "resample", default 0.0
        What closed neurons put out: a constant, their mean over the data, or their output on another sample. The others
        of 0, "mean" and "resample" are reported beside it.
    joint : int, default 1
        Also close this many communities of a layer together: all subsets up to this size, as far as they are few.
    metric : {"classification", "language", "regression"} or callable, optional
        Default: as outputs and targets suggest. A callable takes ``(outputs, targets)`` and returns one number per
        sample, larger is better.
    output : callable, str or int, optional
        Which part of the model's result holds the outputs; default ``logits`` or the first tensor.
    class_names : sequence of str, optional
    time_budget : float, default 120
        CPU seconds for random groups; fewer draws are made beyond it, and the number is reported.
    split : {"validation", "test"} or None
        What the data are; kept in the report, and used to refuse selection on test data.
    name : str, default "ablation"

    References
    ----------
    The paper's closing of communities: differential outcome, Fig. 1a, Tables 1 and 2.

    Notes
    -----
    `evaluate` returns an `Evaluation`; "drop" is clean minus closed, positive where the community helps. Arrays are
    aligned with the partition (m communities, C classes); ``nan`` where not defined. Keys that end in ``/mean`` are for
    closing at the mean.

    - ``value``: mean drop over the communities, the silent ones left out.
    - ``per_community`` (m,): overall drop; ``intervals["per_community"]`` (m, 2).
    - ``maps``: ``"class_drop"`` (m, C), drop within each class, with ``intervals["class_drop"]`` (m, C, 2);
      ``"drop/zero"``, ``"drop/mean"``, ``"drop/resample"`` (m,) and ``"class_drop/zero"``, … (m, C), side by side;
      ``"loss"``, ``"logit_shift"``, ``"kl"`` (m,), mean rise of the loss, root mean square change of the outputs, mean
      Kullback-Leibler divergence of the closed from the clean prediction (classification and language).
    - ``p_values["per_community"]`` (m,): exact McNemar, Holm over communities; ``"class_drop"`` (m, C): Holm over all
      communities and classes, a family of its own. For scores that are not 0 or 1: paired t-tests.
    - ``p_values["null"]`` (m,): the drop against random groups of equal size in the same layer (max statistic,
      family-wise); ``"specificity"`` (m,): the same for the variance of the drop over classes; ``"null/mean"``,
      ``"specificity/mean"``; ``"partition"``: {layer: p} for the mean variance of a layer's communities, Holm over
      layers.
    - ``details``: ``"baseline"`` (with ``intervals["baseline"]``), ``"n"``, ``"class_names"``, ``"class_counts"``,
      ``"class_accuracy"``, ``"n_draws"``, ``"split"``, ``"method"`` ({layer: how it was closed}), ``"joint"`` (see
      `joint_closings`), ``"minimum_detectable"`` ({"single", "family"}), ``"findings"`` (sentences).
    - ``details["null_drop"]``: {"mean", "low", "high"}, each (m,): mean and central 95 % of the random groups of the
      community's layer and size; likewise ``"null_specificity"``, ``"null_drop/mean"``, ``"null_specificity/mean"``;
      ``"null_class_drop"`` the same per class, each (m, C); ``"null_worst"``: {"mean", "high"}, each (m,), of the class
      that a random group hurts most; ``"null_class_drop/mean"``, ``"null_worst/mean"``.
    - ``details["specificity"]`` (m,): variance over classes; ``"specificity_ratio"``: {layer: communities over random
      groups}; ``"class_index"`` (m,): (largest drop - mean of the others) / (sum of their absolute values), in [-1, 1].
    - ``details["most_hurt"]``, ``"most_hurt/mean"`` (m,): class index; ``"agreement"`` (m,) bool: the same class for
      both; ``"sign_flip"`` (m,) bool: overall drops significant with opposite signs; ``"supported"`` (m,) bool:
      specificity beyond random groups for zero *and* mean; ``"named_class"`` (m,): class index, or -1 unless supported
      and both agree.

    Cost: one clean pass, then for each closing only what follows the layer, all closings batched.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        value: Value = 0.0,
        joint: int = 1,
        metric: Any = None,
        output: Any = None,
        class_names: Any = None,
        time_budget: float = 120.0,
        split: str | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(value, str) and value not in ("mean", "resample"):
            raise InputError(f"value={value!r} is no way of closing; use a number, 'mean' or 'resample'.")
        if joint < 1:
            raise InputError(
                f"joint={joint} came; it is the largest number of communities closed together, at least 1."
            )
        self.model = model
        self.data = held(data)
        self.value = value
        self.joint = int(joint)
        self.metric = metric
        self.output = output
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.time_budget = time_budget
        self.split = split
        self.name = name or "ablation"

    def evaluate(
        self,
        G: Any,
        partition: Any,
        *,
        nulls: int = 0,
        seed: int | None = None,
        progress: bool = False,
        max_memory: int | None = None,
        **options: Any,
    ) -> Evaluation:
        """Score a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        ways = _ways(self.value)
        layers = [g.layer for g in members.layers]
        with ClosingRun(
            self.model, self.data, members.graph, layers, metric=self.metric, output=self.output, max_memory=max_memory
        ) as run:
            outcomes = {
                way: run.communities(members, ways[way], outputs=way == ways_first(ways))
                for way in steps(list(ways), "ways of closing", progress)
            }
            null: dict[str, dict[str, FloatArray]] = {}
            joint: list[dict[str, Any]] = []
            stopped = False
            try:
                null = self._null(run, members, ways, nulls, seed, progress)
                joint = joint_closings(run, members, self.value, self.joint, seed=seed) if self.joint > 1 else []
            except KeyboardInterrupt:
                stopped = True
            scores, methods = run.scores, dict(run.methods)
        result = self._result(members, scores, outcomes, null, joint, methods)
        if stopped:
            said = ["Interrupted: random groups or joint closings are missing.", *result.details["findings"]]
            raise Interrupted(replace(result, details={**result.details, "partial": True, "findings": said}))
        return result

    def _null(
        self, run: ClosingRun, members: Members, ways: Mapping[str, Any], nulls: int, seed: int | None, progress: bool
    ) -> dict[str, dict[str, FloatArray]]:
        """Class counts of random groups: way -> layer -> (draws, k, 1 + C) drops, overall first."""
        if nulls < 1:
            return {}
        tested = [way for way in ways if way in (ways_first(ways), "mean")]
        started = time.process_time()
        share = self.time_budget / max(1, len(tested) * len(members.layers))
        drawn: dict[str, dict[str, FloatArray]] = {way: {} for way in tested}
        jobs = [(way, groups) for groups in members.layers for way in tested]
        for number, (way, groups) in enumerate(steps(jobs, "random groups", progress), start=1):
            labels = groups.draws(nulls, seed)
            drawn[way][groups.layer] = run.drops_of_draws(groups, labels, ways[way], deadline=started + share * number)
        enough = min(len(table) for by_layer in drawn.values() for table in by_layer.values())
        return {way: {layer: table[:enough] for layer, table in by_layer.items()} for way, by_layer in drawn.items()}

    def _result(
        self,
        members: Members,
        scores: Scores,
        outcomes: Mapping[str, Outcome],
        null: Mapping[str, Mapping[str, FloatArray]],
        joint: list[dict[str, Any]],
        methods: dict[str, str],
    ) -> Evaluation:
        first = next(iter(outcomes.values()))
        tested = members.tested
        pairs = first.paired(scores)
        maps = {"class_drop": first.class_drop, **first.extra}
        for way, outcome in outcomes.items():
            maps[f"drop/{way}"] = outcome.drop
            maps[f"class_drop/{way}"] = outcome.class_drop
        p_values: dict[str, Any] = {
            "per_community": holm(np.where(tested, pairs.pvalue, np.nan)),
            "class_drop": holm(np.where(tested[:, None], pairs.class_pvalue, np.nan)),
        }
        names = self.class_names or tuple(map(str, range(scores.n_classes)))
        details: dict[str, Any] = {
            "baseline": scores.baseline,
            "n": scores.n,
            "metric": scores.metric.name,
            "class_names": names[: scores.n_classes],
            "class_counts": scores.class_counts,
            "class_accuracy": scores.class_baseline,
            "value": self.value,
            "method": methods,
            "split": self.split,
            "joint": joint,
            "minimum_detectable": {
                "single": minimum_detectable_effect(scores.n),
                "family": minimum_detectable_effect(scores.n, tests=max(1, int(tested.sum()))),
            },
        }
        details |= _null_results(members, outcomes, null, p_values, scores)
        details |= class_verdicts(members, outcomes, p_values, scores)
        details["findings"] = findings_of(members, p_values, details)
        intervals = {
            "per_community": pairs.interval,
            "class_drop": pairs.class_interval,
            "baseline": scores.baseline_interval(),
        }
        value = float(np.nanmean(first.drop[tested])) if tested.any() else float("nan")
        return Evaluation(self.name, value, first.drop, maps, intervals, p_values, True, details)


def ways_first(ways: Mapping[str, Any]) -> str:
    """Name of the chosen way of closing."""
    return next(iter(ways))


def _ways(value: Value) -> dict[str, Any]:
    """Chosen way first, then the others of zero, mean and resample."""
    chosen = {"zero": 0.0} if value == 0 else {str(value): value}
    return chosen | {
        way: v for way, v in {"zero": 0.0, "mean": "mean", "resample": "resample"}.items() if way not in chosen
    }


def _null_results(
    members: Members,
    outcomes: Mapping[str, Outcome],
    null: Mapping[str, Mapping[str, FloatArray]],
    p_values: dict[str, Any],
    scores: Scores,
) -> dict[str, Any]:
    """Fill in the null-based p-values; return bands and ratios."""
    details: dict[str, Any] = {"n_draws": 0}
    resolution = {"drop": 1.0 / scores.n, "specificity": 1.0 / max(1, scores.n) ** 2}
    pick: dict[str, Callable[[FloatArray], FloatArray]] = {
        "drop": lambda t: t[..., 0],
        "specificity": lambda t: t[..., 1:].var(-1),
    }
    for position, (way, tables) in enumerate(null.items()):
        suffix = "" if position == 0 else f"/{way}"
        for kind, choose in pick.items():
            if kind == "specificity" and scores.n_classes < 2:
                continue
            observed = outcomes[way].drop if kind == "drop" else outcomes[way].class_drop.var(axis=1)
            by_layer = {g.layer: observed[g.communities] for g in members.layers}
            drawn = {layer: choose(table) for layer, table in tables.items()}
            result = against_draws(members, by_layer, drawn, resolution=resolution[kind])
            p_values[("null" if kind == "drop" else "specificity") + suffix] = result.pvalue
            details[f"null_{kind}{suffix}"] = {"mean": result.mean, "low": result.low, "high": result.high}
            details["n_draws"] = len(next(iter(tables.values())))
            if kind == "specificity" and not suffix:
                details |= _ratios(members, by_layer, drawn, p_values)
        if scores.n_classes > 1:
            details |= _class_bands(members, tables, suffix)
    return details


def _class_bands(members: Members, tables: Mapping[str, FloatArray], suffix: str) -> dict[str, Any]:
    """Return how far random groups of a community's layer and size move each class, and the class they move most."""
    shape = (len(members.partition), next(iter(tables.values())).shape[-1] - 1)
    band = {part: np.full(shape, np.nan) for part in ("mean", "low", "high")}
    worst = {part: np.full(shape[0], np.nan) for part in ("mean", "high")}
    for groups in members.layers:
        drops = tables[groups.layer][:, groups.tested, 1:]
        rows = groups.communities[groups.tested]
        band["mean"][rows] = drops.mean(0)
        band["low"][rows], band["high"][rows] = np.quantile(drops, [0.025, 0.975], axis=0)
        worst["mean"][rows] = drops.max(-1).mean(0)
        worst["high"][rows] = np.quantile(drops.max(-1), 0.975, axis=0)
    return {f"null_class_drop{suffix}": band, f"null_worst{suffix}": worst}


def _ratios(
    members: Members, observed: Mapping[str, FloatArray], drawn: Mapping[str, FloatArray], p_values: dict[str, Any]
) -> dict[str, Any]:
    """Per layer: mean variance over classes of the communities, over that of random partitions, with its p-value."""
    ratios, tests = {}, {}
    for groups in members.layers:
        keep = groups.tested
        if not keep.any():
            continue
        own = float(observed[groups.layer][keep].mean())
        random = drawn[groups.layer][:, keep].mean(axis=1)
        ratios[groups.layer] = own / float(random.mean()) if random.mean() > 0 else float("nan")
        tests[groups.layer] = float((1 + (random >= own - 1e-12).sum()) / (1 + len(random)))
    p_values["partition"] = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True))
    return {"specificity_ratio": ratios}
