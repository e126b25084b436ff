"""Figures made of lines and points: the search over r, pruning, embeddings, activation by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.figures.style import ACTIVATION, GREY, HUES, INHIBITION, RULE, bare, canvas, hue, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["activation_violins", "criterion_curves", "embedding_scatter", "pruning_curves"]

DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def criterion_curves(
    curves: Mapping[str, Mapping[int, float]],
    *,
    chosen: Mapping[str, int] | None = None,
    label: str = "criterion",
) -> Figure:
    """Draw a criterion (ICL, Q, held-out likelihood) against the number of communities, one panel per layer.

    Parameters
    ----------
    curves : mapping from layer name to {r: value}
        As in ``P.stats[layer]["criterion"]``.
    chosen : mapping from layer name to int, optional
        The number that was chosen, marked by a ring.
    label : str
        What the values are.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        No curve was given.

    Examples
    --------
    >>> criterion_curves({"fc1": {1: -10.0, 2: -5.0, 3: -6.0}}, chosen={"fc1": 2}, label="ICL")
    <Figure size ...>
    """
    if not curves:
        raise InputError(
            "criterion_curves was given no curves. Pass {layer: P.stats[layer]['criterion'] for layer in P.layers}."
        )
    with canvas(3.1 * len(curves), 2.5, 1, len(curves), squeeze=False) as (figure, grid):
        for axes, (layer, curve) in zip(grid[0], curves.items(), strict=True):
            r = np.array(sorted(curve))
            values = np.array([curve[int(k)] for k in r], dtype=float)
            axes.plot(r, values, color=ACTIVATION, marker="o", markersize=3)
            best = (chosen or {}).get(layer)
            if best is not None and best in curve:
                axes.plot(
                    [best],
                    [curve[best]],
                    "o",
                    markersize=9,
                    markerfacecolor="white",
                    markeredgewidth=2.2,
                    color=INHIBITION,
                )
                axes.set_title(f"{short([layer])[0]}: r = {best}")
            else:
                axes.set_title(short([layer])[0])
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlabel("number of communities r")
            axes.set_ylabel(label)
            axes.grid(axis="y", color=RULE)
    return figure


def pruning_curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    control: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    baseline: float | None = None,
) -> Figure:
    """Draw accuracy against neurons kept, one line per method (the paper's Table 3 as whole curves).

    Parameters
    ----------
    curves : mapping from method to (neurons kept, accuracy)
        Arrays of one shape.
    control : (neurons kept, low, high), optional
        The band random groups of equal size stay in.
    baseline : float, optional
        Accuracy of the untouched model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with canvas(4.8, 3.0) as (figure, axes):
        if control is not None:
            kept, low, high = (np.asarray(part, dtype=float) for part in control)
            axes.fill_between(kept, low, high, color="#d5d9df", linewidth=0, label="random groups, 95 %")
        for number, (method, (neurons, accuracy)) in enumerate(curves.items()):
            axes.plot(
                np.asarray(neurons), np.asarray(accuracy, dtype=float), label=method,
                color=HUES[number % len(HUES)], linestyle=DASHES[number % len(DASHES)],
            )  # fmt: skip
        if baseline is not None:
            axes.axhline(baseline, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                "untouched",
                (1, baseline),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
                color=GREY,
            )
        axes.set_xlabel("neurons kept")
        axes.set_ylabel("accuracy")
        axes.grid(axis="y", color=RULE)
        axes.legend()
    return figure


def embedding_scatter(
    points: npt.ArrayLike, targets: npt.ArrayLike, *, class_names: Sequence[object] | None = None, title: str = ""
) -> Figure:
    """Draw a two-dimensional embedding of representations, coloured and marked by class (the paper's Fig. 3a, 3b).

    Parameters
    ----------
    points : array-like, shape (n_samples, 2)
    targets : array-like of int, shape (n_samples,)
    class_names : sequence, optional
        Labels; the class numbers if not given.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The shapes do not fit.
    """
    where, classes = np.asarray(points, dtype=float), np.asarray(targets)
    if where.shape != (len(classes), 2):
        raise InputError(
            f"points has shape {where.shape} for {len(classes)} targets; ({len(classes)}, 2) was expected."
        )
    with canvas(4.6, 3.8) as (figure, axes):
        for number, value in enumerate(np.unique(classes)):
            mine = where[classes == value]
            name = str(value) if class_names is None else str(class_names[int(value)])
            axes.scatter(
                mine[:, 0],
                mine[:, 1],
                s=13,
                marker=MARKS[number % len(MARKS)],
                color=hue(number),
                linewidth=0,
                alpha=0.8,
                label=name,
            )
        bare(axes)
        axes.set_title(title)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.6)
    return figure


def activation_violins(
    values: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    names: Sequence[object],
    classes: tuple[int, int],
    class_names: Sequence[object] | None = None,
    errors: npt.ArrayLike | None = None,
) -> Figure:
    """Draw how strongly each community answers to two classes, with single misclassified samples (the paper's Fig. 3c).

    Parameters
    ----------
    values : array-like, shape (n_communities, n_samples)
        Mean activation of each community per sample.
    targets : array-like of int, shape (n_samples,)
        True class of each sample.
    names : sequence
        Names of the communities.
    classes : (int, int)
        The two classes, left and right half of each violin.
    class_names : sequence, optional
    errors : array-like of int, optional
        Samples to mark, such as those that were misclassified.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        The shapes do not fit, or a class has fewer than two samples.
    """
    levels, truth = np.asarray(values, dtype=float), np.asarray(targets)
    if levels.shape != (len(names), len(truth)):
        raise InputError(
            f"values has shape {levels.shape}; ({len(names)}, {len(truth)}) was expected: communities by samples."
        )
    sides = [np.flatnonzero(truth == value) for value in classes]
    if min(map(len, sides)) < 2:
        raise InputError(
            f"Classes {classes} have {[len(side) for side in sides]} samples; at least two of each are needed."
        )
    with canvas(max(4.2, 1.2 + 0.62 * len(names)), 3.1) as (figure, axes):
        for side, samples, colour in zip(("low", "high"), sides, (ACTIVATION, INHIBITION), strict=True):
            parts = axes.violinplot(
                levels[:, samples].T,
                positions=range(len(names)),
                widths=0.85,
                side=side,
                showextrema=False,
                showmeans=True,
            )
            for body in parts["bodies"]:
                body.set(facecolor=colour, alpha=0.65, edgecolor="none")
            parts["cmeans"].set(color="#191c22", linewidth=1.2)
        if errors is not None:
            chosen = np.atleast_1d(np.asarray(errors, dtype=int))
            for column in range(len(names)):
                axes.scatter(
                    np.full(len(chosen), column),
                    levels[column, chosen],
                    s=16,
                    color="#191c22",
                    marker="x",
                    linewidth=1.1,
                )
        axes.set_xticks(range(len(names)), short(names), rotation=45, ha="right")
        axes.set_ylabel("mean activation")
        labels = [str(value) if class_names is None else str(class_names[value]) for value in classes]
        marks = "" if errors is None else "; × marked"
        axes.set_title(f"left {labels[0]} (blue), right {labels[1]} (orange){marks}", fontsize=9)
    return figure
