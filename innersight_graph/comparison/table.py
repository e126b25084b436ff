"""`compare`: several partitions of one graph in one table and on one page, with agreement, scores and live effects."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from innersight_graph.detection import detect
from innersight_graph.detection._layers import resolve_seed
from innersight_graph.detection.em import whole_results
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.files import csv_text, write_text
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.partition import Partition, agreement, as_partition
from innersight_graph.partition.text import plain

if TYPE_CHECKING:
    from innersight_graph._html import Page
    from innersight_graph.evaluation.result import Evaluation
    from innersight_graph.report import Report

__all__ = ["Comparison", "compare"]

Method = str | Callable[..., Any] | Partition | Iterable[Iterable[Any]]


@dataclass(frozen=True)
class Comparison:
    """A table of partitions of one graph.

    Attributes
    ----------
    rows : tuple of dict
        One for each method: ``method``, ``communities``, ``largest`` (share of the neurons in the largest community),
        ``agreement`` (mean ARI with the other rows), ``reference`` (ARI with the reference, where one was given), one
        column for each evaluator, ``stability`` (ARI between seeds), ``seconds``. With random groups to compare with
        (``nulls``), a closing evaluator adds ``<name> specificity`` (how many times more class-specific closing a
        community is than closing a random group of its size, geometric mean over layers) and ``<name> supported``
        (share of the communities of which that holds, closed at zero and at the mean).
    partitions : mapping from name to Partition
    agreements : ndarray (n_methods, n_methods)
        ARI of each pair of rows.
    reports : mapping from name to Report
        What the evaluators found of each partition, community by community.
    graph : LayeredDiGraph

    Examples
    --------
    >>> import networkx as nx
    >>> table = compare(nx.barbell_graph(5, 0), ["blockmodel", "random"], [len], seed=0)
    >>> [row["method"] for row in table.rows], table.agreements.shape
    (['blockmodel', 'random'], (2, 2))
    """

    rows: tuple[dict[str, Any], ...]
    partitions: Mapping[str, Partition]
    agreements: npt.NDArray[np.float64]
    reports: Mapping[str, Report]
    graph: LayeredDiGraph

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the order of the table."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row))

    def to_pandas(self) -> Any:
        """Return the table as a `pandas.DataFrame`, one row for each method."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "Comparison.to_pandas") from None
        frame = pd.DataFrame(list(self.rows), columns=list(self.columns))
        frame.attrs["records"] = self.records
        return frame

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Where each row comes from, as plain values.

        Returns
        -------
        dict from method to dict
            ``partition``: ``method``, ``seed``, ``options`` and the partition's own ``record`` (versions, the graph's
            fingerprint, digests of data), which may be of another day; ``evaluation``: the report's ``environment``
            (versions, seed, nulls, each evaluator's options, digests of its data and model).
        """
        return {
            name: {
                "partition": {"method": P.method, "seed": P.seed, "options": plain(P.params), **plain(P.record)},
                "evaluation": plain(self.reports[name].environment),
            }
            for name, P in self.partitions.items()
        }

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as CSV text and write it to a file if a path is given.

        The last column, ``record``, holds what `records` says of the row, as JSON, so that rows may be taken apart and
        put together again: ``pandas.read_csv(path)["record"].map(json.loads)``.
        """
        records = self.records
        text = csv_text(
            [
                {**dict.fromkeys(self.columns), **row, "record": json.dumps(records[row["method"]], sort_keys=True)}
                for row in self.rows
            ]
        )
        if path is not None:
            write_text(path, text, "table")
        return text

    def alluvial(self, first: str, second: str, *, layer: str | None = None) -> Any:
        """Draw how neurons move from one row's communities to another's; see `innersight_graph.figures.alluvial`."""
        from innersight_graph.figures import alluvial

        for name in (first, second):
            if name not in self.partitions:
                raise InputError(f"There is no row {name!r}; choose among {', '.join(map(repr, self.partitions))}.")
        return alluvial(self.partitions[first], self.partitions[second], layer=layer, names=(first, second))

    def to_html(self, path: str | os.PathLike[str], *, title: str | None = None, **options: Any) -> Page:
        """Write one offline page: every partition as a picture to switch to, the table, and who goes where.

        Parameters
        ----------
        path : path
        title : str, optional
            Heading; by default it names the methods.
        **options
            As in `innersight_graph.to_html`: ``images``, ``class_names``, ``theme``, …

        Returns
        -------
        Page
        """
        from innersight_graph._html import to_html

        first, *others = self.partitions
        names = f"{', '.join(others)} and {first}" if others else first
        shown = [column for column in self.columns if column not in ("method", "communities")]
        scores = {row["method"]: {column: row.get(column) for column in shown} for row in self.rows}
        return to_html(
            self.graph, self.partitions[first], path, self.reports[first], label=first,
            alternatives={name: (self.partitions[name], self.reports[name]) for name in others},
            title=title or f"Communities by {names}", scores=scores, **options,
        )  # fmt: skip

    def __str__(self) -> str:
        cells = [list(self.columns), *([_cell(row.get(column)) for column in self.columns] for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.columns))]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        )

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row.get(column)))}</td>" for column in self.columns) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def compare(
    G: Any,
    partitions: Mapping[str, Method] | Sequence[Method],
    evaluators: Any = (),
    *,
    reference: Partition | None = None,
    repeats: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    nulls: int = 0,
    layers: str | Iterable[str] | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Put several partitions of one graph side by side.

    Parameters
    ----------
    G : LayeredDiGraph or NetworkX graph
    partitions : mapping or sequence
        Each entry a `Partition`, sets of nodes, the name of a method (``"em"``), or a function ``f(G, layers=…,
        seed=…)``. Methods are run here and timed.
    evaluators : evaluator, callable, or iterable of them
        Objects with a method ``evaluate(G, partition, seed=…)``, such as ``Structure(G)`` or ``Ablation(model, data)``,
        or functions of a partition. None given: the connection structure alone.
    reference : Partition, optional
        Known or preferred communities, for the column ``reference``.
    repeats : int
        Further runs with other seeds of every method that is run here, for the column ``stability``; 0 takes what the
        method itself reports.
    options : mapping from method name to mapping, optional
        Keyword arguments of single methods, e.g. ``{"spectral": {"n_communities": 8}}``.
    nulls : int
        Random partitions with the same sizes that evaluators compare each partition with; 0 for none.
    layers : str, iterable of str, or None
        Layers to partition; None is every hidden layer.
    seed : int, optional
        Seed of methods and evaluators.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there is nothing to compare, or a partition belongs to another graph.

    Examples
    --------
    >>> import networkx as nx
    >>> K = nx.karate_club_graph()
    >>> clubs = [[v for v in K if K.nodes[v]["club"] == c] for c in ("Mr. Hi", "Officer")]
    >>> table = compare(K, {"clubs": clubs, "degree": "degree"}, seed=0)
    >>> [(row["method"], row["communities"]) for row in table.rows]
    [('clubs', 2), ('degree', 4)]
    """
    graph = as_layered(G)
    entropy = resolve_seed(seed)
    named = _named(partitions)
    single = hasattr(evaluators, "evaluate") or callable(evaluators)
    judges = [evaluators] if single else list(evaluators) or _structure(graph)
    found: dict[str, Partition] = {}
    reports: dict[str, Report] = {}
    rows = []
    for name, method in _tracked(named.items(), len(named), progress):
        row: dict[str, Any] = {"method": name}
        own = dict((options or {}).get(name, {}))
        found[name], seconds, stability = _obtain(graph, method, own, layers, entropy, repeats)
        row |= {"communities": _count(found[name]), "largest": _largest(found[name]), "agreement": None}
        if reference is not None:
            row["reference"] = agreement(reference, found[name]).ari
        reports[name] = _report(graph, found[name], judges, nulls, entropy)
        for judged, evaluation in reports[name].evaluations.items():
            row |= {judged: _finite(evaluation.value), **_specificity(judged, evaluation)}
        rows.append(row | {"stability": stability, "seconds": seconds})
    agreements = _agreements(list(found.values()))
    for i, row in enumerate(rows):
        others = np.delete(agreements[i], i)
        row["agreement"] = float(np.nanmean(others)) if np.isfinite(others).any() else None
    return Comparison(tuple(rows), found, agreements, reports, graph)


def stability_of(partitions: Sequence[Partition]) -> float | None:
    """Mean ARI between all pairs; None for fewer than two."""
    if len(partitions) < 2:
        return None
    values = _agreements(partitions)[np.triu_indices(len(partitions), 1)]
    return float(np.nanmean(values))


def _named(partitions: Mapping[str, Method] | Sequence[Method]) -> dict[str, Method]:
    if isinstance(partitions, Mapping):
        named = dict(partitions)
    elif isinstance(partitions, (str, Partition)):
        named = {_name(partitions): partitions}
    else:
        named = {}
        for entry in partitions:
            name = _name(entry)
            number = 2
            while name in named:
                name, number = f"{_name(entry)} {number}", number + 1
            named[name] = entry
    if not named:
        raise InputError("There is nothing to compare. Give partitions, or names of methods such as ['em', 'leiden'].")
    return named


def _name(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, Partition):
        return entry.method
    name = getattr(entry, "name", None) or getattr(entry, "__name__", None)
    return str(name) if name else type(entry).__name__.lower()


@whole_results()
def _obtain(
    G: Any, method: Method, own: dict[str, Any], layers: Any, seed: int, repeats: int
) -> tuple[Partition, float | None, float | None]:
    """Return the partition, the seconds it took and its stability across seeds, as far as they are known."""
    if not (isinstance(method, str) or callable(method)):
        given = as_partition(G, method)
        return given, None, _reported_stability(given)
    begin = time.perf_counter()
    first = detect(G, method, **{"layers": layers, "seed": seed, **own})
    seconds = time.perf_counter() - begin
    more = [detect(G, method, **{"layers": layers, **own, "seed": seed + i + 1}) for i in range(repeats)]
    return first, seconds, stability_of([first, *more]) if more else _reported_stability(first)


def _reported_stability(P: Partition) -> float | None:
    values = [stats["stability"] for stats in P.stats.values() if stats.get("stability") is not None]
    return float(np.mean(values)) if values else None


def _structure(G: Any) -> list[Any]:
    from innersight_graph.evaluation.structure import Structure

    return [Structure(G)]


@whole_results()
def _report(G: LayeredDiGraph, P: Partition, judges: Sequence[Any], nulls: int, seed: int) -> Report:
    from innersight_graph.report import evaluate

    return evaluate(G, P, [_of_both(judge) for judge in judges], nulls=nulls, seed=seed)


def _of_both(judge: Any) -> Any:
    """Return an evaluator as it is, and a function of a partition as one of graph and partition."""
    if hasattr(judge, "evaluate"):
        return judge

    def score(G: Any, P: Partition) -> float:
        return float(judge(P))

    score.__name__ = _name(judge)
    return score


def _specificity(name: str, evaluation: Evaluation) -> dict[str, float]:
    """Return what a closing evaluator says of the communities against random groups, if it was asked to."""
    ratios = np.array(list(evaluation.details.get("specificity_ratio", {}).values()), dtype=float)
    usable = ratios[np.isfinite(ratios) & (ratios > 0)]
    if not usable.size:
        return {}
    found = {f"{name} specificity": float(np.exp(np.log(usable).mean()))}
    tested = np.isfinite(np.asarray(evaluation.p_values.get("specificity", []), dtype=float))
    if tested.any():
        found[f"{name} supported"] = float(np.mean(np.asarray(evaluation.details["supported"])[tested]))
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _count(P: Partition) -> int:
    """Communities that were found: the silent neurons' is not counted."""
    silent = sum(stats.get("silent") is not None for stats in P.stats.values())
    return len(P) - silent


def _largest(P: Partition) -> float:
    return max(map(len, P)) / max(sum(map(len, P)), 1) if len(P) else 0.0


def _agreements(partitions: Sequence[Partition]) -> npt.NDArray[np.float64]:
    out = np.eye(len(partitions))
    for i, P in enumerate(partitions):
        for j, R in enumerate(partitions[:i]):
            common = set(P.layers) & set(R.layers)
            out[i, j] = out[j, i] = agreement(P, R).ari if common else np.nan
    return out


def _tracked(items: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    if not progress:
        return items
    from rich.progress import track

    return track(items, total=total, description="comparing", transient=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
