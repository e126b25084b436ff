"""`capabilities`: what every method can see and needs, found out by trying it rather than from a list kept by hand."""

from __future__ import annotations

import inspect
import tracemalloc
from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.detection import detect, detector_of, methods
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition, agreement

__all__ = ["capabilities", "capability_table"]

_WIDTH = 48
_SEES = 0.8
# A test at the 5 % level is wrong now and then: "none" on all graphs but one.
_GRAPHS = 3
_MEASURED = ("features", "similarities")
# Wider than where some methods still keep a square matrix because it is cheap there; few connections.
_WIDE, _FEATURES = 3200, 24
# Sees what the methods it combines see.
_COMBINATIONS = frozenset({"consensus"})


def capabilities() -> dict[str, dict[str, bool | str]]:
    """Try every method on small graphs whose answer is known.

    Returns
    -------
    mapping from method to dict
        ``signed``, ``weighted``, ``directed``: tells groups apart that differ in the sign, the size or the direction of
        their connections alone (ARI of at least 0.8 with the number of groups given where the method takes one);
        ``degrees``: is not distracted by hubs (ARI of at least 0.8 under log-normal degrees); ``layered``: partitions
        every hidden layer of a layered graph; ``estimates``: finds more communities where there are more, without being
        told; ``says none``: returns one community on graphs without any (two of three at least); ``soft``: gives
        responsibilities; ``needs``: what must be measured on the model first, or an empty string (what a method that
        needs measurements sees depends on them: its first columns are False); ``scale``: ``"n²"`` if memory grows with
        the pairs of neurons of a layer (at least a byte for each, in a sparse layer of 3,200), else ``"n"``.

    Notes
    -----
    Takes about a minute. Methods whose packages are not installed are left out, and so is the consensus of others.
    """
    table = {}
    for method in methods():
        if method in _COMBINATIONS:
            continue
        try:
            table[method] = _try(method) | {"scale": _scale(method)}
        except MissingExtraError:
            continue
    return table


def capability_table(table: Mapping[str, Mapping[str, bool | str]]) -> str:
    """Return what `capabilities` found as a Markdown table, one row for each method.

    Parameters
    ----------
    table : mapping from method to mapping
        From `capabilities`.

    Returns
    -------
    str

    Examples
    --------
    >>> print(capability_table({"em": {"signed": True, "weighted": False, "needs": ""}}))
    | method | signed | weighted | needs |
    | --- | --- | --- | --- |
    | `em` | yes | – | – |
    """
    columns = list(next(iter(table.values()), {}))
    rows = [[f"`{method}`", *(_word(row[column]) for column in columns)] for method, row in sorted(table.items())]
    lines = (["method", *columns], ["---"] * (len(columns) + 1), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _word(value: bool | str) -> str:
    return "yes" if value is True else f"`{value}`" if value else "–"


def _try(method: str) -> dict[str, bool | str]:
    detector = detector_of(method)
    takes_number = "n_communities" in inspect.signature(detector).parameters
    probes = {"signed": _signs(2), "weighted": _sizes(), "directed": _direction(), "degrees": _hubs()}
    needs = _needs(method, detector, probes["signed"][0])
    if needs:
        blank: dict[str, bool | str] = dict.fromkeys([*probes, "layered", "estimates", "says none", "soft"], False)
        return blank | {"layered": True, "needs": needs}
    row: dict[str, bool | str] = {name: _finds(method, *probe, takes_number) for name, probe in probes.items()}
    few, many = (detect(G, method, seed=0) for G in (_signs(2)[0], _signs(4)[0]))
    row["layered"] = set(few.layers) == {"hidden"}
    row["estimates"] = len(few) < len(many)
    row["says none"] = sum(len(detect(_nothing(i), method, seed=0)) == 1 for i in range(_GRAPHS)) >= _GRAPHS - 1
    row["soft"] = few.responsibilities is not None
    return row | {"needs": ""}


def _scale(method: str) -> str:
    parameters = inspect.signature(detector_of(method)).parameters
    if "similarities" in parameters:
        return "n²"
    sparing = {"n_init": 1, "n_communities": 2, "features": {"hidden": np.random.default_rng(0).random((_WIDE, 20))}}
    G = _wide()
    tracemalloc.start()
    try:
        detect(G, method, seed=0, **{name: value for name, value in sparing.items() if name in parameters})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return "n²" if peak >= _WIDE**2 else "n"


def _needs(method: str, detector: Any, G: LayeredDiGraph) -> str:
    """Return the name of the measurement without which the method refuses."""
    parameters = inspect.signature(detector).parameters
    wanted = [name for name in _MEASURED if name in parameters]
    if not wanted:
        return ""
    try:
        detect(G, method, seed=0)
    except InputError:
        return wanted[0]
    return ""


def _finds(method: str, G: Any, truth: Partition, takes_number: bool) -> bool:
    # A clustering of the whole network needs a cluster for each layer's groups, not for one layer's.
    tries = [{"n_communities": len(truth)}, {"n_communities": 3 * len(truth)}] if takes_number else [{}]
    return max(agreement(truth, detect(G, method, seed=0, **options)).ari for options in tries) >= _SEES


def _wide() -> LayeredDiGraph:
    """One hidden layer whose neurons have one signed connection to either side."""
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        weights = rng.choice([-1.0, 1.0], _WIDE) * rng.uniform(0.5, 1.5, _WIDE)
        place = (np.arange(_WIDE), rng.integers(_FEATURES, size=_WIDE))
        sides.append(sparse.csr_array((weights, place), shape=(_WIDE, _FEATURES)))
    layers = [
        Layer("input", 0, _FEATURES, "input"), Layer("hidden", 1, _WIDE, "linear"),
        Layer("output", 2, _FEATURES, "linear"),
    ]  # fmt: skip
    before, after = sides
    return LayeredDiGraph.from_arrays(layers, {("input", "hidden"): before.T.tocsr(), ("hidden", "output"): after})


def _layered(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], labels: Any
) -> tuple[LayeredDiGraph, Partition]:
    names, kinds = ("input", "hidden", "output"), ("input", "linear", "linear")
    layers = [Layer(name, depth, _WIDTH, kind) for depth, (name, kind) in enumerate(zip(names, kinds, strict=True))]
    G = LayeredDiGraph.from_arrays(layers, {("input", "hidden"): before.T, ("hidden", "output"): after})
    return G, Partition.from_labels(G, {"hidden": labels}, method="truth")


def _groups(k: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], np.random.Generator]:
    rng = np.random.default_rng(0)
    z, w = rng.permutation(np.arange(_WIDTH) % k), rng.permutation(np.arange(_WIDTH) % k)
    return z, z[:, None] == w, rng


def _signs(k: int) -> tuple[LayeredDiGraph, Partition]:
    z, matched, rng = _groups(k)
    sides = [
        np.where(matched, 1.0, -1.0) * (rng.random(matched.shape) < 0.5) * rng.uniform(0.5, 1.5, matched.shape)
        for _ in range(2)
    ]
    return _layered(sides[0], sides[1], z)


def _sizes() -> tuple[LayeredDiGraph, Partition]:
    z, matched, rng = _groups(2)
    sides = [
        rng.choice([-1.0, 1.0], matched.shape) * np.where(matched, 3.0, 1.0) * rng.uniform(0.8, 1.2, matched.shape)
        for _ in range(2)
    ]
    return _layered(sides[0], sides[1], z)


def _hubs() -> tuple[LayeredDiGraph, Partition]:
    z, matched, rng = _groups(2)
    sides = []
    for _ in range(2):
        hubs = np.outer(np.exp(rng.standard_normal(_WIDTH)), np.exp(rng.standard_normal(_WIDTH)))
        p = np.minimum(0.95, np.where(matched, 0.5, 0.05) * hubs)
        sides.append((rng.random(p.shape) < p).astype(float))
    return _layered(sides[0], sides[1], z)


def _direction() -> tuple[nx.DiGraph, Partition]:
    """Senders, receivers and a middle group: without directions senders and receivers look the same."""
    rng = np.random.default_rng(0)
    z = rng.permutation(np.arange(_WIDTH) % 3)
    follows = (z[None, :] - z[:, None] == 1) & (rng.random((_WIDTH, _WIDTH)) < 0.8)
    G = nx.from_numpy_array(follows.astype(float), create_using=nx.DiGraph)
    return G, Partition.from_labels(G, {"graph": z}, method="truth")


def _nothing(seed: int) -> LayeredDiGraph:
    rng = np.random.default_rng(seed)
    sides = [rng.choice([-1.0, 0.0, 1.0], (_WIDTH, _WIDTH), p=[0.2, 0.6, 0.2]) for _ in range(2)]
    return _layered(sides[0], sides[1], np.zeros(_WIDTH, dtype=np.intp))[0]
