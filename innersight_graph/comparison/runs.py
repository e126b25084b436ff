"""The planted benchmark: contenders × tasks × seeds, resumable, with the number of communities known and estimated."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from innersight_graph.comparison.plain_em import plain_em
from innersight_graph.comparison.tasks import TASKS, Task, measurements
from innersight_graph.detection import detect, detector_of
from innersight_graph.detection.em import whole_results
from innersight_graph.errors import InputError, MissingExtraError, WriteError
from innersight_graph.files import MALFORMED, check_target, parse_json, read_text, write_text
from innersight_graph.partition import Partition, agreement
from innersight_graph.partition.text import plain
from innersight_graph.provenance import digest, environment

__all__ = ["CONTENDERS", "Contender", "benchmark", "read_results"]

# Files of before there was a record lack the last column; they are read and gone on with as they are.
FIELDS = (
    "task", "contender", "number", "seed", "ari", "ami", "found", "stability", "seconds", "megabytes", "note", "record",
)  # fmt: skip
_STABILITY_SEEDS = 1
_FIRST_SEED = 1000


@dataclass(frozen=True)
class Contender:
    """A method and its options; adding one to the benchmark is adding one of these.

    Attributes
    ----------
    method : str or callable
        Name for `detect`, or a detector itself.
    options : mapping
        Keyword arguments.
    known, estimated : bool
        Whether it can be told the number of communities, and whether it finds one itself.
    needs : {"", "features", "similarities"}
        What is measured on the graph run as a network.
    families : tuple of str
        Families of tasks it takes part in; empty for all.
    """

    method: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    known: bool = True
    estimated: bool = False
    needs: str = ""
    families: tuple[str, ...] = ()


CONTENDERS: Mapping[str, Contender] = MappingProxyType(
    {
        "block model": Contender("blockmodel", estimated=True),
        "block model, sensitive": Contender(
            "blockmodel", {"sensitive": True}, known=False, estimated=True, families=("layers", "blocks", "null")
        ),
        "EM, as in the paper": Contender(plain_em),
        "EM, random start, moves": Contender("em", {"init": "random", "n_init": 10}),
        "EM, structured": Contender("em", estimated=True),
        "EM, multinomial": Contender("em", {"likelihood": "multinomial"}),
        "Leiden, signed": Contender("leiden", known=False, estimated=True),
        "Leiden, positive": Contender("leiden", {"sign": "positive"}, known=False, estimated=True),
        "Leiden, absolute": Contender("leiden", {"sign": "absolute"}, known=False, estimated=True),
        "Leiden, whole graph": Contender("leiden", {"scope": "graph", "n_init": 3}, known=False, estimated=True),
        "Louvain, signed": Contender("louvain", known=False, estimated=True),
        "spectral (Filan)": Contender("spectral"),
        "windows (Hod)": Contender("specialization"),
        "correlation (Hod)": Contender("specialization", needs="features"),
        "covariance (Lange)": Contender("similarity", known=False, estimated=True, needs="similarities"),
        "geometric (BIMT)": Contender("geometric"),
        "co-activation": Contender("coactivation", needs="features"),
        "by degree": Contender("degree"),
        "random": Contender("random"),
    }
)
QUICK_TASKS = ("layers/2.5", "layers/4", "roles/0.1", "hubs/1", "blocks/1.2", "null/signs", "null/hubs")
QUICK_CONTENDERS = (
    "block model", "EM, as in the paper", "EM, structured", "Leiden, signed", "Leiden, absolute", "spectral (Filan)",
    "random",
)  # fmt: skip


def benchmark(
    out: str | os.PathLike[str],
    *,
    tasks: Iterable[str] | None = None,
    contenders: Iterable[str] | Mapping[str, Contender] | None = None,
    seeds: int | range = 20,
    quick: bool = False,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Run the planted benchmark; results already in the file are kept, so an interrupted run goes on where it stopped.

    Parameters
    ----------
    out : path
        CSV file of results, one line for each run, appended to as they come. Its column ``record`` names an entry of
        the file beside it (``results.csv`` → ``results.record.json``): the method, its options, the versions. The
        graph follows from task, seed and these.
    tasks : iterable of str, optional
        Names among `TASKS`, or families (``"hubs"``); None is all that are not slow.
    contenders : iterable of str or mapping of Contender, optional
        Names among `CONTENDERS`, or your own; None is all.
    seeds : int or range
        Graphs of each task, with seeds from 1000 upwards (development used those below), or their seeds.
    quick : bool
        Seven tasks, seven contenders, two graphs each: under three minutes.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        All lines of the file, numbers as numbers; see `leaderboard`.

    Raises
    ------
    InputError
        If a task or contender is unknown.
    """
    if quick:
        tasks, contenders, seeds = tasks or QUICK_TASKS, contenders or QUICK_CONTENDERS, _seeds(seeds)[:2]
    chosen = _tasks(tasks)
    methods = dict(contenders) if isinstance(contenders, Mapping) else _contenders(contenders)
    path = Path(out)
    done = {(r["task"], r["contender"], r["number"], r["seed"]) for r in read_results(path)}
    plan = [
        (task, name, number, seed)
        for seed in _seeds(seeds)
        for task in chosen
        for name, contender in methods.items()
        for number in _numbers(task, contender)
        if (task.name, name, number, seed) not in done
    ]
    with _Writer(path, methods) as writer:
        graphs = _Graphs()
        for task, name, number, seed in _tracked(plan, progress):
            repeat = not quick and not task.slow and seed < _FIRST_SEED + _STABILITY_SEEDS
            writer.write(_run(graphs.of(task, seed), task, name, methods[name], number, seed, repeat))
    return read_results(path)


def read_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a benchmark's CSV file; an absent file has no lines.

    Parameters
    ----------
    path : path
        As given to `benchmark`.

    Returns
    -------
    list of dict
    """
    source = Path(path)
    if not source.exists():
        return []
    text = read_text(source, "table of results")
    # A killed run may have left half a line at the end, or half of the first one.
    whole = text[: text.rfind("\n") + 1]
    rows = [dict(row) for row in csv.DictReader(io.StringIO(whole))]
    numeric = ("ari", "ami", "stability", "seconds", "megabytes")
    try:
        header, complete, _ = text.partition("\n")
        known = [",".join(FIELDS), ",".join(FIELDS[:-1])]
        if not (header in known if complete else any(each.startswith(header) for each in known)):
            raise ValueError(f"it begins with {text[:40]!r}")
        for row in rows:
            row |= {key: float(row[key]) if row[key] else None for key in numeric}
            row |= {"seed": int(row["seed"]), "found": int(row["found"]) if row["found"] else None}
    except MALFORMED as error:
        raise InputError(
            f"{str(path)!r} is no file of benchmark results ({error}). Name another file, or remove this one."
        ) from error
    return rows


class _Writer:
    """Appends rows and hands each to the disk, so that an interruption loses at most the run in flight."""

    def __init__(self, path: Path, contenders: Mapping[str, Contender]) -> None:
        check_target(path, "table of results")
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        self.records = _write_records(path, contenders)
        self.file = path.open("a", encoding="utf-8", newline="")
        # Half a line that a killed run left is made again.
        self.file.truncate(whole)
        own = content[:whole].partition(b"\n")[0].decode().split(",") if whole else FIELDS
        self.writer = csv.DictWriter(self.file, own, lineterminator="\n", extrasaction="ignore")
        if not whole:
            self.writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        told = {**row, "record": self.records[row["contender"]]}
        try:
            self.writer.writerow({key: "" if told[key] is None else told[key] for key in FIELDS})
            self.file.flush()
        except OSError as error:
            raise WriteError(
                f"A line could not be added to {self.file.name!r} ({error.strerror or error}). Those before it are "
                "kept: free some room and run the same again."
            ) from error

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        # Every line was flushed; closing tries again only what could not be written, and was told.
        with suppress(OSError):
            self.file.close()


def _write_records(path: Path, contenders: Mapping[str, Contender]) -> dict[str, str]:
    """Add what the contenders are run with to the file beside the results; return each one's key there."""
    beside = path.with_name(f"{path.stem}.record.json")
    try:
        known: dict[str, Any] = parse_json(read_text(beside, "record of the results")) if beside.exists() else {}
        records = {name: _record(contender) for name, contender in contenders.items()}
        keys = {name: str(digest(record)) for name, record in records.items()}
        merged = known | {keys[name]: record for name, record in records.items()}
    except MALFORMED as error:
        raise InputError(
            f"{str(beside)!r} is no record of benchmark results ({error}). Remove it, or name other results."
        ) from error
    if merged != known:
        write_text(beside, json.dumps(merged, indent=1, sort_keys=True) + "\n", "record of the results")
    return keys


def _record(contender: Contender) -> dict[str, Any]:
    method = contender.method if isinstance(contender.method, str) else contender.method.__name__
    return {"method": method, "options": plain(contender.options), **environment()}


class _Graphs:
    """The graph of the task in hand, made once for all its contenders."""

    def __init__(self) -> None:
        self.key: tuple[str, int] | None = None
        self.made: tuple[Any, Partition] | None = None

    def of(self, task: Task, seed: int) -> tuple[Any, Partition]:
        if self.made is None or self.key != (task.name, seed):
            self.key, self.made = (task.name, seed), task.make(seed)
        return self.made


@whole_results()
def _run(
    made: tuple[Any, Partition], task: Task, name: str, contender: Contender, number: str, seed: int, repeat: bool
) -> dict[str, Any]:
    G, truth = made
    row: dict[str, Any] = dict.fromkeys(FIELDS)
    row |= {"task": task.name, "contender": name, "number": number, "seed": seed}
    options = {**contender.options, **_reading(G, contender.method), "layers": list(truth.layers)}
    if number == "known":
        options["n_communities"] = task.number
    if contender.needs:
        options[contender.needs] = measurements(G, seed)[contender.needs == "similarities"]
    begin = time.process_time()
    try:
        found = detect(G, contender.method, seed=seed, **options)
    except MissingExtraError as error:
        return row | {"note": f"not installed: {error.package}"}
    row["seconds"] = round(time.process_time() - begin, 4)
    score = agreement(truth, found)
    row |= {"ari": round(score.ari, 6), "ami": round(score.ami, 6), "found": _found(found, len(truth.layers))}
    if repeat:
        again = detect(G, contender.method, **{**options, "seed": seed + 7})
        row["stability"] = round(agreement(found, again).ari, 6)
    row["megabytes"] = _peak_memory() if task.slow else None
    return row


def _reading(G: Any, method: str | Callable[..., Any]) -> dict[str, Any]:
    """Keep every connection as it is where weights are bare signs: thresholds and rescaling could only lose some."""
    if not all(np.isin(_values(W), (-1.0, 1.0)).all() for W in G.connections.values()):
        return {}
    detector: Callable[..., Any] = method if callable(method) else detector_of(method)
    accepted = inspect.signature(detector).parameters
    return {name: value for name, value in (("density", 1.0), ("gauge", "none")) if name in accepted}


def _values(W: Any) -> Any:
    return W.data if hasattr(W, "tocsr") else W[W != 0]


def _found(P: Partition, n_layers: int) -> int:
    """Return communities of an average layer."""
    return round(len(P) / max(n_layers, 1))


def _peak_memory() -> float | None:
    """Return the most memory this process has held, in MB, where the system says."""
    try:
        import resource
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def _seeds(seeds: int | range) -> range:
    return seeds if isinstance(seeds, range) else range(_FIRST_SEED, _FIRST_SEED + seeds)


def _numbers(task: Task, contender: Contender) -> Sequence[str]:
    if contender.families and task.family not in contender.families:
        return ()
    if (contender.needs and task.family in ("programs", "merged", "scale")) or (
        contender.needs and task.name == "null/rotated"
    ):
        return ()
    known = ["known"] if contender.known and task.number is not None else []
    return [*known, *(["estimated"] if contender.estimated else [])]


def _tasks(names: Iterable[str] | None) -> list[Task]:
    if names is None:
        return [task for task in TASKS.values() if not task.slow]
    chosen: list[Task] = []
    for name in names:
        found = [task for task in TASKS.values() if name in (task.name, task.family)]
        if not found:
            raise InputError(f"There is no task {name!r}. Choose among {', '.join(map(repr, TASKS))}, or a family.")
        chosen += found
    return chosen


def _contenders(names: Iterable[str] | None) -> dict[str, Contender]:
    chosen = list(CONTENDERS) if names is None else list(names)
    unknown = [name for name in chosen if name not in CONTENDERS]
    if unknown:
        raise InputError(f"There is no contender {unknown[0]!r}. Choose among {', '.join(map(repr, CONTENDERS))}.")
    return {name: CONTENDERS[name] for name in chosen}


def _tracked(plan: Sequence[Any], progress: bool) -> Iterable[Any]:
    if not progress:
        return plan
    from rich.progress import track

    return track(plan, description="benchmark", transient=True)


def summarize(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Average the runs of each task, contender and kind of number.

    Parameters
    ----------
    rows : sequence of mapping
        From `benchmark` or `read_results`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        ``ari`` with its bootstrap interval ``low``, ``high``; ``ami``, ``found``, ``split`` (share of graphs cut into
        more than one community), ``stability``, ``seconds``, ``graphs``.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["ari"] is not None:
            groups.setdefault((row["task"], row["contender"], row["number"]), []).append(row)
    table = []
    for (task, contender, number), runs in groups.items():
        ari = np.array([run["ari"] for run in runs])
        draws = np.random.default_rng(seed).integers(ari.size, size=(2000, ari.size))
        low, high = np.quantile(ari[draws].mean(axis=1), [0.025, 0.975])
        stable = [run["stability"] for run in runs if run["stability"] is not None]
        table.append(
            {
                "task": task, "contender": contender, "number": number, "graphs": ari.size,
                "ari": float(ari.mean()), "low": float(low), "high": float(high),
                "ami": float(np.mean([run["ami"] for run in runs])),
                "found": float(np.mean([run["found"] for run in runs])),
                "split": float(np.mean([run["found"] > 1 for run in runs])),
                "stability": float(np.mean(stable)) if stable else None,
                "seconds": float(np.mean([run["seconds"] for run in runs])),
            }
        )  # fmt: skip
    return table
