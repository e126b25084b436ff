"""Read neurons while data stream through the model: by hooks where a module shows them, else by operators."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from innersight_graph.errors import InputError, TraceError
from innersight_graph.neuronize.closing import Closing
from innersight_graph.neuronize.inputs import Call, batches, named_tensors
from innersight_graph.neuronize.quiet import undisturbed
from innersight_graph.probe.session import hooked

__all__ = ["Maps", "observe"]

Maps = dict[str, torch.Tensor]
IntArray = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


def observe(
    model: nn.Module,
    data: Any,
    points: Mapping[str, Closing],
    consume: Callable[[Maps, int], None],
    *,
    inputs: Mapping[str, IntArray] | None = None,
    samples_per_pass: int | None = None,
    progress: bool = False,
) -> int:
    """Run the model over some data and hand over what the neurons do.

    Parameters
    ----------
    points : mapping from a name to Closing
        Where to read.
    consume : callable
        Called after each pass with {name: float32 tensor (samples, neurons, positions)} and the number of samples.
    inputs : mapping from an input layer's name to ndarray of int, optional
        The neuron of each element of one sample of that input; read as well.
    samples_per_pass : int, optional
        Cut larger batches, to bound memory.
    progress : bool

    Returns
    -------
    int
        The number of samples.
    """
    total = 0
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for call in _with_progress(batches(data), progress):
        for args, kwargs in _pieces(call, samples_per_pass):
            count = _samples((args, kwargs))
            with undisturbed(model), _reading(model, points, count) as maps:
                try:
                    model(*args, **kwargs)
                except (RuntimeError, TypeError, ValueError, IndexError) as error:
                    shapes = [tuple(x.shape) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
                    advice = (
                        "Pass smaller batches, or move the model to the CPU."
                        if isinstance(error, torch.OutOfMemoryError)
                        else "Check that every batch has the shape, type and device the model expects."
                    )
                    raise InputError(
                        f"The model (on {device}) failed on a batch of shapes {shapes}: {type(error).__name__}: "
                        f"{error}. {advice}"
                    ) from error
            missing = sorted(set(points) - set(maps))
            if missing:
                raise TraceError(
                    f"The neurons of {missing[0]!r} could not be read: the model took another way on this batch "
                    f"than on the traced sample."
                )
            read = {name: torch.cat(found, dim=2) for name, found in maps.items()}
            read.update(
                {name: _input_maps((args, kwargs), name, numbers, count) for name, numbers in (inputs or {}).items()}
            )
            consume(read, count)
            total += count
    return total


def _with_progress(calls: Iterator[Call], progress: bool) -> Iterator[Call]:
    if not progress:
        yield from calls
        return
    from rich.progress import track

    yield from track(calls, description="reading neurons")


def _input_maps(call: Call, name: str, numbers: IntArray, count: int) -> torch.Tensor:
    """Return an input as (samples, neurons, positions)."""
    tensor = named_tensors(call)[name.split("@")[0]]
    if tensor.numel() != count * numbers.size:
        raise InputError(
            f"{name!r} has shape {tuple(tensor.shape)}, unlike the traced sample of {numbers.size} elements per sample."
        )
    order = torch.from_numpy(np.argsort(numbers, kind="stable")).to(tensor.device)
    width = int(numbers.max()) + 1
    return _plain(tensor.detach().reshape(count, -1)[:, order].reshape(count, width, -1))


def _samples(call: Any) -> int:
    sizes = [len(x) for x in tree_leaves(call) if isinstance(x, torch.Tensor) and x.ndim]
    return sizes[0] if sizes else 1


def _pieces(call: Call, limit: int | None) -> Iterator[Call]:
    """Cut a batch whose tensors all have its length into smaller ones."""
    sizes = {len(x) for x in tree_leaves(call) if isinstance(x, torch.Tensor) and x.ndim}
    if limit is None or len(sizes) != 1 or max(sizes) <= limit:
        yield call
        return
    for start in range(0, max(sizes), limit):
        yield tree_map(lambda x, a=start: x[a : a + limit] if isinstance(x, torch.Tensor) and x.ndim else x, call)


@contextmanager
def _reading(model: nn.Module, points: Mapping[str, Closing], count: int) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collect the neurons at all points during one forward pass."""
    maps: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, tensor: torch.Tensor) -> None:
        # Cloned by the conversion: an in-place activation may overwrite the tensor before it is used.
        point = points[name]
        axis = point.axis if point.direct else point.operator_axis
        maps.setdefault(name, []).append(_as_maps(tensor, point, axis, count))

    modules = dict(model.named_modules())
    by_module: dict[str, list[str]] = {}
    by_operator: dict[tuple[str, int], list[str]] = {}
    for name, point in points.items():
        if point.direct:
            by_module.setdefault(point.module, []).append(name)
        else:
            by_operator.setdefault((point.operator, point.occurrence), []).append(name)
    with ExitStack() as stack:
        for module, names in by_module.items():
            stack.enter_context(_hooked(modules[module], [(name, points[name]) for name in names], keep))
        if by_operator:
            stack.enter_context(_Listener(by_operator, keep))
        yield maps


@contextmanager
def _hooked(
    module: nn.Module, wanted: Sequence[tuple[str, Closing]], keep: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal calls
        for name, point in wanted:
            if point.call in (calls, -1):
                found = output
                for key in point.path:
                    found = found[key]
                keep(name, found)
        calls += 1

    with hooked([(module, hook)]):
        yield


class _Listener(TorchDispatchMode):
    """Keep the results of chosen executions of chosen operators."""

    def __init__(
        self, wanted: Mapping[tuple[str, int], Sequence[str]], keep: Callable[[str, torch.Tensor], None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = wanted
        self._operators = {operator for operator, _ in wanted}
        self._keep = keep
        self._executed: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func._schema.name
        if operator in self._operators:
            for name in self._wanted.get((operator, self._executed[operator]), ()):
                self._keep(name, result[0] if isinstance(result, (tuple, list)) else result)
            self._executed[operator] += 1
        return result


def _as_maps(tensor: torch.Tensor, point: Closing, axis: int, count: int) -> torch.Tensor:
    """Return a tensor as float32 (samples, neurons, positions), a copy."""
    if not 0 <= axis < tensor.ndim:
        raise TraceError(
            f"The output of {point.module or point.operator!r} has shape {tuple(tensor.shape)}, not that of the trace."
        )
    moved = tensor.detach().movedim(axis, -1)
    if point.rows is not None:
        moved = moved[..., torch.tensor(point.rows, device=tensor.device)]
    n = moved.shape[-1]
    if moved.numel() % (count * n):
        # Made without the batch and added to every sample, as positions often are.
        moved = moved.expand(count, *moved.shape)
    rest = moved.shape[:-1]
    if rest and rest[0] != count and count in rest:
        moved = moved.movedim(rest.index(count), 0)
    return _plain(moved.reshape(count, -1, n).transpose(1, 2))


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a float32 copy on the device, or on the CPU where the device knows no float64 to sum in."""
    return tensor.to(device="cpu" if tensor.device.type == "mps" else None, dtype=torch.float32, copy=True)
