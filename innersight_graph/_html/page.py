"""One offline page: our own autoescaped template, all scripts inlined, a policy that forbids any request."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innersight_graph._html.carrier import overview
from innersight_graph._html.curves import sweep_record
from innersight_graph._html.gather import collect, comparison, fallback, scene_records
from innersight_graph._html.packing import clip, dumps
from innersight_graph._html.pictures import embedded
from innersight_graph.errors import InputError
from innersight_graph.files import check_target, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from innersight_graph.report import Report

__all__ = ["Page", "make_page", "to_html"]

SCRIPTS = (
    "data", "dom", "theme", "state", "facts", "paint", "charts", "graph", "panel", "tabs", "export", "controls", "main",
)  # fmt: skip
TABS = (
    ("graph", "Graph"),
    ("compare", "Compare"),
    ("search", "Search"),
    ("findings", "Findings"),
    ("figures", "Figures"),
)
THEMES = ("auto", "light", "dark")
# Height of the frame a notebook shows the page in.
FRAME = 720


@dataclass(frozen=True)
class Page:
    """A finished page: its HTML, where it was written (or None), and what it shows.

    In a notebook it displays itself, in a frame of its own. `n_bytes` is the size of the file; `policy` says which
    view the
    page opens with and how many neurons and connections it holds.

    Attributes
    ----------
    html : str
        The whole document.
    path : pathlib.Path or None
        Where it was written.
    policy : mapping
        ``view`` it opens with, ``neurons``, ``edges``, ``share_of_weight``, ``scenes``, ``note``.
    """

    html: str
    path: Path | None
    policy: Mapping[str, Any]

    @property
    def n_bytes(self) -> int:
        return len(self.html.encode("utf-8", "replace"))

    def __repr__(self) -> str:
        where = "not written" if self.path is None else str(self.path)
        shown = f"{self.policy['neurons']} neurons, opens with {self.policy['view']}"
        return f"Page({where}, {self.n_bytes / 1e6:.2f} MB, {shown})"

    def _repr_html_(self) -> str:
        document = html.escape(self.html, quote=True)
        style = "border:1px solid #ccc;border-radius:8px"
        return f'<iframe srcdoc="{document}" width="100%" height="{FRAME}" style="{style}"></iframe>'


def to_html(
    G: Any,
    P: Any,
    path: str | os.PathLike[str],
    report: Report | None = None,
    *,
    title: str | None = None,
    label: str | None = None,
    alternatives: Mapping[str, Any] | None = None,
    class_names: Sequence[Any] | None = None,
    images: Any = None,
    sweep: Any = None,
    findings: Sequence[tuple[str, str]] = (),
    figures: Mapping[str, Figure] | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    theme: str = "auto",
    max_edges: int | None = None,
) -> Page:
    """Write one offline HTML page: the graph, its communities, and what each of them does.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        The graph of neurons; not changed.
    P : Partition or iterable of sets of nodes
        The communities to show; not changed.
    path : str or path-like
        File to write, as UTF-8. It is replaced at once: an interrupted write leaves the old file whole.
    report : Report, optional
        What was measured on the live model; fills the panel, the table and the findings.
    title : str, optional
        Heading of the page.
    label : str, optional
        Name of this scene beside the alternatives; the partition's method by default.
    alternatives : mapping from label to Partition, Report or tuple, optional
        More scenes to switch to and to compare with: a partition of G, a `Report`, a pair ``(partition, report)``, or
        a triple
        ``(graph, partition, report)``. Reports bring their own graph, such as that of the same model with random
        weights.
    class_names : sequence, optional
        Names of the model's outputs, in order; taken from the report where it has them.
    images : array of shape (n, h, w) or (n, channels, h, w), or a pair (images, targets), optional
        The images the report was measured on, in order: their mean is shown under the sensitivity maps, and those
        that activate a
        community most are shown where the report knows them. Nothing else of them is stored on the page.
    sweep : DensitySweep, optional
        What `innersight_graph.density_sweep` returned, for the search tab.
    findings : sequence of (verdict, text), optional
        More sentences for the findings tab; the verdict is ``"yes"``, ``"no"``, ``"open"`` or ``"info"``.
    figures : mapping from caption to matplotlib.figure.Figure, optional
        Figures for a tab of their own, such as those of `innersight_graph.figures`: each as SVG or as PNG, whichever
        is smaller.
    scores : mapping from label to mapping, optional
        Numbers to compare the partitions by, by name, in place of their reports' scores; see `Comparison.to_html`.
    theme : {"auto", "light", "dark"}, default "auto"
        ``"auto"`` follows the reader's system.
    max_edges : int, optional
        Most connections between neurons on the page; by size of the graph if not given.

    Returns
    -------
    Page
        With its size in bytes and what it shows; displays itself in a notebook.

    Raises
    ------
    InputError
        `P` or an alternative belongs to another graph, the path cannot be written, the theme is unknown.

    Notes
    -----
    The page makes no request of any kind (its content security policy forbids them), needs no server and contains its
    own
    library. 298 neurons take about 0.8 MB; 25,000 neurons with 75,000 connections stay below 4 MB. Time is linear in
    the
    connections of G.

    Examples
    --------
    >>> import networkx as nx, pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> halves = [set(range(17)), set(range(17, 34))]
    >>> page = to_html(nx.karate_club_graph(), halves, pathlib.Path(folder.name) / "karate.html")
    >>> page.path.name, page.n_bytes < 1_000_000
    ('karate.html', True)
    >>> folder.cleanup()
    """
    check_target(path, "page")
    page = make_page(
        G, P, report, title=title, label=label, alternatives=alternatives, class_names=class_names, images=images,
        sweep=sweep,
        findings=findings, figures=figures, scores=scores, theme=theme, max_edges=max_edges,
    )  # fmt: skip
    # Line ends stay as they are: the policy in the page names its scripts by their exact bytes.
    write_text(path, page.html, "page")
    return Page(page.html, Path(path), page.policy)


def make_page(
    G: Any,
    P: Any,
    report: Report | None = None,
    *,
    title: str | None = None,
    label: str | None = None,
    alternatives: Mapping[str, Any] | None = None,
    class_names: Sequence[Any] | None = None,
    images: Any = None,
    sweep: Any = None,
    findings: Sequence[tuple[str, str]] = (),
    figures: Mapping[str, Figure] | None = None,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    theme: str = "auto",
    max_edges: int | None = None,
) -> Page:
    """Make the page of `to_html` without writing it: for notebooks and servers. Parameters as there."""
    if theme not in THEMES:
        raise InputError(f"theme={theme!r} is not known. Give one of {', '.join(map(repr, THEMES))}.")
    scenes = collect(G, P, report, label=label, alternatives=alternatives, class_names=class_names, max_edges=max_edges)
    first = scenes[0].scene
    records = scene_records(scenes, images)
    said = [{"kind": kind, "text": clip(text, 4000)} for kind, text in findings]
    n_neurons, n_layers = sum(layer.width for layer in first.graph.layers), len(first.graph.layers)
    heading = clip(title or f"InnerSight · {n_neurons:,} neurons in {n_layers} layers")
    payload = {
        "title": heading, "theme": theme, "view": first.detail.view, "scenes": records, "findings": said,
        "compare": comparison(scenes, scores), "sweep": sweep_record(sweep),
    }  # fmt: skip
    net = overview(first)
    pictures = embedded(figures)
    text = _render(
        net,
        payload,
        title=heading,
        theme=theme,
        pictures=pictures,
        tabs=TABS if pictures else TABS[:-1],
        **fallback(records[0], said),
    )
    policy = {
        "view": first.detail.view, "neurons": n_neurons,
        "edges": len(first.edges),
        "share_of_weight": first.edges.share, "scenes": len(scenes), "note": first.detail.note,
    }  # fmt: skip
    return Page(text, None, policy)


def _render(net: Any, payload: dict[str, Any], **words: Any) -> str:
    """Let pyvis render, through our template instead of its own."""
    from jinja2 import DictLoader, Environment, select_autoescape

    import innersight_graph

    vis = _vis_network()
    scripts = [vis, *(_asset(f"{name}.js") for name in SCRIPTS)]
    environment = Environment(
        loader=DictLoader({"page.html": _asset("page.html")}), autoescape=select_autoescape(["html"])
    )
    payload["scenes"][0]["overview"] = net.nodes
    environment.globals.update(
        version=innersight_graph.__version__, css=_asset("page.css"), scripts=scripts, payload=dumps(payload),
        hashes=" ".join(_hash(script) for script in scripts), **words,
    )  # fmt: skip
    net.templateEnv = environment
    net.path = "page.html"
    text: str = net.generate_html()
    return text


def _asset(name: str) -> str:
    return (resources.files("innersight_graph") / "_html" / name).read_text(encoding="utf-8")


def _vis_network() -> str:
    """Return the library that comes with pyvis, its licence header included."""
    return (resources.files("pyvis") / "lib" / "vis-9.1.2" / "vis-network.min.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
