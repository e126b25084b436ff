"""The command `innersight`: each subcommand reads and writes files, so that they chain.

graph.npz ← graph · partition.json ← detect · report.json ← evaluate · report.html ← report · comparison.csv ← compare.
Exit codes: 0; 1 for a user's error, told in one paragraph; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from innersight_graph._terminal import (
    PARTITION_FORMAT,
    console,
    format_of,
    say,
    show_graph,
    show_installation,
    show_json,
    show_partition,
    show_report,
    tell,
)
from innersight_graph.errors import InnerSightError, InputError
from innersight_graph.files import check_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from innersight_graph.data import ImageData

INTERRUPTED = "innersight: interrupted; files that were complete before are unchanged."


class _Commands(TyperGroup):
    """The subcommands; what Ctrl-C means is told here, as Typer would end in silence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen one."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            tell(INTERRUPTED)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="innersight",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Open up trained PyTorch models: neurons as a signed graph, communities of neurons, scores on the live model.",
)

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
        tell(f"innersight: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        tell(INTERRUPTED)
        raise SystemExit(130) from None
    except OSError as error:
        tell(
            f"innersight: {error.strerror or error}: {error.filename or 'no file named'}. Nothing was changed in "
            f"that place."
        )
        raise SystemExit(1) from None


@app.command()
def demo(out: Out = Path("innersight-demo"), seed: Seed = 0, engine: Engine = "auto", jobs: Jobs = None) -> None:
    """Train a network on handwritten digits, find its communities, score them on the live network, write a page."""
    from innersight_graph.demo import run_demo

    run_demo(out, seed=seed, engine=engine, n_jobs=jobs, console=console())


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

    from innersight_graph.neuronize import neuron_graph

    check_target(out)
    network = _model(model, weights)
    batches = None if data is None else _load(data).train
    example = torch.zeros(1, *_shape(shape)) if shape is not None else None
    G = neuron_graph(network, batches, example=example, edges=edges, residual=residual, progress=True)
    G.save(out)
    show_graph(G)
    say(f"Wrote {out}.")


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

    check_target(out)
    options: dict[str, Any] = {"seed": seed, "layers": layers or None}
    if n_communities is not None:
        options["n_communities"] = _numbers(n_communities)
    options |= {name: value for name, value in (("engine", engine), ("n_jobs", jobs)) if value is not None}
    P = find(_read_graph(graph), method, **options)
    P.to_json(out)
    show_partition(P)
    say(f"Wrote {out}.")


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
    from innersight_graph.partition import Partition
    from innersight_graph.report import evaluate as score

    check_target(out)
    G, P = _read_graph(graph), Partition.from_json(partition)
    network, images = _model(model, weights), _load(data)
    test = images.test
    evaluators: list[Any] = [
        Structure(G),
        Sensitivity(network, test),
        Consistency(network, test),
        Ablation(network, test, class_names=images.classes, split="test"),
    ]
    if test.inputs.ndim == 4:
        evaluators.append(Occlusion(network, test.inputs[:64]))
    result = score(G, P, evaluators, nulls=nulls, seed=seed, n_jobs=jobs, progress=True)
    result.to_json(out)
    show_report(result)
    say(f"Wrote {out}.")


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
    """Compare partitions of one graph: communities, agreement, structure (comparison.csv, or a page: --out x.html)."""
    from innersight_graph.comparison import compare as table
    from innersight_graph.partition import Partition

    check_target(out)
    G = _read_graph(graph)
    given: Any = {path.stem: Partition.from_json(path) for path in partitions} if partitions else methods.split(",")
    comparison = table(G, given, seed=seed)
    comparison.to_html(out) if out.suffix.lower() in (".html", ".htm") else comparison.to_csv(out)
    say(str(comparison))
    say(f"Wrote {out}.")


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

    check_target(out)
    G = _read_graph(graph)
    if format_of(source) == PARTITION_FORMAT:
        to_html(G, Partition.from_json(source), out)
    else:
        Report.from_json(source, G).to_html(out)
    say(f"Wrote {out}: open it in a browser; it needs no network.")


@app.command()
def paper(
    data: Annotated[str, typer.Option("--data", "-d", help=DATA)] = "digits",
    out: Out = Path("innersight-paper"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute: shows that all works, decides little.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Detection seeds of Tables 2 to 4.")] = 10,
    train_seeds: Annotated[int, typer.Option("--train-seeds", min=1, help="Networks trained for Tables 2 to 4.")] = 1,
    seed: Seed = 0,
    jobs: Jobs = None,
) -> None:
    """Recompute every figure and table of the paper and say which of its claims hold here; a killed run continues."""
    from innersight_graph.paper import run_paper

    options: dict[str, Any] = {"quick": quick, "seeds": seeds, "train_seeds": train_seeds, "seed": seed, "n_jobs": jobs}
    result = run_paper(data, out, **options, console=console())
    say(f"Open {result.page} in a browser; it needs no network.")


@app.command()
def bench(
    out: Out = Path("innersight-bench"),
    quick: Annotated[bool, typer.Option("--quick", help="Seven tasks, two graphs each: under three minutes.")] = False,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Graphs of each task.")] = 20,
    tasks: Annotated[str | None, typer.Option("--tasks", help="Names or families, with commas between.")] = None,
) -> None:
    """Run every method on graphs with known communities and rank them; a killed run continues."""
    from innersight_graph.comparison import benchmark, leaderboard, leaderboard_page
    from innersight_graph.files import make_folder, write_text

    make_folder(out)
    wanted = tasks.split(",") if tasks else None
    rows = benchmark(out / "results.csv", tasks=wanted, seeds=seeds, quick=quick, progress=True)
    text = leaderboard(rows)
    write_text(out / "leaderboard.md", text, "leaderboard")
    write_text(out / "leaderboard.html", leaderboard_page(rows), "leaderboard")
    say(text)
    say(f"Wrote {out / 'leaderboard.html'}, {out / 'leaderboard.md'} and {out / 'results.csv'}.")


@app.command()
def info(
    file: Annotated[
        Path | None, typer.Argument(help="A graph, a partition or a report; none: this installation.")
    ] = None,
) -> None:
    """Say what a file holds, or what this installation can do."""
    if file is None:
        show_installation()
    elif file.suffix == ".json":
        show_json(file)
    else:
        show_graph(_read_graph(file))


# ---------------------------------------------------------------------- reading what the user named


def _model(spec: str, weights: Path | None) -> Any:
    from innersight_graph.neuronize import load_model

    file, _, factory = spec.rpartition(":")
    if Path(file).is_file():
        tell(f"Running {file} for the model {factory!r}: a Python file may do anything that you may.")
    return load_model(spec, weights)


def _load(spec: str) -> ImageData:
    from innersight_graph import data

    name, _, folder = spec.partition(":")
    embedded: dict[str, Callable[[], ImageData]] = {"digits": data.load_digits, "faces": data.make_faces}
    readers: dict[str, Callable[[str], ImageData]] = {
        "mnist": data.load_mnist,
        "afhq": data.load_afhq,
        "folder": data.load_image_folder,
    }
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
