"""A second opinion on who feeds whom: the layer edges that autograd's own graph shows, without any rule for operators.

It knows layers only, not channels, and takes a slice for the whole: its edges are a superset of the true ones. So it
checks the
tracer (an edge only the tracer sees would be wrong) and stands in for it where an operator cannot be followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from innersight_graph.errors import InputError, TraceError
from innersight_graph.neuronize.checks import check_weights, named_weights, unwrap
from innersight_graph.neuronize.inputs import first_call, named_tensors
from innersight_graph.neuronize.quiet import undisturbed
from innersight_graph.neuronize.record import Trace
from innersight_graph.neuronize.trace import trace_model

__all__ = ["layer_edges"]

Edges = frozenset[tuple[str, str]]
_PRODUCTS = (
    "Convolution",
    "Addmm",
    "Mm",
    "Bmm",
    "Baddbmm",
    "Mv",
    "Addmv",
    "Linear",
    "Trilinear",
    "MkldnnRnnLayer",
    "GroupedMm",
)


def layer_edges(model: Any, data: Any = None, *, example: Any = None, method: str = "auto") -> Edges:
    """Return which weights feed which, as pairs of parameter names.

    Parameters
    ----------
    model, data, example
        As in `trace_model`.
    method : {"auto", "labels", "autograd"}
        "labels": the tracer's, exact. "autograd": a walk over autograd's graph, a superset, one forward pass with
        gradients.
        "auto": the tracer's, or autograd's where the tracer cannot follow the model.

    Returns
    -------
    frozenset of (source, target)
        Parameter names; of tied ones the first in alphabetical order. The input is ``"input"``.

    Raises
    ------
    InputError, UnsupportedLayerError, TraceError
        As `trace_model`; TraceError also if the output does not depend on any parameter.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> both = [layer_edges(model, example=torch.zeros(1, 4), method=m) for m in ("labels", "autograd")]
    >>> sorted(both[0]), both[0] == both[1]
    ([('0.weight', '2.weight'), ('input', '0.weight')], True)
    """
    if method not in ("auto", "labels", "autograd"):
        raise InputError(f"method={method!r} is unknown. Use 'auto', 'labels' or 'autograd'.")
    if method != "autograd":
        try:
            return _traced(trace_model(model, data, example=example))
        except TraceError:
            if method == "labels":
                raise
    return _walked(unwrap(model), data, example)


def _traced(trace: Trace) -> Edges:
    owner: dict[int, str] = {}
    for neurons in trace.inputs:
        if not neurons.tokens:
            owner.update(dict.fromkeys(range(neurons.first, neurons.first + neurons.count), "input"))
    for unit in trace.units:
        owner.update(dict.fromkeys(range(unit.first, unit.first + unit.width), unit.parameters[0]))
    edges = set()
    for unit in trace.units:
        for feed in unit.feeds:
            neurons_fed = trace.sets.neurons_of(torch.unique(feed.sources).tolist())
            edges |= {(owner[n], unit.parameters[0]) for n in neurons_fed if n in owner}
    return frozenset(edges)


def _walked(model: nn.Module, data: Any, example: Any) -> Edges:
    check_weights(model)
    (args, kwargs), _ = first_call(data, example)
    names: dict[int, str] = {}
    for name, parameter in sorted(named_weights(model), reverse=True):
        names[id(parameter)] = name
    inputs = [x for x in named_tensors((args, kwargs)).values() if x.is_floating_point()]
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(_differentiable([*model.parameters(), *inputs]))
        stack.enter_context(torch.enable_grad())
        output = model(*args, **kwargs)
        roots = [x.grad_fn for x in tree_leaves(output) if isinstance(x, torch.Tensor) and x.grad_fn is not None]
        if not roots:
            raise TraceError(
                "The model's output does not depend on any parameter as far as autograd sees. Does it detach its "
                "output?"
            )
        return _Walk(names, {id(x) for x in inputs}).edges(roots)


@contextmanager
def _differentiable(tensors: list[torch.Tensor]) -> Iterator[None]:
    flags = [(x, x.requires_grad) for x in tensors]
    try:
        for x, _ in flags:
            x.requires_grad_(True)
        yield
    finally:
        for x, flag in flags:
            x.requires_grad_(flag)


class _Walk:
    """Edges of a graph of autograd nodes: a unit is a product with an operand computed from parameters alone."""

    def __init__(self, names: dict[int, str], inputs: set[int]) -> None:
        self._names = names
        self._inputs = inputs
        self._leaves: dict[Any, frozenset[str]] = {}

    def edges(self, roots: list[Any]) -> Edges:
        """Return the pairs of parameter names."""
        order = _below(roots)
        for node in order:
            self._leaves[node] = self._leaves_of(node)
        units = {node: unit for node in order if (unit := self._unit(node)) is not None}
        reach: dict[Any, frozenset[str]] = {}
        edges = set()
        for node in order:
            found = frozenset[str]().union(*(reach[n] for n, _ in node.next_functions if n is not None))
            if node in units:
                edges |= {(source, units[node]) for source in found}
                reach[node] = frozenset([units[node]])
            else:
                leaf = getattr(node, "variable", None)
                reach[node] = frozenset(["input"]) if leaf is not None and id(leaf) in self._inputs else found
        return frozenset(edges)

    def _leaves_of(self, node: Any) -> frozenset[str]:
        """Return the parameters below a node; "" stands for data."""
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            return frozenset([self._names.get(id(leaf), "")])
        if node.name().startswith("Embedding"):
            return frozenset([""])
        return frozenset[str]().union(*(self._leaves[n] for n, _ in node.next_functions if n is not None))

    def _unit(self, node: Any) -> str | None:
        name = node.name()
        if name.startswith("Embedding"):
            below = [self._leaves[n] for n, _ in node.next_functions if n is not None]
            return min(below[0]) if below and "" not in below[0] else None
        if not name.startswith(_PRODUCTS):
            return None
        operands = node.next_functions[1:] if name.startswith(("Addmm", "Baddbmm", "Addmv")) else node.next_functions
        weights = [leaves for n, _ in operands if n is not None and (leaves := self._leaves[n]) and "" not in leaves]
        matrices = [leaves for leaves in weights if not all(leaf.endswith("bias") for leaf in leaves)]
        return min(matrices[0]) if matrices else None


def _below(roots: list[Any]) -> list[Any]:
    """Return all nodes below some, each after everything it was computed from."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((n, False) for n, _ in node.next_functions if n is not None)
    return order
