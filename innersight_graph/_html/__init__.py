"""The interactive page: to_html and to_pyvis."""

from __future__ import annotations

from innersight_graph._html.carrier import to_pyvis
from innersight_graph._html.page import Page, make_page, to_html

__all__ = ["Page", "make_page", "to_html", "to_pyvis"]
