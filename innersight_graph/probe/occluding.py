"""How much each neuron's output changes when a window of the input is covered, for every position of the window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batch, Batches
from innersight_graph.probe.capturing import eager, forward, forward_until, recorded
from innersight_graph.probe.cropping import CropPlan, agrees, crop_changes, plan_crops, trial_positions
from innersight_graph.probe.functions import locate_points
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import Site, find_sites

__all__ = ["Canvas", "Maps", "canvas_of", "occlusion_maps"]

FloatArray = NDArray[np.float64]
# Inputs run at once; larger chunks leave the cache of a CPU.
_CPU_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Canvas:
    """How positions lie in one sample of the model's first input.

    Attributes
    ----------
    grid : tuple of int
        (height, width) of images, (length,) of sequences.
    sample : tuple of int
        Shape of one sample.
    folded : tuple of int
        The same values as (outer, *grid, inner): positions stand in the middle.
    """

    grid: tuple[int, ...]
    sample: tuple[int, ...]
    folded: tuple[int, ...]

    def cover(self, positions: NDArray[np.intp], window: int) -> torch.Tensor:
        """Which values each window hides: bool (n_positions, *sample); windows are cut at the borders."""
        hidden = torch.ones(len(positions), *self.grid, dtype=torch.bool)
        for axis, length in enumerate(self.grid):
            centre = torch.from_numpy(positions[:, axis])[:, None]
            reach = torch.arange(length)[None, :] - centre
            inside = (reach >= -(window // 2)) & (reach < window - window // 2)
            along = [len(positions)] + [1] * len(self.grid)
            along[axis + 1] = length
            hidden &= inside.reshape(along)
        folded = hidden.unsqueeze(1).unsqueeze(-1).expand(len(positions), *self.folded)
        return folded.reshape(len(positions), *self.sample)


@dataclass(frozen=True)
class Maps:
    """What one pass over all windows found, ready for any partition.

    Attributes
    ----------
    squared : dict of layer to ndarray (n_neurons, *grid)
        Mean over samples of the mean squared change over the neuron's positions; ``nan`` at windows that were skipped.
    rooted : dict of layer to ndarray (n_groups, *grid)
        Mean over samples of the root of the mean over the members of each group that was asked for.
    canvas : Canvas
    n : int
        Samples.
    method : dict of layer to str
    """

    squared: dict[str, FloatArray]
    rooted: dict[str, FloatArray]
    canvas: Canvas
    n: int
    method: dict[str, str]


def canvas_of(batch: Batch, grid: tuple[int, ...] | None = None) -> Canvas:
    """Tell how positions lie in a batch: pictures, flattened square pictures, sequences of tokens or of vectors.

    ``grid`` settles it where the shape alone does not: (height, width), or (length,).
    """
    first = _tensors(batch)[0]
    sample = tuple(first.shape[1:])
    size = int(np.prod(sample)) if sample else 1
    if grid is None:
        grid = _usual_grid(sample, first.is_floating_point())
    positions = int(np.prod(grid)) if grid else 0
    if not positions or size % positions or len(grid) not in (1, 2):
        raise InputError(
            f"Inputs of shape {sample} do not lie on a grid of {grid}; pass grid=(height, width) of a picture or "
            f"grid=(length,) of a "
            "sequence, whose product divides the number of values."
        )
    leading = sample[: len(grid)] == grid and len(sample) > len(grid)
    folded = (1, *grid, size // positions) if leading else (size // positions, *grid, 1)
    return Canvas(tuple(grid), sample, folded)


def occlusion_maps(
    model: nn.Module,
    data: Any,
    G: LayeredDiGraph,
    layers: Iterable[str],
    *,
    window: int,
    stride: int,
    fill: float,
    grid: tuple[int, ...] | None = None,
    groups: Mapping[str, NDArray[np.bool_]] | None = None,
    max_memory: int = 2**28,
) -> Maps:
    """Cover every window in turn and measure every neuron of the layers.

    Parameters
    ----------
    model, data, G, layers
        As in `activations`.
    window, stride : int
        Side of the window, and distance between the centres that are tried.
    fill : float
        What stands in the window.
    grid : tuple of int, optional
        See `canvas_of`.
    groups : mapping of layer to bool (n_groups, n_neurons), optional
        Groups for which the root is taken per sample, as Eq. 36 is printed.
    max_memory : int
        Bytes that the covered inputs and recorded outputs may take at a time.
    """
    names = list(layers)
    with undisturbed(model) as inner, eager(model), torch.no_grad():
        batches = list(Batches(data, inner))
        canvas = canvas_of(batches[0], grid)
        positions = np.stack(np.meshgrid(*(np.arange(0, n, stride) for n in canvas.grid), indexing="ij"), -1)
        positions = positions.reshape(-1, len(canvas.grid)).astype(np.intp)
        few = batches[0].rows(slice(0, min(2, batches[0].size)))
        sites = locate_points(inner, few, find_sites(inner, G, names))
        squared = {name: torch.zeros(G.layer(name).width, len(positions), dtype=torch.float64) for name in names}
        rooted = {
            name: torch.zeros(len(table), len(positions), dtype=torch.float64) for name, table in (groups or {}).items()
        }
        with recorded(inner, sites, detach=True, located=True) as store:
            forward(inner, few)
        for name in [name for name, calls in store.calls.items() if not calls]:
            # No tensor of its own in the forward pass: nothing can be measured.
            squared[name][:] = torch.nan
            if name in rooted:
                rooted[name][:] = torch.nan
            del sites[name]
        method = dict.fromkeys(names, "batched windows")
        method |= {name: "not readable" for name in names if name not in sites}
        plans = {} if groups else _crop_plans(inner, batches[0], sites, canvas, window, fill)
        for name, plan in plans.items():
            method[name] = "crops"
            _add_crops(inner, batches, plan, positions, window, fill, squared[name], max_memory)
        rest = {name: site for name, site in sites.items() if name not in plans}
        for batch in batches if rest else ():
            _add_batch(inner, batch, rest, canvas, positions, window, fill, squared, rooted, groups or {}, max_memory)
        n = sum(batch.size for batch in batches)
    return Maps(
        {name: _on_grid(table / n, canvas, positions) for name, table in squared.items()},
        {name: _on_grid(table / n, canvas, positions) for name, table in rooted.items()},
        canvas, n, method,
    )  # fmt: skip


def _crop_plans(
    model: nn.Module, batch: Batch, sites: Mapping[str, Site], canvas: Canvas, window: int, fill: float
) -> dict[str, CropPlan]:
    """Layers for which crops are worthwhile and, tried on one image, give what whole images give."""
    plans: dict[str, CropPlan] = {}
    few = batch.rows(slice(0, 1))
    if canvas.folded[-1] != 1 or len(canvas.grid) != 2:
        return plans
    for name, site in sites.items():
        plan = plan_crops(model, few, site, window)
        if plan is None:
            continue
        places = trial_positions(canvas.grid)
        whole = {name: torch.zeros(site.width or 0, len(places), dtype=torch.float64)}
        _add_batch(model, few, {name: site}, canvas, places, window, fill, whole, {}, {}, 2**26)
        found = torch.zeros_like(whole[name])
        try:
            _add_crops(model, [few], plan, places, window, fill, found, 2**26)
        except (RuntimeError, ValueError, IndexError):
            continue
        if agrees(found, whole[name]):
            plans[name] = plan
    return plans


def _add_crops(
    model: nn.Module,
    batches: Iterable[Batch],
    plan: CropPlan,
    positions: NDArray[np.intp],
    window: int,
    fill: float,
    squared: torch.Tensor,
    max_memory: int,
) -> None:
    for batch in batches:
        image = batch.args[0]
        clean: list[torch.Tensor] = []
        with recorded(model, {plan.site.layer: plan.site}, detach=True, located=True, raw=clean.append):
            forward(model, batch)
        outputs = len(squared) * (plan.side[0] // plan.stride) * (plan.side[1] // plan.stride)
        each = (image.shape[1] * plan.side[0] * plan.side[1] + 3 * outputs) * image.element_size()
        budget = max_memory // 4
        if image.device.type == "cpu":
            budget = min(budget, max(_CPU_CHUNK_BYTES, each))
        rows = max(1, min(batch.size, budget // each))
        at_once = max(1, budget // (each * rows))
        for start in range(0, batch.size, rows):
            part = slice(start, min(start + rows, batch.size))
            for first in range(0, len(positions), at_once):
                chosen = slice(first, first + at_once)
                change = crop_changes(model, image[part], clean[-1][part], plan, positions[chosen], window, fill)
                squared[:, chosen] += change.double().sum(1).T.cpu()


def _add_batch(
    model: nn.Module,
    batch: Batch,
    sites: Mapping[str, Site],
    canvas: Canvas,
    positions: NDArray[np.intp],
    window: int,
    fill: float,
    squared: dict[str, torch.Tensor],
    rooted: dict[str, torch.Tensor],
    groups: Mapping[str, NDArray[np.bool_]],
    max_memory: int,
) -> None:
    with recorded(model, sites, detach=True, located=True) as clean:
        forward(model, batch)
    calls = {name: len(found) for name, found in clean.calls.items() if found}
    before = {name: clean[name] for name in calls}
    own = _tensors(batch)[0]
    sample_bytes = (sum(b.numel() for b in before.values()) + own.numel()) * own.element_size() // batch.size
    budget = max_memory // 4
    if own.device.type == "cpu":
        budget = min(budget, max(_CPU_CHUNK_BYTES, sample_bytes * batch.size))
    rows = max(1, min(batch.size, budget // max(1, sample_bytes)))
    at_once = max(1, budget // max(1, sample_bytes * rows))
    members = {name: torch.from_numpy(table).to(own.device).double() for name, table in groups.items()}
    for start in range(0, batch.size, rows):
        part = batch.rows(slice(start, start + rows))
        for first in range(0, len(positions), at_once):
            chosen = slice(first, first + at_once)
            hidden = canvas.cover(positions[chosen], window).to(own.device)
            covered = _covered(part, hidden, fill)
            with recorded(model, sites, detach=True, located=True, enough=calls) as store:
                forward_until(model, covered)
            for name in before:
                old = before[name][start : start + rows]
                new = store[name].reshape(len(hidden), *old.shape)
                # Reduced over positions in the model's precision, summed over samples in float64.
                change = (new - old).square_().mean(3).double()
                squared[name][:, chosen] += change.sum(1).T.cpu()
                if name in members:
                    share = members[name] / members[name].sum(1, keepdim=True).clamp(min=1)
                    rooted[name][:, chosen] += (change @ share.T).sqrt().sum(1).T.cpu()


def _covered(batch: Batch, hidden: torch.Tensor, fill: float) -> Batch:
    """Every sample under every window, one after another; other inputs are repeated as they are."""
    first = _tensors(batch)[0]
    count = len(hidden)

    def expand(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.ndim or len(leaf) != batch.size:
            return leaf
        repeated = leaf.unsqueeze(0).expand(count, *leaf.shape)
        if leaf is first:
            value = torch.as_tensor(fill, dtype=leaf.dtype, device=leaf.device)
            repeated = torch.where(hidden.unsqueeze(1), value, repeated)
        return repeated.reshape(count * batch.size, *leaf.shape[1:])

    args, kwargs = torch.utils._pytree.tree_map(expand, (batch.args, batch.kwargs))
    return Batch(args, kwargs, None, count * batch.size)


def _on_grid(table: torch.Tensor, canvas: Canvas, positions: NDArray[np.intp]) -> FloatArray:
    full = np.full((len(table), *canvas.grid), np.nan)
    full[(slice(None), *positions.T)] = table.numpy()
    return full


def _tensors(batch: Batch) -> list[torch.Tensor]:
    leaves = torch.utils._pytree.tree_leaves((batch.args, batch.kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim]


def _usual_grid(sample: tuple[int, ...], floating: bool) -> tuple[int, ...]:
    if not floating:
        return sample[-1:]
    if len(sample) >= 2:
        return sample[-2:]
    side = round(sample[0] ** 0.5) if sample else 0
    return (side, side) if sample and side * side == sample[0] else sample
