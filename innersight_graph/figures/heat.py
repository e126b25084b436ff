"""Figures made of cells: accuracy drops, sensitivity maps, agreement of partitions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.figures.style import ACTIVATION, INHIBITION, bare, canvas, short
from innersight_graph.partition import Partition, agreement

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["ablation_heatmap", "agreement_matrix", "sensitivity_maps"]

# Cells beyond this number are drawn without their values: the digits would not be readable.
PRINTED_CELLS = 900


def ablation_heatmap(
    drops: npt.ArrayLike,
    *,
    names: Sequence[object],
    class_names: Sequence[object],
    supported: npt.ArrayLike | None = None,
    title: str = "Accuracy change when closed (points)",
) -> Figure:
    """Draw the change of accuracy per community and class (the paper's Fig. 1a).

    Parameters
    ----------
    drops : array-like, shape (n_communities, n_classes)
        Accuracy lost when a community is closed, clean minus closed, as a share; NaN cells stay empty.
    names, class_names : sequence
        Labels of rows and columns.
    supported : array-like of bool, shape (n_communities, n_classes), optional
        Cells that hold against random groups; they get a frame.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
        Blue is a gain, orange a loss; linear within one point, logarithmic outside.

    Raises
    ------
    InputError
        The shapes of `drops` and its labels differ.

    References
    ----------
    The paper, section 4.1 and Fig. 1a.

    Examples
    --------
    >>> ablation_heatmap([[0.5, 0.0], [-0.01, 0.2]], names=["c0", "c1"], class_names=["cat", "dog"])
    <Figure size ...>
    """
    from matplotlib.colors import SymLogNorm
    from matplotlib.patches import Rectangle

    change = -100.0 * np.asarray(drops, dtype=float)
    _check(change, (len(names), len(class_names)), "drops")
    limit = float(np.nanmax(np.abs(change), initial=1.0))
    rows, columns = change.shape
    down, across = short(names), short(class_names)
    width = 1.4 + 0.42 * columns + 0.075 * max(map(len, down), default=0)
    height = 0.9 + 0.23 * rows + 0.05 * max(map(len, across), default=0)
    with canvas(max(width, 4.0), height) as (figure, axes):
        image = axes.imshow(change, cmap=_signs(), norm=SymLogNorm(1.0, vmin=-limit, vmax=limit), aspect="auto")
        axes.set_xticks(range(columns), across, rotation=45, ha="right")
        axes.set_yticks(range(rows), down)
        axes.tick_params(length=0)
        axes.set_title(title)
        if rows * columns <= PRINTED_CELLS:
            _print_cells(axes, change, limit)
        for i, j in np.argwhere(np.zeros_like(change) if supported is None else np.asarray(supported, dtype=bool)):
            axes.add_patch(Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, fill=False, linewidth=1.3, edgecolor="#191c22"))
        ticks = [tick for tick in (-100, -10, -1, 0, 1, 10, 100) if abs(tick) <= limit]
        bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02, ticks=ticks)
        bar.set_ticklabels([_printed(tick) for tick in ticks])
        bar.outline.set_visible(False)
    return figure


def sensitivity_maps(
    maps: npt.ArrayLike,
    *,
    names: Sequence[object],
    background: npt.ArrayLike | None = None,
    shared: bool = True,
    columns: int = 6,
    title: str = "Reaction to covering each place",
) -> Figure:
    """Draw one sensitivity map per community (the paper's Fig. 1b and 2a).

    Parameters
    ----------
    maps : array-like, shape (n_communities, height, width)
        Non-negative reactions.
    names : sequence
        Titles of the maps.
    background : array-like, shape (height, width), optional
        A grey picture under the maps, such as the mean image.
    shared : bool, default True
        One scale for all maps; otherwise each has its own.
    columns : int, default 6
        Maps in a row.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        There are not as many names as maps.

    Examples
    --------
    >>> sensitivity_maps(np.eye(4)[None], names=["c0"])
    <Figure size ...>
    """
    heat = np.asarray(maps, dtype=float)
    if heat.ndim != 3:
        raise InputError(
            f"maps has shape {heat.shape}; (n_communities, height, width) was expected. Stack the maps first."
        )
    _check(heat[:, 0, 0], (len(names),), "maps")
    columns = max(1, min(columns, len(heat)))
    rows = max(1, math.ceil(len(heat) / columns))
    top = float(np.nanmax(heat, initial=0.0)) if shared else None
    scale = "one scale for all" if shared else "each map on its own scale"
    width = max(1.25 * columns + 0.2, 3.4)
    heading = textwrap.fill(f"{title} ({scale})", int(12 * width))
    height = 1.42 * rows + 0.23 + 0.17 * len(heading.splitlines())
    with canvas(width, height, rows, columns, squeeze=False) as (figure, grid):
        for axes in grid.ravel():
            bare(axes)
        for axes, values, name in zip(grid.ravel(), heat, short(names, 16), strict=False):
            if background is not None:
                axes.imshow(np.asarray(background, dtype=float), cmap="gray")
            opacity = 1.0 if background is None else 0.65
            axes.imshow(values, cmap="magma", vmin=0.0, vmax=top or None, alpha=opacity)
            axes.set_title(name, fontsize=8, loc="center")
        figure.suptitle(heading, fontsize=10, fontweight="bold", x=0.01, ha="left")
    return figure


def agreement_matrix(partitions: Mapping[str, Partition], *, layer: str | None = None) -> Figure:
    """Draw the adjusted Rand index of every two partitions of one graph.

    Parameters
    ----------
    partitions : mapping from label to Partition
    layer : str, optional
        Compare this layer alone.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The partitions belong to different graphs, or none was given.
    """
    if not partitions:
        raise InputError("agreement_matrix was given no partitions. Pass a mapping such as {'em': P, 'leiden': L}.")
    labels = short(partitions)
    values = np.array([[agreement(P, R, layer=layer).ari for R in partitions.values()] for P in partitions.values()])
    size = 1.6 + 0.62 * len(labels)
    with canvas(size, size * 0.86) as (figure, axes):
        axes.imshow(values, cmap="Blues", vmin=0.0, vmax=1.35)
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for (i, j), value in np.ndenumerate(values):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.85 else "#191c22")
        axes.set_title(f"Adjusted Rand index{'' if layer is None else f', {layer}'}")
    return figure


def _signs() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("loss-gain", [INHIBITION, "#f7ddcf", "#ffffff", "#d3e5f4", ACTIVATION])


def _print_cells(axes: object, change: npt.NDArray[np.float64], limit: float) -> None:
    for (i, j), value in np.ndenumerate(change):
        if np.isfinite(value) and abs(value) >= 0.5:
            dark = abs(value) > 0.45 * limit
            axes.text(  # type: ignore[attr-defined]
                j,
                i,
                _printed(value),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "#191c22",
            )


def _printed(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")


def _check(values: npt.NDArray[np.float64], shape: tuple[int, ...], name: str) -> None:
    if values.shape != shape:
        raise InputError(
            f"{name} has shape {values.shape}, but its labels ask for {shape}. Give one label per row and column."
        )
