"""The tracer: a dispatch mode that lets neuron labels travel with the model's own memory through one forward pass.

Views need no rule (labels lie beside the memory, see `planes`). Operators that allocate get one: learnable ones end
the labels of
their input channels and give fresh ones to their neurons (`learnable`), all others say how labels pass (`passing`,
`attention`). A weight is known by its storage, and a tensor computed from parameters alone stays a weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from innersight_graph.errors import TraceError
from innersight_graph.neuronize.closing import Step, Steps
from innersight_graph.neuronize.planes import Memory, Score, group
from innersight_graph.neuronize.record import InputNeurons, Unit
from innersight_graph.neuronize.sets import NeuronSets

__all__ = ["Op", "Tracer"]


class Op:
    """One executed operator: its name without overload and trailing underscore, its arguments, its results."""

    def __init__(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.full_name: str = func._schema.name
        base = self.full_name.split("::")[-1]
        self.in_place = base.endswith("_") and not base.endswith("__")
        self.name = base.rstrip("_") if self.in_place else base
        self.ins = _tensors((*args, *kwargs.values()))
        self.outs = _tensors((result,))
        self.result = result

    def arg(self, name: str, default: Any = None) -> Any:
        """Return an argument by its name in the operator's schema."""
        if name in self.kwargs:
            return self.kwargs[name]
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                return argument.default_value if argument.has_default_value() else default
        return default

    @property
    def is_view(self) -> bool:
        """Whether every result is memory of an argument that the operator does not write."""
        if self.func._schema.is_mutable or not self.outs:
            return False
        memory = {x.untyped_storage()._cdata for x in self.ins}
        return all(x.untyped_storage()._cdata in memory for x in self.outs)


class Rules(Protocol):
    """What the tracer asks about operators."""

    def rule_for(self, op: Op) -> Callable[[Tracer, Op], None] | None:
        """Return the rule of an operator, or None if it is unknown."""

    def is_norm(self, op: Op) -> bool:
        """Tell whether an operator normalises its first argument."""

    def is_pointwise(self, op: Op) -> bool:
        """Tell whether an operator works element by element."""

    def is_odd(self, tracer: Tracer, op: Op, own: Sequence[torch.Tensor]) -> bool:
        """Tell whether an operator's result is an odd function of some of its arguments."""


class Tracer(TorchDispatchMode):
    """Follow one forward pass; the attributes are what it found.

    Parameters
    ----------
    parameters : iterable of (qualified name, tensor)
        All names of all parameters, tied ones included.
    rules : Rules
        How labels pass through operators; the module `rules` is one.
    """

    def __init__(self, parameters: Iterable[tuple[str, torch.Tensor]], rules: Rules) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rules = rules
        self.sets = NeuronSets()
        self.memory = Memory(self.sets)
        self.units: dict[Any, Unit] = {}
        self.inputs: dict[tuple[str, int], InputNeurons] = {}
        self.token_ids: dict[tuple[str, int], int] = {}
        self.parameters = dict(parameters)
        self.storage_of: dict[str, int] = {}
        self.steps = Steps()
        self.chain_unit: dict[int, Unit] = {}
        self.direct: list[tuple[int, int]] = []
        self.modules: list[tuple[str, torch.nn.Module]] = []
        self.module_calls: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.approximated: Counter[str] = Counter()
        self.data_reads: dict[str, None] = {}
        self.parts: dict[int, set[tuple[str, int]]] = {}
        self.touched: set[str] = set()
        self._executed: Counter[str] = Counter()
        self.n_ops = 0
        by_storage: dict[int, list[str]] = {}
        for name, tensor in self.parameters.items():
            self.storage_of[name] = tensor.untyped_storage()._cdata
            by_storage.setdefault(self.storage_of[name], []).append(name)
        for tensor in self.parameters.values():
            self.memory.cell(tensor).params = frozenset(by_storage[tensor.untyped_storage()._cdata])

    # --- the model's surroundings -------------------------------------------------------------------------------------

    def enter(self, name: str, module: torch.nn.Module) -> None:
        """Note that a module starts."""
        self.modules.append((name, module))

    def leave(self, name: str, output: Any) -> None:
        """Note that a module ends, and which steps its output shows."""
        while self.modules and self.modules.pop()[0] != name:
            continue
        call = self.module_calls[name]
        self.module_calls[name] += 1
        # The tracer's own reading of labels must not be traced.
        with _disable_current_modes():
            for path, tensor in _tensors_in(output):
                cell = self.memory.find(tensor)
                if cell is None or cell.node is None:
                    continue
                step = self.steps[cell.node]
                axis = self._neuron_axis(tensor, cell.node) if tensor.numel() == step.numel else None
                if axis is not None:
                    step.seen.append((name, call, path, axis))

    @property
    def where(self) -> str:
        """Qualified name of the module that is running."""
        return self.modules[-1][0] if self.modules else ""

    def add_input(self, name: str, tensor: torch.Tensor) -> None:
        """Make every element of a floating-point input a neuron; integers become neurons when they are looked up."""
        self.memory.cell(tensor).inputs = frozenset([name])
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return
        shape = tuple(tensor.shape)
        neurons = self.inputs[name, 0] = InputNeurons(name, self.sets.n_neurons, shape)
        first_id = self.sets.new_neurons(neurons.count)
        labels = torch.arange(first_id, first_id + neurons.count, dtype=torch.int32).reshape(shape)
        self.memory.write(tensor, labels)

    # --- one operator ------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.n_ops += 1
        op = Op(func, args, kwargs or {}, result)
        if any(self.memory.find(x) is not None for x in op.ins):
            self._follow(op)
        return result

    def _follow(self, op: Op) -> None:
        cells = [cell for cell in map(self.memory.find, op.ins) if cell is not None]
        for cell in cells:
            self.touched |= cell.params
        if op.is_view:
            return
        inputs = frozenset[str]().union(*(cell.inputs for cell in cells))
        if not op.outs:
            if inputs and op.name in ("_local_scalar_dense", "equal", "is_nonzero", "item"):
                self.data_reads[self.where] = None
            return
        if inputs and op.name in _DYNAMIC:
            self._refuse_dynamic(op)
        self._executed[op.full_name] += 1
        before = [
            (x, cell.node) for x, cell in ((x, self.memory.find(x)) for x in op.ins) if cell and cell.node is not None
        ]
        labelled = any(self.memory.labels(x) is not None for x in op.ins)
        rule = self._rules.rule_for(op)
        if rule is None:
            self.pass_constant(op) if not labelled else self._pass_unknown(op)
        else:
            rule(self, op)
        for out in op.outs if inputs else ():
            cell = self.memory.cell(out)
            if not cell.chosen:
                cell.inputs |= inputs
        self._note_step(op, before)

    def pass_constant(self, op: Op) -> None:
        """Results of an operator without neurons: computed from parameters alone they remain a weight.

        A weight that integers of the data picked out of a larger one remains a weight too, but a chosen one.
        """
        cells = [cell for cell in map(self.memory.find, op.ins) if cell is not None]
        params = frozenset[str]().union(*(cell.params for cell in cells))
        from_data = any(self.inputs_of(x) for x in floats(op.ins))
        chosen = any(cell.chosen or cell.inputs for cell in cells)
        for out in op.outs:
            self.memory.write(out, None)
            if params and not from_data and (out.is_floating_point() or out.is_complex()):
                self.memory.cell(out).params |= params
                self.memory.cell(out).chosen |= chosen

    def _pass_unknown(self, op: Op) -> None:
        self.unknown[op.full_name] += 1
        sources = [x for x in op.ins if self.memory.labels(x) is not None]
        for out in floats(op.outs):
            same = [x for x in sources if x.shape == out.shape]
            if len(sources) == 1 and same:
                self.memory.share(out, same[0])
            else:
                self.memory.write(out, self.everything(sources).expand(out.shape))

    def _refuse_dynamic(self, op: Op) -> None:
        mask = op.name != "index" or any(
            x is not None and x.dtype in (torch.bool, torch.uint8) and self.inputs_of(x) for x in op.arg("indices", ())
        )
        if mask:
            raise TraceError(
                f"In module {self.where or '(the model itself)'!r}, {op.full_name} makes a tensor whose shape "
                f"depends on the data, so the "
                "neurons that feed the next layer differ from sample to sample and one graph would be wrong. "
                "Export a part of the model before or after it, or replace it by a mask of fixed shape."
            )

    # --- what rules ask and tell -------------------------------------------------------------------------------------

    def labels(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        """Return a tensor's labels, or None."""
        return None if tensor is None else self.memory.labels(tensor)

    def inputs_of(self, tensor: torch.Tensor) -> frozenset[str]:
        """Return the names of the model inputs that a tensor's values depend on."""
        cell = self.memory.find(tensor)
        return frozenset() if cell is None else cell.inputs

    def weight_of(self, tensor: Any) -> frozenset[str]:
        """Return the names of the parameters a tensor was computed from alone, empty if it is not a weight."""
        if not isinstance(tensor, torch.Tensor):
            return frozenset()
        cell = self.memory.find(tensor)
        return frozenset() if cell is None or cell.plane is not None or cell.inputs else cell.params

    def is_chosen(self, tensor: torch.Tensor) -> bool:
        """Tell whether the data chose which part of its parameters a weight is."""
        cell = self.memory.find(tensor)
        return cell is not None and cell.chosen

    def score_of(self, tensor: torch.Tensor) -> Score | None:
        """Return what a tensor of attention scores was made of."""
        cell = self.memory.find(tensor)
        return None if cell is None else cell.score

    def everything(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return one label for all neurons of some tensors: the superset that an unknown operator gets."""
        found = {0}
        for source in sources:
            labels = self.labels(source)
            if labels is not None:
                found.add(int(group(self.sets, labels.reshape(-1), [0]).item()))
        return torch.tensor(self.sets.union(found), dtype=torch.int32)

    def start_chain(self, unit: Unit, op: Op) -> None:
        """Make the operator's result the first step towards a unit's closing point."""
        out = op.outs[0]
        number = self.steps.add(Step(len(self.steps), op.full_name, self._executed[op.full_name] - 1, out.numel()))
        self.chain_unit[number] = unit
        unit.chains.append(number)
        self.memory.cell(out).node = number
        self.steps[number].axis = self._neuron_axis(out, number)

    def _note_step(self, op: Op, before: Sequence[tuple[torch.Tensor, int]]) -> None:
        """Continue the way to a closing point, or note that something else reads the step."""
        if not before:
            return
        parents = tuple(dict.fromkeys(number for _, number in before))
        first = self.steps[parents[0]]
        out = self.memory.cell(op.outs[0])
        fresh = out.node is not None and out.node not in parents
        same_chain = all(self.steps[p].chain == first.chain for p in parents)
        whole = all(x.numel() == first.numel for x, _ in before) and op.outs[0].numel() == first.numel
        if same_chain and whole and not fresh and self._own(op, {id(x) for x, _ in before}, first):
            occurrence = self._executed[op.full_name] - 1
            out.node = self.steps.add(Step(first.chain, op.full_name, occurrence, first.numel, parents))
            self.steps[out.node].odd = self._rules.is_odd(self, op, [x for x, _ in before])
            self.steps[out.node].axis = self._neuron_axis(op.outs[0], out.node)
            return
        for parent in parents:
            self.steps[parent].leaves = True
            if fresh and out.node is not None:
                self.direct.append((parent, out.node))
            else:
                self.steps[parent].elsewhere = True
        if op.func._schema.is_mutable and not fresh:
            out.node = None

    def _own(self, op: Op, known: set[int], first: Step) -> bool:
        """Tell whether an operator is a norm, an activation or the like that concerns the unit's neurons alone."""
        if self._rules.is_norm(op):
            self._note_batch_norm(op, first)
            return True
        width = self.chain_unit[first.chain].width
        others = [x for x in op.ins if id(x) not in known]
        return self._rules.is_pointwise(op) and all(x.numel() <= width and not self.inputs_of(x) for x in others)

    def _note_batch_norm(self, op: Op, first: Step) -> None:
        """Keep the factors of a batch-norm on the unit's own output, so that they can be folded into its weights."""
        variance, gain = op.arg("running_var"), op.arg("weight")
        unit = self.chain_unit[first.chain]
        direct = first is self.steps[first.chain] and not op.arg("training", False)
        if direct and isinstance(variance, torch.Tensor) and variance.numel() == unit.width:
            epsilon = op.arg("eps", op.arg("epsilon", 0.0))
            scale = torch.rsqrt(variance.detach() + epsilon)
            unit.norm_scale = scale if gain is None else scale * gain.detach()

    def _neuron_axis(self, tensor: torch.Tensor, node: int) -> int | None:
        """Find the axis of a step's tensor along which the labels are the unit's neurons in order."""
        labels = self.memory.labels(tensor)
        unit = self.chain_unit[self.steps[node].chain]
        if labels is None or 0 in tensor.shape:
            return None
        wanted = torch.arange(unit.first_id, unit.first_id + unit.width, dtype=torch.int32)
        for axis in range(tensor.ndim):
            line = labels[tuple(slice(None) if d == axis else 0 for d in range(tensor.ndim))]
            if torch.equal(line, wanted):
                return axis
        return None


_DYNAMIC = frozenset(
    ["nonzero", "masked_select", "unique_consecutive", "unique_dim", "_unique", "_unique2", "index", "nonzero_numpy"]
)


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """Return the tensors among an operator's arguments or results, which nest in lists and tuples only."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(_tensors(value))
    return found


def floats(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors that can carry neurons: numbers, not positions or truth values."""
    return [x for x in tensors if x.is_floating_point() or x.is_complex()]


def _tensors_in(output: Any) -> list[tuple[tuple[int | str, ...], torch.Tensor]]:
    """Return all tensors of a module's output with the keys that lead to them."""
    if isinstance(output, torch.Tensor):
        return [((), output)]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(output, dict):
        items = output.items()
    elif isinstance(output, (list, tuple)):
        items = enumerate(output)
    return [((key, *path), x) for key, value in items for path, x in _tensors_in(value)]
