"""Figures of partitions: ribbons between two of them, and the layered graph with its communities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.figures.style import GREY, bare, canvas, hue, short
from innersight_graph.partition import Partition, agreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["alluvial"]


def alluvial(P: Partition, R: Partition, *, layer: str | None = None, names: tuple[str, str] | None = None) -> Figure:
    """Draw how the communities of one partition share their neurons with those of another.

    Parameters
    ----------
    P, R : Partition
        Of one graph.
    layer : str, optional
        The layer to compare; the first that both partition if not given.
    names : (str, str), optional
        What the two are called; their methods if not given.

    Returns
    -------
    matplotlib.figure.Figure
        Ribbons are neurons; the title gives the adjusted Rand index and mutual information.

    Raises
    ------
    InputError
        The partitions belong to different graphs or share no layer.

    Examples
    --------
    >>> import networkx as nx
    >>> P = Partition.from_communities(nx.path_graph(4), [{0, 1}, {2, 3}])
    >>> R = Partition.from_communities(nx.path_graph(4), [{0}, {1, 2, 3}])
    >>> alluvial(P, R)
    <Figure size ...>
    """
    shared = [name for name in P.layers if name in R.layers]
    if layer is None and not shared:
        raise InputError(
            "The two partitions share no layer, so there is nothing to compare. Detect both on the same layers."
        )
    layer = shared[0] if layer is None else layer
    likeness = agreement(P, R, layer=layer)
    left, right = P.labels(layer), R.labels(layer)
    both = (left >= 0) & (right >= 0)
    counts = np.zeros((left.max() + 1, right.max() + 1), dtype=int)
    np.add.at(counts, (left[both], right[both]), 1)
    order = _untangled(counts)
    titles = short(names or (P.method, R.method))
    with canvas(5.2, max(2.4, 0.24 * max(counts.shape) + 1.0)) as (figure, axes):
        _ribbons(axes, counts, order)
        bare(axes)
        axes.set_title(
            f"{short([layer])[0]}: {titles[0]} and {titles[1]}   ARI {likeness.ari:.2f}, AMI {likeness.ami:.2f}"
        )
    return figure


def _untangled(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Order of the right side by where its neurons come from, so that ribbons cross less."""
    rows = np.arange(len(counts))
    total = np.maximum(counts.sum(axis=0), 1)
    return np.argsort((rows @ counts) / total, kind="stable")


def _ribbons(axes: Any, counts: npt.NDArray[Any], order: npt.NDArray[Any]) -> None:
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    gap = counts.sum() * 0.012
    ends = []
    for sizes, sequence, x, align in (
        (counts.sum(axis=1), range(len(counts)), 0.0, "right"),
        (counts.sum(axis=0), order, 1.0, "left"),
    ):
        starts, y = {}, 0.0
        for k in sequence:
            starts[int(k)] = y
            axes.add_patch(
                Rectangle((x - 0.012, y), 0.024, sizes[k], color=hue(int(k)) if x == 0 else GREY, linewidth=0)
            )
            axes.text(
                x + (0.025 if x else -0.025), y + sizes[k] / 2, f"c{k} · {sizes[k]}", ha=align, va="center", fontsize=8
            )
            y += sizes[k] + gap
        ends.append(starts)
    left, right = (dict(starts) for starts in ends)
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    for i in range(len(counts)):
        for j in order:
            n, j = int(counts[i, j]), int(j)
            if not n:
                continue
            a, b = left[i], right[j]
            left[i] += n
            right[j] += n
            path = [
                (0.012, a),
                (0.5, a),
                (0.5, b),
                (0.988, b),
                (0.988, b + n),
                (0.5, b + n),
                (0.5, a + n),
                (0.012, a + n),
                (0.012, a),
            ]
            axes.add_patch(PathPatch(Path(path, codes), facecolor=hue(i), alpha=0.5, linewidth=0))
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylim(max(y for starts in ends for y in starts.values()) + counts.sum(axis=0).max() + gap, -gap)
