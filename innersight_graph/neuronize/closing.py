"""Where neurons are closed: after their own norm and activation, before the first add, concat or consumer.

While a model is traced, every tensor that still holds the neurons of one unit, one for one, is a step. The steps of a
unit
form a small directed graph from the unit's own output through its norm and activation; the closing point is the last
step that
everything downstream passes through.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from innersight_graph.errors import GraphSchemaError
from innersight_graph.files import MALFORMED, parse_json

__all__ = ["LINEAR", "Closing", "Step", "Steps", "choose_step", "line_between"]

# Maps of one neuron that are linear or affine: two units with nothing else between them are one linear map.
LINEAR = frozenset((
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm", "clone",
    "_to_copy", "mul", "div", "add", "sub", "neg", "native_dropout", "dropout", "alias",
))  # fmt: skip
# f(0) = 0: a neuron that is zero before one of these is zero after it.
KEEPS_ZERO = frozenset((
    "relu", "leaky_relu", "elu", "gelu", "silu", "mish", "tanh", "hardswish", "hardtanh", "softshrink",
    "hardshrink", "sin", "asinh", "atan", "erf", "sign", "abs", "neg", "_prelu_kernel", "prelu", "rrelu", "celu",
    "selu", "softsign", "relu6", "clone", "_to_copy", "detach", "mul", "div", "dropout", "alias", "square", "sqrt",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Closing:
    """The point of a model where the neurons of one layer are closed; `Layer.closing` holds it as text.

    Attributes
    ----------
    module : str
        Qualified name of the module whose output holds the neurons; ``""`` if no module's output does, or, if `exact`,
        the model itself.
    call : int
        Which call of that module within one forward pass, from 0 (a shared ReLU is called several times).
    path : tuple of int or str
        Where the tensor is in that output: ``()`` if the output is the tensor, else the keys into tuples and dicts.
    axis : int
        The axis of the tensor that numbers the neurons, the batch axis counted.
    rows : tuple of int or None
        Position of each neuron on that axis; None: neuron i stands at i (packed projections hold several layers).
    exact : bool
        True: zeroing the rows of that output is the same as zeroing them at the closing point. False: something that
        does
        not keep zeros lies between (a functional sigmoid), or no module's output holds the neurons; use ``operator``.
    operator : str
        The operator that computed the closing point, such as ``"aten::relu"``; always known.
    occurrence : int
        Which execution of that operator within one forward pass, from 0.
    weight : str
        Qualified name of the parameter whose rows are the neurons, for closing by weights; ``""`` if computed.
    weight_axis : int
        The axis of that parameter that numbers them (0 for Linear and Conv, 1 for transposed ones and embeddings).
    weight_start : int
        Neuron i of the layer is index ``weight_start + (rows[i] if rows else i)`` on that axis.
    bias : str
        Qualified name of the bias, ``""`` if none; numbered as the weight.
    direct : bool
        Whether the module's output is the closing point itself, so that it can be read there too; if only `exact`, a
        functional activation follows, and the output is right for closing but not for reading.
    operator_axis : int
        The axis of the operator's result that numbers the neurons, -1 if none does.
    """

    module: str
    call: int
    path: tuple[int | str, ...]
    axis: int
    rows: tuple[int, ...] | None
    exact: bool
    operator: str
    occurrence: int
    weight: str
    weight_axis: int
    weight_start: int
    bias: str
    direct: bool = False
    operator_axis: int = -1

    def __str__(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Closing:
        """Read the text that `Layer.closing` holds; GraphSchemaError for any other text.

        Examples
        --------
        >>> point = Closing("relu", 1, (), 1, None, True, "aten::relu", 1, "conv1.weight", 0, 0, "")
        >>> Closing.parse(str(point)) == point
        True
        """
        try:
            record = parse_json(text)
            rows = record["rows"]
            point = cls(**{**record, "path": tuple(record["path"]), "rows": None if rows is None else tuple(rows)})
            if not point._well_formed():
                raise TypeError("a field has a value of another type")
        except MALFORMED as error:
            raise GraphSchemaError(
                f"A layer's closing point is not one ({type(error).__name__}: {error}): {text[:80]!r}. Make the graph "
                "again with neuron_graph."
            ) from error
        return point

    def _well_formed(self) -> bool:
        """Whether every field is of its type; a graph file may hold anything, and names reach into the live model."""
        texts = (self.module, self.operator, self.weight, self.bias)
        numbers = (self.call, self.axis, self.occurrence, self.weight_axis, self.weight_start, self.operator_axis)
        rows = self.rows or ()
        return (
            all(isinstance(text, str) for text in texts)
            and all(type(number) is int for number in (*numbers, *rows))
            and min(self.call, self.operator_axis) >= -1
            and min((self.occurrence, self.weight_start, *rows)) >= 0
            and all(type(key) in (int, str) for key in self.path)
            and isinstance(self.exact, bool)
            and isinstance(self.direct, bool)
        )


@dataclass
class Step:
    """One tensor that holds the neurons of one unit, one for one.

    Attributes
    ----------
    chain : number of the unit's own output, the first step of this way.
    numel : elements of the tensor; a tensor with fewer shows only a part of the neurons.
    parents : steps it was computed from.
    axis : axis of the tensor that numbers the neurons; None if they do not stand on one in order.
    seen : module outputs that were this tensor: (module name, call, path, axis), innermost first.
    leaves : whether something that is not a step reads it.
    elsewhere : whether something that is neither a step nor a unit reads it.
    odd : whether it is an odd function of its parents.
    """

    chain: int
    operator: str
    occurrence: int
    numel: int
    parents: tuple[int, ...] = ()
    seen: list[tuple[str, int, tuple[int | str, ...], int]] = field(default_factory=list)
    axis: int | None = None
    leaves: bool = False
    elsewhere: bool = False
    odd: bool = True
    children: int = 0


class Steps(list[Step]):
    """All steps of one trace, numbered as they were executed."""

    def add(self, step: Step) -> int:
        """Append a step and return its number."""
        for parent in step.parents:
            self[parent].children += 1
        self.append(step)
        return len(self) - 1


def choose_step(steps: Steps, own: Iterable[int]) -> tuple[int, int | None, bool]:
    """Find the closing point among the steps of one call of a unit.

    Parameters
    ----------
    steps : Steps
    own : iterable of int
        The steps of the call, ascending; the first is the unit's own output.

    Returns
    -------
    closing : int
        The last step that everything downstream passes through.
    hooked : int or None
        The last step at or before it that is a module's output.
    exact : bool
        Whether only operators that keep zeros lie between the two.
    """
    order = list(own)
    above = _dominators(steps, order)
    ends = [i for i in order if steps[i].leaves or not steps[i].children]
    closing = _copied_from(steps, max(set.intersection(*(above[i] for i in ends))))
    line = sorted(above[closing], reverse=True)
    hooked = next((i for i in line if steps[i].seen), None)
    if hooked is None:
        return closing, None, False
    return closing, hooked, closing in _zeros_from(steps, hooked, closing)


def _copied_from(steps: Steps, number: int) -> int:
    """Return the module's output that this step only copies, if it does.

    A flatten copies where channels lie innermost in memory, and the same model must be closed at the same point there.
    """
    step = steps[number]
    while step.operator == "aten::clone" and len(step.parents) == 1 and steps[step.parents[0]].seen:
        number = step.parents[0]
        step = steps[number]
    return number


def _zeros_from(steps: Steps, start: int, end: int) -> set[int]:
    """Return the steps on the ways to `end` that are zero where step `start` is zero."""
    zeros = {start}
    for i in sorted(_between(steps, start, end)):
        name = steps[i].operator.removeprefix("aten::").removesuffix("_")
        known = [p in zeros for p in steps[i].parents]
        of_several = len(known) > 1 and name in ("add", "sub")
        if (name == "mul" and any(known)) or (all(known) and (of_several or name in KEEPS_ZERO)):
            zeros.add(i)
    return zeros


def line_between(steps: Steps, start: int, end: int) -> list[Step]:
    """Return the steps after `start` on the ways to `end`, `end` included."""
    return [steps[i] for i in sorted(_between(steps, start, end))]


def _dominators(steps: Steps, order: list[int]) -> dict[int, set[int]]:
    """Return for each step the steps that every way from the first one to it passes through, itself included."""
    above: dict[int, set[int]] = {}
    for i in order:
        parents = [above[p] for p in steps[i].parents if p in above]
        above[i] = {i} | (set.intersection(*parents) if parents else set())
    return above


def _between(steps: Steps, start: int, end: int) -> set[int]:
    """Return the steps after `start` that lie on a way to `end`, `end` included."""
    found: set[int] = set()
    waiting = [end] if end != start else []
    while waiting:
        i = waiting.pop()
        if i != start and i not in found:
            found.add(i)
            waiting.extend(steps[i].parents)
    return found
