"""What users pass as data: batches, a tensor, a pair of tensors, one example with args and kwargs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map

from innersight_graph.errors import InputError, TraceError

__all__ = ["Call", "batches", "call_of", "first_call", "named_tensors"]

Call = tuple[tuple[Any, ...], dict[str, Any]]


def call_of(example: Any) -> Call:
    """Return what one example means as the arguments of a model.

    A tensor (or any single object) is the one positional argument, a tuple or list are the positional arguments, a
    mapping
    the keyword arguments, a pair of a tuple and a dict both.
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    if (
        isinstance(example, tuple)
        and len(example) == 2
        and isinstance(example[0], tuple)
        and isinstance(example[1], Mapping)
    ):
        return example[0], dict(example[1])
    if isinstance(example, (tuple, list)):
        return tuple(example), {}
    return (example,), {}


def batches(data: Any, *, batch_size: int = 256) -> Iterator[Call]:
    """Yield the model's arguments for each batch of some data, targets left out.

    Parameters
    ----------
    data : tensor, pair of tensors (inputs, targets), or iterable of batches
        A `torch.utils.data.Dataset` is batched. A batch is a tensor, a pair (inputs, targets), or a mapping of keyword
        arguments (``labels`` is left out). A single tensor or pair is cut into batches along its first axis. Inputs in
        a tuple are several positional arguments.
    batch_size : int
        Size of the pieces a single tensor is cut into.
    """
    if isinstance(data, torch.Tensor):
        for piece in data.split(batch_size):
            yield (piece,), {}
        return
    if _is_pair(data):
        yield from batches(data[0], batch_size=batch_size)
        return
    if isinstance(data, Mapping):
        yield (), _without_targets(data)
        return
    if isinstance(data, torch.utils.data.Dataset):
        data = torch.utils.data.DataLoader(data, batch_size=batch_size)
    if not isinstance(data, Iterable):
        raise InputError(
            f"data is a {type(data).__name__}. Expected a tensor, a pair (inputs, targets) or an iterable of such "
            f"batches, for "
            "example a DataLoader."
        )
    for batch in data:
        if isinstance(batch, Mapping):
            yield (), _without_targets(batch)
        elif isinstance(batch, (tuple, list)):
            if not batch:
                raise InputError(
                    "data gave an empty batch. Expected a tensor, (inputs, targets) or a mapping per batch."
                )
            yield (tuple(batch[0]), {}) if isinstance(batch[0], (tuple, list)) else ((batch[0],), {})
        else:
            yield (batch,), {}


def _is_pair(data: Any) -> bool:
    """Tell a pair of tensors with one target per input from a list of batches."""
    return (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and all(isinstance(x, torch.Tensor) for x in data)
        and data[0].ndim > 0
        and data[1].ndim in (1, 2)
        and len(data[0]) == len(data[1])
        and not (isinstance(data, list) and data[0].shape == data[1].shape)
    )


def _without_targets(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in batch.items() if key not in ("labels", "label", "targets", "target")}


def named_tensors(call: Call) -> dict[str, torch.Tensor]:
    """Return the tensors among a model's arguments by name: "input" if there is one, else "input.0", "input.mask"."""
    leaves, _ = tree_flatten_with_path(call)
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    if len(tensors) == 1:
        return {"input": tensors[0][1]}
    return {
        ".".join(["input", *(str(getattr(k, "idx", getattr(k, "key", k))) for k in path[1:])]): x for path, x in tensors
    }


def first_call(data: Any, example: Any) -> tuple[Call, Call]:
    """Return the arguments of one sample, and those of the batch it came from.

    Raises
    ------
    InputError
        No batch in the data.
    TraceError
        Neither data nor an example.
    """
    if example is not None:
        call = call_of(example)
        return call, call
    if data is None:
        raise TraceError(
            "Neither data nor example was given, so the model cannot be run. Pass data (batches or a tensor of "
            "inputs) or "
            "example= (one input with its batch axis, or a tuple or dict of arguments)."
        )
    whole = next(batches(data), None)
    if whole is None or any(x.ndim and not len(x) for x in tree_leaves(whole) if isinstance(x, torch.Tensor)):
        raise InputError("data is empty: it gave no batch. Pass at least one batch, or example= with one input.")
    sizes = {len(x) for x in tree_leaves(whole) if isinstance(x, torch.Tensor) and x.ndim}
    if len(sizes) != 1:
        return whole, whole
    one = tree_map(lambda x: x[:1] if isinstance(x, torch.Tensor) and x.ndim else x, whole)
    return one, whole
