"""How the command's results look in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED, parse_json, read_text

if TYPE_CHECKING:
    from innersight_graph.report import Report

__all__ = [
    "PARTITION_FORMAT",
    "console",
    "format_of",
    "say",
    "show_graph",
    "show_installation",
    "show_json",
    "show_partition",
    "show_report",
    "tell",
]

# As written by Partition.to_json; named here so that a wrong file is refused without importing more than JSON.
PARTITION_FORMAT = "innersight-partition/1"
REPORTED = (
    "networkx", "numpy", "scipy", "torch", "torchvision", "pyvis", "leidenalg", "igraph", "cupy-cuda12x",
    "cupy-cuda13x", "nx-cugraph-cu12", "nx-cugraph-cu13", "distributed",
)  # fmt: skip


def console() -> Any:
    """Return the terminal to write to."""
    from rich.console import Console

    return Console(highlight=False)


def tell(message: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(harmless(message) + "\n")


def say(message: str) -> None:
    """Write lines to standard output."""
    console().print(harmless(message), markup=False)


def harmless(text: str) -> str:
    """Return text with control characters spelled out: names in files may hold commands to the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(harmless(title)), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(Text(harmless(str(cell))) for cell in row))
    console().print(table)


def show_graph(G: Any) -> None:
    """Print a graph's layers."""
    rows = [
        (layer.name, layer.depth, layer.kind, f"{layer.width:,}", ", ".join(G.incoming(layer.name)))
        for layer in G.layers
    ]
    title = f"{len(G):,} neurons, {G.number_of_edges():,} edges"
    _show_table(title, ("layer", "depth", "kind", "neurons", "fed by"), rows)


def show_partition(P: Any) -> None:
    """Print how many communities each layer has, and their sizes."""
    rows = []
    for layer in P.layers:
        sizes = [len(c) for i, c in enumerate(P) if P.layer_of(i) == layer]
        number = P.stats.get(layer, {}).get("n_communities", len(sizes))
        rows.append((layer, number, " ".join(map(str, sizes))))
    _show_table(f"{len(P)} communities by {P.method}", ("layer", "communities", "sizes"), rows)


def format_of(path: Path) -> str:
    """Read which of the package's files a JSON file is."""
    record = _json_of(path)
    return str(record.get("format")) if isinstance(record, dict) else ""


def _json_of(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except MALFORMED as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)!r} cannot be read as JSON ({error}). Name a partition.json or a report.json."
        ) from None


def show_json(path: Path) -> None:
    """Print what a partition or a report holds."""
    from innersight_graph.partition import Partition

    if format_of(path) == PARTITION_FORMAT:
        show_partition(Partition.from_json(path))
        return
    try:
        record = _json_of(path)
        names = ", ".join(record["evaluations"])
        partition = Partition.from_json(json.dumps(record["partition"]))
    except (LookupError, TypeError):
        raise InputError(
            f"{str(path)!r} is neither a partition.json nor a report.json of this package. Name one of these."
        ) from None
    show_partition(partition)
    say(f"Scores: {names}. Make a page of them with: innersight report graph.npz {path}")


def show_report(report: Report) -> None:
    """Print a report's communities, scores and findings."""
    scores = [f"{name} {float(evaluation):.3g}" for name, evaluation in report.evaluations.items()]
    show_partition(report.partition)
    say(f"Scores: {', '.join(scores)}.")
    for sentence in report.findings():
        say("  " + sentence)


def show_installation() -> None:
    """Print versions and the GPU."""
    import importlib.metadata as metadata
    import platform

    import torch

    from innersight_graph import __version__

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    packages = [(package, version(package)) for package in REPORTED]
    rows = [("python", platform.python_version()), *packages, ("CUDA device", device)]
    _show_table(f"innersight-graph {__version__}", ("part", "version"), rows)
