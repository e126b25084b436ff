"""`neuron_graph`: a trained PyTorch model as a layered, signed graph of neurons."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.neuronize.checks import unwrap
from innersight_graph.neuronize.edges import EdgeMaker
from innersight_graph.neuronize.layers import LayerPlan, Plan, make_plan
from innersight_graph.neuronize.record import Trace
from innersight_graph.neuronize.residual import POLICIES
from innersight_graph.neuronize.silent import silent_neurons
from innersight_graph.neuronize.trace import trace_model
from innersight_graph.provenance import digest, environment

__all__ = ["neuron_graph"]


def neuron_graph(
    model: Any,
    data: Any = None,
    *,
    example: Any = None,
    layers: Sequence[str] | None = None,
    edges: str | Callable[..., Any] = "auto",
    reading: str = "similarity",
    at: str = "unit",
    size: int | None = None,
    eps: float | None = None,
    residual: str = "all",
    fold_batchnorm: bool = False,
    max_memory: float = 8 * 2**30,
    progress: bool = False,
) -> LayeredDiGraph:
    """Turn a trained PyTorch model into a layered, signed graph of neurons (the paper's neuronization).

    A neuron is a row of a linear map, a kernel of a convolution, a column of an embedding. Who feeds whom is measured
    by tracing
    one forward pass, not read from the order of modules: norms, pooling, reshapes, concatenations, splits and
    residual additions are followed at the level of single neurons.

    Parameters
    ----------
    model : torch.nn.Module
        Comes back bit-identical: modes, hooks, gradients, buffers, device, also after an error.
    data : tensor, pair of tensors (inputs, targets) or iterable of batches, optional
        A batch is a tensor, ``(inputs, targets)`` or a mapping of keyword arguments; a tuple of inputs is several
        arguments. Needed by data-dependent edges; if given, neurons that fire on fewer than 0.5 % of the samples get
        the node attribute ``silent``.
    example : optional
        One input with its batch axis, or a tuple of positional or a dict of keyword arguments; instead of data.
    layers : sequence of str, optional
        Keep only these layers (and the input) and the connections between them.
    edges : str or callable
        "auto" : the trained weight; several weights between two neurons (kernels, flattened maps) as "l2".
        "weight" : the trained weight, refused where there are several. "sum", "l1", "l2" : sum of the weights, or
        their norm with the sign of the sum. "eq1" : convolutions to convolutions by the paper's Eq. 1, the rest as
        "auto". "act_corr" : correlation of the two neurons' activations over the data. "contribution" : mean over the
        data of weight times activation. A callable gets ``(source, target, weights)``, two `Layer` and the "auto"
        matrix, and returns a matrix of the same shape. In every case only pairs that the trace connects get an edge.
    reading : {"similarity", "literal"}
        Of Eq. 1, see `eq1_weights`.
    at : {"unit", "post_norm", "post_act"}
        Which maps Eq. 1 compares: the convolution's own output, after its norm, or at the closing point.
    size : int, optional
        Side (per axis) to which Eq. 1 pools all maps; default the smaller of the two.
    eps : float, optional
        Share of the uniform distribution mixed into each part of Eq. 1; default 1e-4, or 1e-8 for "literal".
    residual : {"all", "nearest", "off"}
        "all" : every true producer, the truth. "nearest" : per input channel the deepest one. "off" : only from one
        depth to the next.
    fold_batchnorm : bool
        Multiply each neuron's incoming weights by the factor of the batch-norm right after it.
    max_memory : float
        Bytes that the edge arrays may take.
    progress : bool
        Show a progress bar while data stream.

    Returns
    -------
    LayeredDiGraph
        Layer names are qualified module names; "input" (depth 0) holds the pixels, or the channels where a convolution
        reads them, or the tokens of a vocabulary. ``Layer.shape`` is the shape of one neuron's output,
        ``Layer.closing`` the text of a `Closing`. Attention layers carry ``head`` and ``role`` (q, k, v, o);
        queries and keys reach the output projection by connections of ``kind="gate"``, whose unsigned weight is the
        norm of what they gate. ``G.record`` says what it was made with.

    Raises
    ------
    InputError
        Empty data, wrong shape or device, NaN weights, an unknown option.
    UnsupportedLayerError
        No learnable layer; scripted, quantised or sharded modules, by name.
    TraceError
        Neither data nor example, the data decide shapes, or the edges would not fit ``max_memory``.

    Warns
    -----
    UserWarning
        Unknown operators or data-dependent control flow on the way of neurons (`trace_model` gives the list), and
        adjacent
        linear maps with nothing non-linear between them, whose neurons are not identifiable.

    Notes
    -----
    One forward pass plus the size of the edge arrays; equal matrices (one consumer, many producers of a residual
    stream) are stored once. Eq. 1 streams over the data in bounded memory.

    References
    ----------
    Paper, Definition 1 and Eq. 1.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> G = neuron_graph(model, example=torch.zeros(1, 4))
    >>> G, [layer.name for layer in G.layers]
    (LayeredDiGraph(3 layers, 9 neurons, 18 edges), ['input', '0', '2'])
    >>> bool(G.edges[("0", 2), ("2", 1)]["weight"] == model[2].weight[1, 2])
    True
    """
    if residual not in POLICIES:
        raise InputError(f"residual={residual!r} is unknown. Use one of {sorted(POLICIES)}.")
    maker = EdgeMaker(
        edges, reading=reading, at=at, size=size, eps=eps, fold_batchnorm=fold_batchnorm, max_memory=max_memory
    )
    maker.check_data(data)
    if isinstance(data, Iterator):
        data = list(data)
    model = unwrap(model)
    trace = trace_model(model, data, example=example)
    _warn(trace)
    plan = make_plan(trace)
    plan = _only(replace(plan, connections=POLICIES[residual](plan)), layers)
    turned = trace.odd if maker.turn_with_neurons else frozenset()
    records = [_layer(layer, trace, turned) for layer in plan.layers]
    connections, kinds = maker.make(plan, records, model, trace, data, progress)
    attributes = {layer.name: dict(layer.attributes) for layer in plan.layers if layer.attributes}
    if data is not None:
        for name, silent in silent_neurons(model, trace, plan, data, progress=progress).items():
            attributes.setdefault(name, {})["silent"] = silent
    kind = edges if isinstance(edges, str) else getattr(edges, "__name__", "callable")
    options = {
        "edges": kind, "reading": reading, "at": at, "size": size, "eps": eps, "residual": residual,
        "fold_batchnorm": fold_batchnorm, "layers": layers if isinstance(layers, str | None) else list(layers),
    }  # fmt: skip
    record = {"by": "neuron_graph", "options": options, "model": type(model).__qualname__, "data": digest(data)}
    graph = {"residual": residual, "edges": kind, "record": json.dumps(record | environment(), sort_keys=True)}
    return LayeredDiGraph.from_arrays(records, connections, kinds=kinds, node_attributes=attributes, graph=graph)


def _only(plan: Plan, names: Sequence[str] | None) -> Plan:
    """Keep some layers and the connections between them."""
    if names is None:
        return plan
    known = [layer.name for layer in plan.layers]
    wanted = {names} if isinstance(names, str) else set(names)
    for name in sorted(wanted - set(known)):
        near = difflib.get_close_matches(name, known, n=3) or known[:8]
        raise InputError(f"layers names {name!r}, which is not a layer of this model. Did you mean one of {near}?")
    kept = [i for i, layer in enumerate(plan.layers) if layer.name in wanted or layer.kind == "input"]
    place = {old: new for new, old in enumerate(kept)}
    connections = tuple(
        replace(c, source=place[c.source], target=place[c.target])
        for c in plan.connections
        if c.source in place and c.target in place
    )
    return Plan(tuple(plan.layers[i] for i in kept), connections)


def _layer(layer: LayerPlan, trace: Trace, odd: frozenset[str]) -> Layer:
    closing = None if layer.unit is None else trace.points[layer.unit.name].get("post_act")
    if closing is not None and layer.rows is not None:
        closing = replace(closing, rows=tuple(int(r) for r in layer.rows))
    return Layer(
        layer.name, layer.depth, layer.width, layer.kind, layer.positions,
        closing=None if closing is None else str(closing),
        odd=layer.unit is not None and layer.unit.name in odd,
    )  # fmt: skip


def _warn(trace: Trace) -> None:
    """Say what was not understood: a graph is never wrong in silence."""
    coverage = trace.coverage
    told = []
    if coverage.unknown_ops:
        told.append(f"operators without a rule passed neurons on as a superset: {dict(coverage.unknown_ops)}")
    if coverage.data_dependent:
        told.append(
            f"control flow depends on the data in {list(coverage.data_dependent)}: the graph holds for the traced "
            f"sample"
        )
    if coverage.supersets:
        told.append(f"layers chosen by the data have all their possible edges: {list(coverage.supersets)}")
    folded = coverage.folded
    if folded:
        told.append(
            f"no non-linearity between {list(folded[:4])}{' …' if len(folded) > 4 else ''}: the neurons of the "
            f"first can be mixed freely "
            "without changing what the model computes"
        )
    for text in told:
        warnings.warn(text[0].upper() + text[1:] + ".", UserWarning, stacklevel=3)
