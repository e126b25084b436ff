"""One number per neuron and sample: `activations`, and what is computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.graph.interchange import as_layered
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batches
from innersight_graph.probe.capturing import eager, forward, recorded
from innersight_graph.probe.session import undisturbed
from innersight_graph.probe.sites import find_sites

__all__ = ["activations", "check_table", "measured"]


def activations(
    model: nn.Module, data: Any, G: Any, *, layers: Iterable[str] | None = None, at: str = "closing"
) -> dict[str, NDArray[np.float32]]:
    """Measure what each neuron puts out for each sample, averaged over its positions.

    Parameters
    ----------
    model : Module
        The model that G was made from.
    data
        Batches of ``(inputs, targets)`` or of inputs, a pair of tensors, or a tensor.
    G : LayeredDiGraph or networkx graph
        Tells layers and where they are read.
    layers : iterable of str, optional
        Default: every hidden layer.
    at : {"closing", "unit"}
        Behind the neuron's own norm and activation (default), or its module's own output.

    Returns
    -------
    dict of layer to ndarray of float32 (n_neurons, n_samples)

    Raises
    ------
    InputError
        Empty, non-finite or unfitting data.
    UnsupportedLayerError
        A layer asked for by name whose neurons cannot be read; without ``layers`` such layers are left out.

    Notes
    -----
    Memory: the table itself; maps are averaged batch by batch.
    """
    G = as_layered(G)
    names = tuple(G.hidden_layers) if layers is None else tuple(layers)
    tables = measured(model, data, G, names, at=at)
    unread = [name for name in names if name not in tables]
    if unread and layers is not None:
        raise UnsupportedLayerError(
            f"The neurons of {', '.join(unread)} have no tensor of their own in the forward pass (their weights are "
            f"used inside a larger "
            "function), so they cannot be read; leave these layers out with layers=."
        )
    return tables


def measured(
    model: nn.Module,
    data: Any,
    G: LayeredDiGraph,
    names: Iterable[str],
    *,
    at: str = "closing",
    max_memory: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Measure as `activations` does, leaving out the layers that cannot be read.

    For ``max_memory`` see `check_table`.
    """
    tables: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    with undisturbed(model) as inner, eager(model), torch.no_grad():
        sites = find_sites(inner, G, tables, at=at)
        with recorded(inner, sites, detach=True) as store:
            for batch in Batches(data, inner):
                store.clear()
                forward(inner, batch)
                for name, calls in store.calls.items():
                    if calls:
                        tables[name].append(calls[-1].float().mean(2).cpu().numpy())
                check_table(tables, max_memory)
    return {name: np.ascontiguousarray(np.concatenate(parts).T) for name, parts in tables.items() if parts}


def check_table(parts: Mapping[str, list[NDArray[np.float32]]], max_memory: int | None) -> None:
    """Refuse tables ``(samples, n_neurons)`` that grow beyond what is allowed for them.

    Counted with them are the two copies, twice as wide, that evaluators work on.
    """
    values = sum(part.size for found in parts.values() for part in found)
    if max_memory is not None and 20 * values > max_memory:
        raise InputError(
            f"The outputs of {sum(found[0].shape[1] for found in parts.values() if found)} neurons take more than the "
            f"{max_memory / 2**20:.0f} MiB allowed (max_memory) on these data; pass fewer samples or layers, or a "
            "larger max_memory."
        )
