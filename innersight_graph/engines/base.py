"""What an engine is: it takes groups of starts and returns where each of them ended."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.table import Problem
from innersight_graph.errors import InputError

__all__ = ["EPSILON", "Engine", "Fits", "Group", "resolve_engine"]

#: Smallest share of a community's mass used inside a logarithm: the price of one mismatch is log(1e-6) = -13.8 nats.
EPSILON = 1e-6


#: Restarts this close to the best log-likelihood (relative) keep their responsibilities, so that float64 can decide.
MARGIN = 2e-6


@dataclass(frozen=True)
class Group:
    """Restarts with one number of components.

    Parameters
    ----------
    n_components : int
    restarts : tuple of int
        Numbers of the restarts; they key the starts.
    draw : callable
        `draw(restarts) -> ndarray of float32, shape (len(restarts), n_components, n_rows)`: responsibilities to start
        from.
    """

    n_components: int
    restarts: tuple[int, ...]
    draw: Callable[[tuple[int, ...]], NDArray[np.float32]]


@dataclass(frozen=True)
class Fits:
    """Where the restarts of a group ended.

    Parameters
    ----------
    n_components : int
    restarts : tuple of int
    objective : ndarray of float64, shape (n_restarts,)
        Log-likelihood in nats (plus log-prior, if there is one), in the engine's precision.
    n_iter : ndarray of int, shape (n_restarts,)
    converged : ndarray of bool, shape (n_restarts,)
    labels : ndarray of int16 or int32, shape (n_restarts, n_rows)
    leaders : dict
        Restart -> responsibilities, shape (n_components, n_rows), of every restart within `MARGIN` of the best.
    """

    n_components: int
    restarts: tuple[int, ...]
    objective: NDArray[np.float64]
    n_iter: NDArray[np.int64]
    converged: NDArray[np.bool_]
    labels: NDArray[np.signedinteger]
    leaders: dict[int, NDArray[np.floating]]


def merged(parts: Sequence[Fits]) -> Fits:
    """Blocks of restarts of one group as one record, restarts ascending."""
    if len(parts) == 1:
        return parts[0]
    parts = sorted(parts, key=lambda fits: fits.restarts)
    objective = np.concatenate([fits.objective for fits in parts])
    restarts = tuple(restart for fits in parts for restart in fits.restarts)
    limit = _limit(float(objective.max()))
    place = dict(zip(restarts, objective.tolist(), strict=True))
    leaders = {k: q for fits in parts for k, q in fits.leaders.items() if place[k] >= limit}
    return Fits(
        parts[0].n_components,
        restarts,
        objective,
        np.concatenate([fits.n_iter for fits in parts]),
        np.concatenate([fits.converged for fits in parts]),
        np.concatenate([fits.labels for fits in parts]),
        leaders,
    )


@runtime_checkable
class Engine(Protocol):
    """The one thing an engine does."""

    @property
    def name(self) -> str:
        """The name that chooses this engine."""
        ...

    def fit(self, problem: Problem, groups: Sequence[Group], *, max_iter: int, tol: float) -> list[Fits]:
        """Run EM from every start until no responsibility changes by more than `tol`, or `max_iter` iterations.

        A negative `tol` forces all `max_iter` iterations.
        """
        ...


class Ledger:
    """Collects the restarts of one group as they end, keeping responsibilities only of those that may win."""

    def __init__(self, group: Group, n_rows: int) -> None:
        n_restarts = len(group.restarts)
        self.group = group
        self.place = {restart: i for i, restart in enumerate(group.restarts)}
        self.objective = np.full(n_restarts, -np.inf)
        self.n_iter = np.zeros(n_restarts, dtype=np.int64)
        self.converged = np.zeros(n_restarts, dtype=np.bool_)
        self.labels = np.zeros((n_restarts, n_rows), dtype=np.int16 if group.n_components < 1 << 15 else np.int32)
        self.leaders: dict[int, NDArray[np.floating]] = {}
        self._groupings: dict[bytes, int] = {}

    def threshold(self) -> float:
        """Objective below which a restart cannot win any more."""
        return _limit(float(self.objective.max()))

    def record(self, restart: int, objective: float, n_iter: int, converged: bool, labels: NDArray[np.integer]) -> bool:
        """Note an ended restart; True when its responsibilities should be kept as well."""
        i = self.place[restart]
        self.objective[i], self.n_iter[i], self.converged[i], self.labels[i] = objective, n_iter, converged, labels
        return objective >= self.threshold()

    def keep(self, restart: int, responsibilities: NDArray[np.floating]) -> None:
        """Keep a possible winner and drop those it has beaten or whose labels it repeats."""
        limit = self.threshold()
        self._groupings = {key: k for key, k in self._groupings.items() if self.objective[self.place[k]] >= limit}
        grouping = first_appearance(self.labels[self.place[restart]]).tobytes()
        known = self._groupings.get(grouping)
        if known is not None and known < restart:
            return
        self.leaders[restart] = responsibilities
        self._groupings[grouping] = restart
        self.leaders = {k: self.leaders[k] for k in sorted(self._groupings.values())}

    def close(self) -> Fits:
        """Return the finished record."""
        return Fits(
            self.group.n_components,
            self.group.restarts,
            self.objective,
            self.n_iter,
            self.converged,
            self.labels,
            self.leaders,
        )


def _limit(best: float) -> float:
    """Objective below which float32 cannot have hidden a better one than `best`."""
    return best - MARGIN * max(1.0, abs(best)) if np.isfinite(best) else -np.inf


def first_appearance(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Renumber labels (whole numbers from 0) in the order of first appearance: equal groupings become equal arrays.

    Examples
    --------
    >>> import numpy as np
    >>> first_appearance(np.array([2, 2, 0, 1, 0])).tolist()
    [0, 0, 1, 2, 1]
    """
    places = np.arange(len(labels))
    first = np.full(int(labels.max(initial=-1)) + 1, len(labels))
    # Of several assignments the last one stays: read backwards, that of the first place.
    first[labels[::-1]] = places[::-1]
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(rank[labels])


def _numpy_engine(device: str) -> Engine:
    from innersight_graph.engines.numpy import ArrayEngine

    return ArrayEngine()


def _cupy_engine(device: str) -> Engine:
    from innersight_graph.engines.cupy import CupyEngine

    return CupyEngine()


def _torch_engine(device: str) -> Engine:
    from innersight_graph.engines.torch import TorchEngine

    return TorchEngine(device or "cpu")


def _auto_engine(device: str) -> Engine:
    # torch is several times faster, but loading it costs more than a small search: it is used where it is loaded
    # already.
    if "torch" not in sys.modules:
        return _numpy_engine(device)
    torch = importlib.import_module("torch")
    return _torch_engine("cuda" if torch.cuda.is_available() else "cpu")


_ENGINES: dict[str, Callable[[str], Engine]] = {
    "auto": _auto_engine,
    "numpy": _numpy_engine,
    "cupy": _cupy_engine,
    "torch": _torch_engine,
}


def resolve_engine(engine: str | Engine) -> Engine:
    """Return the engine a name stands for; an engine is returned as it is.

    Parameters
    ----------
    engine : {"auto", "numpy", "torch", "torch:cuda", "cupy"} or Engine
        "auto": torch where it is already loaded (on CUDA if there is a device), else NumPy. "torch:DEVICE" names one.

    Raises
    ------
    InputError
        If the name is unknown or the device is absent.
    MissingExtraError
        If the engine's package is not installed.

    Examples
    --------
    >>> resolve_engine("numpy").name
    'numpy'
    """
    if not isinstance(engine, str):
        if isinstance(engine, Engine):
            return engine
        raise InputError(
            f"engine is a {type(engine).__name__}; a name ({', '.join(_ENGINES)}) or an Engine was expected."
        )
    name, _, device = engine.partition(":")
    if name not in _ENGINES or (device and name != "torch"):
        raise InputError(f"engine {engine!r} is unknown; choose one of {', '.join(_ENGINES)}, or 'torch:cuda'.")
    return _ENGINES[name](device)
