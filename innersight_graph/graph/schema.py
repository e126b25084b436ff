"""What a layered signed graph must satisfy, checked once where arrays enter; the message names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from innersight_graph.errors import GraphSchemaError
from innersight_graph.files import parse_json
from innersight_graph.graph.blocks import Block, DenseBlock, SparseBlock
from innersight_graph.graph.neuron import Layer

__all__ = ["check_arrays", "check_connections", "check_layers", "layers_from_json", "layers_to_json"]

RESERVED = ("layer", "index", "subset", "kind")


def check_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return the layers in order of depth; their names must differ and their widths be positive."""
    ordered = sorted(map(_checked_layer, layers), key=lambda layer: layer.depth)
    names = [layer.name for layer in ordered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GraphSchemaError(f"Two layers are named {twice[0]!r}. Give every layer a name of its own.")
    for layer in ordered:
        if layer.width < 1:
            raise GraphSchemaError(
                f"Layer {layer.name!r} has width {layer.width}. A layer needs at least one neuron; leave it out."
            )
    return tuple(ordered)


def _checked_layer(layer: Any) -> Layer:
    """Return the layer with plain Python numbers; its fields must be what `Layer` says."""
    if not isinstance(layer, Layer) or not _well_typed(layer):
        raise GraphSchemaError(
            f"{layer!r} is no description of a layer. Layer(name, depth, width, kind) was expected, with name and "
            "kind as text, depth and width as whole numbers, shape a tuple of whole numbers and closing text, or "
            "None, and odd True or False."
        )
    shape = None if layer.shape is None else tuple(map(int, layer.shape))
    return replace(layer, depth=int(layer.depth), width=int(layer.width), shape=shape)


def _well_typed(layer: Layer) -> bool:
    numbers = (layer.depth, layer.width, *(layer.shape or ()))
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in numbers)
    texts = (layer.name, layer.kind, "" if layer.closing is None else layer.closing)
    return whole and all(isinstance(text, str) for text in texts) and isinstance(layer.odd, bool)


def check_connections(
    layers: Sequence[Layer],
    connections: Mapping[tuple[str, str], Any],
    kinds: Mapping[tuple[str, str], str],
    *,
    keep_order: bool = False,
) -> dict[tuple[str, str], Block]:
    """Return one block per connection, in the order of the layers, after checking names, shapes, values and kinds."""
    position = {layer.name: number for number, layer in enumerate(layers)}
    width = {layer.name: layer.width for layer in layers}
    for pair in [*connections, *kinds]:
        missing = [name for name in pair if name not in position]
        if missing:
            raise GraphSchemaError(
                f"Connection {pair} names the layer {missing[0]!r}, which is not among {list(position)}."
            )
    blocks: dict[tuple[str, str], Block] = {}
    for pair in sorted(connections, key=lambda pair: (position[pair[0]], position[pair[1]])):
        kind = kinds.get(pair, "value")
        if kind not in ("value", "gate"):
            raise GraphSchemaError(f"Connection {pair} has kind {kind!r}. Use 'value', or 'gate' where it multiplies.")
        blocks[pair] = _block(pair, connections[pair], (width[pair[0]], width[pair[1]]), kind, keep_order)
    return blocks


def _block(pair: tuple[str, str], weights: Any, shape: tuple[int, int], kind: str, keep_order: bool) -> Block:
    array = _float32(pair, weights)
    if array.shape != shape:
        raise GraphSchemaError(
            f"The weights of {pair} have shape {array.shape}; the widths of the two layers ask for {shape}. Rows are "
            "sources and columns are targets: a torch Linear's weight must be transposed."
        )
    if not sparse.issparse(array):
        _check_finite(pair, array)
        view = array.view()
        view.flags.writeable = False
        return DenseBlock(view, kind, int(np.count_nonzero(view)))
    if not keep_order:
        array = array.copy()
        array.sum_duplicates()
        array.eliminate_zeros()
    _check_finite(pair, array.data)
    for part in (array.data, array.indices, array.indptr):
        part.flags.writeable = False
    return SparseBlock(array, kind)


def _float32(pair: tuple[str, str], weights: Any) -> Any:
    """Return the weights as float32, dense or CSR; a float32 array as it is."""
    try:
        array = weights if sparse.issparse(weights) else np.asarray(weights)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"their type is {array.dtype}")
        # Numbers beyond float32 become infinite, which is found and said below.
        with np.errstate(over="ignore"):
            if sparse.issparse(array):
                return sparse.csr_array(array, dtype=np.float32)
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError, RuntimeError) as error:
        raise GraphSchemaError(
            f"The weights of {pair} are not an array of numbers ({error}). Give a float array."
        ) from error


def _check_finite(pair: tuple[str, str], values: npt.NDArray[np.float32]) -> None:
    # One pass and no mask: a sum in float64 cannot overflow from float32, so it is finite exactly if every weight is.
    with np.errstate(invalid="ignore"):
        total = np.sum(values, dtype=np.float64)
    if not np.isfinite(total):
        raise GraphSchemaError(
            f"The weights of {pair} contain NaN or infinite values ({np.count_nonzero(~np.isfinite(values))} of them, "
            "as float32). Train the model again or repair its weights before making the graph."
        )


def check_arrays(
    layers: Sequence[Layer], attributes: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return the per-layer attribute arrays after checking layer names, attribute names and lengths."""
    width = {layer.name: layer.width for layer in layers}
    checked: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name, values in attributes.items():
        if name not in width:
            raise GraphSchemaError(
                f"Node attributes were given for {name!r}, which is not a layer among {list(width)}."
            )
        for key, array in values.items():
            if key in RESERVED:
                raise GraphSchemaError(
                    f"The node attribute {key!r} of layer {name!r} is made from the layers; choose another name."
                )
            array = np.asarray(array)
            if array.shape != (width[name],):
                raise GraphSchemaError(
                    f"The node attribute {key!r} of layer {name!r} has shape {array.shape}; one value per neuron, "
                    f"({width[name]},), was expected."
                )
            view = array.view()
            view.flags.writeable = False
            checked.setdefault(name, {})[key] = view
    return checked


def layers_to_json(layers: Sequence[Layer]) -> str:
    """Return the layers as JSON text, which every graph format can carry."""
    return json.dumps([asdict(layer) for layer in layers])


def layers_from_json(text: str) -> list[Layer]:
    """Return the layers written by `layers_to_json`; GraphSchemaError or one of `MALFORMED` for other text."""
    records = parse_json(text)
    layers = [Layer(**{**r, "shape": None if r.get("shape") is None else tuple(r["shape"])}) for r in records]
    return [_checked_layer(layer) for layer in layers]
