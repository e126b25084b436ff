"""Exact occlusion of convolution layers on crops: only what a covered window can reach is computed again.

How far a window reaches is found with the model itself: NaN put into the input spreads through convolutions, norms,
activations and poolings to exactly the outputs that depend on it. Crops are aligned with the layer's stride, so each
one sees the same arrangement of paddings and poolings as the whole image; outputs near a crop's inner edges, which miss
their context, are not used. A comparison with whole images at corners, edges and centre decides whether the crops are
right for this model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.probe.batches import Batch
from innersight_graph.probe.capturing import forward_until, recorded
from innersight_graph.probe.sites import Site, neuron_axis

__all__ = ["CropPlan", "crop_changes", "plan_crops"]

# Beyond this share of the image, whole images in large batches are faster than crops.
_WORTHWHILE = 0.6


@dataclass(frozen=True)
class CropPlan:
    """Crops for one layer.

    Attributes
    ----------
    site : Site
    stride : int
        Input pixels per output pixel.
    side : tuple of int
        Height and width of a crop, multiples of the stride.
    reach : int
        Pixels beyond a window that its influence goes, and beyond an output that its context goes.
    image, maps : tuple of int
        Sizes of input and output.
    """

    site: Site
    stride: int
    side: tuple[int, int]
    reach: int
    image: tuple[int, int]
    maps: tuple[int, int]

    def starts(self, positions: NDArray[np.intp], window: int) -> NDArray[np.intp]:
        """Top left corner of each position's crop: multiples of the stride, inside the image."""
        corners = []
        for axis in range(2):
            first = positions[:, axis] - window // 2 - 2 * self.reach
            aligned = np.floor_divide(first, self.stride) * self.stride
            corners.append(np.clip(aligned, 0, self.image[axis] - self.side[axis]))
        return np.stack(corners, axis=1)


def plan_crops(model: nn.Module, batch: Batch, site: Site, window: int) -> CropPlan | None:
    """Measure how far a window reaches in one layer; None where crops are impossible or not worthwhile."""
    image = batch.args[0] if len(batch.args) == 1 and not batch.kwargs else None
    if not isinstance(image, torch.Tensor) or image.ndim != 4 or not image.is_floating_point():
        return None
    one = image[:1].clone()
    height, width = one.shape[2:]
    out = _maps(model, one, site)
    if out is None or out.ndim != 4 or height % out.shape[2] or height // out.shape[2] != width / out.shape[3]:
        return None
    stride = height // out.shape[2]
    middle = [max(0, min(n - 1, n // 2)) for n in (height, width)]
    reach = 0
    for shift in range(stride):
        marked = one.clone()
        at = [min(m + shift, n - 1) for m, n in zip(middle, (height, width), strict=True)]
        marked[:, :, at[0], at[1]] = torch.nan
        found = _maps(model, marked, site)
        hit = torch.isnan(found[0]).any(0).nonzero() if found is not None else torch.zeros(0, 2)
        if not len(hit):
            return None
        for axis in range(2):
            low, high = int(hit[:, axis].min()) * stride, (int(hit[:, axis].max()) + 1) * stride - 1
            reach = max(reach, at[axis] - low, high - at[axis])
    need = window + 4 * reach + 2 * stride
    side = tuple(min(n, -(-need // stride) * stride) for n in (height, width))
    if side[0] * side[1] > _WORTHWHILE * height * width:
        return None
    return CropPlan(site, stride, (side[0], side[1]), reach, (height, width), (int(out.shape[2]), int(out.shape[3])))


def crop_changes(
    model: nn.Module,
    image: torch.Tensor,
    clean: torch.Tensor,
    plan: CropPlan,
    positions: NDArray[np.intp],
    window: int,
    fill: float,
) -> torch.Tensor:
    """Mean squared change of every neuron's whole map: ``(n_positions, batch, n_neurons)``.

    Parameters
    ----------
    image : Tensor (batch, channels, height, width)
    clean : Tensor (batch, n_neurons, h, w)
        The layer's maps on the uncovered images.
    plan : CropPlan
    positions : ndarray of int (n_positions, 2)
        Centres of the windows.
    window, fill
        As in `occlusion_maps`.
    """
    starts = plan.starts(positions, window)
    crops, before, kept = [], [], []
    side = [n // plan.stride for n in plan.side]
    edge = -(-plan.reach // plan.stride)
    for (y, x), (top, left) in zip(positions.tolist(), starts.tolist(), strict=True):
        crop = image[:, :, top : top + plan.side[0], left : left + plan.side[1]].clone()
        rows = slice(max(0, y - window // 2 - top), max(0, y - window // 2 + window - top))
        columns = slice(max(0, x - window // 2 - left), max(0, x - window // 2 + window - left))
        crop[:, :, rows, columns] = fill
        crops.append(crop)
        a, b = top // plan.stride, left // plan.stride
        before.append(clean[:, :, a : a + side[0], b : b + side[1]])
        inner = torch.zeros(side, dtype=clean.dtype, device=clean.device)
        inner[
            0 if a == 0 else edge : side[0] if a + side[0] == plan.maps[0] else side[0] - edge,
            0 if b == 0 else edge : side[1] if b + side[1] == plan.maps[1] else side[1] - edge,
        ] = 1
        kept.append(inner)
    after = _maps(model, torch.cat(crops), plan.site)
    if after is None or list(after.shape[2:]) != side:
        raise ValueError("the model does not run on crops of its input")
    after = after.reshape(len(positions), len(image), *after.shape[1:])
    change = (after - torch.stack(before)).square_() * torch.stack(kept)[:, None, None]
    return change.sum((3, 4)) / (plan.maps[0] * plan.maps[1])


def _maps(model: nn.Module, image: torch.Tensor, site: Site) -> torch.Tensor | None:
    """One layer's maps ``(batch, n_neurons, h, w)``; None if the model cannot run on this input."""
    batch = Batch((image,), {}, None, len(image))
    seen: list[torch.Tensor] = []

    def shape_of(tensor: torch.Tensor) -> None:
        seen.append(tensor)

    try:
        with recorded(model, {site.layer: site}, detach=True, located=True, enough={site.layer: 1}, raw=shape_of):
            forward_until(model, batch)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    if not seen or seen[0].ndim != 4 or neuron_axis(seen[0].shape, site) != 1 or site.rows is not None:
        return None
    return seen[0]


def agrees(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether crops and whole images give the same changes, up to rounding."""
    scale = float(b.abs().max())
    return bool((a - b).abs().max() <= 1e-4 * scale + 1e-12)


def trial_positions(shape: tuple[int, ...]) -> Any:
    """Corners, middles of the edges, the centre and two odd places."""
    rows = sorted({0, shape[0] // 2, shape[0] - 1, shape[0] // 3, min(1, shape[0] - 1)})
    columns = sorted({0, shape[1] // 2, shape[1] - 1, (2 * shape[1]) // 3, min(3, shape[1] - 1)})
    return np.array([(y, x) for y in rows for x in columns], dtype=np.intp)
