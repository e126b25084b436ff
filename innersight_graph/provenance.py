"""Where a result comes from: the versions that computed it, and digests of what it was computed on.

Every `Partition`, every report, the paper's and the demo's records carry both, beside seed and options. Nothing here
depends on the time, the process or the order of sets, so equal runs still write equal files.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["digest", "environment", "options_of"]

# Packages whose version can change a figure.
RECORDED = ("innersight-graph", "torch", "numpy", "scipy", "networkx", "scikit-learn", "igraph", "leidenalg")
# Rows are hashed in pieces of about this size, so that a transposed array is never copied whole.
PIECE = 2**24


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for package in RECORDED:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            found.append((package, "not installed"))
    return tuple(found)


def environment() -> dict[str, Any]:
    """Return the versions of everything that can change a result, of Python, and the platform.

    Returns
    -------
    dict
        ``versions`` (package to version, or ``"not installed"``), ``python``, ``platform``. No package is imported.
    """
    return {"versions": dict(_versions()), "python": platform.python_version(), "platform": sys.platform}


def digest(value: Any) -> str | None:
    """Return a digest of data: arrays, tensors, graphs' parts, and mappings and sequences of them.

    Parameters
    ----------
    value : ndarray, sparse array, tensor, text, number, None, or nested mappings, lists and tuples of these
        Shapes and types count: the same bytes in another shape are other data.

    Returns
    -------
    str or None
        The first 16 hexadecimal digits of a SHA-256; None for what has no fixed content, such as a loader that
        shuffles.

    Notes
    -----
    About a gigabyte a second; no copy of the data is made.

    Examples
    --------
    >>> import numpy as np
    >>> digest({"x": np.arange(3)}) == digest({"x": np.arange(3)}), digest(np.zeros(2)) == digest(np.zeros((1, 2)))
    (True, False)
    >>> digest(iter([1])) is None
    True
    """
    state = hashlib.sha256()
    try:
        _feed(state, value)
    except _NoContentError:
        return None
    return state.hexdigest()[:16]


class _NoContentError(Exception):
    """Something that is no data."""


def _feed(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        _feed_array(state, value)
    elif sparse.issparse(value):
        rows = value.tocsr()
        state.update(f"sparse{rows.shape}".encode())
        for part in (rows.data, rows.indices, rows.indptr):
            _feed_array(state, part)
    elif isinstance(value, Mapping):
        state.update(f"mapping{len(value)}".encode())
        for item in value.items():
            _feed(state, item)
    elif isinstance(value, list | tuple):
        state.update(f"sequence{len(value)}".encode())
        for item in value:
            _feed(state, item)
    elif value is None or isinstance(value, str | int | float | bool | np.generic):
        state.update(f"{type(value).__name__}{value!r};".encode("utf-8", "surrogatepass"))
    elif hasattr(value, "detach") and hasattr(value, "cpu"):
        _feed_tensor(state, value)
    else:
        raise _NoContentError


def _feed_array(state: Any, array: np.ndarray[Any, Any]) -> None:
    state.update(f"array{array.dtype.str}{array.shape}".encode())
    if array.dtype.hasobject:
        _feed(state, array.tolist())
    elif array.flags.c_contiguous or array.ndim == 0:
        state.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    else:
        step = max(1, PIECE // max(1, array[:1].nbytes))
        for start in range(0, len(array), step):
            state.update(np.ascontiguousarray(array[start : start + step]).tobytes())


def _feed_tensor(state: Any, tensor: Any) -> None:
    """Feed a torch tensor (torch itself is not imported here); types that NumPy lacks are read as bytes."""
    state.update(f"tensor{tensor.dtype}{tuple(tensor.shape)}".encode())
    plain = tensor.detach().cpu().contiguous()
    try:
        array = plain.numpy()
    except TypeError:
        array = plain.flatten().view(sys.modules["torch"].uint8).numpy()
    except (RuntimeError, NotImplementedError):
        raise _NoContentError from None
    _feed_array(state, array)


def options_of(thing: Any) -> dict[str, Any]:
    """Return an object's plain public settings: numbers, text, truth values, and tuples of them.

    Examples
    --------
    >>> class Evaluator:
    ...     def __init__(self):
    ...         self.window, self.model, self._cache = 5, object(), 1
    >>> options_of(Evaluator())
    {'window': 5}
    """
    return {
        name: value for name, value in getattr(thing, "__dict__", {}).items() if name[0] != "_" and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)
