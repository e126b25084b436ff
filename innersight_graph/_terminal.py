"""How the command's results look in a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innersight_graph.errors import InputError

if TYPE_CHECKING:
    from innersight_graph.report import Report

__all__ = [
    "PARTITION_FORMAT",
    "console",
    "format_of",
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
    sys.stderr.write(message + "\n")


def _table_of(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def show_graph(G: Any) -> None:
    """Print a graph's layers."""
    from rich.markup import escape

    table = _table_of(
        f"{len(G):,} neurons, {G.number_of_edges():,} edges", "layer", "depth", "kind", "neurons", "fed by"
    )
    for layer in G.layers:
        table.add_row(
            escape(layer.name),
            str(layer.depth),
            layer.kind,
            f"{layer.width:,}",
            escape(", ".join(G.incoming(layer.name))),
        )
    console().print(table)


def show_partition(P: Any) -> None:
    """Print how many communities each layer has, and their sizes."""
    from rich.markup import escape

    table = _table_of(f"{len(P)} communities by {P.method}", "layer", "communities", "sizes")
    for layer in P.layers:
        sizes = [len(c) for i, c in enumerate(P) if P.layer_of(i) == layer]
        table.add_row(
            escape(layer), str(P.stats.get(layer, {}).get("n_communities", len(sizes))), " ".join(map(str, sizes))
        )
    console().print(table)


def format_of(path: Path) -> str:
    """Read which of the package's files a JSON file is."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as JSON ({error}). Name a partition.json or a report.json."
        ) from None
    return str(record.get("format")) if isinstance(record, dict) else ""


def show_json(path: Path) -> None:
    """Print what a partition or a report holds."""
    from innersight_graph.partition import Partition

    if format_of(path) == PARTITION_FORMAT:
        show_partition(Partition.from_json(path))
        return
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        show_partition(Partition.from_json(json.dumps(record["partition"])))
        names = ", ".join(record["evaluations"])
    except (KeyError, TypeError):
        raise InputError(f"{str(path)!r} is neither a partition.json nor a report.json of this package.") from None
    console().print(f"Scores: {names}. Make a page of them with: innersight report graph.npz {path}", markup=False)


def show_report(report: Report) -> None:
    """Print a report's communities, scores and findings."""
    from rich.markup import escape

    scores = [f"{name} {float(evaluation):.3g}" for name, evaluation in report.evaluations.items()]
    show_partition(report.partition)
    console().print("Scores: " + escape(", ".join(scores)) + ".")
    for sentence in report.findings():
        console().print("  " + escape(sentence))


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

    table = _table_of(f"innersight-graph {__version__}", "part", "version")
    table.add_row("python", platform.python_version())
    for package in (
        "networkx",
        "numpy",
        "scipy",
        "torch",
        "torchvision",
        "pyvis",
        "leidenalg",
        "igraph",
        "cupy",
        "nx-cugraph",
        "distributed",
    ):
        table.add_row(package, version(package))
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    table.add_row("CUDA device", device)
    console().print(table)
