"""The interactive page and exports of the same picture: to_html, to_pyvis, export_gexf, export_graphml."""

from __future__ import annotations

from innersight_graph._html.carrier import to_pyvis
from innersight_graph._html.gephi import export_gexf, export_graphml
from innersight_graph._html.page import Page, make_page, to_html

__all__ = ["Page", "export_gexf", "export_graphml", "make_page", "to_html", "to_pyvis"]
