"""`trace_model`: who feeds whom in a model, measured on one forward pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from innersight_graph.errors import InnerSightError, InputError, TraceError
from innersight_graph.neuronize import rules
from innersight_graph.neuronize.checks import check_weights, named_weights, unwrap
from innersight_graph.neuronize.closing import LINEAR, Closing, choose_step, line_between
from innersight_graph.neuronize.inputs import Call, first_call, named_tensors
from innersight_graph.neuronize.quiet import module_hooks, undisturbed
from innersight_graph.neuronize.record import Coverage, Trace, Unit
from innersight_graph.neuronize.rules import NORMS
from innersight_graph.neuronize.tracer import Tracer

__all__ = ["trace_model"]

IntArray = npt.NDArray[np.int64]
_TURNED = ("linear", "conv", "embedding")


def trace_model(model: nn.Module, data: Any = None, *, example: Any = None) -> Trace:
    """Trace one forward pass and return every unit of neurons with what feeds it.

    Parameters
    ----------
    model : torch.nn.Module
        Run once in evaluation mode without gradients; comes back bit-identical. May live on the meta device.
    data : tensor, pair of tensors or iterable of batches, optional
        The first sample of the first batch is used.
    example : optional
        One input with its batch axis, or a tuple of positional or a dict of keyword arguments, used as it is.

    Returns
    -------
    Trace
        Its ``coverage`` says what was not understood.

    Raises
    ------
    InputError
        Empty data, NaN weights, data of the wrong shape or device.
    UnsupportedLayerError
        No learnable layer; scripted, quantised or sharded modules.
    TraceError
        Neither data nor example, shapes that depend on the data, or no neuron reached.

    Notes
    -----
    Costs one forward pass on one sample plus Python work per operator (torchvision's classifiers: a fraction of a
    second), and
    4 bytes per live activation.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> trace = trace_model(model, example=torch.zeros(1, 4))
    >>> [(unit.name, unit.width) for unit in trace.units]
    [('0', 3), ('2', 2)]
    >>> trace.points["0"]["post_act"].module
    '1'
    """
    model = unwrap(model)
    check_weights(model)
    one, whole = first_call(data, example)
    tracer, seconds, output = _run(model, one, whole)
    if not tracer.units:
        raise TraceError(
            f"No learnable layer of {type(model).__name__} was applied in the forward pass. "
            "Check that the model's forward uses its layers' weights."
        )
    return _finished(model, tracer, output, seconds)


def _run(model: nn.Module, one: Call, whole: Call) -> tuple[Tracer, float, Any]:
    """Trace one sample; a model with a fixed batch size gets the whole batch it came with."""
    attempts = (one,) if one is whole else (one, whole)
    failure: Exception | None = None
    for call in attempts:
        try:
            return _traced(model, call)
        except InnerSightError:
            raise
        except Exception as error:
            failure = error
    assert failure is not None
    raise _explained(model, whole, failure) from failure


def _traced(model: nn.Module, call: Call) -> tuple[Tracer, float, Any]:
    args, kwargs = call
    tracer = Tracer(named_weights(model), rules)
    for name, tensor in named_tensors(call).items():
        tracer.add_input(name, tensor)
    start = time.process_time()
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(module_hooks(model, tracer.enter, tracer.leave))
        stack.enter_context(tracer)
        output = model(*args, **kwargs)
    return tracer, time.process_time() - start, output


def _explained(model: nn.Module, call: Call, error: Exception) -> InnerSightError:
    """Say what came and what to check when the model itself fails."""
    tensors = [x for x in tree_leaves(call) if isinstance(x, torch.Tensor)]
    came = ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in tensors) or "no tensor"
    devices = {p.device for p in model.parameters()}
    where = ", ".join(sorted(str(d) for d in devices))
    if any(p.is_meta for p in model.parameters()) and not isinstance(error, (TypeError, ValueError)):
        return TraceError(
            f"The model is on the meta device and its forward pass needs values ({type(error).__name__}: {error}). "
            "Trace it with real weights."
        )
    return InputError(
        f"The model failed on the input it was given ({came}; its parameters are on {where}): "
        f"{type(error).__name__}: {error}. "
        "Check the shape with its batch axis, the type and the device of data or example."
    )


def _finished(model: nn.Module, tracer: Tracer, output: Any, seconds: float) -> Trace:
    units = tuple(tracer.units.values())
    owner = np.full(tracer.sets.n_neurons, -1, dtype=np.int64)
    for position, unit in enumerate(units):
        owner[unit.first : unit.first + unit.width] = position
    shown: set[int] = set()
    for tensor in tree_leaves(output):
        labels = tracer.labels(tensor) if isinstance(tensor, torch.Tensor) else None
        if labels is not None:
            shown.update(torch.unique(labels).tolist())
    weights = {name: p for name, p in named_weights(model) if p.ndim >= 2}
    used = {name for unit in units for name in unit.parameters}
    coverage = Coverage(
        unknown_ops=dict(tracer.unknown),
        approximated=dict(tracer.approximated),
        unreached=tuple(sorted(set(weights) - tracer.touched)),
        unused=tuple(sorted((set(weights) & tracer.touched) - used)),
        data_dependent=tuple(tracer.data_reads),
        supersets=tuple(unit.name for unit in units if unit.superset),
        recurrent=_recurrent(units, tracer, owner),
        calls={unit.name: unit.calls for unit in units},
        outputs=tuple(units[p].name for p in _owners(tracer, shown, owner)),
        folded=_folded(tracer),
        n_ops=tracer.n_ops,
        n_sets=len(tracer.sets),
        label_bytes=tracer.memory.bytes_written,
        seconds=seconds,
    )
    roles = {n: next(iter(parts))[0] for n, parts in tracer.parts.items() if len({r for r, _ in parts}) == 1}
    heads = {n: min(h for _, h in tracer.parts[n]) for n in roles}
    points = {unit.name: _points(unit, tracer) for unit in units}
    odd = _odd(tracer) - set(coverage.outputs) - {name for pair in coverage.recurrent for name in pair}
    return Trace(units, tuple(tracer.inputs.values()), tracer.sets, points, roles, heads, coverage, frozenset(odd))


def _recurrent(units: tuple[Unit, ...], tracer: Tracer, owner: IntArray) -> tuple[tuple[str, str], ...]:
    """Find the pairs whose source is executed at or after the target."""
    pairs = []
    for position, unit in enumerate(units):
        ids = {i for feed in unit.feeds for i in torch.unique(feed.sources).tolist()}
        pairs += [(units[p].name, unit.name) for p in _owners(tracer, ids, owner) if p >= position]
    return tuple(pairs)


def _owners(tracer: Tracer, set_ids: Iterable[int], owner: IntArray) -> list[int]:
    """Return the numbers of the units that some sets name, ascending; inputs left out."""
    neurons = np.array(tracer.sets.neurons_of(set_ids), dtype=np.int64)
    # The last place counts neurons of inputs, whose owner is -1.
    found = np.zeros(owner.max(initial=-1) + 2, dtype=bool)
    found[owner[neurons]] = True
    return [int(p) for p in np.flatnonzero(found[:-1])]


def _points(unit: Unit, tracer: Tracer) -> dict[str, Closing]:
    """Return where the unit's own output, its normed output and its closing point can be read."""
    if not unit.chains:
        weights = (unit.weight_name, unit.weight_axis, unit.weight_start, unit.bias_name)
        return {"post_act": Closing("", 0, (), -1, None, False, "", 0, *weights)}
    steps, start = tracer.steps, unit.chains[0]
    own = [i for i, step in enumerate(steps) if step.chain == start]
    closing, hooked, exact = choose_step(steps, own)
    normed = [
        i
        for i in own
        if i != start and steps[i].operator.removeprefix("aten::") in NORMS and steps[i].parents == (start,)
    ]
    point = {"unit": _point(unit, tracer, start, start, True), "post_act": _point(unit, tracer, closing, hooked, exact)}
    point["post_norm"] = _point(unit, tracer, normed[0], normed[0], True) if normed else point["unit"]
    return point


def _point(unit: Unit, tracer: Tracer, number: int, hooked: int | None, exact: bool) -> Closing:
    """Turn a step into the record that a hook can use; a unit applied several times is closed at all its calls."""
    step = tracer.steps[number]
    seen = tracer.steps[hooked].seen if hooked is not None else []
    if unit.calls > 1:
        seen, exact = _shared_output(unit, tracer), exact and number == unit.chains[0]
    module, call, path, axis = seen[0] if seen else ("", 0, (), -1 if step.axis is None else step.axis)
    exact = exact and bool(seen)
    return Closing(
        module=module,
        call=call,
        path=path,
        axis=axis,
        rows=None,
        exact=exact,
        operator=step.operator,
        occurrence=step.occurrence,
        weight=unit.weight_name,
        weight_axis=unit.weight_axis,
        weight_start=unit.weight_start,
        bias=unit.bias_name,
        direct=exact and number == hooked,
        operator_axis=-1 if step.axis is None else step.axis,
    )


def _shared_output(unit: Unit, tracer: Tracer) -> list[tuple[str, int, tuple[int | str, ...], int]]:
    """Return the output of the unit's own module if all its calls are the unit's (call -1: every one)."""
    seen = [tracer.steps[chain].seen for chain in unit.chains]
    if not all(seen) or len({s[0][0] for s in seen}) != 1:
        return []
    module, _, path, axis = seen[0][0]
    return [(module, -1, path, axis)] if tracer.module_calls[module] == unit.calls else []


def _folded(tracer: Tracer) -> tuple[tuple[str, str], ...]:
    """Find units that feed another one with nothing non-linear between them."""
    pairs: dict[tuple[str, str], None] = {}
    for step, target in tracer.direct:
        chain = tracer.steps[step].chain
        between = line_between(tracer.steps, chain, step)
        linear = tracer.chain_unit[target].kind != "bilinear"
        if linear and all(s.operator.removeprefix("aten::").removesuffix("_") in LINEAR for s in between):
            pairs[tracer.chain_unit[chain].name, tracer.chain_unit[target].name] = None
    return tuple(pairs)


def _odd(tracer: Tracer) -> set[str]:
    """Find units whose neurons are read by other units alone, and only through odd functions: their sign is free.

    A weight in two roles cannot turn for one of them, whether it makes the neurons or reads them.
    """
    unit_of = [tracer.chain_unit[step.chain] for step in tracer.steps]
    uses = Counter(name for unit in tracer.units.values() for name in unit.parameters)
    single = {u.name for u in unit_of if u.calls == 1 and not u.superset and all(uses[p] == 1 for p in u.parameters)}
    uneven = {unit.name for unit, step in zip(unit_of, tracer.steps, strict=True) if step.elsewhere or not step.odd}
    readings = [(unit_of[step], tracer.chain_unit[target]) for step, target in tracer.direct]
    bound = {unit.name for unit, reader in readings if reader.kind not in _TURNED or reader.name not in single}
    return {unit.name for unit, _ in readings if unit.kind in _TURNED} & single - uneven - bound
