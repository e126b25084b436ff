"""Data as it comes, normalised once: an iterable of batches, a pair of tensors, or inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from innersight_graph.errors import InputError

__all__ = ["Batch", "Batches", "Held", "Watch", "held", "is_out_of_memory", "plainly", "same_data", "select_output"]

Output = Callable[[Any], torch.Tensor] | str | int | None


# Sees the steps of long work pass by, and what they are: for a display of progress.
Watch = Callable[[Sequence[Any], str], Iterable[Any]]


def plainly(steps: Sequence[Any], what: str) -> Iterable[Any]:
    """Watch nothing."""
    return steps


class Batch(NamedTuple):
    """One checked batch on the model's device: positional arguments, keyword arguments, targets, number of samples."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: torch.Tensor | None
    size: int

    def rows(self, index: torch.Tensor | slice) -> Batch:
        """Return the chosen samples of this batch."""
        args, kwargs = pytree.tree_map(
            lambda leaf: leaf[index] if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf, (self.args, self.kwargs)
        )
        targets = None if self.targets is None else self.targets[index]
        size = len(torch.arange(self.size)[index.cpu() if isinstance(index, torch.Tensor) else index])
        return Batch(args, kwargs, targets, size)


class Batches:
    """A data set that can be read again and again, checked as it is read.

    Parameters
    ----------
    data
        An iterable of ``(inputs, targets)`` batches (a ``DataLoader``, a list), a ``Dataset``, a pair of tensors, or
        inputs alone. Inputs are a tensor, a tuple of positional arguments or a mapping of keyword arguments (whose
        ``"labels"`` are the targets). One-shot iterators are kept in memory. NumPy arrays are taken as tensors.
    model : Module
        Tells the device. Batches on the CPU are moved to it; any other mismatch is an error.
    need_targets : bool
        Whether inputs alone are an error.
    batch_size : int
        Into how many samples tensors are cut.
    """

    def __init__(self, data: Any, model: nn.Module, *, need_targets: bool = False, batch_size: int = 512) -> None:
        self._source = _as_iterable(data, batch_size)
        self.in_memory = isinstance(self._source, list)
        self._need_targets = need_targets
        parameter = next(iter([*model.parameters(), *model.buffers()]), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        if self.device.type == "meta":
            raise InputError(
                "The model's parameters are on the 'meta' device, so it has no values to run with; load the weights "
                "(model.to_empty(device='cpu') and load_state_dict) before scoring it."
            )

    def __iter__(self) -> Iterator[Batch]:
        read = 0
        for item in self._source:
            batch = self._checked(item, read)
            if batch.size:
                read += 1
                yield batch
        if not read:
            raise InputError(
                "The data hold no samples: the loader or tensor is empty. Pass at least one batch, e.g. "
                "DataLoader(dataset, batch_size=256) over a data set of length above 0."
            )

    def first(self) -> Batch:
        """Return the first batch."""
        return next(iter(self))

    def targets(self) -> torch.Tensor:
        """Return all targets, one after another, on the CPU."""
        return torch.cat([batch.targets.cpu() for batch in self if batch.targets is not None])

    def _checked(self, item: Any, position: int) -> Batch:
        inputs, targets = _split(item)
        inputs = pytree.tree_map(_as_tensor, inputs)
        args, kwargs = _as_arguments(inputs)
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not tensors:
            raise InputError(
                f"Batch {position} of the data holds no tensor but a {type(item).__name__}; each batch must be "
                f"(inputs, targets) or "
                "inputs, where inputs are a tensor, a tuple of them or a mapping of keyword arguments."
            )
        size = len(tensors[0]) if tensors[0].ndim else 1
        for tensor in tensors:
            self._check_tensor(tensor, position)
        if targets is None and self._need_targets:
            raise InputError(
                f"Batch {position} of the data has no targets, and this score needs them; pass batches of (inputs, "
                f"targets) or a "
                "pair of tensors."
            )
        if targets is not None:
            targets = _as_tensor(targets)
            if not isinstance(targets, torch.Tensor) or targets.ndim == 0 or len(targets) != size:
                found = tuple(targets.shape) if isinstance(targets, torch.Tensor) else type(targets).__name__
                raise InputError(
                    f"Batch {position} has inputs of shape {tuple(tensors[0].shape)} but targets of shape {found}; "
                    f"both must have the "
                    "same number of samples along their first axis."
                )
            targets = targets.to(self.device)
        args, kwargs = pytree.tree_map(
            lambda leaf: leaf.to(self.device) if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs)
        )
        return Batch(args, kwargs, targets, size)

    def _check_tensor(self, tensor: torch.Tensor, position: int) -> None:
        if tensor.device != self.device and tensor.device.type != "cpu":
            raise InputError(
                f"Batch {position} of the data is on {tensor.device} but the model is on {self.device}; move one of "
                f"them, e.g. "
                f"model.to({str(tensor.device)!r}), or give the data on the CPU, from where batches are moved."
            )
        if tensor.is_floating_point() and tensor.device.type != "meta" and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(
                f"Batch {position} of the data holds {bad} values that are NaN or infinite (shape "
                f"{tuple(tensor.shape)}); every score "
                "would be NaN. Clean or drop these samples first."
            )


class Held:
    """Batches that are read several times: kept in memory up to a budget, read from their source again beyond it.

    Parameters
    ----------
    batches : Batches
    budget : int
        Bytes to keep. Tensors and lists, which are in memory anyway, are views and cost nothing.
    """

    def __init__(self, batches: Batches, budget: int) -> None:
        self._batches = batches
        self._budget = budget
        self._kept: list[Batch] | None = None
        self._marks: list[tuple[int, float]] | None = None
        self._first: Batch | None = None

    def first(self) -> Batch:
        """Return the first batch."""
        if self._first is None:
            self._first = self._batches.first()
        return self._first

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] | None = []
        marks: list[tuple[int, float]] = []
        held = 0
        for batch in self._batches:
            marks.append((batch.size, _mark(batch)))
            if self._marks is not None and self._marks[: len(marks)] != marks:
                raise InputError(
                    f"The data come in another order at every reading, and they do not fit into the "
                    f"{self._budget / 2**20:.0f} MiB that may be kept of them. Pass a loader with shuffle=False, or a "
                    "larger max_memory."
                )
            if kept is not None:
                held += 0 if self._batches.in_memory else _bytes(batch)
                kept = [*kept, batch] if held <= self._budget else None
            yield batch
        self._kept, self._marks = kept, marks


def _mark(batch: Batch) -> float:
    first = next(leaf for leaf in pytree.tree_leaves((batch.args, batch.kwargs)) if isinstance(leaf, torch.Tensor))
    return float(first.detach().double().sum())


def _bytes(batch: Batch) -> int:
    leaves = [leaf for leaf in pytree.tree_leaves(tuple(batch[:3])) if isinstance(leaf, torch.Tensor)]
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def held(data: Any) -> Any:
    """Return the data, a one-shot iterator kept in memory so that it can be read again."""
    return list(data) if isinstance(data, Iterator) else data


def same_data(a: Any, b: Any) -> bool:
    """Whether two data sets are one: the same object, or tuples of the same tensors."""
    if a is None or b is None:
        return False
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b) and len(a):
        return a is b or all(x is y for x, y in zip(a, b, strict=True))
    return a is b


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was made of, says that the device has too little memory."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__cause__
    return error is not None


def select_output(result: Any, output: Output = None) -> torch.Tensor:
    """Pick the tensor to score from whatever the model returned.

    Parameters
    ----------
    result
        A tensor, a sequence (its first element), a mapping or object with ``logits`` (else its first tensor).
    output : callable, str or int, optional
        What to take instead: a key, attribute or position, or a function of the result.
    """
    if callable(output):
        chosen = output(result)
    elif output is not None:
        chosen = getattr(result, output) if isinstance(output, str) and hasattr(result, output) else result[output]
    else:
        chosen = _default_output(result)
    if not isinstance(chosen, torch.Tensor):
        raise InputError(
            f"The model returned a {type(result).__name__} from which no tensor could be chosen; say which part to "
            f"score with "
            "output=, e.g. output='logits', output=0 or output=lambda r: r.logits."
        )
    return chosen


def _default_output(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return result
    if isinstance(result, Mapping):
        named = result.get("logits")
        return named if named is not None else next((v for v in result.values() if isinstance(v, torch.Tensor)), None)
    named = getattr(result, "logits", None)
    if named is not None:
        return named
    if isinstance(result, Sequence):
        return next((v for v in result if isinstance(v, torch.Tensor)), None)
    return (
        next((v for v in vars(result).values() if isinstance(v, torch.Tensor)), None)
        if hasattr(result, "__dict__")
        else None
    )


def _as_iterable(data: Any, batch_size: int) -> Iterable[Any]:
    if isinstance(data, np.ndarray):
        data = _as_tensor(data)
    if isinstance(data, torch.Tensor):
        return list(torch.split(data, batch_size)) if data.ndim and len(data) else []
    if isinstance(data, torch.utils.data.Dataset) and hasattr(data, "__len__"):
        return torch.utils.data.DataLoader(data, batch_size=batch_size)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, torch.Tensor | np.ndarray) for part in data):
        inputs, targets = (torch.as_tensor(part) for part in data)
        if len(inputs) != len(targets):
            raise InputError(
                f"The pair of tensors has {len(inputs)} inputs but {len(targets)} targets; both must have the same "
                f"number of samples."
            )
        return (
            list(zip(torch.split(inputs, batch_size), torch.split(targets, batch_size), strict=True))
            if len(inputs)
            else []
        )
    if isinstance(data, Mapping):
        return [data]
    if not isinstance(data, Iterable):
        raise InputError(
            f"The data are a {type(data).__name__}; they must be batches of (inputs, targets), a pair of tensors or "
            f"a tensor of inputs."
        )
    return list(data) if isinstance(data, Iterator) else data


def _split(item: Any) -> tuple[Any, Any]:
    """Separate inputs and targets of one batch; a mapping's ``labels`` are its targets."""
    if isinstance(item, Mapping):
        inputs = dict(item)
        labels = inputs.pop("labels", None)
        return inputs, labels
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, list | tuple) and len(item) == 1:
        return item[0], None
    return item, None


def _as_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, list | tuple):
        return tuple(inputs), {}
    return (inputs,), {}


def _as_tensor(value: Any) -> Any:
    return torch.as_tensor(value) if isinstance(value, np.ndarray) else value
