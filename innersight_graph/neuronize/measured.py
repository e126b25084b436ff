"""Edge weights that are measured on data: Eq. 1 between maps, correlation of activations, mean contribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import nn

from innersight_graph.errors import TraceError
from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.eq1 import eq1_weights, pool_to_grid
from innersight_graph.neuronize.layers import Plan
from innersight_graph.neuronize.observe import Maps, observe
from innersight_graph.neuronize.points import layer_point, readable, samples_per_pass
from innersight_graph.neuronize.record import Trace

__all__ = ["MEASURES", "Measurement"]

Pair = tuple[int, int]
Matrices = dict[Pair, Any]


@dataclass(frozen=True)
class Measurement:
    """What a measure is given: the plan, the weights it may use, the model and the data.

    Attributes
    ----------
    pairs : the value connections by (source, target), positions in the plan.
    weights : the weights of a pair by a signed reduction ("sum") or by "auto".
    options : reading, at, size and eps of Eq. 1.
    """

    plan: Plan
    trace: Trace
    model: nn.Module
    data: Any
    pairs: Sequence[Pair]
    weights: Callable[[Pair, str], Any]
    options: Mapping[str, Any]
    progress: bool = field(default=False)

    def points(self, numbers: Sequence[int], at: str) -> dict[str, Closing]:
        """Return where the given layers can be read."""
        points = {}
        for number in numbers:
            layer = self.plan.layers[number]
            if layer.unit is None:
                continue
            point = layer_point(self.trace, layer, at)
            if point is None or not readable(point):
                raise TraceError(
                    f"The neurons of layer {layer.name!r} cannot be read at {at!r}, so edges measured on data are "
                    f"not available for it. "
                    "Use edges='auto', or name other layers."
                )
            points[layer.name] = point
        return points

    def inputs(self, numbers: Sequence[int]) -> dict[str, npt.NDArray[np.int64]]:
        """Return the inputs among the given layers, for `observe`."""
        layers = [self.plan.layers[n] for n in numbers]
        return {layer.name: layer.numbers for layer in layers if layer.numbers is not None}

    def read(self, numbers: Sequence[int], at: str, consume: Callable[[Maps, int], None]) -> int:
        """Stream the data and hand over the maps of the given layers; return the number of samples."""
        return observe(
            self.model,
            self.data,
            self.points(numbers, at),
            consume,
            inputs=self.inputs(numbers),
            samples_per_pass=samples_per_pass([self.plan.layers[n] for n in numbers]),
            progress=self.progress,
        )


def eq1_edges(task: Measurement) -> Matrices:
    """Measure Eq. 1 for every pair of convolutions that the trace connects; all other pairs keep their weights."""
    layers = task.plan.layers
    pairs = [(s, t) for s, t in task.pairs if layers[s].kind == layers[t].kind == "conv"]
    if not pairs:
        return {}
    numbers = sorted({n for pair in pairs for n in pair})
    sums: dict[Pair, torch.Tensor] = {}

    def add(maps: Maps, _samples: int) -> None:
        for s, t in pairs:
            p, q = (_on_grid(maps[layers[n].name], layers[n].positions, _common_grid(task, s, t)) for n in (s, t))
            total = eq1_weights(p, q, reading=task.options["reading"], eps=task.options["eps"])
            sums[s, t] = sums[s, t] + total if (s, t) in sums else total

    total = task.read(numbers, task.options["at"], add)
    return {pair: _present(task.weights(pair, "sum"), (value / total).cpu().numpy()) for pair, value in sums.items()}


def _common_grid(task: Measurement, source: int, target: int) -> tuple[int, ...]:
    """Return the smaller of two maps' grids, or the grid asked for."""
    first, second = task.plan.layers[source].positions, task.plan.layers[target].positions
    if task.options["size"] is not None:
        return (int(task.options["size"]),) * max(len(first), len(second))
    return min(first or (1,), second or (1,), key=lambda grid: int(np.prod(grid)))


def _on_grid(maps: torch.Tensor, grid: tuple[int, ...], target: tuple[int, ...]) -> torch.Tensor:
    """Pool maps to a grid; maps of another size than in the trace must be square."""
    if maps.shape[2] != int(np.prod(grid)):
        side = round(maps.shape[2] ** (1 / max(len(grid), 1)))
        grid = (side,) * len(grid)
        if side ** len(grid) != maps.shape[2]:
            raise TraceError(
                f"A batch gave maps of {maps.shape[2]} positions, unlike the traced sample. Use inputs of one size."
            )
    if maps.shape[2] == 1:
        return maps.expand(-1, -1, int(np.prod(target)))
    return pool_to_grid(maps, grid, target)


def _present(weights: Any, measured: npt.NDArray[np.float64]) -> Any:
    """Put measured values where the trace has a pair: an absent pair stays absent."""
    if sparse.issparse(weights):
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        data = measured[rows, weights.indices].astype(np.float32)
        return sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
    present: npt.NDArray[np.bool_] = np.any(weights != 0, axis=1)
    return np.where(present[:, None], measured, 0.0).astype(np.float32)


def correlation_edges(task: Measurement) -> Matrices:
    """Correlate, over samples, the mean activations of every connected pair of neurons at their closing points."""
    layers = task.plan.layers
    pairs = [(s, t) for s, t in task.pairs if layers[s].unit is not None or layers[s].numbers is not None]
    numbers = sorted({n for pair in pairs for n in pair})
    names = [layers[n].name for n in numbers]
    moments: dict[str, torch.Tensor] = {}
    products: dict[Pair, torch.Tensor] = {}
    shift: dict[str, torch.Tensor] = {}

    def add(maps: Maps, _samples: int) -> None:
        # Shifted by the first batch's mean, so that large means cost no digits.
        means = {name: maps[name].mean(dim=2, dtype=torch.float64) for name in names}
        for name, values in means.items():
            shift.setdefault(name, values.mean(dim=0))
            means[name] = values = values - shift[name]
            update = torch.stack([values.sum(dim=0), values.square().sum(dim=0)])
            moments[name] = moments[name] + update if name in moments else update
        for s, t in pairs:
            product = means[layers[s].name].T @ means[layers[t].name]
            products[s, t] = products[s, t] + product if (s, t) in products else product

    total = task.read(numbers, "post_act", add)
    result: Matrices = {}
    for s, t in pairs:
        (sum_p, square_p), (sum_q, square_q) = moments[layers[s].name], moments[layers[t].name]
        covariance = products[s, t] - torch.outer(sum_p, sum_q) / total
        spread = torch.outer(square_p - sum_p.square() / total, square_q - sum_q.square() / total).clamp(min=0).sqrt()
        correlation = torch.where(spread > 1e-12 * spread.max(), covariance / spread, 0.0)
        result[s, t] = _present(task.weights((s, t), "sum"), correlation.clamp(-1, 1).cpu().numpy())
    return result


def contribution_edges(task: Measurement) -> Matrices:
    """Weigh the summed weights by the source's mean activation at its closing point, over samples and positions."""
    layers = task.plan.layers
    pairs = [(s, t) for s, t in task.pairs if layers[s].unit is not None or layers[s].numbers is not None]
    numbers = sorted({s for s, _ in pairs})
    sums: dict[str, torch.Tensor] = {}

    def add(maps: Maps, _samples: int) -> None:
        for name, values in maps.items():
            total = values.mean(dim=2, dtype=torch.float64).sum(dim=0)
            sums[name] = sums[name] + total if name in sums else total

    total = task.read(numbers, "post_act", add)
    result: Matrices = {}
    for s, t in pairs:
        mean = (sums[layers[s].name] / total).cpu().numpy().astype(np.float32)
        weights = task.weights((s, t), "sum")
        if sparse.issparse(weights):
            rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
            data = weights.data * mean[rows]
            result[s, t] = sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
        else:
            result[s, t] = weights * mean[:, None]
    return result


MEASURES: Mapping[str, Callable[[Measurement], Matrices]] = {
    "eq1": eq1_edges,
    "act_corr": correlation_edges,
    "contribution": contribution_edges,
}
