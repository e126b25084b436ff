"""The runs behind every closing score: clean outputs once, then groups in batches, reduced to counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.members import LayerGroups, Members
from innersight_graph.evaluation.metrics import Metric, choose_metric
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batch, Batches, Held
from innersight_graph.probe.capturing import eager
from innersight_graph.probe.groups import GroupCloser
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites
from innersight_graph.probe.tables import check_table
from innersight_graph.statistics import mcnemar, paired_difference_interval, wilson_interval

__all__ = ["ClosingRun", "Outcome", "Scores", "classified"]

FloatArray = NDArray[np.float64]
DEFAULT_MEMORY = 2**28


@dataclass(frozen=True)
class Scores:
    """The clean model's per-sample scores.

    Attributes
    ----------
    metric : Metric
    each : ndarray (n,)
        Score of each sample.
    classes : ndarray of int (n,) or None
        Class of each sample, where targets are classes.
    n_classes : int
        0 without classes.
    """

    metric: Metric
    each: FloatArray
    classes: NDArray[np.intp] | None
    n_classes: int

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.each)

    @property
    def baseline(self) -> float:
        """Mean score."""
        return float(self.each.mean())

    @property
    def class_counts(self) -> NDArray[np.intp]:
        """Samples per class."""
        return (
            np.bincount(self.classes, minlength=self.n_classes)
            if self.classes is not None
            else np.zeros(0, dtype=np.intp)
        )

    @property
    def class_baseline(self) -> FloatArray:
        """Mean score per class."""
        if self.classes is None:
            return np.zeros(0)
        return _ratio(np.bincount(self.classes, self.each, self.n_classes), self.class_counts)

    def baseline_interval(self) -> FloatArray:
        """95 % interval of the mean score."""
        if self.metric.binary:
            return wilson_interval(int(self.each.sum()), self.n)
        half = _t_quantile(self.n) * self.each.std(ddof=min(1, self.n - 1)) / np.sqrt(self.n)
        return np.array([self.baseline - half, self.baseline + half])


@dataclass(frozen=True)
class Paired:
    """Intervals and uncorrected p-values of drops, overall and per class."""

    interval: FloatArray
    pvalue: FloatArray
    class_interval: FloatArray
    class_pvalue: FloatArray


@dataclass(frozen=True)
class Outcome:
    """Scores of the samples under each closing.

    Attributes
    ----------
    each : ndarray (m, n)
    drop : ndarray (m,)
        Clean mean minus closed mean.
    class_drop : ndarray (m, C)
    extra : mapping of str to ndarray (m,)
        Rise of the loss, logit shift, divergence.
    """

    each: FloatArray
    drop: FloatArray
    class_drop: FloatArray
    extra: Mapping[str, FloatArray] = field(default_factory=dict)

    def paired(self, scores: Scores) -> Paired:
        """Test each drop on the same samples: exact McNemar for right and wrong, a paired t-test otherwise."""
        change = scores.each[None, :] - self.each
        if not scores.metric.binary:
            interval, pvalue = _paired_t(change)
            return Paired(interval, pvalue, np.zeros((len(change), 0, 2)), np.zeros((len(change), 0)))
        lost, gained = (change > 0).astype(np.float64), (change < 0).astype(np.float64)
        by_class = [_class_sums(table, scores) for table in (lost, gained)]
        results = [
            paired_difference_interval(lost.sum(1), gained.sum(1), scores.n),
            mcnemar(lost.sum(1), gained.sum(1)).pvalue,
            paired_difference_interval(by_class[0], by_class[1], scores.class_counts),
            mcnemar(by_class[0], by_class[1]).pvalue,
        ]
        for result in results:
            result[np.isnan(self.drop)] = np.nan
        return Paired(*results)


def classified(
    model: Any, data: Any, members: Members, *, output: Any = None, max_memory: int | None = None
) -> tuple[Scores, NDArray[np.intp], dict[str, NDArray[np.float32]]]:
    """Run a classifier once: its scores, what it predicts, and what each neuron does on each sample, by layer."""
    layers = [g.layer for g in members.layers]
    settings: dict[str, Any] = {"metric": "classification", "max_memory": max_memory, "tables": True}
    with ClosingRun(model, data, members.graph, layers, output=output, **settings) as run:
        return run.scores, run.predictions, run.tables


class ClosingRun:
    """A session on the live model: a clean pass on entering, any closings inside, all restored after."""

    def __init__(
        self,
        model: Any,
        data: Any,
        G: LayeredDiGraph,
        layers: list[str],
        *,
        metric: Any = None,
        output: Any = None,
        max_memory: int | None = None,
        tables: bool = False,
    ) -> None:
        self._limit = max_memory
        self._parts: dict[str, list[NDArray[np.float32]]] | None = {} if tables else None
        self._arguments = (model, data, G, layers)
        self._metric, self._output = metric, output
        self._memory = max_memory or DEFAULT_MEMORY
        self._stack = ExitStack()

    def __enter__(self) -> ClosingRun:
        model, data, G, layers = self._arguments
        try:
            inner = self._stack.enter_context(undisturbed(model))
            self._stack.enter_context(eager(model))
            closable = [layer for layer in layers if G.layer(layer).kind != "input"]
            self._closer = GroupCloser(inner, find_sites(inner, G, closable), self._output, self._memory)
            self._batches = Held(Batches(data, inner, need_targets=True), self._memory // 4)
            self._run_clean()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def methods(self) -> Mapping[str, str]:
        """How each layer was closed."""
        return self._closer.methods

    @property
    def predictions(self) -> NDArray[np.intp]:
        """The clean model's class of each sample."""
        clean = self._clean.reshape(len(self._clean), -1)
        chosen = clean.argmax(1) if clean.shape[1] > 1 else (clean[:, 0] > 0).long()
        return np.asarray(chosen.cpu().numpy(), dtype=np.intp)

    @property
    def tables(self) -> dict[str, NDArray[np.float32]]:
        """What each neuron put out for each sample ``(n_neurons, n_samples)``, as `activations` has it."""
        parts = {} if self._parts is None else self._parts
        return {layer: np.ascontiguousarray(np.concatenate(found).T) for layer, found in parts.items()}

    def communities(self, members: Members, value: Any, *, outputs: bool = False) -> Outcome:
        """Close every community in turn; ``outputs``: also measure loss, logit shift and divergence."""
        m = len(members.partition)
        each = np.full((m, self.scores.n), np.nan)
        extra = {key: np.zeros(m) for key in (("loss", "logit_shift", "kl") if outputs else ())}
        for groups in members.layers:
            if not self.can_close(groups.layer, value):
                continue
            table = torch.from_numpy(groups.one_hot())
            own, more = self.close(groups.layer, table, value, outputs=outputs)
            each[groups.communities] = own
            for key, values in more.items():
                extra[key][groups.communities] = values
        return self.outcome(each, {key: v for key, v in extra.items() if v.any() or key == "logit_shift"})

    def can_close(self, layer: str, value: Any) -> bool:
        """Whether the layer's neurons can be made to put out this value; input and hidden projections may not."""
        if layer not in self._closer.sites:
            return False
        return layer not in self._closer.by_weights or (not isinstance(value, str) and value == 0)

    def outcome(self, each: FloatArray, extra: Mapping[str, FloatArray] | None = None) -> Outcome:
        """Wrap per-sample scores (m, n)."""
        change = self.scores.each[None, :] - each
        class_drop = _ratio(_class_sums(change, self.scores), self.scores.class_counts)
        return Outcome(each, change.mean(axis=1), class_drop, extra or {})

    def close(
        self, layer: str, table: torch.Tensor, value: Any, *, outputs: bool = False
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Scores (groups, n) under the closings of one layer; a row of ``table`` is a group."""
        return self.close_joint({layer: table}, value, outputs=outputs)

    def close_joint(
        self, tables: Mapping[str, torch.Tensor], value: Any, *, outputs: bool = False
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Scores under closings that may span layers: row i of every table is closed together."""
        count = len(next(iter(tables.values())))
        each = np.empty((count, self.scores.n))
        extra = {key: np.zeros(count) for key in (("loss", "logit_shift", "kl") if outputs else ())}
        for position, (groups, samples, result, batch) in self._results(tables, value):
            where = slice(position + samples.start, position + samples.stop)
            targets = batch.targets[samples]  # type: ignore[index]
            each[groups, where] = self.scores.metric.score(result, targets).double().cpu().numpy()
            if outputs:
                clean = self._clean[where].to(result.device)[None]
                self._add_extra(extra, groups, result, clean, targets)
        return each, {key: values / self.scores.n for key, values in extra.items()} | (
            {"logit_shift": np.sqrt(extra["logit_shift"] / self.scores.n)} if outputs else {}
        )

    def drops_of_draws(
        self, groups: LayerGroups, labels: NDArray[np.intp], value: Any, *, deadline: float = float("inf")
    ) -> FloatArray:
        """Measure drops of random partitions, ``(draws, k, 1 + C)``: overall, then per class; fewer when late."""
        k = len(groups.sizes)
        drops = np.zeros((len(labels), k, 1 + self.scores.n_classes))
        if not self.can_close(groups.layer, value):
            return np.full_like(drops, np.nan)
        done, step = 0, 8
        while done < len(labels) and (done < 19 or time.process_time() < deadline):
            part = labels[done : done + step]
            table = part[:, None, :] == np.arange(k)[None, :, None]
            drops[done : done + len(part)] = self._drop_table(
                groups.layer, table.reshape(-1, table.shape[-1]), value
            ).reshape(len(part), k, -1)
            done += len(part)
            step = 32
        # The silent community was not drawn again: its rows closed nothing.
        return drops[:done]

    def _drop_table(self, layer: str, table: NDArray[np.bool_], value: Any) -> FloatArray:
        scores = self.scores
        sums = torch.zeros(len(table), 1 + scores.n_classes, dtype=torch.float64)
        for position, (groups, samples, result, batch) in self._results({layer: torch.from_numpy(table)}, value):
            targets = batch.targets[samples]  # type: ignore[index]
            score = scores.metric.score(result, targets)
            indicator = self._indicator[position + samples.start : position + samples.stop].to(score.device)
            sums[groups] += (score.to(indicator.dtype) @ indicator).double().cpu()
        counts = np.concatenate([[scores.n], scores.class_counts])
        clean = np.concatenate([[scores.baseline], scores.class_baseline])
        drops: FloatArray = clean[None, :] - _ratio(sums.numpy(), counts)
        return drops

    def _results(
        self, tables: Mapping[str, torch.Tensor], value: Any
    ) -> Iterator[tuple[int, tuple[slice, slice, torch.Tensor, Batch]]]:
        """Yield the outputs of all groups on all batches, with the position of the batch's first sample."""
        position = 0
        fill: Any = self._means if value == "mean" else value
        for batch in self._batches:
            for groups, samples, result in self._closer.run_joint(batch, tables, fill):
                yield position, (groups, samples, result, batch)
            position += batch.size

    def _run_clean(self) -> None:
        outputs: list[torch.Tensor] = []
        wanted: list[torch.Tensor] = []
        totals: dict[str, torch.Tensor | float] = {}
        for batch in self._batches:
            result, clean = self._closer.clean(batch)
            if not outputs:
                metric = choose_metric(self._metric, result, batch.targets)  # type: ignore[arg-type]
            if len(result) != batch.size:
                raise InputError(
                    f"The model returned {tuple(result.shape)} for a batch of {batch.size} samples; its outputs "
                    f"must have one row per "
                    "sample. Choose the right part of the result with output=."
                )
            if not bool(torch.isfinite(result).all()):
                raise InputError(
                    "The model's outputs are NaN or infinite on these data, so no drop can be measured; check its "
                    "weights and the data."
                )
            outputs.append(result)
            wanted.append(batch.targets)  # type: ignore[arg-type]
            for layer, means in clean.items():
                totals[layer] = totals.get(layer, 0.0) + means.sum(0)
                if self._parts is not None:
                    self._parts.setdefault(layer, []).append(means.float().cpu().numpy())
            if self._parts is not None:
                check_table(self._parts, self._limit)
        self._clean = torch.cat(outputs)
        samples = len(self._clean)
        self._means = {layer: total / samples for layer, total in totals.items()}
        targets = torch.cat(wanted)
        each = metric.score(self._clean[None], targets)[0].double().cpu().numpy()
        classes, n_classes = None, 0
        if metric.binary:
            classes = targets.cpu().numpy().astype(np.intp)
            wide = self._clean.ndim == 2 and self._clean.shape[1] > 1
            n_classes = int(self._clean.shape[1]) if wide else 2
        self.scores = Scores(metric, each, classes, n_classes)
        ones = torch.ones(samples, 1)
        marks = (
            torch.nn.functional.one_hot(torch.from_numpy(classes), n_classes)
            if classes is not None
            else torch.zeros(samples, 0)
        )
        self._indicator = torch.cat([ones, marks.float()], dim=1) if metric.binary else ones.double()

    def _add_extra(
        self,
        extra: dict[str, FloatArray],
        groups: slice,
        result: torch.Tensor,
        clean: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        metric = self.scores.metric
        per_sample = range(2, result.ndim)
        shift = (
            ((result - clean).double() ** 2).flatten(2).mean(2) if len(per_sample) else (result - clean).double() ** 2
        )
        extra["logit_shift"][groups] += shift.sum(1).cpu().numpy()
        if metric.loss is not None:
            rise = metric.loss(result, targets).double() - metric.loss(clean, targets).double()
            extra["loss"][groups] += rise.sum(1).cpu().numpy()
        if metric.name in ("classification", "language") and result.ndim > 2 and result.shape[-1] > 1:
            before, after = clean.double().log_softmax(-1), result.double().log_softmax(-1)
            divergence = (before.exp() * (before - after)).sum(-1)
            divergence = divergence.flatten(2).mean(2) if divergence.ndim > 2 else divergence
            extra["kl"][groups] += divergence.sum(1).cpu().numpy()


def _class_sums(table: FloatArray, scores: Scores) -> FloatArray:
    """Sum over the samples of each class, (m, C)."""
    if scores.classes is None:
        return np.zeros((len(table), 0))
    member = (scores.classes[:, None] == np.arange(scores.n_classes)[None, :]).astype(np.float64)
    sums: FloatArray = np.asarray(table @ member, dtype=np.float64)
    return sums


def _ratio(sums: NDArray[Any], counts: NDArray[Any]) -> FloatArray:
    shares: FloatArray = np.divide(
        sums, counts, out=np.zeros(np.broadcast_shapes(sums.shape, counts.shape)), where=counts > 0
    )
    return shares


def _paired_t(change: FloatArray) -> tuple[FloatArray, FloatArray]:
    from scipy import stats

    n = change.shape[1]
    mean, error = change.mean(axis=1), change.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(change))
    half = _t_quantile(n) * error
    t = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    pvalue = np.where(error > 0, 2 * stats.t.sf(np.abs(t), max(n - 1, 1)), np.where(mean == 0, 1.0, 0.0))
    return np.stack([mean - half, mean + half], axis=-1), pvalue


def _t_quantile(n: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, max(n - 1, 1)))
