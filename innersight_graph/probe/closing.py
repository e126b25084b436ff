"""Closing neurons of the live model: `ablate`, and the closing of many groups at once behind the evaluators."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.capturing import Pass, eager
from innersight_graph.probe.functions import AtFunctions
from innersight_graph.probe.session import hooked, undisturbed
from innersight_graph.probe.sites import (
    Site,
    find_sites,
    first_tensor,
    named_modules,
    neuron_axis,
    neuron_shape,
    on_axis,
    put_back,
    replace_neurons,
)

__all__ = ["Closed", "ablate", "closed_parameters", "closing", "graph_of"]

Value = float | Literal["mean", "resample"] | ArrayLike


@dataclass(frozen=True)
class Closed:
    """One layer's closing: which neurons (bool, one each) and what they put out instead (see `ablate`)."""

    site: Site
    neurons: torch.Tensor
    value: float | str | torch.Tensor = 0.0


@contextmanager
def ablate(
    model: nn.Module,
    neurons: Iterable[Hashable],
    *,
    graph: Any = None,
    example: Any = None,
    value: Value = 0.0,
) -> Iterator[nn.Module]:
    """Close neurons while the block lasts: their outputs are replaced for whoever reads them.

    Parameters
    ----------
    model : Module
        Any model; run it inside the block as usual.
    neurons : iterable of node
        Nodes of ``graph`` (a community of a `Partition`, say), `Neuron` ids, or ``(layer, index)`` pairs.
    graph : LayeredDiGraph, optional
        The graph of this model. It knows for each layer the point behind its own norm and activation where closing
        silences a neuron completely; closing a kernel before its batch-norm would leave the norm's shift alive.
    example : tensor, tuple or mapping, optional
        One input of the model, to find these points by tracing when there is no graph. With neither, the first call
        inside the block is traced.
    value : float, "mean", "resample" or array
        What a closed neuron puts out: a constant (default 0), its mean over samples and positions of the current batch,
        its output on another sample of the batch (the same one for all closed neurons), or one number per given neuron,
        in their order.

    Yields
    ------
    Module
        The bare model with the neurons closed, in evaluation mode. The given model is the same object unless it was
        compiled or data-parallel; calling either is fine.

    Raises
    ------
    InputError
        A neuron outside the model, or a value of the wrong length.
    UnsupportedLayerError
        A layer that can be closed neither at a module's output nor by its weights.

    Notes
    -----
    Where the module is called, its output is replaced by a hook; where only its weights are used (the projections of
    ``nn.MultiheadAttention``), the rows of weight and bias are zeroed in a copy, so only ``value=0`` is possible. On
    leaving, weights, buffers, modes, gradients and the user's hooks are bit-identical, also after an exception or
    Ctrl-C.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> with ablate(model, [("0", 0), ("0", 1), ("0", 2)], example=torch.zeros(1, 2)):
    ...     bool((model(torch.randn(4, 2)) == model[2].bias).all())
    True
    """
    chosen = list(neurons)
    with ExitStack() as stack:
        inner = stack.enter_context(undisturbed(model))
        stack.enter_context(eager(model))
        if graph is None and example is None and chosen:
            stack.enter_context(_closing_on_first_call(inner, chosen, value))
        else:
            stack.enter_context(closing(inner, _plan(inner, chosen, graph, example, value)))
        yield inner


@contextmanager
def closing(
    model: nn.Module,
    closed: Iterable[Closed],
    *,
    by_weights: Iterable[str] = (),
    located: bool = False,
    told: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] | None = None,
) -> Iterator[Pass]:
    """Close neurons of a bare model, at module outputs, at results of functions, or by weights.

    Without ``located`` the first call of the model settles where: sites are located if zeroing the module's output
    would not be enough, and a layer none of whose points is passed is closed by its weights, the pass being repeated.
    With ``located`` the sites are taken as they are and the layers named in ``by_weights`` are closed by weights.
    ``told`` hears of every tensor whose axis 1 holds the neurons: closed, as it was, and which are closed.
    """
    plans = {plan.site.layer: plan for plan in closed}
    modules = named_modules(model)
    weights = set(by_weights)
    points = AtFunctions()
    sites = {name: plan.site for name, plan in plans.items() if name not in weights}
    needs_locating = any(not _zero_at_module(plan) for name, plan in plans.items() if name in sites)
    state = Pass(model, points, dict(sites), settled=located or not needs_locating)
    reached: set[str] = set()

    def replacing(name: str) -> Any:
        def change(tensor: torch.Tensor) -> torch.Tensor:
            reached.add(name)
            plan, site = plans[name], state.sites[name]
            neurons = plan.neurons.to(tensor.device)
            new = replace_neurons(tensor, site, neurons, _fill(tensor, plan, state.samples))
            if told is not None and site.rows is None and neuron_axis(tensor.shape, site) == 1:
                told(new, tensor, neurons)
            return new

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if not state.is_due(name):
                return None
            site = state.sites[name]
            return put_back(output, change(first_tensor(output, site)), site)

        state.at_functions[name] = change
        return hook

    with ExitStack() as stack:
        repeated: list[bool] = []

        def fall_back(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            missed = [plan for name, plan in plans.items() if name in state.sites and name not in reached]
            if repeated or state.settling or not missed:
                return None
            repeated.append(True)
            stack.enter_context(_rows_zeroed(model, missed))
            return module(*args, **kwargs)

        hooks = [(modules[site.module], points.unheard(replacing(name))) for name, site in sites.items() if site.module]
        for name in (name for name, site in sites.items() if not site.module):
            replacing(name)
        state.list_functions()
        stack.enter_context(_rows_zeroed(model, [plan for name, plan in plans.items() if name in weights]))
        stack.enter_context(points)
        stack.enter_context(hooked([(model, state.begin)], pre=True))
        stack.enter_context(hooked(hooks))
        if not located:
            stack.enter_context(hooked([(model, fall_back)], with_kwargs=True))
        yield state


def _zero_at_module(plan: Closed) -> bool:
    """Whether a zero at the module's output is as good as one at the closing point."""
    point = plan.site.point
    return point is None or (
        bool(point.module) and point.exact and not isinstance(plan.value, str | torch.Tensor) and plan.value == 0
    )


def closed_parameters(model: nn.Module, plan: Closed) -> dict[str, torch.Tensor]:
    """Weights and biases of a layer with the closed neurons' rows at zero, by parameter name (copies)."""
    if not (isinstance(plan.value, float | int) and plan.value == 0):
        raise UnsupportedLayerError(
            f"Layer {plan.site.layer!r} is used through its weights without a call of module {plan.site.module!r}, "
            f"so its neurons can only "
            f"be closed at 0, not at {plan.value!r}; use value=0.0 for this layer."
        )
    changed = {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, axis, start in _row_parameters(model, plan.site):
        if name not in parameters:
            raise InputError(
                f"Layer {plan.site.layer!r} of the graph has its weights in {name!r}, which the model does not have; "
                "the graph belongs to another model. Make it again with neuron_graph."
            )
        parameter = parameters[name]
        rows = plan.site.rows or tuple(range(plan.neurons.shape[-1]))
        packed = replace(plan.site, rows=tuple(start + row for row in rows))
        along = [1] * parameter.ndim
        along[axis] = parameter.shape[axis]
        closed = on_axis(plan.neurons.to(parameter.device), packed, parameter.shape[axis]).reshape(along)
        zero = torch.zeros((), dtype=parameter.dtype, device=parameter.device)
        changed[name] = torch.where(closed, zero, parameter.detach())
    if not changed:
        raise UnsupportedLayerError(
            f"Module {plan.site.module!r} of layer {plan.site.layer!r} was never called and has no weight rows to "
            f"close; name a layer whose "
            "module the model calls."
        )
    return changed


def _row_parameters(model: nn.Module, site: Site) -> list[tuple[str, int, int]]:
    """Names of the parameters whose rows make the layer's neurons, the axis of the rows, and the first row."""
    point = site.point
    if point is not None and point.weight:
        bias = [(point.bias, 0, point.weight_start)] if point.bias else []
        return [(point.weight, point.weight_axis, point.weight_start), *bias]
    module = named_modules(model).get(site.module)
    if module is None:
        return []
    return [(f"{site.module}.{name}", 0, 0) for name in ("weight", "bias") if module._parameters.get(name) is not None]


@contextmanager
def _rows_zeroed(model: nn.Module, plans: Iterable[Closed]) -> Iterator[None]:
    """Put copies with zeroed rows in the place of parameters; the parameters themselves are not written to."""
    modules = named_modules(model)
    originals: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for plan in plans:
            for name, value in closed_parameters(model, plan).items():
                module, leaf = modules[name.rpartition(".")[0]], name.rpartition(".")[2]
                original = module._parameters[leaf]
                assert original is not None
                originals.append((module, leaf, original))
                module._parameters[leaf] = nn.Parameter(value, requires_grad=original.requires_grad)
        yield
    finally:
        for module, leaf, original in reversed(originals):
            module._parameters[leaf] = original


@contextmanager
def _closing_on_first_call(model: nn.Module, neurons: list[Hashable], value: Value) -> Iterator[None]:
    """Trace the first call inside the block to find where to close, then close from that call on."""
    with ExitStack() as stack:
        state = {"planned": False}

        def plan_now(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if state["planned"]:
                return
            state["planned"] = True
            example = kwargs if not args else args if not kwargs else (args, kwargs)
            begun = stack.enter_context(closing(model, _plan(model, neurons, None, example, value)))
            begun.begin(module, args, kwargs)

        stack.enter_context(hooked([(model, plan_now)], pre=True))
        yield


def _plan(model: nn.Module, neurons: list[Hashable], graph: Any, example: Any, value: Value) -> list[Closed]:
    """Group the neurons by layer and find each layer's closing point."""
    if not neurons:
        return []
    G = as_layered(graph) if graph is not None else _graph_of_example(model, example)
    places = _locate(G, neurons)
    layers = list(dict.fromkeys(layer for layer, _ in places))
    sites = find_sites(model, G, layers)
    values = None if isinstance(value, str) else np.asarray(value, dtype=np.float64)
    if isinstance(value, str) and value not in ("mean", "resample"):
        raise InputError(
            f"value={value!r} is no way of closing; use a number, 'mean', 'resample' or one number per neuron."
        )
    if values is not None and values.ndim and values.shape != (len(places),):
        raise InputError(
            f"value has the shape {values.shape} for {len(places)} neurons; give one number, or one per neuron in "
            f"the order given."
        )
    plans = []
    for layer in layers:
        width = G.layer(layer).width
        closed = torch.zeros(width, dtype=torch.bool)
        fill = torch.zeros(width, dtype=torch.float64)
        for position, (own, index) in enumerate(places):
            if own == layer:
                closed[index] = True
                if values is not None:
                    fill[index] = float(values if values.ndim == 0 else values[position])
        constant = 0.0 if values is not None and not values.any() else fill
        plans.append(Closed(sites[layer], closed, value if isinstance(value, str) else constant))
    return plans


def _locate(G: LayeredDiGraph, neurons: list[Hashable]) -> list[tuple[str, int]]:
    """Layer and index of each node; ``(layer, index)`` pairs are accepted for nodes of models."""
    position: dict[Hashable, tuple[str, int]] = {}
    for layer in G.layers:
        position.update({node: (layer.name, index) for index, node in enumerate(G.nodes_of(layer.name))})
    missing = [node for node in neurons if node not in position]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(neurons)} neurons are not in the graph, the first is {missing[0]!r}; "
            f"neurons are named by layer "
            f"and index, e.g. {next(iter(position))!r}, and the layers are "
            f"{', '.join(layer.name for layer in G.layers)}."
        )
    return [position[node] for node in neurons]


def _graph_of_example(model: nn.Module, example: Any) -> LayeredDiGraph:
    from innersight_graph.neuronize.build import neuron_graph

    return neuron_graph(model, example=example)


def graph_of(model: nn.Module, data: Any) -> LayeredDiGraph:
    """Trace the model with one sample of the data to find its layers and closing points."""
    first = Batches(data, model).first().rows(slice(0, 1))
    example = first.kwargs if not first.args else first.args
    return _graph_of_example(model, example)


def _fill(tensor: torch.Tensor, plan: Closed, samples: int | None) -> torch.Tensor | float:
    """Return what replaces the closed neurons in this output."""
    if isinstance(plan.value, torch.Tensor):
        return plan.value.to(tensor.device)
    if plan.value == "mean":
        return neuron_shape(tensor.double(), plan.site, samples).mean(dim=(0, 2))
    if plan.value == "resample":
        # Drawn on the host by a generator of its own: the same partner for every closed neuron, no global state.
        order = torch.randperm(len(tensor), generator=torch.Generator().manual_seed(len(tensor)))
        return tensor[order.to(tensor.device)]
    return float(plan.value)
