"""Appendix A.7: what a search costs, how the cost grows, and whether convolutions have fewer communities."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from innersight_graph.detection.em import em_communities
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.engines.table import BinaryTable, Problem
from innersight_graph.paper.methods import METHODS, OURS, PRINTED, find
from innersight_graph.paper.record import Artefact, Verdict, verdict
from innersight_graph.paper.study import LAYERS, Study

__all__ = ["a7"]

STARTS = 100
# Methods timed in a quick run.
QUICK = (OURS, PRINTED, "filan", "hod", "liu")
# Features of the table on which the growth is measured: those of a layer of 128 between 128 and 84 neurons.
COLUMNS = 424
HOUR = 3600.0
# Exponents of a power law fitted to a few sizes scatter by about this much.
TOLERANCE = 0.25
# Below this share of explained variance timings are no power law but noise of a busy machine.
CLEAN = 0.95


def a7(study: Study) -> Artefact:
    """Run times of every method, of the paper's full protocol on 128 neurons, and how it grows with its sizes."""
    network = study.network("linear")
    material = network.material(study.numbers("linear"), network.layers)
    methods: dict[str, float] = {}
    for name in QUICK if study.settings.quick else METHODS:
        started = time.process_time()
        find(name, material, study.settings.seed)
        methods[name] = time.process_time() - started
    protocol = _protocol(study)
    growth = _growth(study)
    numbers = {kind: study.numbers(kind) for kind in LAYERS}
    rows = [
        {"what": METHODS[name].label, "size": "3 linear layers", "cpu_seconds": seconds}
        for name, seconds in methods.items()
    ]
    rows.append({"what": "the paper's search, 128 neurons", "size": protocol["size"], "cpu_seconds": protocol["full"]})
    for axis, record in growth.items():
        rows += [
            {"what": f"growth with {axis}", "size": str(n), "cpu_seconds": t} for n, t in record["seconds"].items()
        ]
    verdicts = [_hours(protocol), _linear_growth(growth), _fewer(numbers)]
    data = {"methods": methods, "protocol": protocol, "growth": growth, "n_communities": numbers}
    figure = _figure({METHODS[name].label: seconds for name, seconds in methods.items()})
    return Artefact(
        "a7", "Appendix A.7: run time", rows, data, verdicts, {"A.7: CPU seconds per search, linear network": figure}
    )


def _protocol(study: Study) -> dict[str, Any]:
    """CPU seconds of 100 random starts for each number of communities on the first hidden layer."""
    network, settings = study.network("linear"), study.settings
    seconds = _seconds(
        network.graph,
        settings.numbers,
        init="random",
        n_init=settings.starts,
        gauge="none",
        criterion=_first,
        layers=network.layers[0],
        coarse=False,
        seed=settings.seed,
        n_jobs=1,
    )
    tried = len(settings.numbers)
    # Cost is the sum over r of a cost linear in r (Eq. 7): missing numbers count by their size.
    share = sum(settings.numbers) / sum(range(1, 21)) * settings.starts / STARTS
    size = f"{settings.starts} starts, r = 1 to {tried}; scaled to {STARTS} and 20"
    return {"measured": seconds, "full": seconds / share, "starts": settings.starts, "numbers": tried, "size": size}


def _first(partition: Any) -> float:
    """Select the fewest communities, which costs nothing."""
    return -float(len(partition))


def _growth(study: Study) -> dict[str, Any]:
    """Seconds of the EM loop alone against each of its sizes, all iterations forced, and the fitted exponents."""
    base = {"starts": 4, "iterations": 8, "neurons": 256, "communities": 16}
    factors = (1, 2, 4)
    _loop(**base)
    result = {}
    for axis, size in base.items():
        seconds = {size * factor: _loop(**{**base, axis: size * factor}) for factor in factors}
        x, y = np.log(list(seconds)), np.log(list(seconds.values()))
        fit = float(np.corrcoef(x, y)[0, 1] ** 2)
        result[axis] = {"seconds": seconds, "exponent": float(np.polyfit(x, y, 1)[0]), "r_squared": fit}
    return result


def _loop(*, starts: int, iterations: int, neurons: int, communities: int) -> float:
    """CPU seconds of EM on coin flips with the reference engine, the least of three runs."""
    rng = np.random.Generator(np.random.Philox(0))
    problem = Problem(BinaryTable.from_array(rng.random((neurons, COLUMNS)) < 0.5))
    first = rng.dirichlet(np.ones(communities), size=(starts, neurons)).transpose(0, 2, 1)
    engine = ArrayEngine()
    measured = []
    with threadpool_limits(1):
        # Waiting threads count as CPU time on a busy machine.
        for _ in range(3):
            started = time.process_time()
            engine.run(problem, first, max_iter=iterations, tol=-1.0)
            measured.append(time.process_time() - started)
    return min(measured)


def _seconds(G: Any, numbers: Any, **options: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        started = time.process_time()
        em_communities(G, numbers, **options)
        return time.process_time() - started


def _hours(protocol: Mapping[str, Any]) -> Verdict:
    seconds = protocol["full"]
    return verdict(
        "The search takes hours on 128 neurons: about 4 h for the linear network (A.7).",
        holds=seconds >= HOUR,
        fails=seconds < HOUR,
        number=seconds,
        unit=f"CPU seconds for {STARTS} random starts of up to 200 iterations at r = 1 to 20, first layer",
        rule=(
            "supported from one hour up. Another machine and implementation: this says what the method needs, not what"
            " theirs took"
        ),
        says=f"the whole search on the first layer takes {seconds:.0f} CPU seconds ({protocol['size']}).",
    )


def _linear_growth(growth: Mapping[str, Mapping[str, Any]]) -> Verdict:
    slopes = {axis: record["exponent"] for axis, record in growth.items()}
    worst_fit = min(record["r_squared"] for record in growth.values())
    clean = worst_fit >= CLEAN
    furthest = max(slopes.values(), key=lambda slope: abs(slope - 1))
    return verdict(
        "The cost is O(R T K C): linear in starts, iterations, neurons and communities (A.7).",
        holds=clean and abs(furthest - 1) <= TOLERANCE,
        fails=clean and furthest > 1 + TOLERANCE,
        number=furthest,
        unit="fitted exponent furthest from 1 among starts, iterations, neurons and communities",
        rule=(
            f"supported: all within {TOLERANCE} of 1; not supported: one above; open: below 1 "
            f"(overheads hide the growth), or timings too noisy for a power law (R² below {CLEAN})"
        ),
        says="fitted exponents: "
        + ", ".join(f"{axis} {slope:.2f}" for axis, slope in slopes.items())
        + f"; worst R² {worst_fit:.2f}.",
    )


def _fewer(numbers: Mapping[str, Mapping[str, int]]) -> Verdict:
    linear, convolutional = (float(np.mean(list(numbers[kind].values()))) for kind in ("linear", "convolutional"))
    return verdict(
        "Convolutional layers have fewer communities than linear ones (A.7).",
        holds=convolutional < linear / 2,
        fails=convolutional >= linear,
        number=convolutional / linear,
        unit="mean number of communities per layer, convolutional over linear network (chosen by exact ICL)",
        rule="supported: less than half (the paper: 3.3 against 13); not supported: no fewer; one network each",
        says=f"{convolutional:.1f} communities per convolutional layer, {linear:.1f} per linear layer.",
    )


def _figure(seconds: Mapping[str, float]) -> Any:
    from innersight_graph.figures.style import ACTIVATION, canvas

    with canvas(5.2, 0.6 + 0.24 * len(seconds)) as (figure, axes):
        axes.barh(range(len(seconds)), list(seconds.values()), color=ACTIVATION)
        axes.set_yticks(range(len(seconds)), list(seconds))
        axes.invert_yaxis()
        axes.set_xlabel("CPU seconds")
    return figure
