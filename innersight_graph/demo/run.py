"""The demo from training to files."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from innersight_graph.data import ImageData, load_digits
from innersight_graph.demo.network import make_network, train_network
from innersight_graph.demo.summary import count_of, own_sentences, summarise
from innersight_graph.detection._layers import assemble, live_layers
from innersight_graph.detection.em import em_communities, whole_results
from innersight_graph.detection.leiden import leiden_communities
from innersight_graph.detection.louvain import louvain_communities
from innersight_graph.evaluation import Ablation, Consistency, Occlusion, Sensitivity, Structure
from innersight_graph.evaluation.noise import noise_communities
from innersight_graph.files import check_folder, make_folder, whole_file, write_text
from innersight_graph.graph.interchange import write_graph
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.neuronize import neuron_graph
from innersight_graph.paper.networks import one_thread
from innersight_graph.partition import Partition
from innersight_graph.report import Report, evaluate

__all__ = ["run_demo"]

# Random groups per community: enough for p = .005, a few seconds of closings.
NULLS = 199
FEWER_NULLS = 49
# "em without signs" finds one community per layer: what is closed instead has as many as with signs.
SCORED = ("em", "louvain", "leiden", "as many without signs", "em untrained")
# Images averaged in the occlusion maps; a 3x3 window on 8x8 pixels is to them what the paper's 5x5 is to 28x28.
OCCLUDED = 128
METHODS = {
    "EM": "em",
    "Louvain": "louvain",
    "Leiden": "leiden",
    "EM without signs": "em without signs",
    "EM, untrained": "em untrained",
}


def run_demo(
    out: str | Path = "innersight-demo",
    *,
    seed: int = 0,
    engine: str = "auto",
    n_jobs: int | None = None,
    console: Any = None,
) -> dict[str, Any]:
    """Train a network on handwritten digits, find its communities, score them on the live network.

    Parameters
    ----------
    out : str or path-like
        Folder for the files; made if missing. Files are replaced only when everything is computed.
    seed : int
        Of the split, the training, the detectors and the random groups.
    engine, n_jobs
        As in `em_communities`.
    console : rich.console.Console, optional
        Shows progress and the summary.

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    InputError
        `out` is a file, or cannot be written to.

    Notes
    -----
    About half a minute and 1 GB on two cores.
    """
    folder = check_folder(out)
    with one_thread(), whole_results():
        summary = _run(folder, seed, engine, n_jobs, _Steps(console))
    if console is not None:
        _show(console, summary, folder)
    return summary


def _run(folder: Path, seed: int, engine: str, n_jobs: int | None, steps: _Steps) -> dict[str, Any]:
    with steps("Training 64-128-64-32-10 on 1,079 digits"):
        data = load_digits(flat=False, seed=seed)
        model = train_network(make_network(seed=seed), data.train, seed=seed)
        untrained = make_network(seed=seed)
    with steps("Exporting the network to a signed graph of neurons"):
        G = neuron_graph(model, data.train)
        G_untrained = neuron_graph(untrained, data.train)
    with steps("Finding communities: EM, Louvain, Leiden; EM without signs; EM on untrained weights"):
        found = _detect(G, G_untrained, seed=seed, engine=engine, n_jobs=n_jobs)
    with steps("Closing every community on the live network, against random groups of equal size"):
        reports = _score(found, G, G_untrained, model, untrained, data, seed)
        noise = noise_communities(model, found["em"], select=data.validation, test=data.test, graph=G)
    summary = summarise(model, data, G, found, reports, noise, seed)
    with steps("Comparing the methods"):
        from innersight_graph.comparison import compare

        methods = {name: found[name] for name in ("em", "louvain", "leiden")}
        comparison = compare(G, methods, seed=seed)
    with steps("Writing the files"):
        _write(folder, model, G, found, comparison, reports, summary, data)
    return summary


def _detect(
    G: LayeredDiGraph, G_untrained: LayeredDiGraph, *, seed: int, engine: str, n_jobs: int | None
) -> dict[str, Partition]:
    em: dict[str, Any] = {"seed": seed, "engine": engine, "n_jobs": n_jobs}
    with warnings.catch_warnings():
        # Where ICL and held-out rows disagree on r, the page shows both curves; here it would only distract.
        warnings.simplefilter("ignore", UserWarning)
        main = em_communities(G, **em)
        return {
            "em": main,
            "louvain": louvain_communities(G, seed=seed),
            "leiden": leiden_communities(G, seed=seed),
            "em without signs": em_communities(_unsigned(G), **em),
            "as many without signs": _as_many(_unsigned(G), main, em),
            "em untrained": em_communities(G_untrained, **em),
        }


def _as_many(G: LayeredDiGraph, main: Partition, options: Mapping[str, Any]) -> Partition:
    """Partition each layer of a graph into as many communities as `main` has there: scores depend on their number."""
    labels = {}
    for layer, live, _ in live_layers(G):
        labels[layer] = em_communities(G, count_of(main, layer), layers=[layer], **options).labels(layer)[live]
    return assemble(G, labels, method="em", params={"signs": False}, seed=options["seed"])


def _unsigned(G: LayeredDiGraph) -> LayeredDiGraph:
    """Return the same graph with |weight| on every edge: what a method sees that ignores inhibition."""
    weights = {pair: abs(np.asarray(matrix)) for pair, matrix in G.connections.items()}
    return LayeredDiGraph.from_arrays(G.layers, weights, kinds=G.kinds, node_attributes=G.node_attributes)


def _score(
    found: Mapping[str, Partition],
    G: LayeredDiGraph,
    G_untrained: LayeredDiGraph,
    model: nn.Module,
    untrained: nn.Module,
    data: ImageData,
    seed: int,
) -> dict[str, Report]:
    """Score every partition on test images: the main one in full, the others by what they are compared with."""
    reports = {}
    for name in SCORED:
        graph, network = (G_untrained, untrained) if name == "em untrained" else (G, model)
        evaluators: list[Any] = [Structure(graph), Ablation(network, data.test, class_names=data.classes, split="test")]
        if name == "em":
            evaluators += [
                Sensitivity(network, data.test),
                Consistency(network, data.test),
                Occlusion(network, data.test.inputs[:OCCLUDED], window=3),
            ]
        nulls = NULLS if name == "em" else FEWER_NULLS
        reports[name] = evaluate(graph, found[name], evaluators, nulls=nulls, seed=seed)
    return reports


class _Steps:
    """Says what is being done, with the time it took; silent without a console."""

    def __init__(self, console: Any) -> None:
        self.console = console

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        if self.console is None:
            yield
            return
        started = time.perf_counter()
        with self.console.status(f"{what} …"):
            yield
        self.console.print(f"[green]✓[/green] {what} [dim]({time.perf_counter() - started:.1f} s)[/dim]")


def _write(
    folder: Path,
    model: nn.Module,
    G: LayeredDiGraph,
    found: Mapping[str, Partition],
    comparison: Any,
    reports: Mapping[str, Report],
    summary: Mapping[str, Any],
    data: ImageData,
) -> None:
    make_folder(folder)
    with whole_file(folder / "model.pt") as path:
        torch.save(model.state_dict(), path)
    G.save(folder / "graph.npz")
    write_graph(G, folder / "graph.graphml")
    for name, P in found.items():
        P.to_json(folder / ("partition.json" if name == "em" else f"partition-{name.replace(' ', '-')}.json"))
    comparison.to_csv(folder / "comparison.csv")
    reports["em"].to_json(folder / "report.json")
    reports["em"].to_html(
        folder / "report.html",
        title="InnerSight · a network that reads handwritten digits",
        label="EM",
        alternatives={
            "Louvain": reports["louvain"],
            "Leiden": reports["leiden"],
            "EM without signs": reports["as many without signs"],
            "EM, untrained weights": reports["em untrained"],
        },
        images=(data.test.inputs.squeeze(1).numpy(), data.test.targets.numpy()),
        findings=own_sentences(summary),
    )
    write_text(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "summary")


def _show(console: Any, summary: Mapping[str, Any], folder: Path) -> None:
    from rich.table import Table

    accuracy, counts = summary["model"]["accuracy"], summary["communities"]
    table = Table(title=f"Communities of neurons (test accuracy {accuracy['test']:.3f})", title_justify="left")
    table.add_column("layer")
    for column in METHODS:
        table.add_column(column, justify="right")
    for layer in counts["em"]:
        table.add_row(layer, *(str(counts[name][layer]) for name in METHODS.values()))
    console.print(table)
    worst = sorted(summary["ablation"].items(), key=lambda item: -item[1]["worst_class_drop"])[:5]
    for name, entry in worst:
        p = "" if entry["p_value"] is None else f", p = {entry['p_value']:.2g}"
        console.print(
            f"  Closing {name} ({entry['neurons']} neurons) costs digit {entry['worst_class']} "
            f"{100 * entry['worst_class_drop']:.0f} points of accuracy (all digits {100 * entry['drop']:.1f}{p})."
        )
    for finding in summary["findings"]:
        verdict = "[green]supported[/green]" if finding["supported"] else "[red]not supported[/red]"
        console.print(f"  {verdict}: {finding['claim']} [dim]{finding['number']}[/dim]")
    console.print(f"Open {folder / 'report.html'} in a browser; it needs no network.", markup=False)
