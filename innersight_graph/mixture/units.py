"""Work units: (table, number of components, block of restarts), run here or on many machines, and kept on disk.

A unit depends on nothing but its own description, so any scheduler that joblib knows (loky, Dask, Ray, Spark) gives the
same fits, a lost worker's unit is simply run again, and a finished one can be read back from a file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from innersight_graph.engines.base import Engine, Fits, Group, resolve_engine
from innersight_graph.files import MALFORMED, check_unpacked, make_folder, whole_file
from innersight_graph.mixture.starts import Init, Starter

__all__ = ["Unit", "run_units"]

# The version of the search: raise it when the same unit would give another result, so that old files are not used.
_VERSION = 2
# Multiply-adds (times 4 and iterations) after which a batch of units is handed to the engine: about a second.
_BATCH_WORK = 4e9


@dataclass(frozen=True, eq=False)
class Unit:
    """Some restarts of one search.

    Parameters
    ----------
    starter : Starter
        The problem and the key of its starts.
    init : str or callable
    n_components : int
    restarts : tuple of int
    max_iter : int
    tol : float
    engine : str or Engine
    """

    starter: Starter
    init: Init
    n_components: int
    restarts: tuple[int, ...]
    max_iter: int
    tol: float
    engine: str | Engine

    @property
    def group(self) -> Group:
        """What an engine is given."""
        return self.starter.group(self.init, self.n_components, self.restarts)

    def run(self) -> Fits:
        """Fit every restart of the unit."""
        return resolve_engine(self.engine).fit(
            self.starter.problem, [self.group], max_iter=self.max_iter, tol=self.tol
        )[0]

    @cached_property
    def digest(self) -> str:
        """A name for the unit's result that changes with anything the result depends on."""
        problem = self.starter.problem
        table = problem.table
        h = hashlib.sha256()
        for array in (table.bits, table.multiplicity, table.groups, table.observed_bits):
            h.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        init = (
            self.init
            if isinstance(self.init, str)
            else f"{self.init.__module__}.{getattr(self.init, '__qualname__', '')}"
        )
        starter = self.starter
        about = (
            _VERSION, table.n_rows, table.n_columns, problem.likelihood, problem.prior, starter.seed, starter.layer,
            starter.max_components, init, self.n_components, self.restarts, self.max_iter, self.tol,
        )  # fmt: skip
        h.update(repr(about).encode())
        return h.hexdigest()[:32]


def run_units(
    units: Sequence[Unit],
    *,
    n_jobs: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[int, Fits]]:
    """Run units and yield (number of the unit, fits) as they end.

    Parameters
    ----------
    units : sequence of Unit
    n_jobs : int, optional
        As joblib's; None: one, or what an enclosing `joblib.parallel_config` says. Each worker uses one thread.
    checkpoint : path, optional
        A directory: finished units are written there (atomically) and, if they are there already, read back.
    """
    store = None if checkpoint is None else _Store(Path(checkpoint))
    waiting = []
    for number, unit in enumerate(units):
        known = None if store is None else store.load(unit)
        if known is None:
            waiting.append(number)
        else:
            yield number, known
    for number, fits in _run_all(units, waiting, n_jobs):
        if store is not None:
            store.save(units[number], fits)
        yield number, fits


def _run_all(units: Sequence[Unit], numbers: Sequence[int], n_jobs: int | None) -> Iterator[tuple[int, Fits]]:
    # A surrounding joblib.parallel_config can exist only where joblib was imported; otherwise its cost is spared.
    if not numbers or (n_jobs in (None, 1) and "joblib" not in sys.modules):
        yield from _run_here(units, numbers)
        return
    import joblib

    pool = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
    if pool.n_jobs == 1:
        yield from _run_here(units, numbers)
        return
    lost = set(numbers)
    try:
        for number, fits in pool(joblib.delayed(_run_there)(number, units[number]) for number in numbers):
            lost.discard(number)
            yield number, fits
    except BrokenProcessPool:
        warnings.warn(
            f"A worker process died, perhaps for lack of memory: {len(lost)} of {len(numbers)} pieces of work are "
            f"done again, "
            "in this process. The result is the same; pass a smaller n_jobs if it happens again.",
            RuntimeWarning,
            stacklevel=2,
        )
        yield from _run_here(units, sorted(lost))


def _run_here(units: Sequence[Unit], numbers: Sequence[int]) -> Iterator[tuple[int, Fits]]:
    engines: dict[Any, Engine] = {}
    for together in _batches(units, numbers):
        first = units[together[0]]
        if first.engine not in engines:
            engines[first.engine] = resolve_engine(first.engine)
        groups = [units[number].group for number in together]
        fits = engines[first.engine].fit(first.starter.problem, groups, max_iter=first.max_iter, tol=first.tol)
        yield from zip(together, fits, strict=True)


def _batches(units: Sequence[Unit], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Consecutive units of one search, as many as take a moment: an engine runs them faster together."""
    batch: list[int] = []
    work = 0.0
    for number in numbers:
        unit = units[number]
        if batch and (unit.starter is not units[batch[0]].starter or work > _BATCH_WORK):
            yield batch
            batch, work = [], 0.0
        batch.append(number)
        work += (
            unit.n_components
            * len(unit.restarts)
            * unit.starter.problem.table.n_rows
            * unit.starter.problem.table.n_columns
        )
    if batch:
        yield batch


def _run_there(number: int, unit: Unit) -> tuple[int, Fits]:
    """Run a unit in a worker on one thread: workers share the cores among themselves."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1), _one_torch_thread():
        return number, unit.run()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Lend torch one thread; it has a pool of its own that threadpoolctl does not see."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_of(unit: Unit, fits: Fits) -> bool:
    """Whether arrays read from a file have the shapes and ranges of this unit's result."""
    n, n_rows = len(unit.restarts), unit.starter.problem.table.n_rows
    each = (fits.objective, fits.n_iter, fits.converged, fits.labels)
    leaders = tuple(fits.leaders.values())
    return bool(
        [(array.shape, array.dtype.kind) for array in each]
        == [((n,), "f"), ((n,), "i"), ((n,), "b"), ((n, n_rows), "i")]
        and not np.isnan(fits.objective).any()
        and fits.labels.min(initial=0) >= 0
        and fits.labels.max(initial=0) < unit.n_components
        and leaders
        and set(fits.leaders) <= set(unit.restarts)
        and all(q.shape == (unit.n_components, n_rows) and q.dtype.kind == "f" for q in leaders)
        and all(np.isfinite(q).all() for q in leaders)
    )


class _Store:
    """Finished units on disk, one file each, written beside and moved into place."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder, "checkpoint")

    def load(self, unit: Unit) -> Fits | None:
        path = self.folder / f"{unit.digest}.npz"
        try:
            check_unpacked(path)
            with np.load(path, allow_pickle=False) as data:
                leaders = {int(key): data[f"leader-{key}"] for key in data["leaders"].tolist()}
                each = [data[name] for name in ("objective", "n_iter", "converged", "labels")]
        except MALFORMED:
            # Absent, or damaged by something else than us: the unit is run (again).
            return None
        fits = Fits(unit.n_components, unit.restarts, each[0], each[1], each[2], each[3], leaders)
        return fits if _is_of(unit, fits) else None

    def save(self, unit: Unit, fits: Fits) -> None:
        arrays: dict[str, Any] = {f"leader-{restart}": state for restart, state in fits.leaders.items()}
        with whole_file(self.folder / f"{unit.digest}.npz", "checkpoint") as temporary:
            np.savez(
                temporary,
                objective=fits.objective,
                n_iter=fits.n_iter,
                converged=fits.converged,
                labels=fits.labels,
                leaders=np.array(list(fits.leaders), dtype=np.int64),
                **arrays,
            )
