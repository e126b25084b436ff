"""How much each neuron's output changes when a window of the input is covered, for every position of the window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batch, Batches, Held, Watch, plainly
from innersight_graph.probe.capturing import eager, forward, forward_until, recorded
from innersight_graph.probe.cropping import CropPlan, agrees, crop_changes, plan_crops, trial_positions
from innersight_graph.probe.functions import locate_points
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import Site, find_sites
from innersight_graph.probe.windows import window_changes

__all__ = ["Canvas", "Maps", "canvas_of", "occlusion_maps"]

FloatArray = NDArray[np.float64]
# Inputs run at once; larger chunks leave the cache of a CPU.
_CPU_CHUNK_BYTES = 2**22
# The same for recomputed windows, which pass through several layers at a time.
_CPU_WINDOW_BYTES = 2**24
# Blocks of samples whose sums are kept apart, for intervals.
_BLOCKS = 10


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

    @property
    def is_image(self) -> bool:
        """Whether positions are the pixels of pictures with channels first."""
        return len(self.grid) == 2 and self.folded[-1] == 1 and len(self.sample) == 3

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
    blocks : dict of layer to ndarray (n_blocks, n_neurons, *grid)
        The same over all samples but those of one block, each sample being in one; for intervals.
    rooted : dict of layer to ndarray (n_groups, *grid)
        Mean over samples of the root of the mean over the members of each group that was asked for.
    canvas : Canvas
    n : int
        Samples.
    method : dict of layer to str
    """

    squared: dict[str, FloatArray]
    blocks: dict[str, FloatArray]
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
    watch: Watch = plainly,
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
    watch : callable
        ``(steps, what they are) -> the same steps``: sees how far the sweep over a batch has come.
    """
    names = list(layers)
    with undisturbed(model) as inner, eager(model), torch.no_grad():
        batches = Held(Batches(data, inner), max_memory // 4)
        canvas = canvas_of(batches.first(), grid)
        positions = np.stack(np.meshgrid(*(np.arange(0, n, stride) for n in canvas.grid), indexing="ij"), -1)
        positions = positions.reshape(-1, len(canvas.grid)).astype(np.intp)
        few = batches.first().rows(slice(0, min(2, batches.first().size)))
        sites = locate_points(inner, few, find_sites(inner, G, names))
        tally = _Tally.of({name: G.layer(name).width for name in names}, len(positions), groups or {}, max_memory // 4)
        with recorded(inner, sites, detach=True, located=True) as store:
            forward(inner, few)
        for name in [name for name, calls in store.calls.items() if not calls]:
            # No tensor of its own in the forward pass: nothing can be measured.
            tally.unreadable(name)
            del sites[name]
        method = {name: "batched windows" if name in sites else "not readable" for name in names}
        sweep = _Sweep(inner, canvas, positions, window, fill, max_memory, watch)
        within = _agreeing(sweep, few.rows(slice(0, 1)), sites, G) if canvas.is_image else {}
        method |= dict.fromkeys(within, "recomputed windows")
        rest = {name: site for name, site in sites.items() if name not in within}
        plans = _crop_plans(sweep, few.rows(slice(0, 1)), rest) if canvas.is_image else {}
        method |= dict.fromkeys(plans, "crops")
        rest = {name: site for name, site in rest.items() if name not in plans}
        n = 0
        for batch in batches:
            if within:
                sweep.windows(batch, within, tally)
            for plan in plans.values():
                sweep.crops(batch, plan, tally)
            if rest:
                sweep.whole(batch, rest, tally)
            tally.next(batch.size)
            n += batch.size
    return tally.maps(canvas, positions, n, method)


@dataclass
class _Tally:
    """Sums over samples of every neuron's change at every position, in blocks of samples.

    Attributes
    ----------
    squared : dict of layer to Tensor (n_blocks, n_neurons, n_positions)
    rooted : dict of layer to Tensor (n_groups, n_positions)
    members : dict of layer to Tensor (n_groups, n_neurons)
        Each group's members with weights that add up to 1.
    samples : int
        Samples that are done with.
    """

    squared: dict[str, torch.Tensor]
    rooted: dict[str, torch.Tensor]
    members: dict[str, torch.Tensor]
    samples: int = 0

    @classmethod
    def of(
        cls, widths: Mapping[str, int], n_positions: int, groups: Mapping[str, NDArray[np.bool_]], memory: int
    ) -> _Tally:
        """Make empty sums, with as many blocks as fit into the memory."""
        blocks = max(1, min(_BLOCKS, memory // max(1, 8 * n_positions * sum(widths.values()))))
        shares = {name: torch.from_numpy(table).double() for name, table in groups.items()}
        return cls(
            {name: torch.zeros(blocks, n, n_positions, dtype=torch.float64) for name, n in widths.items()},
            {name: torch.zeros(len(table), n_positions, dtype=torch.float64) for name, table in groups.items()},
            {name: share / share.sum(1, keepdim=True).clamp(min=1) for name, share in shares.items()},
        )

    def add(self, name: str, first: int, chosen: slice, change: torch.Tensor) -> None:
        """Add the changes ``(n_positions, samples, n_neurons)`` of samples that begin at ``first`` of this batch."""
        change = change.double().cpu()
        table = self.squared[name]
        if len(table) == 1:
            table[0, :, chosen] += change.sum(1).T
        else:
            block = (self.samples + first + torch.arange(change.shape[1])) % len(table)
            table[:, :, chosen].index_add_(0, block, change.permute(1, 2, 0))
        if name in self.members:
            self.rooted[name][:, chosen] += (change @ self.members[name].T).sqrt().sum(1).T

    def next(self, samples: int) -> None:
        """Go on to the next batch."""
        self.samples += samples

    def unreadable(self, name: str) -> None:
        """Mark a layer that nothing can be measured of."""
        for table in (self.squared, self.rooted):
            if name in table:
                table[name][:] = torch.nan

    def maps(self, canvas: Canvas, positions: NDArray[np.intp], n: int, method: dict[str, str]) -> Maps:
        """Divide by the samples and put the positions on their grid."""
        squared, blocks = {}, {}
        for name, table in self.squared.items():
            total = table.sum(0)
            squared[name] = _on_grid(total / n, canvas, positions)
            own = [len(range(block, n, len(table))) for block in range(len(table))]
            parts = [(total - part) / (n - size) for part, size in zip(table, own, strict=True) if 0 < size < n]
            blocks[name] = np.array([_on_grid(part, canvas, positions) for part in parts]).reshape(
                len(parts), len(total), *canvas.grid
            )
        rooted = {name: _on_grid(table / n, canvas, positions) for name, table in self.rooted.items()}
        return Maps(squared, blocks, rooted, canvas, n, method)


@dataclass(frozen=True)
class _Sweep:
    """Three ways to move the window over all positions of a batch; each adds what it finds to a tally."""

    model: nn.Module
    canvas: Canvas
    positions: NDArray[np.intp]
    window: int
    fill: float
    max_memory: int
    watch: Watch = plainly

    def at(self, positions: NDArray[np.intp]) -> _Sweep:
        """Return the same sweep over other positions."""
        return replace(self, positions=positions, watch=plainly)

    def tried(self, layers: Mapping[str, int]) -> _Tally:
        """Return an empty tally for a trial."""
        return _Tally.of(layers, len(self.positions), {}, 0)

    def windows(self, batch: Batch, sites: Mapping[str, Site], tally: _Tally) -> None:
        """Recompute the changed windows layer by layer; see `window_changes`."""
        image = batch.args[0]
        # A window's work is not known beforehand: two positions tell how much memory one takes.
        each = self._window_bytes(image[:1], sites)
        budget = self._budget(image, _CPU_WINDOW_BYTES, each)
        rows = max(1, min(batch.size, budget // each))
        at_once = max(1, budget // (each * rows))
        for start in range(0, batch.size, rows):
            for first in self.watch(range(0, len(self.positions), at_once), "windows"):
                chosen = slice(first, first + at_once)
                part = image[start : start + rows]
                found = window_changes(self.model, part, sites, self.positions[chosen], self.window, self.fill)
                for name, change in found.items():
                    tally.add(name, start, chosen, change)

    def crops(self, batch: Batch, plan: CropPlan, tally: _Tally) -> None:
        """Run crops of the image; see `cropping`."""
        image, name = batch.args[0], plan.site.layer
        clean: list[torch.Tensor] = []
        with recorded(self.model, {name: plan.site}, detach=True, located=True, raw=clean.append):
            forward(self.model, batch)
        outputs = clean[-1].shape[1] * (plan.side[0] // plan.stride) * (plan.side[1] // plan.stride)
        each = (image.shape[1] * plan.side[0] * plan.side[1] + 3 * outputs) * image.element_size()
        budget = self._budget(image, _CPU_CHUNK_BYTES, each)
        rows = max(1, min(batch.size, budget // each))
        at_once = max(1, budget // (each * rows))
        for start in range(0, batch.size, rows):
            part = slice(start, min(start + rows, batch.size))
            for first in self.watch(range(0, len(self.positions), at_once), "windows"):
                chosen = slice(first, first + at_once)
                positions = self.positions[chosen]
                change = crop_changes(self.model, image[part], clean[-1][part], plan, positions, self.window, self.fill)
                tally.add(name, start, chosen, change)

    def whole(self, batch: Batch, sites: Mapping[str, Site], tally: _Tally) -> None:
        """Run whole inputs, many positions in one batch."""
        with recorded(self.model, sites, detach=True, located=True) as clean:
            forward(self.model, batch)
        calls = {name: len(found) for name, found in clean.calls.items() if found}
        before = {name: clean[name] for name in calls}
        own = _tensors(batch)[0]
        sample_bytes = (sum(b.numel() for b in before.values()) + own.numel()) * own.element_size() // batch.size
        budget = self._budget(own, _CPU_CHUNK_BYTES, sample_bytes * batch.size)
        rows = max(1, min(batch.size, budget // max(1, sample_bytes)))
        at_once = max(1, budget // max(1, sample_bytes * rows))
        for start in range(0, batch.size, rows):
            part = batch.rows(slice(start, start + rows))
            for first in self.watch(range(0, len(self.positions), at_once), "windows"):
                chosen = slice(first, first + at_once)
                hidden = self.canvas.cover(self.positions[chosen], self.window).to(own.device)
                covered = _covered(part, hidden, self.fill)
                with recorded(self.model, sites, detach=True, located=True, enough=calls) as store:
                    forward_until(self.model, covered)
                for name in before:
                    old = before[name][start : start + rows]
                    new = store[name].reshape(len(hidden), *old.shape)
                    # Reduced over positions in the model's precision, summed over samples in float64.
                    tally.add(name, start, chosen, (new - old).square_().mean(3))

    def _budget(self, tensor: torch.Tensor, on_cpu: int, least: int) -> int:
        budget = self.max_memory // 4
        return min(budget, max(on_cpu, least)) if tensor.device.type == "cpu" else budget

    def _window_bytes(self, image: torch.Tensor, sites: Mapping[str, Site]) -> int:
        middle = np.array([[n // 2 for n in self.canvas.grid]], dtype=np.intp)
        widest: list[int] = [1]
        window_changes(self.model, image, sites, middle, self.window, self.fill, widest=widest)
        return max(widest)


def _agreeing(sweep: _Sweep, few: Batch, sites: Mapping[str, Site], G: LayeredDiGraph) -> dict[str, Site]:
    """Layers whose windows can be followed and, tried on one image, give what whole images give."""
    if len(few.args) != 1 or few.kwargs or few.args[0].ndim != 4 or not sites:
        return {}
    trial = sweep.at(trial_positions(sweep.canvas.grid))
    found = window_changes(trial.model, few.args[0], sites, trial.positions, trial.window, trial.fill)
    if not found:
        return {}
    whole = trial.tried({name: G.layer(name).width for name in found})
    trial.whole(few, {name: sites[name] for name in found}, whole)
    return {
        name: sites[name]
        for name, change in found.items()
        if agrees(change.double().cpu().sum(1).T, whole.squared[name][0])
    }


def _crop_plans(sweep: _Sweep, few: Batch, sites: Mapping[str, Site]) -> dict[str, CropPlan]:
    """Layers for which crops are worthwhile and, tried on one image, give what whole images give."""
    plans: dict[str, CropPlan] = {}
    trial = sweep.at(trial_positions(sweep.canvas.grid))
    for name, site in sites.items():
        plan = plan_crops(trial.model, few, site, trial.window)
        if plan is None:
            continue
        whole, found = (trial.tried({name: site.width or 0}) for _ in range(2))
        trial.whole(few, {name: site}, whole)
        try:
            trial.crops(few, plan, found)
        except (RuntimeError, ValueError, IndexError):
            continue
        if agrees(found.squared[name], whole.squared[name]):
            plans[name] = plan
    return plans


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
