"""Operators that hold neurons: they read the labels of their input channels and give fresh ones to their neurons."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from innersight_graph.neuronize.attention import contract
from innersight_graph.neuronize.passing import move, without_neurons
from innersight_graph.neuronize.planes import group, union
from innersight_graph.neuronize.record import Feed, InputNeurons, Unit
from innersight_graph.neuronize.tracer import Op, Tracer

__all__ = ["convolution", "embedding", "grouped_mm", "linear", "lookup", "matmul", "recurrent", "trilinear"]


def convolution(tracer: Tracer, op: Op) -> None:
    """Convolutions of any dimension, transposed, grouped, dilated; also fixed filters, which pass neurons."""
    x, weight = op.arg("input"), op.arg("weight")
    transposed, groups = bool(op.arg("transposed")), int(op.arg("groups"))
    names = tracer.weight_of(weight)
    own = _transposed_kernels(weight, groups) if transposed else weight
    if not names:
        _fixed_filter(tracer, op, x, weight, own, groups)
        return
    axes = [d for d in range(x.ndim) if d != 1]
    unit = _unit(tracer, names, weight, own, "conv")
    if transposed and groups > 1 and tuple(weight.shape[:2]) != (groups, 1):
        # No single axis of the weight numbers the neurons, so they cannot be closed by it.
        unit.weight_name = ""
    _feed(tracer, unit, Feed(own, groups, _sources(tracer, x, axes, own.shape[1] * groups)))
    _emit(tracer, op, unit, axis=1)


def _transposed_kernels(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Put the neurons of a transposed convolution's weight (in, out / groups, *kernel) first."""
    if groups == 1:
        return weight.transpose(0, 1)
    parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return parts.transpose(1, 2).reshape(weight.shape[1] * groups, weight.shape[0] // groups, *weight.shape[2:])


def _fixed_filter(
    tracer: Tracer, op: Op, x: torch.Tensor, weight: torch.Tensor, own: torch.Tensor, groups: int
) -> None:
    """Pass neurons through a convolution whose kernel is no parameter (a blur, or computed from data)."""
    if without_neurons(tracer, op):
        return
    axes = [d for d in range(x.ndim) if d != 1]
    out = op.outs[0]
    width, local = own.shape[0], own.shape[1]
    sources = _sources(tracer, x, axes, local * groups).tolist()
    kernel_labels = tracer.labels(weight)
    if kernel_labels is not None:
        tracer.approximated[op.full_name] += 1
        steer = int(group(tracer.sets, kernel_labels.reshape(-1), [0]).item())
        present = torch.ones(width, local, dtype=torch.bool)
    else:
        steer = 0
        present = torch.ones(width, local, dtype=torch.bool) if own.is_meta else own.flatten(2).ne(0).any(dim=2).cpu()
    merged = []
    for q in range(width):
        first = q // (width // groups) * local
        merged.append(tracer.sets.union([steer, *(sources[first + i] for i in range(local) if present[q, i])]))
    shape = [1] * out.ndim
    shape[1] = width
    tracer.memory.write(out, torch.tensor(merged, dtype=torch.int32).reshape(shape))


def linear(tracer: Tracer, op: Op) -> None:
    """Treat a linear map that dispatch kept whole: x @ weight.T."""
    x, weight = op.ins[0], op.ins[1]
    names = tracer.weight_of(weight)
    if not names:
        contract(tracer, op, x, weight.transpose(-1, -2))
        return
    unit = _unit(tracer, names, weight, weight, "linear")
    _feed(tracer, unit, Feed(weight, 1, _sources(tracer, x, list(range(x.ndim - 1)), weight.shape[1])))
    _emit(tracer, op, unit, axis=-1)


def matmul(tracer: Tracer, op: Op) -> None:
    """Matrix products: with a weight on one side, a linear layer; with data on both, a contraction."""
    left, right = (x for x in _operands(op))
    left_names, right_names = tracer.weight_of(left), tracer.weight_of(right)
    if right_names and tracer.is_chosen(right):
        _chosen_product(tracer, op, left, right, right_names, left=False)
    elif left_names and tracer.is_chosen(left):
        _chosen_product(tracer, op, right, left, left_names, left=True)
    elif right_names and _applies(tracer, left, right_names, left_names):
        _linear_right(tracer, op, left, right, right_names)
    elif left_names and _applies(tracer, right, left_names, right_names):
        _linear_left(tracer, op, left, right, left_names)
    elif not without_neurons(tracer, op):
        contract(tracer, op, left, right)


def _operands(op: Op) -> Sequence[torch.Tensor]:
    added = op.name in ("addmm", "baddbmm", "addmv", "addbmm")
    pair: Sequence[torch.Tensor] = op.ins[1:3] if added and len(op.ins) == 3 else op.ins[:2]
    return pair


def _applies(tracer: Tracer, x: torch.Tensor, names: frozenset[str], own: frozenset[str]) -> bool:
    """Tell a layer applied to something from a weight being computed (spectral norm, merged low-rank updates).

    Data decide at once. A product of parameters and constants is a layer only if the running module owns the weight and
    what it is applied to comes from elsewhere (learned queries, tables of positions).
    """
    if tracer.inputs_of(x) or tracer.labels(x) is not None:
        return True
    if not tracer.modules:
        return False
    name, module = tracer.modules[-1]
    prefix = f"{name}." if name else ""
    owned = {prefix + key for key, _ in module.named_parameters(recurse=False)}
    return bool(names & owned) and not own & owned


def _linear_right(tracer: Tracer, op: Op, x: torch.Tensor, weight: torch.Tensor, names: frozenset[str]) -> None:
    """X (…, n, k) @ weight (…, k, m): neurons are columns."""
    if weight.ndim == 3 and weight.shape[0] > 1 and weight.stride(0) != 0:
        _batched(tracer, op, x, weight.transpose(1, 2), names, neurons_last=True)
        return
    flat = weight[0] if weight.ndim == 3 else weight
    own = flat.t() if flat.ndim == 2 else flat.unsqueeze(0)
    unit = _unit(tracer, names, flat, own, "linear")
    _feed(tracer, unit, Feed(own, 1, _sources(tracer, x, list(range(x.ndim - 1)), own.shape[1])))
    _emit(tracer, op, unit, axis=-1 if flat.ndim == 2 else None)


def _linear_left(tracer: Tracer, op: Op, weight: torch.Tensor, x: torch.Tensor, names: frozenset[str]) -> None:
    """Weight (…, m, k) @ x (…, k, n): neurons are rows."""
    if weight.ndim == 3 and weight.shape[0] > 1 and weight.stride(0) != 0:
        _batched(tracer, op, x.transpose(1, 2), weight, names, neurons_last=False)
        return
    own = weight[0] if weight.ndim == 3 else weight
    if own.ndim == 1:
        own = own.unsqueeze(0)
    channel = x.ndim - 2 if x.ndim > 1 else 0
    unit = _unit(tracer, names, own, own, "linear")
    _feed(tracer, unit, Feed(own, 1, _sources(tracer, x, [d for d in range(x.ndim) if d != channel], own.shape[1])))
    _emit(tracer, op, unit, axis=(-2 if x.ndim > 1 else -1) if op.outs[0].ndim else None)


def _batched(
    tracer: Tracer, op: Op, x: torch.Tensor, weight: torch.Tensor, names: frozenset[str], *, neurons_last: bool
) -> None:
    """One linear map per entry of the batch axis: x (E, n, k), weight (E, m, k), E * m neurons."""
    n_maps, m, k = weight.shape
    out = op.outs[0]
    own = weight.reshape(n_maps * m, k)
    unit = _unit(tracer, names, weight, own, "linear")
    labels = tracer.labels(x)
    sources = (
        torch.zeros(n_maps * k, dtype=torch.int32) if labels is None else group(tracer.sets, labels, [1]).reshape(-1)
    )
    _feed(tracer, unit, Feed(own, n_maps, sources.contiguous()))
    ids = torch.arange(unit.first_id, unit.first_id + unit.width, dtype=torch.int32).reshape(n_maps, m)
    tracer.memory.write(out, ids.unsqueeze(1 if neurons_last else 2))
    tracer.start_chain(unit, op)


def grouped_mm(tracer: Tracer, op: Op) -> None:
    """Treat x (tokens, k) @ weight (experts, k, m), routed by data: every expert may get every token, a superset."""
    x, weight = op.ins[0], op.ins[1]
    names = tracer.weight_of(weight)
    if names and weight.ndim == 3:
        sources = _sources(tracer, x, list(range(x.ndim - 1)), weight.shape[1])
        _experts(tracer, op, names, weight, weight.transpose(1, 2), sources, axis=-1)
    elif not without_neurons(tracer, op):
        contract(tracer, op, x, weight[0] if weight.ndim == 3 else weight)


def _chosen_product(
    tracer: Tracer, op: Op, x: torch.Tensor, weight: torch.Tensor, names: frozenset[str], *, left: bool
) -> None:
    """Product with weights that the data picked out of a parameter (experts, k, m): all its experts are neurons."""
    parameter = tracer.parameters.get(_name(tracer, names)[1])
    fits = parameter is not None and parameter.ndim == 3 and weight.ndim == 3
    turned = fits and parameter is not None and (weight.shape[1:] != parameter.shape[1:] or weight.stride(-1) != 1)
    if parameter is None or not fits or (turned and weight.shape[1:] != parameter.transpose(1, 2).shape[1:]):
        tracer.unknown[op.full_name] += 1
        tracer.memory.write(op.outs[0], tracer.everything(op.ins).expand(op.outs[0].shape))
        return
    used = parameter.transpose(1, 2) if turned else parameter
    own = used if left else used.transpose(1, 2)
    channel = x.ndim - 2 if left else x.ndim - 1
    sources = _sources(tracer, x, [d for d in range(x.ndim) if d != channel], own.shape[2])
    _experts(tracer, op, names, parameter, own, sources, axis=-2 if left else -1)


def _experts(
    tracer: Tracer,
    op: Op,
    names: frozenset[str],
    weight: torch.Tensor,
    own: torch.Tensor,
    sources: torch.Tensor,
    axis: int,
) -> None:
    """Label each of the m results of experts (own: experts, m, k) as the neuron of any expert."""
    n_experts, m, k = own.shape
    unit = _unit(tracer, names, weight, own.reshape(n_experts * m, k), "experts")
    unit.superset = True
    unit.calls += 1
    _feed(tracer, unit, Feed(own.reshape(n_experts * m, k), n_experts, _expert_sources(tracer, sources, n_experts)))
    ids = torch.arange(unit.first_id, unit.first_id + unit.width, dtype=torch.int32).reshape(n_experts, m)
    shape = [1] * op.outs[0].ndim
    shape[axis] = m
    tracer.memory.write(op.outs[0], group(tracer.sets, ids, [0]).reshape(shape))


def _expert_sources(tracer: Tracer, sources: torch.Tensor, n_experts: int) -> torch.Tensor:
    """Give every expert's channels their producers, of another layer of experts only those of the same expert."""
    units = {unit.first: unit for unit in tracer.units.values() if unit.kind == "experts"}
    result = []
    for expert in range(n_experts):
        for set_id in sources.tolist():
            kept = set_id
            neurons = tracer.sets.values(set_id)
            if neurons and all(any(u.first <= n < u.first + u.width for u in units.values()) for n in neurons):
                kept = _of_expert(tracer, neurons, expert, n_experts, units)
            result.append(kept)
    return torch.tensor(result, dtype=torch.int32)


def _of_expert(tracer: Tracer, neurons: Sequence[int], expert: int, n_experts: int, units: dict[int, Unit]) -> int:
    ids: list[int] = []
    for unit in units.values():
        size = unit.width // n_experts
        low = unit.first + expert * size
        ids.extend(unit.first_id + n - unit.first for n in neurons if low <= n < low + size)
    return tracer.sets.union(ids)


def lookup(tracer: Tracer, op: Op) -> None:
    """Rows of a matrix picked by integers of the data are an embedding; everything else that is indexed moves."""
    weight, indices = op.ins[0], op.ins[-1]
    rows = weight.ndim == 2 and len(op.ins) == 2 and op.outs[0].shape == (*indices.shape, weight.shape[1])
    table = rows and any("bias" not in name for name in tracer.weight_of(weight))
    if table and tracer.inputs_of(indices) and not indices.is_floating_point():
        _embed(tracer, op, weight, indices)
    else:
        move(tracer, op)


def embedding(tracer: Tracer, op: Op) -> None:
    """Treat a table looked up by integers: a linear map of one-hot tokens, neurons are columns."""
    _embed(tracer, op, op.ins[0], op.ins[1])


def _embed(tracer: Tracer, op: Op, weight: torch.Tensor, indices: torch.Tensor) -> None:
    names = tracer.weight_of(weight)
    if not names:
        if not without_neurons(tracer, op):
            labels = tracer.labels(weight)
            assert labels is not None
            tracer.memory.write(op.outs[0], group(tracer.sets, labels, [0])[0].expand(op.outs[0].shape))
        return
    own = weight.t()
    unit = _unit(tracer, names, weight, own, "embedding")
    sources = torch.zeros(own.shape[1], dtype=torch.int32)
    for name in sorted(tracer.inputs_of(indices)):
        sources = union(tracer.sets, sources, _token_ids(tracer, name, own.shape[1]))
    _feed(tracer, unit, Feed(own, 1, sources))
    _emit(tracer, op, unit, axis=-1)


def _token_ids(tracer: Tracer, name: str, count: int) -> torch.Tensor:
    """Return the set ids of an integer input's neurons: one per token of the vocabulary."""
    neurons = tracer.inputs.get((name, count))
    if neurons is None:
        neurons = tracer.inputs[name, count] = InputNeurons(name, tracer.sets.n_neurons, (count,), tokens=True)
        tracer.token_ids[name, count] = tracer.sets.new_neurons(count)
    first_id = tracer.token_ids[name, count]
    return torch.arange(first_id, first_id + count, dtype=torch.int32)


def trilinear(tracer: Tracer, op: Op) -> None:
    """Treat a bilinear layer (m, k1, k2) as two feeds: for each input the other one's axis is like a kernel's."""
    first, weight, second = op.ins[:3]
    names = tracer.weight_of(weight)
    if not names:
        tracer.unknown[op.full_name] += 1
        tracer.memory.write(op.outs[0], tracer.everything(op.ins).expand(op.outs[0].shape))
        return
    unit = _unit(tracer, names, weight, weight, "bilinear")
    for x, own in ((first, weight), (second, weight.transpose(1, 2))):
        _feed(tracer, unit, Feed(own, 1, _sources(tracer, x, list(range(x.ndim - 1)), own.shape[1])))
    _emit(tracer, op, unit, axis=-1)


def recurrent(tracer: Tracer, op: Op) -> None:
    """One direction of one LSTM layer in a single operator: input rows and hidden rows of four gates, summed."""
    x, to_input, to_hidden = op.ins[:3]
    hidden = int(op.arg("hidden_size"))
    units = []
    for weight in (to_input, to_hidden):
        names = tracer.weight_of(weight)
        unit = _unit(tracer, names, weight, weight, "linear")
        unit.calls += 1
        unit.positions = tuple(op.outs[0].shape[:1])
        units.append(unit)
    first = torch.zeros(hidden, dtype=torch.int32)
    for unit in units:
        rows = torch.arange(unit.first_id, unit.first_id + unit.width, dtype=torch.int32).reshape(-1, hidden)
        first = union(tracer.sets, first, group(tracer.sets, rows, [0])[0])
    state = first
    for name in ("hx_", "cx_"):
        start = op.arg(name)
        if isinstance(start, torch.Tensor) and tracer.labels(start) is not None:
            state = union(tracer.sets, state, _sources(tracer, start, list(range(start.ndim - 1)), hidden))
    _feed(tracer, units[0], Feed(to_input, 1, _sources(tracer, x, list(range(x.ndim - 1)), to_input.shape[1])))
    _feed(tracer, units[1], Feed(to_hidden, 1, state.contiguous()))
    for out in op.outs[:3]:
        tracer.memory.write(out, state.expand(out.shape))


# --- units -----------------------------------------------------------------------------------------------------------


def _sources(tracer: Tracer, x: torch.Tensor, axes: Sequence[int], n_channels: int) -> torch.Tensor:
    """Return one set id per input channel: everything that feeds it, anywhere on the other axes."""
    labels = tracer.labels(x)
    if labels is None:
        return torch.zeros(n_channels, dtype=torch.int32)
    return group(tracer.sets, labels, axes).reshape(-1).contiguous()


def _unit(tracer: Tracer, names: frozenset[str], weight: torch.Tensor, own: torch.Tensor, kind: str) -> Unit:
    """Return the unit of a weight, made at its first use; the same memory read the same way is the same unit.

    `own` is the weight with its neurons first.
    """
    key = (
        names,
        kind == "embedding",
        weight.storage_offset(),
        tuple(own.shape),
        tuple(weight.shape),
        tuple(weight.stride()),
    )
    unit = tracer.units.get(key)
    if unit is None:
        name, weight_name, bias_name = _name(tracer, names)
        taken = {u.name for u in tracer.units.values()}
        unique, n = name, 2
        while unique in taken:
            unique, n = f"{name}@{n}", n + 1
        width, first = own.shape[0], tracer.sets.n_neurons
        first_id = tracer.sets.new_neurons(width)
        aliases = tuple(sorted(n for n in names if _owner(n) != name)) if weight_name else ()
        place = _place(tracer.parameters[weight_name], own, kind) if weight_name else (0, 0)
        unit = Unit(unique, kind, width, first_id, first, tuple(sorted(names)), aliases, weight_name, *place, bias_name)
        tracer.units[key] = unit
    return unit


def _place(parameter: torch.Tensor, own: torch.Tensor, kind: str) -> tuple[int, int]:
    """Return the axis of a parameter that numbers the neurons of a view of it, and where they start on it."""
    if own.untyped_storage()._cdata != parameter.untyped_storage()._cdata or kind == "experts" or own.ndim < 2:
        return (1 if own.shape[0] != parameter.shape[0] and parameter.ndim > 1 else 0), 0
    step = int(own.stride(0))
    axis = next(
        (d for d in range(parameter.ndim) if parameter.stride(d) == step and parameter.shape[d] >= own.shape[0]), 0
    )
    return axis, int(own.storage_offset() - parameter.storage_offset()) // max(step, 1) % parameter.shape[axis]


def _feed(tracer: Tracer, unit: Unit, feed: Feed) -> None:
    """Add a feed to a unit, merged with the one of an earlier call."""
    for known in unit.feeds:
        same = known.groups == feed.groups and known.weight.shape == feed.weight.shape
        if same and known.weight.stride() == feed.weight.stride() and unit.calls:
            known.sources = union(tracer.sets, known.sources, feed.sources).contiguous()
            return
    unit.feeds.append(feed)


def _emit(tracer: Tracer, op: Op, unit: Unit, axis: int | None) -> None:
    """Label the result with the unit's neurons along an axis (None: a single number)."""
    out = op.outs[0]
    ids = torch.arange(unit.first_id, unit.first_id + unit.width, dtype=torch.int32)
    if axis is not None:
        shape = [1] * out.ndim
        shape[axis] = unit.width
        ids = ids.reshape(shape)
        rest = [s for d, s in enumerate(out.shape) if d != axis % out.ndim]
    else:
        ids, rest = (ids.reshape(()), []) if out.ndim == 0 else (ids[:1], list(out.shape))
    tracer.memory.write(out, ids.expand(out.shape))
    if not unit.calls:
        batch = 1 if unit.kind == "conv" or (rest and rest[0] == 1) else 0
        unit.positions = tuple(rest[batch:])
    unit.calls += 1
    tracer.start_chain(unit, op)


def _owner(parameter: str) -> str:
    """Return the module that a parameter's name belongs to, as users know it."""
    parts = parameter.split(".")
    if "parametrizations" in parts:
        return ".".join(parts[: parts.index("parametrizations")])
    *owner, leaf = parts
    if leaf in ("weight", "weight_v", "weight_g", "weight_orig", "weight_mask"):
        return ".".join(owner) or leaf
    if leaf.startswith("weight_"):
        return ".".join([*owner, leaf.removeprefix("weight_")])
    return ".".join([*owner, leaf.removesuffix("_weight")])


def _name(tracer: Tracer, names: frozenset[str]) -> tuple[str, str, str]:
    """Return a unit's name, its weight's name ("" if computed from several parameters) and its bias's name.

    Of several names of one weight the running module's own comes first, then the shortest.
    """
    running = tracer.where
    ranked = sorted(names, key=lambda n: (_owner(n) != running, not n.startswith(running), len(n), n))
    best = ranked[0]
    storages = {tracer.storage_of[n] for n in names}
    parent, _, leaf = best.rpartition(".")
    bias = f"{parent}.{leaf.replace('weight', 'bias')}" if parent else leaf.replace("weight", "bias")
    bias = bias if "weight" in leaf and bias in tracer.storage_of else ""
    return _owner(best), best if len(storages) == 1 else "", bias
