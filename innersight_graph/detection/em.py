"""Communities by the paper's EM mixture: neurons with alike signed connections belong together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from scipy import sparse

from innersight_graph.detection._layers import (
    assemble,
    check_n_communities,
    live_layers,
    resolve_layers,
    resolve_seed,
)
from innersight_graph.engines.base import Engine, resolve_engine
from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.graph.profiles import SignedProfile, binarize, check_profile_options
from innersight_graph.memory import check_memory
from innersight_graph.mixture.polish import Solution
from innersight_graph.mixture.search import Material, Outcome, Search, Settings
from innersight_graph.mixture.starts import INITS, Init
from innersight_graph.mixture.units import run_units
from innersight_graph.partition import Partition

__all__ = ["PartialResultWarning", "SelectionWarning", "em_communities", "must_be_whole", "whole_results"]

# Bytes at the peak for each connection of the graph (balancing) and of the layers to partition (their profiles), as
# measured with tests/benchmarks/bench_memory.py.
BALANCE_BYTES, PROFILE_BYTES = 12, 16
_WHOLE: ContextVar[bool] = ContextVar("whole", default=False)
_LIKELIHOODS = ("bernoulli", "multinomial")
_CRITERIA = ("icl", "held-out")


class SelectionWarning(UserWarning):
    """Ways of choosing the number of communities contradict each other."""


class PartialResultWarning(UserWarning):
    """A search was interrupted; the partition is the best so far."""


@contextmanager
def whole_results() -> Iterator[None]:
    """While this lasts, Ctrl-C ends `em_communities` and `evaluate`, which otherwise return what they have by then.

    For callers that would go on with a part, or keep it on disk, as if it were the whole.
    """
    token = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(token)


def must_be_whole() -> bool:
    """Whether the caller has no use for a part of a result; see `whole_results`."""
    return _WHOLE.get()


def em_communities(
    G: Any,
    n_communities: int | Iterable[int] = range(1, 21),
    *,
    likelihood: str = "bernoulli",
    density: float = 0.5,
    gauge: str = "balanced",
    thresholds: Mapping[str, float] | None = None,
    criterion: str | Callable[[Partition], float] = "icl",
    init: Init = "structured",
    n_init: int | None = None,
    max_iter: int = 200,
    tol: float = 1e-7,
    prior: float = 0.0,
    coarse: bool | None = None,
    layers: str | Iterable[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: Any = None,
    engine: str | Engine = "auto",
    n_jobs: int | None = None,
    progress: bool = False,
) -> Partition:
    """Find communities of neurons by an EM mixture on their signed connections (paper, section 3.2, Eq. 2-8).

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    n_communities : int or iterable of int, default range(1, 21)
        A number, or candidates among which `criterion` chooses for each layer; candidates beyond a layer's live neurons
        are left out. With 1 among them "no communities" is a possible answer.
    likelihood : {"bernoulli", "multinomial"}, default "bernoulli"
        The paper's, or Newman and Leicht's, which does not group by degree.
    density, gauge, thresholds
        Which connections count as valid; as in `binarize`. This choice moves the result more than the algorithm does.
    criterion : {"icl", "held-out"} or callable, default "icl"
        "icl": exact integrated complete-data likelihood; more than one community only if its gain beats that of weights
        shuffled within each neuron (3 shuffles, 19 where it is close). "held-out": log-likelihood of neurons left out
        of the fit. A callable gets a `Partition` of one layer, for each layer and number, and returns a number, larger
        being better (`PartitionScore` is the paper's Q).
    init : str or callable, default "structured"
        "random" (the paper's), "dirichlet", "near-uniform", "k-means++", "ward", "spectral", "annealed" or
        "structured": Ward, spectral, k-means++ and near-uniform starts. A callable gets (X, n_components, generator)
        and returns labels or responsibilities.
    n_init : int, optional
        Starts for each number of communities. Default: 12 structured (60 for one given number and a
        table as small as 64 x 64, 4 for tables beyond 67 million entries), one Ward or spectral, else 100.
    max_iter : int, default 200
    tol : float, default 1e-7
        Stop when no responsibility changes by more; negative: never, always `max_iter` iterations.
    prior : float, default 0.0
        Pseudo-observations at the column means for each community (0: none, as in the paper).
    coarse : bool, optional
        Try few numbers first and then those around the best, from two starts for at most 20 iterations, and give all
        of them to the best; compare with shuffles of at most 2,048 neurons. None: where trying all would take minutes.
    layers : str, iterable of str, or None
        None: every hidden layer.
    checkpoint : path, optional
        A directory for finished pieces of work: the same call continues where a killed one stopped.
    seed : int, random generator or None
        A start is keyed by (seed, layer, number of communities, restart): the same on every engine, device and machine.
    engine : {"auto", "numpy", "torch", "torch:cuda", "cupy"} or Engine, default "auto"
    n_jobs : int, optional
        As joblib's; with `joblib.parallel_config("dask")` the pieces of work run on a Dask cluster.
    progress : bool, default False
        Show a progress bar.

    Returns
    -------
    Partition
        With responsibilities; ``params["engine"]`` is the engine that was used. ``stats[layer]`` holds
        ``log_likelihood`` (nats), ``n_communities`` (those with a neuron), ``n_requested``, ``n_iter``,
        ``converged``, ``restart`` (which one won), ``criterion`` and ``log_likelihood_curve`` (by number of
        communities), ``held_out`` (mean nats of a held-out neuron, for some numbers, or None where it has no power),
        ``stability`` (mean ARI between the five best starts), and with the default criterion ``null_gain`` (nats,
        best of ``n_shuffles`` shuffles; of ``null_rows`` neurons where the search is coarse and there are more).

    Raises
    ------
    InputError
        An unknown option or layer; a number of communities that is not positive or exceeds a layer; a criterion that
        returns something else than a number.

    Warns
    -----
    SelectionWarning
        Where ICL and held-out neurons contradict each other.
    PartialResultWarning
        After Ctrl-C: the partition is the best so far, and ``stats[layer]["partial"]`` is true.

    Notes
    -----
    For n neurons with M connections each way and r communities, an iteration of one start takes 8 n M r multiply-adds;
    three to nine iterations are usual. Ties go to the lowest restart. The winner is run to its fixed point in float64,
    and leave-one-out moves are kept if the criterion (with one given number: the likelihood) rises.

    Many machines: ``with joblib.parallel_config("dask")`` (or ``"ray"``) carries the pieces of work to a cluster, and a
    lost worker's pieces are run again. Several GPUs: a `dask_cuda.LocalCUDACluster` gives each worker one device; pass
    ``engine="torch:cuda"``.

    References
    ----------
    Newman & Leicht 2007, doi:10.1073/pnas.0610537104 (EM mixture); Biernacki, Celeux & Govaert 2010,
    doi:10.1016/j.jspi.2010.03.042 (exact ICL).

    Examples
    --------
    >>> import networkx as nx
    >>> P = em_communities(nx.karate_club_graph(), 2, density=1.0, seed=0)
    >>> round(P.stats["graph"]["log_likelihood"], 3)
    -333.171
    """
    G = as_layered(G)
    _check_options(likelihood, criterion, init, n_init, max_iter, tol, prior)
    check_profile_options(density, gauge, thresholds)
    layers = resolve_layers(G, layers)
    _check_room(G, layers)
    used_seed = resolve_seed(seed)
    profile_options: dict[str, Any] = {"density": density, "gauge": gauge, "thresholds": thresholds}
    chosen_engine = resolve_engine(engine)
    # "auto" is decided here, once: workers, which may have other packages loaded, get the name it came to.
    used_engine = chosen_engine.name if isinstance(engine, str) else engine
    settings = Settings(likelihood, init, n_init, max_iter, tol, prior, used_seed, used_engine)
    if not isinstance(n_communities, int | np.integer | float | str) and isinstance(n_communities, Iterable):
        n_communities = tuple(n_communities)
    choosing = isinstance(n_communities, tuple)
    searches: dict[str, Search] = {}
    empty: list[str] = []
    for name, live, _ in live_layers(G, layers):
        numbers = check_n_communities(n_communities, G.layer(name).width, name)
        if len(live) == 0:
            empty.append(name)
            continue
        material = _material(binarize(G, name, **profile_options), live, name)
        candidates = (
            sorted({min(r, len(live)) for r in numbers}) if not choosing else [r for r in numbers if r <= len(live)]
        )
        value = _per_layer(criterion, G, name) if callable(criterion) else criterion
        searches[name] = Search(material, settings, candidates or [len(live)], value, choosing, coarse)
    interrupted = _run(searches, chosen_engine, n_jobs, checkpoint, progress)
    outcomes = {name: search.conclude(chosen_engine) for name, search in searches.items() if search.curve}
    for outcome in outcomes.values():
        if interrupted:
            outcome.stats["partial"] = True
        if outcome.disagreement is not None:
            warnings.warn(outcome.disagreement, SelectionWarning, stacklevel=2)
    if interrupted:
        warnings.warn(
            f"The search was interrupted; this is the best of what was finished, for {len(outcomes)} of "
            f"{len(searches)} layers. "
            "Name a checkpoint directory and repeat the call to continue.",
            PartialResultWarning,
            stacklevel=2,
        )
    params = {
        "n_communities": list(n_communities) if isinstance(n_communities, tuple) else n_communities,
        "likelihood": likelihood, **profile_options, "criterion": _name(criterion), "init": _name(init),
        "n_init": n_init, "max_iter": max_iter, "tol": tol, "prior": prior, "coarse": coarse,
        "engine": chosen_engine.name,
    }  # fmt: skip
    chosen_on = getattr(criterion, "data", None)
    seen = {} if chosen_on is None else {"criterion": chosen_on}
    return _partition(G, outcomes, empty, params, used_seed, seen)


def _partition(
    G: Any,
    outcomes: Mapping[str, Outcome],
    empty: Iterable[str],
    params: Mapping[str, Any],
    seed: int,
    seen: Mapping[str, Any],
) -> Partition:
    nothing: dict[str, Any] = {
        "log_likelihood": 0.0,
        "n_iter": 0,
        "converged": True,
        "criterion": {},
        "stability": None,
    }
    labels = {name: outcome.labels for name, outcome in outcomes.items()} | {
        name: np.zeros(0, np.int64) for name in empty
    }
    stats = {name: outcome.stats for name, outcome in outcomes.items()} | dict.fromkeys(empty, nothing)
    shares = {name: outcome.responsibilities for name, outcome in outcomes.items()}
    options: dict[str, Any] = {"params": params, "seed": seed, "stats": stats, "responsibilities": shares}
    return assemble(G, labels, method="em", data=seen, **options)


def _check_room(G: LayeredDiGraph, layers: tuple[str, ...]) -> None:
    """Raise InputError where balancing the graph and the profiles of the layers would not fit into memory."""
    stored: Mapping[Any, Any] = G.connections
    sizes = {pair: matrix.nnz if sparse.issparse(matrix) else matrix.size for pair, matrix in stored.items()}
    touching = sum(size for pair, size in sizes.items() if set(layers) & set(pair))
    total = sum(sizes.values())
    check_memory(
        BALANCE_BYTES * total + PROFILE_BYTES * touching,
        f"Finding communities among {total:,} connections",
        "Partition fewer layers at a time with layers=[…], or use a machine with more memory.",
    )


def _check_options(
    likelihood: str, criterion: Any, init: Any, n_init: int | None, max_iter: int, tol: float, prior: float
) -> None:
    for name, value, known in (
        ("likelihood", likelihood, _LIKELIHOODS),
        ("criterion", criterion, _CRITERIA),
        ("init", init, tuple(INITS)),
    ):
        if (name == "likelihood" or not callable(value)) and value not in known:
            function = "" if name == "likelihood" else ", or pass a function"
            raise InputError(f"{name}={value!r} is unknown. Use one of {', '.join(map(repr, known))}{function}.")
    for name, number in (("n_init", n_init), ("max_iter", max_iter)):
        if name == "n_init" and number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise InputError(f"{name}={number!r} came; a whole number from 1 was expected.")
    if not tol == tol or not 0 <= prior < float("inf"):
        raise InputError(f"tol={tol!r} and prior={prior!r} came; a number, and a non-negative number, were expected.")


def _material(profile: SignedProfile, live: Any, name: str) -> Material:
    """Return the rows of the live neurons, and where each side and sign has its columns."""
    values, observed = profile.matrix(), profile.observed()
    previous, following = profile.activation_in.shape[1], profile.activation_out.shape[1]
    sides, start = [], 0
    for width in (previous, following):
        if width:
            sides.append((slice(start, start + width), slice(start + width, start + 2 * width)))
            start += 2 * width
    if len(live) < len(values):
        values, observed = values[live], None if observed is None else observed[live]
    return Material(values, observed, tuple(sides), name)


def _per_layer(criterion: Callable[[Partition], float], G: Any, layer: str) -> Callable[[Solution], float]:
    """Return the user's criterion as a function of a solution: it sees a partition of one layer."""

    def value(solution: Solution) -> float:
        about = {"n_communities": solution.n_components}
        result = criterion(assemble(G, {layer: solution.labels}, method="em", params=about))
        try:
            number = float(result)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"criterion returned {result!r} for layer {layer!r}; a number was expected, larger being better."
            ) from error
        if number != number:
            raise InputError(
                f"criterion returned NaN for layer {layer!r} with {solution.n_components} communities; a number was "
                "expected. Return -inf for a partition that must not win."
            )
        return number

    return value


def _name(option: Any) -> str:
    """Return a name for an option that may be a function or an object."""
    if isinstance(option, str):
        return option
    return str(getattr(option, "name", None) or getattr(option, "__name__", type(option).__name__))


def _run(
    searches: Mapping[str, Search],
    engine: Engine,
    n_jobs: int | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> bool:
    """Fit and evaluate until no search wants more; True if the user interrupted it."""
    interrupted = False
    with _bar(progress) as advance:
        while not interrupted:
            owners, units = [], []
            for search in searches.values():
                for unit in search.pending():
                    owners.append(search)
                    units.append(unit)
            if not units:
                break
            advance(0, len(units))
            try:
                for number, fits in run_units(units, n_jobs=n_jobs, checkpoint=checkpoint):
                    owners[number].add(fits)
                    advance(1, 0)
            except KeyboardInterrupt:
                interrupted = True
                if must_be_whole() or not any(search.parts for search in searches.values()):
                    raise
            for search in searches.values():
                if search.parts:
                    search.evaluate(engine)
    return interrupted


class _bar:  # noqa: N801
    """A progress bar, or nothing."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.total = 0

    def __enter__(self) -> Callable[[int, int], None]:
        if not self.shown:
            return lambda done, more: None
        from rich.progress import Progress

        self.progress = Progress(transient=True)
        self.progress.start()
        task = self.progress.add_task("EM", total=0)

        def advance(done: int, more: int) -> None:
            self.total += more
            self.progress.update(task, advance=done, total=self.total)

        return advance

    def __exit__(self, *error: object) -> None:
        if self.shown:
            self.progress.stop()
