"""Closing points behind functional activations: the result of a torch function instead of a module.

``F.gelu(self.fc1(x))`` has no module whose output is the neuron's. The trace names the operator (``aten::gelu``, its
n-th execution); here one pass of the model finds out which call of which torch function returns that very tensor.
Functions, unlike operators, can be intercepted above autograd and vmap, so reading keeps gradients and closing keeps
batches of groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from innersight_graph.probe.batches import Batch, is_out_of_memory
from innersight_graph.probe.session import hooked
from innersight_graph.probe.sites import Site, first_tensor, named_modules

__all__ = ["AtFunctions", "locate_points"]

Change = Callable[[torch.Tensor], torch.Tensor | None]


class AtFunctions(TorchFunctionMode):
    """Calls ``change(result)`` when a listed call of a torch function returns; a tensor it returns takes its place.

    `restart` begins a new forward pass: calls are counted anew.
    """

    def __init__(self, changes: Mapping[tuple[Any, int], Iterable[Change]] | None = None) -> None:
        super().__init__()
        self.changes: dict[tuple[Any, int], list[Change]] = {k: list(v) for k, v in (changes or {}).items()}
        self._watched = {function for function, _ in self.changes}
        self._seen: Counter[Any] = Counter()
        self._paused = False

    def restart(self) -> None:
        """Count calls from zero again."""
        self._seen.clear()

    def unheard(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same hook, whose own calls of torch functions are not counted: they are not the model's."""

        def quiet(*args: Any) -> Any:
            before, self._paused = self._paused, True
            try:
                return hook(*args)
            finally:
                self._paused = before

        return quiet

    def add(self, point: tuple[Any, int], change: Change) -> None:
        """List one more call."""
        self.changes.setdefault(point, []).append(change)
        self._watched.add(point[0])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in self._watched and not self._paused:
            point = (func, self._seen[func])
            self._seen[func] += 1
            for change in self.changes.get(point, ()):
                new = change(result)
                result = result if new is None else new
        return result


def locate_points(model: nn.Module, batch: Batch, sites: Mapping[str, Site]) -> dict[str, Site]:
    """Run the model once and settle where each site is read: at its module's output, or at a function's result.

    Sites without a trace's description keep their module. A point that only exists inside one larger function (a
    projection within ``F.multi_head_attention_forward``) keeps its module too, or has none: such a layer can be closed
    by weights only.
    """
    sought = {name: site for name, site in sites.items() if site.point is not None and site.point.call >= 0}
    if not sought:
        return dict(sites)
    # The trace ran one sample, and which operators a function is made of can depend on the number of samples.
    for part in ([batch.rows(slice(0, 1))] if batch.size > 1 else []) + [batch]:
        try:
            return dict(sites) | _located(model, part, sought)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if is_out_of_memory(error):
                raise
    return dict(sites)


def _located(model: nn.Module, batch: Batch, sought: Mapping[str, Site]) -> dict[str, Site]:
    ledger = _Ledger((site.point.operator, site.point.occurrence) for site in sought.values() if site.point is not None)
    modules = named_modules(model)
    at_module: dict[str, torch.Tensor] = {}
    counts: Counter[str] = Counter()

    def note(name: str, site: Site) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if site.call is None or counts[name] == site.call:
                at_module[name] = first_tensor(output, site)
            counts[name] += 1

        return hook

    hooks = [(modules[site.module], note(name, site)) for name, site in sought.items() if site.module]
    with torch.no_grad(), hooked(hooks), _Functions(ledger), ledger:
        model(*batch.args, **batch.kwargs)
    found = {}
    for name, site in sought.items():
        assert site.point is not None
        operator = (site.point.operator, site.point.occurrence)
        tensor, read = ledger.tensors.get(operator), at_module.get(name)
        function = ledger.functions.get(operator)
        if tensor is None or function is None or (read is not None and read.data_ptr() == tensor.data_ptr()):
            continue
        if site.width in tensor.shape and (read is None or read.numel() == tensor.numel()):
            found[name] = replace(site, function=function)
    return found


class _Ledger(TorchDispatchMode):
    """Notes the results of the sought operators, and holds on to them so that their addresses stay theirs."""

    def __init__(self, sought: Iterable[tuple[str, int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sought = set(sought)
        self.counts: Counter[str] = Counter()
        self.tensors: dict[tuple[str, int], torch.Tensor] = {}
        self.functions: dict[tuple[str, int], tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().partition(".")[0]
        key = (name, self.counts[name])
        self.counts[name] += 1
        if key in self.sought:
            tensor = result if isinstance(result, torch.Tensor) else result[0]
            self.tensors[key] = tensor
        return result


class _Functions(TorchFunctionMode):
    """Notes which function call returned a sought operator's result."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.counts: Counter[Any] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = set(self.ledger.tensors)
        result = func(*args, **(kwargs or {}))
        call = (func, self.counts[func])
        self.counts[func] += 1
        for key in set(self.ledger.tensors) - before:
            tensor = self.ledger.tensors[key]
            if (
                isinstance(result, torch.Tensor)
                and result.data_ptr() == tensor.data_ptr()
                and result.numel() == tensor.numel()
            ):
                self.ledger.functions[key] = call
        return result
