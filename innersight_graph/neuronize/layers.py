"""From a trace to layers of neurons and the pairs of neurons that are connected.

A unit that packs queries, keys and values is split into its parts; the elements of an input become neurons along the
axes that every consumer tells apart (channels for a convolution, pixels for a flattened image, features for tokens).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from innersight_graph.neuronize.record import Feed, InputNeurons, Trace, Unit

__all__ = ["Connection", "LayerPlan", "Plan", "make_plan"]

IntArray = npt.NDArray[np.int64]


@dataclass
class LayerPlan:
    """One layer to be: its neurons are ``rows`` of a unit (None: all), or ``numbers`` of the elements of an input."""

    name: str
    kind: str
    width: int
    positions: tuple[int, ...]
    unit: Unit | None = None
    rows: IntArray | None = None
    role: str = ""
    depth: int = 0
    numbers: IntArray | None = None
    attributes: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True)
class Connection:
    """Which input channels of a target's feed carry which neurons of a source.

    Attributes
    ----------
    source, target : int
        Positions in the plan's layers.
    feed : Feed
    neurons, channels : ndarray of int, shape (n_pairs,)
        Neuron ``neurons[i]`` of the source reaches channel ``channels[i]`` of the feed.
    gate : bool
    """

    source: int
    target: int
    feed: Feed
    neurons: IntArray
    channels: IntArray
    gate: bool


@dataclass(frozen=True)
class Plan:
    """All layers in order of execution, inputs first, and all connections between them."""

    layers: tuple[LayerPlan, ...]
    connections: tuple[Connection, ...]


def make_plan(trace: Trace) -> Plan:
    """Split units into layers and input tensors into neurons, and list who reaches whom."""
    layers: list[LayerPlan] = []
    layer_of = np.full(trace.sets.n_neurons, -1, dtype=np.int64)
    index_of = np.zeros(trace.sets.n_neurons, dtype=np.int64)
    for neurons in trace.inputs:
        numbers, width, positions = _input_neurons(trace, neurons)
        if width:
            stop = neurons.first + neurons.count
            layer_of[neurons.first : stop], index_of[neurons.first : stop] = len(layers), numbers
            layer = LayerPlan(_free_name(neurons.name, layers), "input", width, positions)
            layer.numbers = None if neurons.tokens else numbers
            layers.append(layer)
    for unit in trace.units:
        for layer in _split(trace, unit):
            rows = np.arange(unit.width) if layer.rows is None else layer.rows
            layer_of[unit.first + rows], index_of[unit.first + rows] = len(layers), np.arange(len(rows))
            layers.append(layer)
    connections = tuple(_connections(trace, layers, layer_of, index_of))
    _set_depths(layers, connections)
    _mark_outputs_of_attention(layers, connections)
    if trace.roles:
        _mark_projections(layers, connections)
    return Plan(tuple(layers), connections)


def _free_name(name: str, layers: Sequence[LayerPlan]) -> str:
    taken = {layer.name for layer in layers}
    return name if name not in taken else f"{name}@{len(taken)}"


# --- inputs ----------------------------------------------------------------------------------------------------------


def _input_neurons(trace: Trace, neurons: InputNeurons) -> tuple[IntArray, int, tuple[int, ...]]:
    """Return the neuron of each element, the number of neurons and the shape of the positions of one neuron.

    Elements are one neuron if they agree on every axis along which all consumers' sets are constant; width 0 if
    nobody reads them.
    """
    if neurons.tokens:
        return np.arange(neurons.count), neurons.count, ()
    apart = [True] * len(neurons.shape)
    read = False
    for set_id in {i for unit in trace.units for feed in unit.feeds for i in np.unique(feed.sources.numpy()).tolist()}:
        members = np.asarray(trace.sets.neurons(set_id), dtype=np.int64)
        own = members[(members >= neurons.first) & (members < neurons.first + neurons.count)] - neurons.first
        read = read or bool(len(own))
        if len(own) > 1:
            coordinates = np.unravel_index(own, neurons.shape)
            apart = [a and bool((c == c[0]).all()) for a, c in zip(apart, coordinates, strict=True)]
    if not read:
        return np.zeros(neurons.count, dtype=np.int64), 0, ()
    kept = [axis for axis, a in enumerate(apart) if a]
    grid = np.unravel_index(np.arange(neurons.count), neurons.shape) if neurons.shape else ()
    sizes = tuple(neurons.shape[axis] for axis in kept)
    numbers = (
        np.ravel_multi_index(tuple(grid[a] for a in kept), sizes) if kept else np.zeros(neurons.count, dtype=np.int64)
    )
    rest = [s for axis, s in enumerate(neurons.shape) if axis not in kept]
    return numbers, int(np.prod(sizes, dtype=np.int64)), tuple(rest[1:] if rest and rest[0] == 1 else rest)


# --- units -----------------------------------------------------------------------------------------------------------


def _split(trace: Trace, unit: Unit) -> Iterator[LayerPlan]:
    """Yield a unit as one layer, or as one layer per part in attention if it packs several."""
    roles = np.array([trace.roles.get(unit.first + i, "") for i in range(unit.width)])
    heads = np.array([trace.heads.get(unit.first + i, -1) for i in range(unit.width)], dtype=np.int32)
    parts = [role for role in ("q", "k", "v", "") if (roles == role).any()]
    packed = len(parts) > 1 and "" not in parts
    for role in parts if packed else parts[:1]:
        rows = np.flatnonzero(roles == role) if packed else None
        whole = packed or (roles == role).all()
        role = role if whole else ""
        name = unit.name if not packed and not _is_slice(trace, unit) else f"{unit.name.split('@')[0]}.{role}"
        layer = LayerPlan(
            name, "attention" if role else unit.kind, unit.width if rows is None else len(rows), unit.positions
        )
        layer.unit, layer.rows, layer.role = unit, rows, role
        if role:
            own = heads if rows is None else heads[rows]
            layer.attributes = {"head": own, "role": np.full(layer.width, role, dtype="<U4")}
        yield layer


def _is_slice(trace: Trace, unit: Unit) -> bool:
    """Tell whether a unit is a slice of a packed weight whose other slices have other parts in attention."""
    base = unit.name.split("@")[0]
    same = [u for u in trace.units if u.name.split("@")[0] == base]
    parts = [trace.roles.get(u.first, "") for u in same]
    return len(same) > 1 and "" not in parts and len(set(parts)) == len(parts)


def _connections(
    trace: Trace, layers: Sequence[LayerPlan], layer_of: IntArray, index_of: IntArray
) -> Iterator[Connection]:
    by_unit: dict[int, list[int]] = {}
    for position, layer in enumerate(layers):
        if layer.unit is not None:
            by_unit.setdefault(id(layer.unit), []).append(position)
    for unit in trace.units:
        for feed in unit.feeds:
            for gate, members in ((False, trace.sets.values), (True, trace.sets.gates)):
                neurons, channels = _expand(feed.sources.numpy(), members)
                sources = layer_of[neurons]
                for source in np.unique(sources):
                    if source < 0:
                        continue
                    own = sources == source
                    pairs = index_of[neurons[own]], channels[own]
                    if layers[source].unit is None:
                        pairs = _distinct(*pairs)
                    for target in by_unit[id(unit)]:
                        yield Connection(int(source), target, feed, *pairs, gate)


def _distinct(neurons: IntArray, channels: IntArray) -> tuple[IntArray, IntArray]:
    """Drop repeated pairs: many elements of an input are one neuron."""
    size = int(channels.max(initial=0)) + 1
    both = np.unique(neurons * size + channels)
    return both // size, both % size


def _expand(
    set_ids: npt.NDArray[np.int32], members: Mapping[int, tuple[int, ...]] | object
) -> tuple[IntArray, IntArray]:
    """List (neuron, channel) for every member of every channel's set."""
    found, where = np.unique(set_ids, return_inverse=True)
    lists = [np.asarray(members(int(i)), dtype=np.int64) for i in found]  # type: ignore[operator]
    lengths = np.array([len(x) for x in lists], dtype=np.int64)[where]
    channels = np.repeat(np.arange(len(set_ids)), lengths)
    neurons = [lists[w] for w in where]
    return (np.concatenate(neurons) if neurons else np.zeros(0, dtype=np.int64)), channels


def _set_depths(layers: Sequence[LayerPlan], connections: Sequence[Connection]) -> None:
    """Set the longest way from an input; connections back to an earlier or the same layer do not count."""
    incoming: dict[int, set[int]] = {}
    for connection in connections:
        if (
            connection.source < connection.target
            and layers[connection.source].unit is not layers[connection.target].unit
        ):
            incoming.setdefault(connection.target, set()).add(connection.source)
    for position, layer in enumerate(layers):
        if layer.unit is not None:
            layer.depth = 1 + max((layers[s].depth for s in incoming.get(position, ())), default=0)


def _mark_outputs_of_attention(layers: Sequence[LayerPlan], connections: Sequence[Connection]) -> None:
    """Give the layers that read gated values the role "o"."""
    for target in {c.target for c in connections if c.gate}:
        layer = layers[target]
        if layer.kind in ("linear", "attention") and not layer.role:
            layer.kind = "attention"
            _give_role(layer, "o")


def _mark_projections(layers: Sequence[LayerPlan], connections: Sequence[Connection]) -> None:
    """Give the linear layers of a transformer's MLPs the role "mlp"; a last layer that reads the stream has none."""
    for position, layer in enumerate(layers):
        if layer.kind not in ("linear", "experts") or layer.role:
            continue
        feeds = any(c.source == position for c in connections)
        inside = all(layers[c.source].role == "mlp" for c in connections if c.target == position)
        if feeds or inside:
            _give_role(layer, "mlp")


def _give_role(layer: LayerPlan, role: str) -> None:
    layer.role = role
    head = np.full(layer.width, -1, dtype=np.int32)
    layer.attributes = {"head": head, "role": np.full(layer.width, role, dtype="<U4")}
