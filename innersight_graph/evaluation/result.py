"""`Evaluation`: the scores of one evaluator on one partition, as plain arrays that survive a JSON round trip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError

__all__ = ["Evaluation"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What one evaluator found; ``float(evaluation)`` is its overall value.

    Attributes
    ----------
    name : str
        The evaluator's name, e.g. ``"ablation"``.
    value : float
        The score of the whole partition.
    per_community : ndarray (n_communities,)
        The score of each community, in the partition's order; ``nan`` where it is not defined.
    maps : mapping of str to ndarray
        Larger results: per class, per pixel, per pair of neurons. Each evaluator's docstring lists its keys.
    intervals : mapping of str to ndarray (..., 2)
        95 % intervals of the values of the same key (``"per_community"``, or a key of ``maps`` or ``details``).
    p_values : mapping of str to ndarray or float
        Corrected p-values; keys are listed in each evaluator's docstring. ``nan`` where no test was made.
    higher_is_better : bool
        How to rank partitions by ``value``.
    details : mapping
        Everything else, plain values and arrays by name, as listed in each evaluator's docstring.
    """

    name: str
    value: float
    per_community: Array
    maps: Mapping[str, Array] = field(default_factory=dict)
    intervals: Mapping[str, Array] = field(default_factory=dict)
    p_values: Mapping[str, Any] = field(default_factory=dict)
    higher_is_better: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Evaluation({self.name!r}, value={self.value:.4g}, {len(self.per_community)} communities)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and _same(vars(self), vars(other))

    def __hash__(self) -> int:
        return hash((self.name, self.value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and text: what JSON can hold."""
        return {key: encode(value) for key, value in vars(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evaluation:
        """Read what `to_dict` wrote; the result equals the original."""
        fields = {key: decode(value) for key, value in record.items()}
        missing = {"name", "value", "per_community"} - fields.keys()
        if missing:
            raise InputError(
                f"This is no evaluation: it lacks {', '.join(sorted(missing))}. Read a file written by Report.to_json."
            )
        found = cls(**fields)
        if not found._well_formed():
            raise InputError(
                f"The evaluation {str(found.name)[:40]!r} does not hold a name, a number, one score per community and "
                "mappings of further results. Read a file written by Report.to_json."
            )
        return found

    def _well_formed(self) -> bool:
        """Whether every field is of its type and shape; a file may hold anything."""
        if not all(isinstance(m, Mapping) for m in (self.maps, self.intervals, self.p_values, self.details)):
            return False
        n = np.size(self.per_community)
        rows = [self.p_values[key] for key in ("per_community", "null") if key in self.p_values]
        bounds = self.intervals.get("per_community")
        return (
            isinstance(self.name, str)
            and isinstance(self.value, float | int)
            and all(_is_numbers(row, (n,)) for row in (self.per_community, *rows))
            and (bounds is None or _is_numbers(bounds, (n, 2)))
        )


def _is_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in "biuf"


def encode(value: Any) -> Any:
    """Turn nested arrays, tuples and numbers into JSON values; nan and infinities become text, as JSON has none."""
    if isinstance(value, np.ndarray):
        flat = [encode(x) for x in value.ravel().tolist()]
        return {"array": flat, "shape": list(value.shape), "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if isinstance(value, Mapping):
        return {"mapping": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise InputError(
        f"A {type(value).__name__} cannot be kept in a report; use numbers, text, arrays, or lists and mappings of "
        f"them."
    )


def decode(value: Any) -> Any:
    """Undo `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        flat = [decode(x) for x in value["array"]]
        return np.array(flat, dtype=_read_dtype(value["dtype"])).reshape(value["shape"])
    if "number" in value:
        return float(value["number"])
    if "tuple" in value:
        return tuple(decode(item) for item in value["tuple"])
    return {decode(key): decode(item) for key, item in value["mapping"]}


def _read_dtype(name: str) -> np.dtype[Any]:
    """Return the type of a written array; text gets the length it needs, as a file could ask for any."""
    if name.startswith("str"):
        return np.dtype(str)
    found = np.dtype(name)
    if found.kind not in "biuf":
        raise ValueError(f"an array of type {name!r} came; numbers, truth values or text were expected")
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.dtype != b.dtype:
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)
