"""What an artefact of the paper consists of: rows, numbers, figures, and verdicts with the number they rest on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from innersight_graph.partition import Partition

__all__ = [
    "LEVEL",
    "NOT_SUPPORTED",
    "SUPPORTED",
    "UNDECIDED",
    "Artefact",
    "Verdict",
    "all_some_none",
    "described",
    "plain",
    "verdict",
    "within_reach",
]

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "cannot be decided here"
# Error rate of every test here; where several tests feed one verdict they are corrected together first.
LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """One claim of the paper, what was found, and the rule that turned the number into a verdict.

    Attributes
    ----------
    claim : str
        In our words, with the place in the paper.
    outcome : {"supported", "not supported", "cannot be decided here"}
    number : float
        What the outcome rests on; 0 cases where nothing could be measured.
    unit : str
        What the number is.
    rule : str
        Thresholds and why these.
    says : str
        One line for a reader.
    """

    claim: str
    outcome: str
    number: float
    unit: str
    rule: str
    says: str


@dataclass(frozen=True)
class Artefact:
    """One figure or table of the paper, recomputed.

    Attributes
    ----------
    name : str
        File name stem, e.g. ``"fig1a"``.
    title : str
    rows : sequence of mapping
        The CSV: equal keys in every row.
    numbers : mapping
        Everything else for the JSON.
    verdicts : sequence of Verdict
    figures : mapping of str to Figure
        Caption and drawing; the first is the main one.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    numbers: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    figures: Mapping[str, Figure] = field(default_factory=dict)


def verdict(claim: str, *, holds: bool, fails: bool, number: float, unit: str, rule: str, says: str) -> Verdict:
    """Make a verdict; what neither holds nor fails cannot be decided, nor what there was no case of."""
    says = re.sub(r"(?<![\w-])-(?=\d)", "−", says)
    if not math.isfinite(number):
        return Verdict(claim, UNDECIDED, 0.0, f"cases to measure (none, so there is no {unit})", rule, says)
    outcome = SUPPORTED if holds else NOT_SUPPORTED if fails else UNDECIDED
    return Verdict(claim, outcome, float(number), unit, rule, says)


def all_some_none(hits: Iterable[bool], *, draws: int) -> tuple[bool, bool]:
    """Return (holds, fails) of a claim about every layer: it must hold in all, fails in none, else it is open.

    It is open too where so few random draws cannot reach the level after correction for the number of layers.
    """
    each = list(hits)
    return bool(each) and all(each), not any(each) and within_reach(1 / (draws + 1), len(each))


def described(P: Partition, i: int) -> dict[str, Any]:
    """Return the first cells of a row about a community."""
    return {"community": P.names[i], "layer": P.layer_of(i), "neurons": len(P[i])}


def within_reach(least: float, tests: int) -> bool:
    """Whether the least possible p-value survives Holm's first step; if not, its absence says nothing."""
    return least * max(1, tests) <= LEVEL


def plain(value: Any) -> Any:
    """Return nested arrays, tuples and numbers as JSON values; what is not a finite number becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | frozenset | range):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
