"""Matplotlib figures inside the page: as data addresses, vector or palette PNG, whichever is smaller."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from innersight_graph._html.packing import clip
from innersight_graph.errors import InputError
from innersight_graph.figures.style import to_png, to_svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

__all__ = ["embedded"]


def embedded(figures: Mapping[str, Figure] | None) -> list[dict[str, str]]:
    """Return caption, address and width in pixels of each figure.

    Raises
    ------
    InputError
        One of them is not a Figure.
    """
    from matplotlib.figure import Figure

    records = []
    for caption, figure in (figures or {}).items():
        if not isinstance(figure, Figure):
            raise InputError(
                f"The figure {clip(caption, 60)!r} is a {type(figure).__name__}. Give matplotlib.figure.Figure "
                f"objects, such as those of "
                "innersight_graph.figures."
            )
        vector, pixels = to_svg(figure).encode("utf-8"), to_png(figure)
        kind, data = ("svg+xml", vector) if len(vector) <= len(pixels) else ("png", pixels)
        address = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
        records.append(
            {"caption": clip(caption, 500), "address": address, "width": f"{96 * figure.get_figwidth():.0f}"}
        )
    return records
