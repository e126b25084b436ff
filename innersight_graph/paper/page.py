"""One offline page of all artefacts: autoescaped, without scripts, figures inside."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from innersight_graph.paper.record import NOT_SUPPORTED, SUPPORTED, UNDECIDED

__all__ = ["make_page"]

# Rows of a table shown on the page; the CSV has all.
LIMIT = 120
KINDS = {".svg": "svg+xml", ".png": "png"}


def make_page(records: Sequence[Mapping[str, Any]], folder: Path, *, title: str, lead: str) -> str:
    """Return the page's HTML.

    Parameters
    ----------
    records : sequence of mapping
        As `Store.save` returns them.
    folder : Path
        Where the figures' files lie.
    title, lead : str
    """
    from jinja2 import Environment, StrictUndefined

    import innersight_graph

    counted = Counter(v["outcome"] for record in records for v in record["verdicts"])
    text = (resources.files("innersight_graph") / "paper" / "page.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
    return template.render(
        title=title,
        lead=lead,
        version=innersight_graph.__version__,
        limit=LIMIT,
        shown=shown,
        counts=[(word, counted[word]) for word in (SUPPORTED, NOT_SUPPORTED, UNDECIDED)],
        records=[_with_pictures(record, folder) for record in records],
    )


def shown(value: Any) -> str:
    """Return a cell's text: four significant digits, a dash for what was not measured."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def _with_pictures(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    pictures = []
    for figure in record["figures"]:
        path = folder / figure["file"]
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        pictures.append({**figure, "address": f"data:image/{KINDS[path.suffix]};base64,{content}"})
    columns = list(dict.fromkeys(key for row in record["rows"] for key in row))
    rows = [{key: row.get(key) for key in columns} for row in record["rows"]]
    return {**record, "pictures": pictures, "columns": columns, "rows": rows}
