"""The command `innersight`: each subcommand reads and writes files, so that they chain.

graph.npz ← graph · partition.json ← detect · report.json ← evaluate · report.html ← report · comparison.csv ← compare.
Exit codes: 0; 1 for a user's error, told in one paragraph; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from innersight_graph.errors import InnerSightError, InputError

if TYPE_CHECKING:
    from innersight_graph.data import ImageData
    from innersight_graph.report import Report

app = typer.Typer(
    name="innersight",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Open up trained PyTorch models: neurons as a signed graph, communities of neurons, scores on the live model.",
)

REPORTED = (
    "networkx", "numpy", "scipy", "torch", "torchvision", "pyvis", "leidenalg", "igraph", "cupy-cuda12x",
    "cupy-cuda13x", "nx-cugraph-cu12", "nx-cugraph-cu13", "distributed",
)  # fmt: skip
DATA = "digits, faces, mnist:FOLDER, afhq:FOLDER or folder:FOLDER."
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal results.")]
Engine = Annotated[str, typer.Option("--engine", help="auto, numpy, torch, torch:cuda or cupy.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="Parallel workers; default: no more than one per core.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="file.py:factory (that file is run) or torchvision:resnet18.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", "-w", help="A state_dict: .safetensors, or .pt read with weights_only=True.")
]
Data = Annotated[str, typer.Option("--data", "-d", help=DATA)]


def main() -> None:
    """Run the command and turn the package's own errors into one readable paragraph and exit code 1."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except InnerSightError as error:
        _tell(f"innersight: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _tell("innersight: interrupted; files that were complete before are unchanged.")
        raise SystemExit(130) from None
    except OSError as error:
        _tell(
            f"innersight: {error.strerror or error}: {error.filename or 'no file named'}. Nothing was changed in "
            f"that place."
        )
        raise SystemExit(1) from None


@app.command()
def demo(out: Out = Path("innersight-demo"), seed: Seed = 0, engine: Engine = "auto", jobs: Jobs = None) -> None:
    """Train a network on handwritten digits, find its communities, score them on the live network, write a page."""
    from innersight_graph.demo import run_demo

    run_demo(out, seed=seed, engine=engine, n_jobs=jobs, console=_console())


@app.command()
def graph(
    model: Annotated[str, typer.Argument(help="file.py:factory (that file is run), torchvision:NAME.")],
    weights: Weights = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="digits, faces, mnist:FOLDER, afhq:FOLDER or folder:FOLDER.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--input", help="Shape of one input without data, such as 3x64x64.")
    ] = None,
    edges: Annotated[
        str, typer.Option("--edges", help="auto, weight, sum, l1, l2, eq1, act_corr or contribution.")
    ] = "auto",
    residual: Annotated[str, typer.Option("--residual", help="all, nearest or off.")] = "all",
    out: Out = Path("graph.npz"),
) -> None:
    """Export a model to its graph of neurons (graph.npz)."""
    import torch

    from innersight_graph.neuronize import load_model, neuron_graph

    _check_target(out)
    network = load_model(model, weights)
    batches = None if data is None else _load(data).train
    example = torch.zeros(1, *_shape(shape)) if shape is not None else None
    G = neuron_graph(network, batches, example=example, edges=edges, residual=residual, progress=True)
    G.save(out)
    _show_graph(G)
    _console().print(f"Wrote {out}.")


@app.command()
def detect(
    graph: Annotated[Path, typer.Argument(help="graph.npz, .graphml or .gexf.")],
    method: Annotated[str, typer.Option("--method", help="em, louvain, leiden, blockmodel, spectral, …")] = "em",
    n_communities: Annotated[
        str | None, typer.Option("--communities", "-n", help="A number, or a range such as 1-20.")
    ] = None,
    layers: Annotated[list[str] | None, typer.Option("--layer", help="A layer to partition; may be repeated.")] = None,
    out: Out = Path("partition.json"),
    seed: Seed = 0,
    engine: Annotated[str | None, typer.Option("--engine", help="auto, numpy, torch, torch:cuda or cupy.")] = None,
    jobs: Jobs = None,
) -> None:
    """Find the communities of neurons of a graph (partition.json)."""
    from innersight_graph.detection import detect as find

    _check_target(out)
    options: dict[str, Any] = {"seed": seed, "layers": layers or None}
    if n_communities is not None:
        options["n_communities"] = _numbers(n_communities)
    options |= {name: value for name, value in (("engine", engine), ("n_jobs", jobs)) if value is not None}
    P = find(_read_graph(graph), method, **options)
    P.to_json(out)
    _show_partition(P)
    _console().print(f"Wrote {out}.")


@app.command()
def evaluate(
    graph: Annotated[Path, typer.Argument(help="graph.npz")],
    partition: Annotated[Path, typer.Argument(help="partition.json")],
    model: Model,
    data: Data,
    weights: Weights = None,
    nulls: Annotated[
        int, typer.Option("--nulls", min=0, help="Random partitions of equal sizes to compare with.")
    ] = 199,
    out: Out = Path("report.json"),
    seed: Seed = 0,
    jobs: Jobs = None,
) -> None:
    """Score a partition on the live model, on test images, against random groups of equal size (report.json)."""
    from innersight_graph.evaluation import Ablation, Consistency, Occlusion, Sensitivity, Structure
    from innersight_graph.neuronize import load_model
    from innersight_graph.partition import Partition
    from innersight_graph.report import evaluate as score

    _check_target(out)
    G, P = _read_graph(graph), Partition.from_json(partition)
    network, images = load_model(model, weights), _load(data)
    test = images.test
    evaluators: list[Any] = [
        Structure(G),
        Sensitivity(network, test),
        Consistency(network, test),
        Ablation(network, test, class_names=images.classes, split="test"),
    ]
    if test.inputs.ndim == 4:
        evaluators.append(Occlusion(network, test.inputs[:64]))
    report = score(G, P, evaluators, nulls=nulls, seed=seed, n_jobs=jobs, progress=True)
    report.to_json(out)
    _show_report(report)
    _console().print(f"Wrote {out}.")


@app.command()
def compare(
    graph: Annotated[Path, typer.Argument(help="graph.npz, .graphml or .gexf.")],
    partitions: Annotated[
        list[Path] | None, typer.Argument(help="partition.json of each method; none: detect them here.")
    ] = None,
    methods: Annotated[
        str, typer.Option("--methods", help="Detected here when no partition is given.")
    ] = "em,louvain,leiden,blockmodel",
    out: Out = Path("comparison.csv"),
    seed: Seed = 0,
) -> None:
    """Compare partitions of one graph: communities, agreement, structure (comparison.csv)."""
    from innersight_graph.comparison import compare as table
    from innersight_graph.partition import Partition

    _check_target(out)
    G = _read_graph(graph)
    given: Any = {path.stem: Partition.from_json(path) for path in partitions} if partitions else methods.split(",")
    comparison = table(G, given, seed=seed)
    comparison.to_csv(out)
    _console().print(str(comparison))
    _console().print(f"Wrote {out}.")


@app.command()
def report(
    graph: Annotated[Path, typer.Argument(help="graph.npz")],
    source: Annotated[Path, typer.Argument(help="report.json, or a partition.json that was not evaluated")],
    out: Out = Path("report.html"),
) -> None:
    """Make the offline page of a report (report.html)."""
    from innersight_graph._html import to_html
    from innersight_graph.partition import Partition
    from innersight_graph.report import Report

    _check_target(out)
    G = _read_graph(graph)
    if _format_of(source) == "innersight-partition/1":
        to_html(G, Partition.from_json(source), out)
    else:
        Report.from_json(source, G).to_html(out)
    _console().print(f"Wrote {out}: open it in a browser; it needs no network.")


@app.command()
def info(
    file: Annotated[
        Path | None, typer.Argument(help="A graph, a partition or a report; none: this installation.")
    ] = None,
) -> None:
    """Say what a file holds, or what this installation can do."""
    if file is None:
        _show_installation()
    elif file.suffix == ".json":
        _show_json(file)
    else:
        _show_graph(_read_graph(file))


# ---------------------------------------------------------------------- reading what the user named


def _load(spec: str) -> ImageData:
    from innersight_graph import data

    name, _, folder = spec.partition(":")
    embedded = {"digits": data.load_digits, "faces": data.make_faces}
    readers = {"mnist": data.load_mnist, "afhq": data.load_afhq, "folder": data.load_image_folder}
    if name in embedded and not folder:
        return embedded[name]()
    if name in readers and folder:
        return readers[name](folder)
    raise InputError(f"--data {spec!r} came; digits, faces, mnist:FOLDER, afhq:FOLDER or folder:FOLDER was expected.")


def _read_graph(path: Path) -> Any:
    from innersight_graph.graph.interchange import read_graph

    return read_graph(path)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("x"))
    except ValueError:
        raise InputError(
            f"--input {text!r} came; numbers with x between them, such as 3x64x64, were expected."
        ) from None


def _numbers(text: str) -> int | range:
    low, dash, high = text.partition("-")
    try:
        return range(int(low), int(high) + 1) if dash and low else int(text)
    except ValueError:
        raise InputError(f"--communities {text!r} came; a number, or a range such as 1-20, was expected.") from None


def _check_target(path: Path) -> None:
    """Refuse a target that cannot be written before any work is done."""
    if path.is_dir():
        raise InputError(f"--out {str(path)!r} is a folder; the name of a file to write was expected.")
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(
            f"--out {str(path)!r} cannot be written: its folder does not exist or is read-only. Name another place."
        )


# ---------------------------------------------------------------------- showing


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _tell(message: str) -> None:
    sys.stderr.write(message + "\n")


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _show_graph(G: Any) -> None:
    from rich.markup import escape

    table = _table(f"{len(G):,} neurons, {G.number_of_edges():,} edges", "layer", "depth", "kind", "neurons", "fed by")
    for layer in G.layers:
        table.add_row(
            escape(layer.name),
            str(layer.depth),
            layer.kind,
            f"{layer.width:,}",
            escape(", ".join(G.incoming(layer.name))),
        )
    _console().print(table)


def _show_partition(P: Any) -> None:
    from rich.markup import escape

    table = _table(f"{len(P)} communities by {P.method}", "layer", "communities", "sizes")
    for layer in P.layers:
        sizes = [len(c) for i, c in enumerate(P) if P.layer_of(i) == layer]
        table.add_row(
            escape(layer), str(P.stats.get(layer, {}).get("n_communities", len(sizes))), " ".join(map(str, sizes))
        )
    _console().print(table)


def _format_of(path: Path) -> str:
    """Read which of the package's files a JSON file is."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as JSON ({error}). Name a partition.json or a report.json."
        ) from None
    return str(record.get("format")) if isinstance(record, dict) else ""


def _show_json(path: Path) -> None:
    from innersight_graph.partition import Partition

    if _format_of(path) == "innersight-partition/1":
        _show_partition(Partition.from_json(path))
        return
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _show_partition(Partition.from_json(json.dumps(record["partition"])))
        names = ", ".join(record["evaluations"])
    except (KeyError, TypeError):
        raise InputError(f"{str(path)!r} is neither a partition.json nor a report.json of this package.") from None
    _console().print(f"Scores: {names}. Make a page of them with: innersight report graph.npz {path}", markup=False)


def _show_report(report: Report) -> None:
    from rich.markup import escape

    scores = [f"{name} {float(evaluation):.3g}" for name, evaluation in report.evaluations.items()]
    _show_partition(report.partition)
    _console().print("Scores: " + escape(", ".join(scores)) + ".")
    for sentence in report.findings():
        _console().print("  " + escape(sentence))


def _show_installation() -> None:
    import importlib.metadata as metadata
    import platform

    import torch

    from innersight_graph import __version__

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    table = _table(f"innersight-graph {__version__}", "part", "version")
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
    _console().print(table)
