"""`similarities`: how alike the neurons of a layer are, by what moves them and by what they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.errors import InputError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batch, Batches, Output, select_output
from innersight_graph.probe.capturing import Capture, Pass, eager, forward
from innersight_graph.probe.functions import AtFunctions, locate_points
from innersight_graph.probe.jacobians import sensitivity_grams
from innersight_graph.probe.session import hooked, math_attention, undisturbed
from innersight_graph.probe.sites import Site, find_sites, first_tensor, named_modules, neuron_shape, put_back
from innersight_graph.probe.tables import activations

__all__ = ["similarities"]

FloatArray = NDArray[np.float64]
# Second derivatives hold two graphs of a batch in memory: small batches.
_BATCH = 128


def similarities(
    model: nn.Module,
    data: Any,
    G: Any,
    *,
    kind: str = "covariance",
    layers: Iterable[str] | None = None,
    output: Output = None,
) -> dict[str, FloatArray]:
    """Measure how alike the neurons of each layer are, as Lange et al. do; `similarity_communities` takes the result.

    Parameters
    ----------
    model : Module
        The model that G was made from; it comes back bit-identical.
    data
        Batches of ``(inputs, targets)`` or of inputs, a pair of tensors, or a tensor; ``"hessian"`` needs targets.
    G : LayeredDiGraph or networkx graph
        Tells layers and where they are read.
    kind : {"covariance", "sensitivity", "downstream", "hessian"}
        What is compared, written S below; h is a layer's output, a map counting by its mean.
        "covariance" (upstream): S = E[h hᵀ] - E[h] E[h]ᵀ.
        "sensitivity" (upstream): S = E[J Jᵀ], J = dh/d(input).
        "downstream": S = E[Dᵀ D], D = d(outputs)/dh, a map moving as one.
        "hessian" (downstream): S = E[d²(loss)/dh dh], cross-entropy for classes, squared error for numbers.
    layers : iterable of str, optional
        Default: every hidden layer.
    output : callable, str or int, optional
        Which part of the model's result holds the outputs.

    Returns
    -------
    dict of layer to ndarray of float64 (n_neurons, n_neurons)
        Symmetric, signed, not normalised: absolute values and scaling are the detector's business.

    Raises
    ------
    InputError
        An unknown kind, data without targets for the Hessian, unfitting data.

    Notes
    -----
    Upstream and downstream kinds disagree on which neurons belong together: report both. Cost: one pass for the
    covariance; one backward pass per neuron for "sensitivity", per output for "downstream", per neuron (twice) for
    "hessian".

    References
    ----------
    Lange, Rolnick & Kording 2022, arXiv:2203.11815.

    Examples
    --------
    >>> import torch
    >>> from innersight_graph import neuron_graph
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False), torch.nn.Identity(), torch.nn.Linear(2, 4))
    >>> x = torch.randn(8, 3)
    >>> W = model[0].weight.detach().double().numpy()
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # two linear maps in a row
    ...     G = neuron_graph(model, example=x)
    >>> bool(np.allclose(similarities(model, x, G, kind="sensitivity")["0"], W @ W.T, atol=1e-6))
    True
    """
    G = as_layered(G)
    names = tuple(G.hidden_layers) if layers is None else tuple(layers)
    if kind not in _KINDS:
        raise InputError(f"kind={kind!r} is unknown; use one of {', '.join(map(repr, _KINDS))}.")
    return _KINDS[kind](model, data, G, names, output)


def _covariance(
    model: nn.Module, data: Any, G: LayeredDiGraph, names: tuple[str, ...], _: Output
) -> dict[str, FloatArray]:
    tables = activations(model, data, G, layers=names)
    return {name: np.atleast_2d(np.cov(table.astype(np.float64), bias=True)) for name, table in tables.items()}


def _sensitivity(
    model: nn.Module, data: Any, G: LayeredDiGraph, names: tuple[str, ...], _: Output
) -> dict[str, FloatArray]:
    return {name: gram.matrix for name, gram in sensitivity_grams(model, data, G, names).items()}


def _downstream(
    model: nn.Module, data: Any, G: LayeredDiGraph, names: tuple[str, ...], output: Output
) -> dict[str, FloatArray]:
    def gram(result: torch.Tensor, leaf: Leaf, batch: Batch) -> FloatArray:
        outputs = result.reshape(batch.size, -1)
        total = np.zeros((leaf.width, leaf.width))
        for column in outputs.unbind(1):
            rows = leaf.derivative(column.sum(), keep=True).double().cpu().numpy()
            total += rows.T @ rows
        return total

    return _summed(model, data, G, names, output, gram, need_targets=False)


def _hessian(
    model: nn.Module, data: Any, G: LayeredDiGraph, names: tuple[str, ...], output: Output
) -> dict[str, FloatArray]:
    def hessian(result: torch.Tensor, leaf: Leaf, batch: Batch) -> FloatArray:
        slope = leaf.derivative(_loss(result, batch.targets), keep=True, create=True)
        rows = [leaf.derivative(column.sum(), keep=True).sum(0).double().cpu().numpy() for column in slope.unbind(1)]
        table = np.stack(rows)
        return np.asarray((table + table.T) / 2.0)

    return _summed(model, data, G, names, output, hessian, need_targets=True)


_KINDS: dict[str, Callable[..., dict[str, FloatArray]]] = {
    "covariance": _covariance,
    "sensitivity": _sensitivity,
    "downstream": _downstream,
    "hessian": _hessian,
}


def _loss(result: torch.Tensor, targets: Any) -> torch.Tensor:
    """Sum over samples of the loss that the targets suggest."""
    if targets is None:
        raise InputError(
            "kind='hessian' is the curvature of the loss and needs targets; pass (inputs, targets) batches."
        )
    if targets.is_floating_point():
        return nn.functional.mse_loss(result, targets.reshape(result.shape), reduction="sum")
    return nn.functional.cross_entropy(result, targets, reduction="sum")


def _summed(
    model: nn.Module,
    data: Any,
    G: LayeredDiGraph,
    names: tuple[str, ...],
    output: Output,
    matrix: Callable[[torch.Tensor, Leaf, Batch], FloatArray],
    *,
    need_targets: bool,
) -> dict[str, FloatArray]:
    """Average a layer-by-layer matrix of derivatives over the data."""
    totals = {name: np.zeros((G.layer(name).width,) * 2) for name in names}
    samples = 0
    with undisturbed(model) as inner, eager(model), math_attention():
        batches = Batches(data, inner, need_targets=need_targets, batch_size=_BATCH)
        sites = locate_points(inner, batches.first(), find_sites(inner, G, names))
        for batch in batches:
            samples += batch.size
            with torch.enable_grad(), nudged(inner, sites) as leaves:
                result = select_output(forward(inner, batch), output)
                for name in names:
                    totals[name] += matrix(result, Leaf(leaves.calls[name][-1], sites[name], batch.size), batch)
    return {name: total / samples for name, total in totals.items()}


class Leaf:
    """A zero added to one layer's output: derivatives with respect to it are those with respect to the neurons."""

    def __init__(self, tensor: torch.Tensor, site: Site, samples: int) -> None:
        self.tensor = tensor
        self.site = site
        self.samples = samples
        self.width = int(neuron_shape(tensor, site, samples).shape[1])

    def derivative(self, value: torch.Tensor, *, keep: bool, create: bool = False) -> torch.Tensor:
        """Return d(value)/d(neuron) of each sample, (samples, width): a map's positions move together."""
        (slope,) = torch.autograd.grad(
            value, [self.tensor], retain_graph=keep, create_graph=create, allow_unused=True, materialize_grads=True
        )
        return neuron_shape(slope, self.site, self.samples).sum(2)


@contextmanager
def nudged(model: nn.Module, sites: Mapping[str, Site]) -> Iterator[Capture]:
    """Add to each site's output a zero that gradients reach; the zeros are recorded in the shape the model works in."""
    modules = named_modules(model)
    store, points = Capture(sites), AtFunctions()
    state = Pass(model, points, dict(sites), settled=True)

    def adding(name: str) -> Any:
        def change(tensor: torch.Tensor) -> torch.Tensor:
            leaf = torch.zeros_like(tensor, requires_grad=True)
            store.calls[name].append(leaf)
            return tensor + leaf

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if not state.is_due(name):
                return None
            return put_back(output, change(first_tensor(output, state.sites[name])), state.sites[name])

        state.at_functions[name] = change
        return hook

    adders = {name: adding(name) for name in sites}
    hooks = [(modules[site.module], points.unheard(adders[name])) for name, site in sites.items() if site.module]
    state.list_functions()
    with points, hooked([(model, state.begin)], pre=True), hooked(hooks):
        yield store
