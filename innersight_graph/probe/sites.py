"""Where the neurons of a layer are read and closed in the live model, and their one shape.

A neuron's output has the shape ``(batch, n_neurons, n_positions)`` everywhere in this package: a linear unit has one
position, a channel height times width, a unit of a token-wise layer one per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.neuronize.closing import Closing
from innersight_graph.probe.session import plain_name

__all__ = [
    "Site",
    "find_sites",
    "first_tensor",
    "module_sites",
    "named_modules",
    "neuron_axis",
    "neuron_shape",
    "on_axis",
    "put_back",
    "replace_neurons",
]


@dataclass(frozen=True)
class Site:
    """One tensor of the forward pass, seen as the outputs of a layer's neurons.

    Attributes
    ----------
    layer : str
        Name of the layer in the graph.
    module : str
        Qualified name of the module whose output holds the neurons; ``""`` if none does.
    width : int or None
        Number of neurons; None: as many as the neuron axis has.
    axis : int
        Neuron axis of the tensor, preferred if it fits.
    call : int or None
        Which call of the module within one forward pass; None: every call.
    path : tuple of int or str
        Where the tensor is in the module's output.
    rows : tuple of int or None
        Position of each neuron on its axis; None: neuron i stands at i.
    point : Closing or None
        The trace's full description of the closing point.
    function : tuple or None
        A torch function and which of its calls within one forward pass returns the tensor; found by `locate_points`
        where the module's output is not itself the closing point (a functional activation follows).
    """

    layer: str
    module: str
    width: int | None
    axis: int
    call: int | None = None
    path: tuple[int | str, ...] = ()
    rows: tuple[int, ...] | None = None
    point: Closing | None = None
    function: tuple[Any, int] | None = None


def find_sites(model: nn.Module, G: LayeredDiGraph, layers: Iterable[str], *, at: str = "closing") -> dict[str, Site]:
    """Map each named layer of the graph to the point where it is closed (``at="unit"``: its module's own output)."""
    modules = named_modules(model)
    return {name: _site_of(G.layer(name), modules, at) for name in layers}


def module_sites(model: nn.Module, names: Iterable[str | Layer]) -> dict[str, Site]:
    """Map module names to sites without a graph (each module's own output), and layers to where they are closed."""
    modules = named_modules(model)
    sites = {}
    for item in names:
        if isinstance(item, Layer):
            sites[item.name] = _site_of(item, modules, "closing")
        else:
            module = _require(plain_name(item), modules)
            sites[item] = Site(item, plain_name(item), _own_width(module), _own_axis(module))
    return sites


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its qualified name; a module registered twice is found under both names."""
    return {plain_name(name): module for name, module in model.named_modules(remove_duplicate=False)}


def neuron_axis(shape: torch.Size, site: Site) -> int:
    """Axis of a tensor that holds the neurons: the preferred one, or the only other of the right length."""
    ndim = len(shape)
    if site.width is None:  # a module without a width of its own: maps have channels first, anything else units last
        return 1 if ndim >= 4 else site.axis % ndim
    preferred = site.axis % ndim if -ndim <= site.axis < ndim else ndim - 1
    if site.rows is not None:
        return preferred
    fits = [axis for axis in range(ndim) if shape[axis] == site.width and (axis > 0 or ndim == 1)]
    if preferred in fits:
        return preferred
    if len(fits) == 1:
        return fits[0]
    raise InputError(
        f"The tensor of shape {tuple(shape)} read at module {site.module!r} has no axis that clearly holds the "
        f"{site.width} neurons "
        f"of layer {site.layer!r}; was the graph made from another model? Make it again with neuron_graph(model, data)."
    )


def neuron_shape(output: torch.Tensor, site: Site, batch: int | None = None) -> torch.Tensor:
    """View a tensor as ``(batch, n_neurons, n_positions)``.

    ``batch`` is the number of samples: when the first axis is not that long but the second is (time-major layers), the
    second counts as the batch.
    """
    axis = neuron_axis(output.shape, site)
    if site.rows is not None:
        output = output.index_select(axis, torch.tensor(site.rows, device=output.device))
    if output.ndim == 1:
        return output.reshape(1, -1, 1)
    if output.ndim == 2:
        return output.movedim(axis, 1).unsqueeze(-1)
    time_major = batch is not None and output.shape[0] != batch and output.shape[1] == batch and axis != 1
    return output.movedim((1 if time_major else 0, axis), (0, 1)).flatten(2)


def replace_neurons(output: torch.Tensor, site: Site, closed: torch.Tensor, fill: torch.Tensor | float) -> torch.Tensor:
    """Return the tensor with the closed neurons replaced.

    Parameters
    ----------
    output : Tensor
        What was read at the site.
    site : Site
        Where the neurons are in it.
    closed : Tensor of bool (n_neurons,)
        Which ones are replaced.
    fill : Tensor or float
        A number, one value per neuron ``(n_neurons,)``, or a tensor of the output's own shape.
    """
    axis = neuron_axis(output.shape, site)
    length = output.shape[axis]
    along = [1] * output.ndim
    along[axis] = length
    value = fill if isinstance(fill, torch.Tensor) else output.new_full((), fill)
    mask = on_axis(closed, site, length).reshape(along)
    if value.ndim == 1:
        value = on_axis(value, site, length).reshape(along)
    # A selection, not a product: an infinite or NaN output is closed too.
    return torch.where(mask, value.to(output.dtype), output)


def first_tensor(output: Any, site: Site) -> torch.Tensor:
    """Return the tensor that carries a module's neurons, of an output that may be a tuple, list, mapping or record."""
    for key in site.path:
        output = _item(output, key)
    if isinstance(output, torch.Tensor):
        return output
    if not site.path:
        first = _first_key(output)
        if first is not None:
            return first_tensor(_item(output, first), site)
    raise UnsupportedLayerError(
        f"Module {site.module!r} returns a {type(output).__name__} that does not begin with a tensor, so the "
        f"outputs of its neurons "
        "cannot be read or closed there; name an inner module instead."
    )


def put_back(output: Any, new: torch.Tensor, site: Site) -> Any:
    """Return a module's output with that tensor exchanged, in the form it came."""
    path = site.path
    if not path and not isinstance(output, torch.Tensor):
        key = _first_key(output)
        path = () if key is None else (key,)
    return _exchange(output, path, new)


def _exchange(output: Any, path: tuple[int | str, ...], new: torch.Tensor) -> Any:
    if not path:
        return new
    key, inner = path[0], _exchange(_item(output, path[0]), path[1:], new)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        name = output._fields[key] if isinstance(key, int) else key
        return output._replace(**{name: inner})  # type: ignore[attr-defined]
    if isinstance(output, list | tuple):
        return type(output)(inner if position == key else item for position, item in enumerate(output))
    if isinstance(output, Mapping):
        return type(output)({**output, key: inner})  # type: ignore[call-arg]
    from copy import copy

    record = copy(output)
    object.__setattr__(record, str(key), inner)
    return record


def _item(output: Any, key: int | str) -> Any:
    # The key comes from the graph, which may be a file of another model, or a hostile one.
    try:
        if isinstance(key, int) or isinstance(output, Mapping):
            return output[key]
        if key.startswith("__"):
            raise AttributeError(key)
        return getattr(output, key)
    except (AttributeError, LookupError, TypeError) as error:
        raise InputError(
            f"A layer of the graph is to be found in part {key!r} of a {type(output).__name__} that a module puts out, "
            "which has no such part; the graph belongs to another model. Make it again with neuron_graph."
        ) from error


def _first_key(output: Any) -> int | str | None:
    """Key of the first tensor of a container or record."""
    if isinstance(output, Mapping):
        return next((k for k, v in output.items() if isinstance(v, torch.Tensor)), None)
    if isinstance(output, list | tuple):
        return 0 if output and isinstance(output[0], torch.Tensor | tuple | list) else None
    return (
        next((k for k, v in vars(output).items() if isinstance(v, torch.Tensor)), None)
        if hasattr(output, "__dict__")
        else None
    )


def on_axis(values: torch.Tensor, site: Site, length: int) -> torch.Tensor:
    """Spread one entry per neuron over an axis that may hold other neurons too."""
    if site.rows is None:
        return values
    if max(site.rows, default=0) >= length:
        raise InputError(
            f"Layer {site.layer!r} of the graph has neurons up to number {max(site.rows)} of an axis of {length}; the "
            "graph belongs to another model. Make it again with neuron_graph."
        )
    positions = torch.full((length,), -1, dtype=torch.long)
    positions[list(site.rows)] = torch.arange(len(site.rows))
    here = (positions >= 0).to(values.device)
    return torch.where(
        here,
        values[positions.clamp(min=0).to(values.device)],
        torch.zeros((), dtype=values.dtype, device=values.device),
    )


def _site_of(layer: Layer, modules: Mapping[str, nn.Module], at: str) -> Site:
    axis = 1 if layer.kind == "conv" else -1
    if layer.closing is not None and at == "closing":
        if not layer.closing.startswith("{"):
            module = _require(plain_name(layer.closing), modules, layer.name)
            return Site(layer.name, plain_name(layer.closing), layer.width, 1 if _own_axis(module) == 1 else axis)
        point = Closing.parse(layer.closing)
        if point.module:
            _require(plain_name(point.module), modules, layer.name)
        call = None if point.call < 0 else point.call  # below 0: the unit is called several times, closed in all
        return Site(layer.name, plain_name(point.module), layer.width, point.axis, call, point.path, point.rows, point)
    module = _require(plain_name(layer.name), modules)
    return Site(layer.name, plain_name(layer.name), layer.width, 1 if _own_axis(module) == 1 else axis)


def _require(name: str, modules: Mapping[str, nn.Module], layer: str | None = None) -> nn.Module:
    if name not in modules:
        near = [known for known in modules if known.split(".")[-1] == name.split(".")[-1]] or list(modules)[1:8]
        of_graph = f" (layer {layer!r} of the graph)" if layer not in (None, name) else ""
        raise InputError(
            f"The model has no module {name[:80]!r}{of_graph}; the graph belongs to another model, or the name is "
            f"misspelt. Modules here: {', '.join(near)}."
        )
    module = modules[name]
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayerError(
            f"Module {name!r} is scripted or traced by TorchScript, where hooks have no effect; probe the eager "
            f"model it was made from."
        )
    return module


def _own_width(module: nn.Module) -> int | None:
    for attribute in ("out_features", "out_channels", "num_features", "embedding_dim", "embed_dim"):
        width = getattr(module, attribute, None)
        if isinstance(width, int):
            return width
    return None


def _own_axis(module: nn.Module) -> int:
    channel_first = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
    return 1 if isinstance(module, channel_first) else -1
