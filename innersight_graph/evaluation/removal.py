"""Cutting closed neurons out of a model: a smaller module that computes what the masked one computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.graph.layered import LayeredDiGraph, Neuron
from innersight_graph.probe.batches import Batch, Batches
from innersight_graph.probe.capturing import forward
from innersight_graph.probe.closing import ablate
from innersight_graph.probe.session import hooked, plain_name, undisturbed, unwrap
from innersight_graph.probe.sites import find_sites, named_modules

__all__ = ["Removal", "Restore", "remove_neurons"]

# How far the outputs of the smaller model may be from those of the masked one, relative to their size.
TOLERANCE = 1e-5


class Restore(nn.Module):
    """Puts zeros where neurons were cut out, for readers that need the full width (a residual addition, say).

    Parameters
    ----------
    kept : sequence of int
        Positions of the neurons that are left.
    width : int
        Neurons before the cut.
    axis : int
        Neuron axis, 1 for channels, -1 for units.
    """

    def __init__(self, kept: Any, width: int, axis: int) -> None:
        super().__init__()
        self.register_buffer("kept", torch.as_tensor(kept, dtype=torch.long))
        self.width = width
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spread the kept neurons over the full width."""
        shape = list(x.shape)
        shape[self.axis] = self.width
        positions: torch.Tensor = self.kept  # type: ignore[assignment]
        return x.new_zeros(shape).index_copy(self.axis % x.ndim, positions, x)


@dataclass(frozen=True)
class Removal:
    """A smaller model.

    Attributes
    ----------
    model : Module
        A copy without the neurons; the original is untouched.
    ways : dict of layer to str
        ``"narrowed"``: its readers read fewer inputs too; ``"restored"``: zeros are put back for readers that need the
        full width.
    difference : float
        Largest difference of the outputs from those of the masked model on the samples given, relative to the largest
        output.
    parameters, parameters_before : int
    """

    model: nn.Module
    ways: dict[str, str]
    difference: float
    parameters: int
    parameters_before: int


def remove_neurons(
    model: nn.Module, G: LayeredDiGraph, neurons: Mapping[str, Any], data: Any, *, output: Any = None
) -> Removal:
    """Cut neurons out of a copy of the model, with their norms, and with what the next layers read of them.

    Parameters
    ----------
    model : Module
        The model that G was made from.
    G : LayeredDiGraph
    neurons : mapping of layer to sequence of int
        Which neurons of which layers go; at least one must stay in each.
    data
        A few samples on which the smaller model is compared with the masked one.
    output : callable, str or int, optional
        Which part of the model's result is compared.

    Returns
    -------
    Removal

    Raises
    ------
    UnsupportedLayerError
        A layer that cannot be cut so that the outputs stay those of the masked model; the message names it and why.

    Notes
    -----
    Linear and convolution layers, followed by batch-norm or not, read by linear and convolution layers directly,
    through a flatten, or through a residual addition. Every cut is checked by running both models.
    """
    inner = unwrap(model)
    wanted = {layer: sorted({int(i) for i in cut}) for layer, cut in neurons.items() if len(cut)}
    for layer, cut in wanted.items():
        width = G.layer(layer).width
        if cut[0] < 0 or cut[-1] >= width or len(cut) == width:
            raise InputError(
                f"Of the {width} neurons of layer {layer!r}, {len(cut)} were to be cut ({cut[0]}..{cut[-1]}); at "
                f"least one must stay."
            )
    batch = Batches(data, inner).first()
    smaller = copy.deepcopy(inner)
    ways: dict[str, str] = {}
    for layer, cut in wanted.items():
        smaller, ways[layer] = _cut_layer(
            inner, smaller, G, layer, {**{done: wanted[done] for done in ways}, layer: cut}, batch, output
        )
    counts = [sum(p.numel() for p in m.parameters()) for m in (smaller, inner)]
    return Removal(smaller, ways, _difference(inner, smaller, G, wanted, batch, output), counts[0], counts[1])


def _cut_layer(
    model: nn.Module,
    smaller: nn.Module,
    G: LayeredDiGraph,
    layer: str,
    cut: Mapping[str, list[int]],
    batch: Batch,
    output: Any,
) -> tuple[nn.Module, str]:
    """Try to narrow the readers, then to restore the width; keep what computes the same as masking."""
    reasons = []
    for way, change in {"narrowed": _narrow_readers, "restored": _restore_width}.items():
        trial = copy.deepcopy(smaller)
        try:
            chain = _shrink_unit(trial, model, G, layer, cut[layer], batch)
            change(trial, G, layer, cut[layer], chain)
            difference = _difference(model, trial, G, cut, batch, output)
        except (UnsupportedLayerError, InputError, RuntimeError, IndexError) as error:
            reasons.append(str(error))
            continue
        if difference <= TOLERANCE:
            return trial, way
        reasons.append(f"{way}, the outputs differ from those of the masked model by {difference:.1g}")
    raise UnsupportedLayerError(
        f"The neurons of layer {layer!r} cannot be cut out of this model: {'; '.join(dict.fromkeys(reasons))}."
    )


def _shrink_unit(
    trial: nn.Module, model: nn.Module, G: LayeredDiGraph, layer: str, cut: list[int], batch: Batch
) -> list[str]:
    """Take the rows out of a layer's module and its own batch-norms; return these modules in the order they run."""
    modules = named_modules(trial)
    unit = modules.get(layer)
    if not isinstance(unit, nn.Linear | nn.modules.conv._ConvNd) or isinstance(unit, nn.modules.conv._ConvTransposeNd):
        raise UnsupportedLayerError(
            f"its module is a {type(unit).__name__}, and only plain linear and convolution layers can be cut"
        )
    if isinstance(unit, nn.modules.conv._ConvNd) and unit.groups != 1:
        raise UnsupportedLayerError("its convolution is grouped")
    if any(isinstance(child, nn.Module) for child in unit.children()):
        raise UnsupportedLayerError("its weight is computed by a parametrisation")
    width = G.layer(layer).width
    kept = _kept(width, cut)
    _take(unit, ("weight", "bias"), 0, kept)
    if isinstance(unit, nn.Linear):
        unit.out_features = len(kept)
    else:
        unit.out_channels = len(kept)
    chain = _own_modules(model, G, layer, batch)
    for name in chain[1:]:
        norm = modules[name]
        _take(norm, ("weight", "bias", "running_mean", "running_var"), 0, kept)
        norm.num_features = len(kept)  # type: ignore[assignment]
    return chain


def _own_modules(model: nn.Module, G: LayeredDiGraph, layer: str, batch: Batch) -> list[str]:
    """List the layer's module, then the batch-norms that run on its output up to its closing point."""
    site = find_sites(model, G, [layer])[layer]
    order: list[tuple[str, nn.Module]] = []
    names = {module: plain_name(name) for name, module in model.named_modules()}
    few = batch.rows(slice(0, min(2, batch.size)))
    leaves = [module for module in model.modules() if not list(module.children())]

    def note(module: nn.Module, args: Any, output: Any) -> None:
        order.append((names[module], module))

    with torch.no_grad(), undisturbed(model) as inner, hooked([(leaf, note) for leaf in leaves]):
        forward(inner, few)
    run = [name for name, _ in order]
    start = run.index(layer)
    calls = [i for i, name in enumerate(run) if name == site.module]
    end = calls[site.call or 0] if calls else start
    between = [
        (name, module)
        for name, module in order[start + 1 : end + 1]
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    return [layer, *(name for name, _ in between)]


def _narrow_readers(trial: nn.Module, G: LayeredDiGraph, layer: str, cut: list[int], chain: list[str]) -> None:
    """Take the columns of the cut neurons out of every layer that reads them, if these read nothing else."""
    modules = named_modules(trial)
    width = G.layer(layer).width
    for target in G.outgoing(layer):
        reader = modules.get(target)
        if tuple(G.incoming(target)) != (layer,):
            raise UnsupportedLayerError(f"layer {target!r} reads it together with others")
        if isinstance(reader, nn.Linear):
            block, rest = divmod(reader.in_features, width)
            if rest:
                raise UnsupportedLayerError(f"layer {target!r} reads it in an unknown arrangement")
            columns = [j * block + p for j in _kept(width, cut) for p in range(block)]
            reader.in_features = len(columns)
        elif (
            isinstance(reader, nn.modules.conv._ConvNd)
            and reader.groups == 1
            and not isinstance(reader, nn.modules.conv._ConvTransposeNd)
        ):
            columns = _kept(width, cut)
            reader.in_channels = len(columns)
        else:
            raise UnsupportedLayerError(f"layer {target!r}, which reads it, is a {type(reader).__name__}")
        _take(reader, ("weight",), 1, columns)
    if not G.outgoing(layer):
        raise UnsupportedLayerError("it is the output of the model")


def _restore_width(trial: nn.Module, G: LayeredDiGraph, layer: str, cut: list[int], chain: list[str]) -> None:
    """Put zeros back behind the layer's own modules."""
    width = G.layer(layer).width
    axis = 1 if G.layer(layer).kind == "conv" else -1
    name = chain[-1]
    parent = trial.get_submodule(name.rpartition(".")[0])
    leaf = name.rpartition(".")[2]
    own = parent._modules[leaf]
    assert own is not None
    restore = Restore(_kept(width, cut), width, axis).to(next(own.parameters()).device)
    parent._modules[leaf] = nn.Sequential(own, restore)


def _difference(
    model: nn.Module, smaller: nn.Module, G: LayeredDiGraph, cut: Mapping[str, list[int]], batch: Batch, output: Any
) -> float:
    gone = [Neuron(layer, i) for layer, indices in cut.items() for i in indices]
    with torch.no_grad():
        with ablate(model, gone, graph=G) as masked:
            expected = forward(masked, batch, output)
        with undisturbed(smaller) as inner:
            found = forward(inner, batch, output)
    if found.shape != expected.shape:
        raise UnsupportedLayerError(
            f"the outputs get the shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
        )
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _kept(width: int, cut: list[int]) -> list[int]:
    gone = set(cut)
    return [i for i in range(width) if i not in gone]


def _take(module: nn.Module, names: tuple[str, ...], axis: int, kept: list[int]) -> None:
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        shorter = tensor.detach().index_select(axis, torch.tensor(kept, device=tensor.device)).clone()
        if isinstance(tensor, nn.Parameter):
            setattr(module, name, nn.Parameter(shorter, requires_grad=tensor.requires_grad))
        else:
            module._buffers[name] = shorter
