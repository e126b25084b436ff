"""Pictures and activations of communities: sensitivity maps, densities by class, the images that activate them most."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from innersight_graph._html.packing import clip, column, rounded
from innersight_graph.errors import InputError

if TYPE_CHECKING:
    from innersight_graph._html.scene import Scene
    from innersight_graph.evaluation.result import Evaluation

__all__ = ["activation_by_box", "heat_by_box", "picture_record", "samples_by_box"]

# Maps and images larger than this are averaged down: 64 x 64 bytes are 5 KB in base64.
LARGEST_SIDE = 64
DENSITY_POINTS = 28
SAMPLES = 6


def heat_by_box(boxes: dict[str, dict[str, Any]], scene: Scene, evaluations: Iterable[Evaluation]) -> dict[int, float]:
    """Add each community's sensitivity map (`Occlusion`) to its record; return the largest value of each layer."""
    found = next((e for e in evaluations if "heat" in e.maps and e.maps["heat"].ndim in (2, 3)), None)
    if found is None:
        return {}
    maps = np.nan_to_num(np.asarray(found.maps["heat"], dtype=float))
    maps = maps[:, None] if maps.ndim == 2 else maps  # a sequence is a picture of one row
    top: dict[int, float] = {}
    for box in scene.boxes:
        if box.community is None or box.community >= len(maps):
            continue
        heat = shrink(maps[box.community])
        largest = float(heat.max(initial=0.0))
        top[box.layer] = max(top.get(box.layer, 0.0), largest)
        boxes[box.id]["map"] = {
            "w": heat.shape[1], "h": heat.shape[0], "top": rounded(largest),
            "values": column(heat / largest if largest > 0 else heat, "share"),
        }  # fmt: skip
    return top


def activation_by_box(
    boxes: dict[str, dict[str, Any]], scene: Scene, evaluations: Iterable[Evaluation], n_classes: int
) -> bool:
    """Add each community's mean activation by class (`ActivationLevel`); say whether there was any."""
    found = next((e for e in evaluations if "level" in e.maps and "targets" in e.details), None)
    if found is None:
        return False
    levels, targets = np.asarray(found.maps["level"], dtype=float), np.asarray(found.details["targets"])
    for box in scene.boxes:
        if box.community is None or box.community >= len(levels):
            continue
        values = levels[box.community]
        low, high = float(np.nanmin(values, initial=0.0)), float(np.nanmax(values, initial=0.0))
        groups = [density(values[targets == k], low, high) for k in range(n_classes)]
        boxes[box.id]["activation"] = {"range": rounded([low, high]), "groups": groups}
    return True


def density(values: npt.NDArray[np.float64], low: float, high: float) -> list[Any]:
    """Mean, and a smoothed histogram from `low` to `high` scaled to 0..99."""
    values = values[np.isfinite(values)]
    if not values.size:
        return [None, [0] * DENSITY_POINTS]
    counts, _ = np.histogram(values, bins=DENSITY_POINTS, range=(low, high) if high > low else (low, low + 1.0))
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.4) ** 2)
    smooth = np.convolve(counts.astype(float), kernel, mode="same")
    return [rounded(float(values.mean())), np.rint(99 * smooth / smooth.max()).astype(int).tolist()]


def samples_by_box(scene: Scene, evaluations: Iterable[Evaluation]) -> dict[str, list[int]]:
    """Return the numbers of the images that activate each community most."""
    found = next((e for e in evaluations if "level" in e.maps), None)
    if found is None:
        return {}
    levels = np.asarray(found.maps["level"], dtype=float)
    return {
        box.id: np.argsort(-np.nan_to_num(levels[box.community]), kind="stable")[:SAMPLES].tolist()
        for box in scene.boxes
        if box.community is not None
        and box.community < len(levels)
        and np.ptp(np.nan_to_num(levels[box.community])) > 0
    }


def picture_record(
    boxes: dict[str, dict[str, Any]], given: Any, names: Sequence[str], samples: Mapping[str, list[int]]
) -> dict[str, Any] | None:
    """Return the mean image and the images that some community needs, and tell each box which are its own."""
    if given is None:
        return None
    images, targets = as_pictures(given)
    wanted = sorted({number for numbers in samples.values() for number in numbers if number < len(images)})
    place = {number: i for i, number in enumerate(wanted)}
    for box, numbers in samples.items():
        boxes[box]["samples"] = [place[number] for number in numbers if number in place]
    low, high = float(images.min(initial=0.0)), float(images.max(initial=1.0))
    unit = high - low if high > low else 1.0

    def packed(picture: npt.NDArray[np.float64]) -> dict[str, Any]:
        small = shrink((picture - low) / unit)
        return {"w": small.shape[1], "h": small.shape[0], "grey": column(small, "share")}

    def label(number: int) -> str:
        if targets is None or number >= len(targets):
            return f"image {number}"
        kind = int(targets[number])
        return clip(names[kind] if 0 <= kind < len(names) else kind, 40)

    return {
        "mean": packed(images.mean(axis=0)) if len(images) else None,
        "samples": [packed(images[number]) | {"name": label(number)} for number in wanted],
    }


def as_pictures(given: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any] | None]:
    """Return grey pictures (n, height, width) and their targets or None.

    Raises
    ------
    InputError
        The array cannot be read as pictures.
    """
    images, targets = given if isinstance(given, tuple | list) and len(given) == 2 else (given, None)
    array = np.asarray(images, dtype=float)
    if array.ndim == 4:
        array = array.mean(axis=1)
    if array.ndim == 2 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        side = math.isqrt(array.shape[1])
        array = array.reshape(-1, side, side)
    if array.ndim != 3:
        raise InputError(
            f"images has shape {np.shape(images)}; (n, height, width), (n, channels, height, width) or (n, side * "
            f"side) was expected."
        )
    return np.nan_to_num(array), None if targets is None else np.asarray(targets)


def shrink(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average a picture down so that no side exceeds `LARGEST_SIDE`."""
    step = math.ceil(max(picture.shape) / LARGEST_SIDE)
    if step <= 1:
        return picture
    rows, columns = (-(-size // step) * step for size in picture.shape)
    padded = np.full((rows, columns), np.nan)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    blocks = padded.reshape(rows // step, step, columns // step, step)
    result: npt.NDArray[np.float64] = np.nanmean(blocks, axis=(1, 3))
    return result
