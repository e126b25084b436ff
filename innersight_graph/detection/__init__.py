"""Community detectors, one file per method: ``detection/<name>.py`` defines ``<name>_communities``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from innersight_graph.errors import InputError
from innersight_graph.partition import Partition, as_partition

__all__ = ["detect", "methods"]


def methods() -> tuple[str, ...]:
    """Return the names of the methods `detect` knows: the public files of this package that define a detector.

    Examples
    --------
    >>> "louvain" in methods()
    True
    """
    return tuple(
        sorted(name for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_") and _find(name))
    )


def detect(G: Any, method: str | Callable[..., Any] = "em", **options: Any) -> Partition:
    """Detect communities by the name of a method.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    method : str or callable, default "em"
        A name among `methods`, or a function ``f(G, **options)`` that returns a `Partition` or sets of nodes.
    **options
        Passed on; every method takes ``layers=None`` and ``seed=None``.

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        No such method, or an option it does not have.

    Examples
    --------
    >>> import networkx as nx
    >>> [sorted(c) for c in detect(nx.barbell_graph(3, 0), "louvain", scope="graph", seed=0)]
    [[0, 1, 2], [3, 4, 5]]
    """
    if callable(method):
        return as_partition(G, method(G, **options))
    detector = detector_of(method)
    known = inspect.signature(detector).parameters
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [option for option in options if option not in known]
    if unknown and not passes_on:
        raise InputError(
            f"The method {method!r} takes no option {unknown[0]!r}; it takes {', '.join(list(known)[1:])}."
        )
    found: Partition = detector(G, **options)
    return found


def detector_of(method: str) -> Callable[..., Any]:
    """Return the function behind the name of a method, or raise InputError."""
    named = isinstance(method, str) and method.isidentifier() and not method.startswith("_")
    detector = _find(method) if named else None
    if detector is None:
        raise InputError(f"There is no method {method!r}. Use one of {', '.join(methods())}, or pass a function.")
    return detector


def _find(method: str) -> Callable[..., Any] | None:
    """Return the detector of a file of this package, or None where there is no such file or it defines none."""
    name = f"{__name__}.{method}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return None
        raise
    return getattr(module, f"{method}_communities", None)
