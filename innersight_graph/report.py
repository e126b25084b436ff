"""`evaluate`: several evaluators on one partition, and the `Report` that keeps what they found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from innersight_graph.detection.em import must_be_whole
from innersight_graph.errors import InputError
from innersight_graph.evaluation.closings import DEFAULT_MEMORY
from innersight_graph.evaluation.members import Members
from innersight_graph.evaluation.progress import Interrupted, steps
from innersight_graph.evaluation.result import Evaluation, decode, encode
from innersight_graph.files import MALFORMED, parse_json, read_text, write_text
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.memory import with_less_memory
from innersight_graph.partition import Partition
from innersight_graph.probe.batches import is_out_of_memory, same_data
from innersight_graph.provenance import digest, environment, options_of

if TYPE_CHECKING:
    from innersight_graph._html import Page

__all__ = ["Report", "evaluate"]

FORMAT = "innersight-report/1"


@dataclass(frozen=True, repr=False)
class Report:
    """Scores of one partition.

    Attributes
    ----------
    graph : LayeredDiGraph
    partition : Partition
    evaluations : mapping of name to Evaluation
        In the order of the evaluators.
    environment : mapping
        ``versions``, ``python``, ``platform``, ``seed``, ``nulls``, ``graph`` (its fingerprint), ``evaluators`` (for
        each its ``kind``, ``options``, and digests of its ``data`` and ``model``), ``partial`` (True after an
        interruption: ``unfinished`` names what is missing), ``selected_on_test`` and ``warnings``.
    """

    graph: LayeredDiGraph
    partition: Partition
    evaluations: Mapping[str, Evaluation]
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={float(e):.3g}" for name, e in self.evaluations.items())
        partial = ", partial" if self.environment.get("partial") else ""
        return f"Report({len(self.partition)} communities, {scores or 'no scores'}{partial})"

    def findings(self) -> list[str]:
        """Say in words what is supported and what is not, warnings first."""
        said = list(self.environment.get("warnings", ()))
        for evaluation in self.evaluations.values():
            said.extend(evaluation.details.get("findings", ()))
        return said

    def table(self) -> list[dict[str, Any]]:
        """List the communities with every per-community score, interval and corrected p-value.

        Returns
        -------
        list of dict
            ``community``, ``layer``, ``size``, ``silent``, then for each evaluator ``<name>``, and ``<name> low``,
            ``<name> high``, ``<name> p`` (its own test) and ``<name> null p`` (random groups of equal size) where it
            has them.
        """
        members = Members.of(self.graph, self.partition)
        rows = []
        for i, label in enumerate(self.partition.names):
            row: dict[str, Any] = {
                "community": label,
                "layer": self.partition.layer_of(i),
                "size": int(members.sizes[i]),
                "silent": not bool(members.tested[i]),
            }
            for name, evaluation in self.evaluations.items():
                row |= _columns(name, evaluation, i)
            rows.append(row)
        return rows

    def to_pandas(self) -> Any:
        """Return `table` as a pandas DataFrame."""
        try:
            import pandas as pd
        except ImportError as error:
            from innersight_graph.errors import MissingExtraError

            raise MissingExtraError("pandas", "pandas", "Report.to_pandas") from error
        return pd.DataFrame(self.table())

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the scores as JSON text and write it to a file if a path is given.

        The graph is not in it (save it with ``graph.save``); the partition is. Equal reports give equal text.
        """
        record = {
            "format": FORMAT,
            "partition": json.loads(self.partition.to_json()),
            "evaluations": {name: evaluation.to_dict() for name, evaluation in self.evaluations.items()},
            "environment": encode(dict(self.environment)),
        }
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        if path is not None:
            write_text(path, text, "report")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str], G: Any) -> Report:
        """Read what `to_json` wrote, for the graph it was made from.

        Parameters
        ----------
        source : path or str
            A file, or the text itself.
        G : LayeredDiGraph or networkx graph
            The partition must be one of this graph.
        """
        text = source if isinstance(source, str) and source.lstrip().startswith("{") else read_text(source, "report")
        try:
            record = parse_json(text)
            if record["format"] != FORMAT:
                raise ValueError(f"its format is {record['format']!r}")
            partition = Partition.from_json(json.dumps(record["partition"]))
            evaluations = {name: Evaluation.from_dict(e) for name, e in record["evaluations"].items()}
            environment = decode(record["environment"])
            if not isinstance(environment, dict):
                raise TypeError("its environment is not a mapping")
            if any(len(e.per_community) != len(partition) for e in evaluations.values()):
                raise ValueError(f"its scores are not those of {len(partition)} communities")
        except MALFORMED as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"This is no report of this package, or it is damaged ({type(error).__name__}: {error}); write one "
                f"with Report.to_json."
            ) from error
        graph = as_layered(G)
        partition.check(graph)
        return cls(graph, partition, MappingProxyType(evaluations), MappingProxyType(environment))

    def to_html(self, path: str | os.PathLike[str], **options: Any) -> Page:
        """Write the report as one offline page, which a notebook displays; options as in `innersight_graph.to_html`."""
        from innersight_graph._html import to_html

        return to_html(self.graph, self.partition, path, report=self, **options)


def evaluate(
    G: Any,
    partition: Any,
    evaluators: Any,
    *,
    nulls: int = 199,
    seed: int | None = None,
    n_jobs: int | None = None,
    max_memory: int | None = None,
    allow_test_selection: bool = False,
    progress: bool = False,
) -> Report:
    """Score a partition with several evaluators.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
        The graph of the model.
    partition : Partition or iterable of sets of nodes
        Communities of G.
    evaluators : evaluator, callable, or iterable of them
        Objects with ``name`` and ``evaluate`` (`Structure`, `Ablation`, …), or functions ``(G, partition) -> float``.
    nulls : int, default 199
        Random partitions with the same sizes per layer that every score is compared with; 0 switches the comparison
        off. Scores whose draws cost next to nothing (structure, sensitivity, occlusion) take five times as many: 999.
    seed : int, optional
        Names the random partitions. Without one they differ from call to call.
    n_jobs : int, optional
        Evaluators to run at the same time, in threads of this process, unless they share a model; default one after
        another.
    max_memory : int, optional
        Bytes of extra tensors an evaluator may hold at a time; default 256 MiB. A device that runs out of memory is
        tried again with less, then the score is computed on a copy of the model on the CPU, with a warning each time.
    allow_test_selection : bool, default False
        Score a partition that was itself chosen on the data it is scored on. Refused by default, because such scores
        flatter the partition; if allowed, the report says so.
    progress : bool, default False
        Show a bar with the time left on anything over two seconds.

    Returns
    -------
    Report
        After Ctrl-C: what was finished, marked partial; the model is restored.

    Raises
    ------
    InputError
        A partition of another graph, unusable data, two evaluators of one name, or test data used for selection.

    Examples
    --------
    >>> import networkx as nx
    >>> from innersight_graph.evaluation.structure import Structure
    >>> two = nx.disjoint_union(nx.complete_graph(5), nx.complete_graph(5))
    >>> report = evaluate(two, [range(5), range(5, 10)], Structure(two), nulls=99, seed=0)
    >>> float(report.evaluations["structure"]), report.evaluations["structure"].p_values["null"].max() < 0.05
    (0.5, np.True_)
    """
    members = Members.of(G, partition)
    if nulls < 0:
        raise InputError(f"nulls={nulls} came; it is a number of random partitions, 0 or more.")
    wanted = _named(evaluators)
    warnings = _selection_warnings(members.partition, wanted, allow_test_selection)
    on_test = bool(warnings)
    options = {"nulls": nulls, "seed": seed, "progress": progress, "max_memory": max_memory}
    finished: dict[str, Evaluation] = {}
    interrupted = False
    try:
        for name, evaluation in _scores(members, wanted, options, n_jobs, progress):
            finished[name] = evaluation
    except Interrupted as stop:
        if must_be_whole():
            raise
        interrupted = True
        finished[stop.partial.name] = stop.partial
    except KeyboardInterrupt:
        if must_be_whole():
            raise
        interrupted = True
    unfinished = tuple(name for name in wanted if name not in finished or finished[name].details.get("partial"))
    if interrupted:
        warnings.append(f"Interrupted: this report is partial. Not finished: {', '.join(unfinished)}.")
    environment = _environment(members, wanted, seed, nulls) | {
        "partial": interrupted,
        "unfinished": unfinished,
        "selected_on_test": on_test,
        "warnings": tuple(warnings),
    }
    return Report(members.graph, members.partition, MappingProxyType(finished), MappingProxyType(environment))


def _scores(
    members: Members, wanted: Mapping[str, Any], options: Mapping[str, Any], n_jobs: int | None, progress: bool
) -> Iterator[tuple[str, Evaluation]]:
    def score(name: str) -> Evaluation:
        evaluator = wanted[name]
        if hasattr(evaluator, "evaluate"):
            own = dict(options)
            if getattr(evaluator, "cheap", False):
                own["nulls"] = cheap_draws(own["nulls"])
            return _within_memory(evaluator, members, own)
        return Evaluation(
            name, float(evaluator(members.graph, members.partition)), np.full(len(members.partition), np.nan)
        )

    # Closing and reading hold the model in evaluation mode with hooks on it: evaluators that share one take turns.
    models = [id(e.model) for e in wanted.values() if getattr(e, "model", None) is not None]
    if n_jobs in (None, 1) or len(set(models)) < len(models):
        for name in steps(list(wanted), "evaluators", progress):
            yield name, score(name)
        return
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(score)(name) for name in wanted)
    yield from zip(wanted, results, strict=True)


def _within_memory(evaluator: Any, members: Members, options: dict[str, Any]) -> Evaluation:
    """Run an evaluator with less and less memory, at last on a copy of its model on the CPU, and say so."""
    model: Any = getattr(evaluator, "model", None)

    def here(share: float) -> Evaluation:
        own = options
        if share < 1.0:
            torch.cuda.empty_cache()
            own = options | {"max_memory": int((options["max_memory"] or DEFAULT_MEMORY) * share)}
        result: Evaluation = evaluator.evaluate(members.graph, members.partition, **own)
        return result

    def elsewhere() -> Evaluation:
        torch.cuda.empty_cache()
        moved: dict[int, Any] = {id(model): deepcopy(model).to("cpu")}
        for name in ("data", "images"):
            data = getattr(evaluator, name, None)
            moved[id(data)] = tree_map(lambda leaf: leaf.to("cpu") if isinstance(leaf, torch.Tensor) else leaf, data)
        result: Evaluation = deepcopy(evaluator, moved).evaluate(members.graph, members.partition, **options)
        return result

    return with_less_memory(
        here,
        elsewhere,
        lambda error: model is not None and is_out_of_memory(error),
        said=f"The device ran out of memory: {evaluator.name!r} is computed again",
        instead="pass smaller batches or a smaller max_memory",
        stacklevel=4,
    )


def cheap_draws(nulls: int) -> int:
    """Return how many draws a cheap score gets where the others get ``nulls``: 999 for 199."""
    return 5 * nulls + 4 if nulls else 0


def _named(evaluators: Any) -> dict[str, Any]:
    single = hasattr(evaluators, "evaluate") or isinstance(evaluators, Callable)  # type: ignore[arg-type]
    listed = [evaluators] if single else list(evaluators) if isinstance(evaluators, Iterable) else None
    if listed is None:
        raise InputError(
            f"evaluators is a {type(evaluators).__name__}; pass an evaluator such as Structure(G), or a list of them."
        )
    named: dict[str, Any] = {}
    for position, evaluator in enumerate(listed):
        if not hasattr(evaluator, "evaluate") and not callable(evaluator):
            raise InputError(
                f"Evaluator {position} is a {type(evaluator).__name__}; it must have an evaluate method or be a "
                f"function of "
                "(G, partition)."
            )
        name = str(getattr(evaluator, "name", None) or getattr(evaluator, "__name__", type(evaluator).__name__))
        if name in named:
            raise InputError(
                f"Two evaluators are called {name!r}; give one of them another name, e.g. Ablation(..., name='test')."
            )
        named[name] = evaluator
    return named


def _selection_warnings(partition: Partition, wanted: Mapping[str, Any], allowed: bool) -> list[str]:
    """Refuse or stamp a partition whose number of communities was chosen with the data it is to be scored on."""
    chosen_on = getattr(partition.params.get("criterion"), "data", None)
    same = [name for name, e in wanted.items() if same_data(getattr(e, "data", None), chosen_on)]
    marked = [
        name
        for name, e in wanted.items()
        if getattr(e, "split", None) == "test" and partition.params.get("split") == "test"
    ]
    names = list(dict.fromkeys([*same, *marked]))
    if not names:
        return []
    if not allowed:
        raise InputError(
            f"The partition was chosen with the data of {', '.join(names)}, so its scores there would flatter it. "
            f"Choose on validation data and "
            "score on test data, or pass allow_test_selection=True and have the report say so."
        )
    return [f"The partition was selected on the data it is scored on ({', '.join(names)}): these scores flatter it."]


def _environment(members: Members, wanted: Mapping[str, Any], seed: int | None, nulls: int) -> dict[str, Any]:
    models = {id(e.model): e.model for e in wanted.values() if hasattr(getattr(e, "model", None), "state_dict")}
    weights = {key: digest(dict(model.state_dict())) for key, model in models.items()}
    return environment() | {
        "seed": seed,
        "nulls": nulls,
        "graph": members.graph.fingerprint,
        "evaluators": {name: _record(e, weights.get(id(getattr(e, "model", None)))) for name, e in wanted.items()},
    }


def _record(evaluator: Any, weights: str | None) -> dict[str, Any]:
    data = getattr(evaluator, "data", getattr(evaluator, "images", None))
    return {
        "kind": getattr(evaluator, "__qualname__", type(evaluator).__qualname__),
        "options": options_of(evaluator),
        "data": None if data is None else digest(data),
        "model": weights,
    }


def _columns(name: str, evaluation: Evaluation, i: int) -> dict[str, Any]:
    columns: dict[str, Any] = {name: float(evaluation.per_community[i])}
    interval = evaluation.intervals.get("per_community")
    if interval is not None:
        columns |= {f"{name} low": float(interval[i, 0]), f"{name} high": float(interval[i, 1])}
    for key, column in (("per_community", f"{name} p"), ("null", f"{name} null p")):
        if key in evaluation.p_values:
            columns[column] = float(evaluation.p_values[key][i])
    return columns
