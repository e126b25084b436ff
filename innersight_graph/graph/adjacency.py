"""The lazy, read-only mappings NetworkX reads: nodes, neighbours and attributes, made from blocks when asked for."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import GraphSchemaError
from innersight_graph.graph.blocks import Block, ReadOnlyDict
from innersight_graph.graph.neuron import Layer, Neuron

__all__ = ["Adjacency", "Neighbours", "NodeAtlas", "NodeIndex"]

Node = Hashable


class NodeIndex:
    """Where every node stands: (number of its layer, position within the layer), both ways.

    Parameters
    ----------
    layers : sequence of Layer
    nodes : mapping from layer name to a sequence of ids, optional
        The user's own ids; layers left out have `Neuron` ids, which cost no table.
    """

    def __init__(self, layers: Sequence[Layer], nodes: Mapping[str, Sequence[Node]] | None = None) -> None:
        self.layers = tuple(layers)
        self._number = {layer.name: number for number, layer in enumerate(self.layers)}
        self._ids: dict[int, list[Node]] = {}
        self._own: dict[int, None] = {}
        self._positions: dict[Node, tuple[int, int]] = {}
        for name, ids in (nodes or {}).items():
            self._add(self._number[name], list(ids))
        for node in self._positions:
            if self._derived(node) is not None:
                raise _twice(node)

    def _add(self, number: int, ids: list[Node]) -> None:
        layer = self.layers[number]
        if len(ids) != layer.width:
            raise GraphSchemaError(
                f"Layer {layer.name!r} has width {layer.width} but {len(ids)} node ids were given. Give one id per "
                "neuron."
            )
        if ids == [(layer.name, i) for i in range(layer.width)]:
            return
        self._ids[number] = ids
        self._own[number] = None
        for position, node in enumerate(ids):
            if node is None or not isinstance(node, Hashable):
                raise GraphSchemaError(
                    f"{node!r} cannot be a node of a graph. Give ids that are hashable and not None."
                )
            if self._positions.setdefault(node, (number, position)) != (number, position):
                raise _twice(node)

    @property
    def own_ids(self) -> dict[str, list[Node]]:
        """The ids of the layers whose nodes are not `Neuron`, by layer name."""
        return {self.layers[n].name: self._ids[n] for n in self._own}

    def number(self, name: str) -> int:
        """Return the number of a layer in the order of the graph."""
        return self._number[name]

    def ids(self, number: int) -> list[Node]:
        """Return the node ids of a layer in index order."""
        if number not in self._ids:
            layer = self.layers[number]
            self._ids[number] = [Neuron(layer.name, i) for i in range(layer.width)]
        return self._ids[number]

    def position(self, node: Node) -> tuple[int, int]:
        """Return (layer number, index); KeyError for a stranger, TypeError for something unhashable."""
        found = self._positions.get(node)
        if found is not None:
            return found
        found = self._derived(node)
        if found is None:
            raise KeyError(node)
        return found

    def _derived(self, node: Node) -> tuple[int, int] | None:
        """Return the place of the neuron of a layer without ids of its own, or None."""
        if not isinstance(node, tuple) or len(node) != 2:
            return None
        name, index = node
        number = self._number.get(name)
        if number is None or number in self._own or not isinstance(index, (int, np.integer)):
            return None
        return (number, int(index)) if 0 <= index < self.layers[number].width else None

    def __contains__(self, node: object) -> bool:
        try:
            self.position(node)
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[Node]:
        for number in range(len(self.layers)):
            yield from self.ids(number)

    def __len__(self) -> int:
        return sum(layer.width for layer in self.layers)


def _twice(node: Node) -> GraphSchemaError:
    return GraphSchemaError(f"The node id {node!r} occurs twice. Give every neuron an id of its own.")


class NodeAtlas(Mapping[Node, ReadOnlyDict]):
    """Node → its attributes, made from the layers and the per-layer arrays.

    Parameters
    ----------
    index : NodeIndex
    arrays : mapping from layer name to {attribute: array of shape (width,)}
    given : sequence of ReadOnlyDict, optional
        The attributes exactly as a graph from elsewhere brought them, in node order; replaces the derived ones.
    """

    __slots__ = ("_arrays", "_given", "_index")

    def __init__(
        self,
        index: NodeIndex,
        arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]],
        given: Sequence[ReadOnlyDict] | None = None,
    ) -> None:
        self._index = index
        self._arrays = arrays
        self._given = given

    def __getitem__(self, node: Node) -> ReadOnlyDict:
        number, position = self._index.position(node)
        if self._given is not None:
            return self._given[position]
        layer = self._index.layers[number]
        data = {"layer": layer.name, "index": position, "subset": layer.depth, "kind": layer.kind}
        for name, values in self._arrays.get(layer.name, {}).items():
            value = values[position]
            data[name] = value.item() if isinstance(value, np.generic) else value
        return ReadOnlyDict(data)

    def __contains__(self, node: object) -> bool:
        return node in self._index

    def __iter__(self) -> Iterator[Node]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def copy(self) -> dict[Node, ReadOnlyDict]:
        """Return a plain dict of the same attributes."""
        return dict(self.items())


class _EntryView(ItemsView[Node, ReadOnlyDict]):
    """Items of a row in one pass over its blocks instead of one search per neighbour."""

    _mapping: Neighbours

    def __iter__(self) -> Iterator[tuple[Node, ReadOnlyDict]]:
        row = self._mapping
        for number, block in row.blocks.items():
            ids = row.index.ids(number)
            for column, data in block.entries(row.position):
                yield ids[column], data


class Neighbours(Mapping[Node, ReadOnlyDict]):
    """Neighbour → edge attributes, for one node and one direction."""

    __slots__ = ("blocks", "index", "position")

    def __init__(self, index: NodeIndex, blocks: Mapping[int, Block], position: int) -> None:
        self.index = index
        self.blocks = blocks
        self.position = position

    def __getitem__(self, node: Node) -> ReadOnlyDict:
        number, column = self.index.position(node)
        block = self.blocks.get(number)
        data = None if block is None else block.get(self.position, column)
        if data is None:
            raise KeyError(node)
        return data

    def __contains__(self, node: object) -> bool:
        try:
            number, column = self.index.position(node)
        except KeyError:
            return False
        block = self.blocks.get(number)
        return block is not None and block.has(self.position, column)

    def __iter__(self) -> Iterator[Node]:
        for number, block in self.blocks.items():
            ids = self.index.ids(number)
            for column in block.columns(self.position):
                yield ids[column]

    def __len__(self) -> int:
        return sum(block.count(self.position) for block in self.blocks.values())

    def items(self) -> ItemsView[Node, ReadOnlyDict]:
        """Return (neighbour, attributes) pairs in order."""
        return _EntryView(self)

    def copy(self) -> dict[Node, ReadOnlyDict]:
        """Return a plain dict of the same neighbours."""
        return dict(self.items())

    def __or__(self, other: Mapping[Node, Any]) -> dict[Node, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[Node, Any]) -> dict[Node, Any]:
        return {**other, **self}

    def __repr__(self) -> str:
        return repr(dict(self.items()))


class Adjacency(Mapping[Node, Neighbours]):
    """Node → its neighbours in one direction.

    Parameters
    ----------
    index : NodeIndex
    blocks : sequence of mapping from layer number to Block
        For each layer, the blocks that hold its rows, in the order of the other layers.
    """

    __slots__ = ("_blocks", "_index")

    def __init__(self, index: NodeIndex, blocks: Sequence[Mapping[int, Block]]) -> None:
        self._index = index
        self._blocks = blocks

    def __getitem__(self, node: Node) -> Neighbours:
        number, position = self._index.position(node)
        return Neighbours(self._index, self._blocks[number], position)

    def __contains__(self, node: object) -> bool:
        return node in self._index

    def __iter__(self) -> Iterator[Node]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def copy(self) -> dict[Node, Neighbours]:
        """Return a plain dict of the same rows."""
        return dict(self.items())

    def __or__(self, other: Mapping[Node, Any]) -> dict[Node, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[Node, Any]) -> dict[Node, Any]:
        return {**other, **self}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} nodes)"
