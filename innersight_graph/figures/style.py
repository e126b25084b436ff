"""One look for every figure and for the page: colours, type, and how a figure becomes bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ACTIVATION", "GREY", "HUES", "INHIBITION", "bare", "canvas", "hue", "short", "to_png", "to_svg"]

# Paul Tol's "muted" colours: nine that stay apart for colour-blind readers. Repeated beyond nine, never invented.
HUES = ("#332288", "#88ccee", "#44aa99", "#cc6677", "#117733", "#ddcc77", "#882255", "#999933", "#aa4499")
GREY, INK, RULE = "#80868f", "#191c22", "#e2e4e8"
# Blue and orange stay apart in every kind of colour blindness; dashes say the same without colour.
ACTIVATION, INHIBITION = "#1f6fb4", "#d1571b"

STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9.0, "axes.titlesize": 10.0, "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": False,
    "text.color": INK, "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "figure.facecolor": "white", "savefig.facecolor": "white", "svg.fonttype": "none",
    "svg.hashsalt": "innersight-graph", "image.interpolation": "nearest", "lines.linewidth": 1.8,
    # User's names go into labels: a dollar sign is a dollar sign.
    "text.parse_math": False,
}  # fmt: skip


def hue(index: int) -> str:
    """Return the colour of a community, grey for a negative index."""
    return HUES[index % len(HUES)] if index >= 0 else GREY


def short(names: Iterable[object], longest: int = 24) -> list[str]:
    """Return labels as text, cut where they would push the drawing off the figure."""
    return [name if len(name) <= longest else name[: longest - 1] + "…" for name in map(str, names)]


@contextmanager
def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> Iterator[tuple[Figure, Any]]:
    """Give a figure in the house's style and its axes (an array of them if rows or columns exceed 1), sizes in inches.

    Nothing global is left behind: pyplot is not used, and the style holds only inside the block.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, **layout)


def bare(axes: Axes) -> None:
    """Take ticks and spines away."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_png(figure: Figure, *, dpi: int = 150, colours: int | None = 128) -> bytes:
    """Return the figure as PNG, reduced to a palette of `colours` (None: as it is)."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi)
    if colours is None:
        return buffer.getvalue()
    from PIL import Image

    small = io.BytesIO()
    buffer.seek(0)
    with Image.open(buffer) as picture:
        reduced = picture.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
        reduced.save(small, format="png", optimize=True)
    return small.getvalue()
