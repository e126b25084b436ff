"""What every detector does around its own work: choose layers, set silent neurons aside, check counts, assemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.partition import Partition

__all__ = [
    "assemble",
    "check_n_communities",
    "check_starts",
    "live_layers",
    "resolve_layers",
    "resolve_seed",
    "seed_sequence",
]

Indices = npt.NDArray[np.intp]


def resolve_layers(G: Any, layers: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of the layers to partition, in order of depth; None means every hidden layer.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    layers : str, iterable of str, or None

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        An unknown layer, none at all, or a graph without hidden layers.
    """
    G = as_layered(G)
    if layers is None:
        if not G.hidden_layers:
            names = ", ".join(repr(layer.name) for layer in G.layers)
            raise InputError(
                f"This graph has no hidden layer, only {names}. Name the layers to partition with layers=[...]."
            )
        hidden: tuple[str, ...] = G.hidden_layers
        return hidden
    if not isinstance(layers, Iterable):
        raise InputError(
            f"layers={layers!r} came; the name of a layer or a list of names was expected, or None for every hidden "
            "layer."
        )
    wanted = {G.layer(name).name for name in ([layers] if isinstance(layers, str) else layers)}
    if not wanted:
        raise InputError("layers is empty. Name at least one layer, or pass None for every hidden layer.")
    return tuple(layer.name for layer in G.layers if layer.name in wanted)


def check_starts(n_init: Any) -> None:
    """Raise InputError unless a number of starts is one."""
    if isinstance(n_init, bool) or not isinstance(n_init, (int, np.integer)) or n_init < 1:
        raise InputError(f"n_init={n_init!r} came; a whole number of starts was expected, at least one.")


def live_layers(G: Any, layers: str | Iterable[str] | None = None) -> Iterator[tuple[str, Indices, Indices]]:
    """Yield (layer name, indices of its live neurons, indices of its silent neurons) for the layers to partition.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    layers : str, iterable of str, or None
        None: every hidden layer.

    Yields
    ------
    tuple of (str, ndarray of int, ndarray of int)
        A neuron is silent where its node attribute ``silent`` is true; a layer may have no live neuron left.
    """
    G = as_layered(G)
    for name in resolve_layers(G, layers):
        width = G.layer(name).width
        silent = np.asarray(G.node_attributes.get(name, {}).get("silent", np.zeros(width, dtype=bool)), dtype=bool)
        yield name, np.flatnonzero(~silent), np.flatnonzero(silent)


def check_n_communities(n_communities: int | Iterable[int], width: int, layer: str) -> tuple[int, ...]:
    """Return the numbers of communities to try on a layer, ascending.

    Parameters
    ----------
    n_communities : int or iterable of int
        One number, which must fit the layer; or candidates, of which those beyond its width are left out.
    width : int
        The number of neurons to group.
    layer : str
        For the message.

    Returns
    -------
    tuple of int

    Raises
    ------
    InputError
        Not a whole number, 0, negative, or beyond the width.
    """
    one = isinstance(n_communities, (int, np.integer, float, str)) or not isinstance(n_communities, Iterable)
    candidates: list[Any] = [n_communities] if one else list(n_communities)  # type: ignore[arg-type]
    for number in candidates:
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
            raise InputError(
                f"n_communities={number!r} came; a whole number from 1 up to the number of neurons was expected, or "
                "several to choose from."
            )
    fitting = tuple(sorted({int(number) for number in candidates if number <= width}))
    if not fitting:
        raise InputError(
            f"n_communities={n_communities!r} came for layer {layer!r}, which has {width} neurons to group. Ask for "
            f"between 1 and {width} communities, or leave this layer out with layers=[...]."
        )
    return fitting


def assemble(
    G: Any,
    labels: Mapping[str, npt.ArrayLike],
    *,
    method: str,
    params: Mapping[str, Any] | None = None,
    seed: int | None = None,
    stats: Mapping[str, Mapping[str, Any]] | None = None,
    responsibilities: Mapping[str, npt.ArrayLike] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Partition:
    """Make a partition from the labels of the live neurons; a layer's silent neurons become a community of their own.

    Parameters
    ----------
    G : LayeredDiGraph or networkx graph
    labels : mapping from layer name to array of int, shape (n_live,)
        In the order of the live neurons as `live_layers` gives them; -1 where unassigned.
    method, params, seed
        As in `Partition.from_labels`.
    stats : mapping from layer name to dict, optional
        ``n_communities`` (silent not counted) and, where there is one, ``silent`` (the number of that community in the
        partition) are added.
    responsibilities : mapping from layer name to array, shape (n_live, n_communities), optional
        Silent neurons get a column of their own.
    data : mapping from name to arrays, optional
        What the detector saw beside the graph, for ``record``.

    Returns
    -------
    Partition
    """
    G = as_layered(G)
    full: dict[str, Indices] = {}
    shares: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    first_silent: dict[str, int] = {}
    for name, live, silent in live_layers(G, list(labels)):
        mine = np.asarray(labels[name])
        if mine.shape != live.shape:
            raise InputError(
                f"Layer {name!r} has {live.size} live neurons and {mine.shape} labels came; one label per live neuron "
                "was expected."
            )
        counts[name] = len(np.unique(mine[mine >= 0]))
        spare = int(mine.max(initial=-1)) + 1
        if responsibilities is not None and name in responsibilities:
            table = np.asarray(responsibilities[name], dtype=np.float64)
            spare = max(spare, table.shape[1])
            shares[name] = np.zeros((live.size + silent.size, spare + bool(silent.size)))
            shares[name][live, : table.shape[1]] = table
            shares[name][silent, -1] = 1.0
        full[name] = np.full(live.size + silent.size, -1, dtype=np.intp)
        full[name][live] = mine
        full[name][silent] = spare
        if silent.size:
            first_silent[name] = int(silent[0])
    options: dict[str, Any] = {"method": method, "params": params, "seed": seed, "responsibilities": shares or None}
    bare = Partition.from_labels(G, full, **options)
    complete: dict[str, dict[str, Any]] = {
        name: {**(stats or {}).get(name, {}), "n_communities": counts[name]} for name in full
    }
    for name, index in first_silent.items():
        node = bare.nodes[name][index]
        complete[name]["silent"] = next(i for i, community in enumerate(bare) if node in community)
    return Partition.from_labels(G, full, **options, stats=complete, data=data)


def resolve_seed(seed: Any) -> int:
    """Return a whole number to record and to derive every start from.

    Parameters
    ----------
    seed : int, None, random.Random, numpy.random.RandomState or numpy.random.Generator
        None draws fresh entropy; a generator is asked for one number; global random state is never touched.

    Returns
    -------
    int
        Non-negative.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0:
        return int(seed)
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**32))
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**32, dtype=np.uint32))
    if hasattr(seed, "getrandbits"):
        return int(seed.getrandbits(32))
    raise InputError(f"seed={seed!r} came; a non-negative whole number, a random generator or None was expected.")


def seed_sequence(seed: int, *keys: int | str) -> np.random.SeedSequence:
    """Return the seed sequence of one piece of work, keyed by (seed, layer, number, restart, …), on every machine.

    Parameters
    ----------
    seed : int
    *keys : int or str
        Text is keyed by its CRC-32, not by `hash`, which differs between processes.

    Returns
    -------
    numpy.random.SeedSequence
    """
    numbers = tuple(crc32(key.encode()) if isinstance(key, str) else int(key) for key in keys)
    return np.random.SeedSequence(entropy=seed, spawn_key=numbers)
