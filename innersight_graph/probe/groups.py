"""Closing many groups of neurons at once: the part of the model before them runs once, the rest as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from innersight_graph.errors import InputError, UnsupportedLayerError
from innersight_graph.probe.batches import Batch, Output, is_out_of_memory, select_output
from innersight_graph.probe.capturing import Pass, forward, recorded, watched
from innersight_graph.probe.closing import Closed, closed_parameters, closing
from innersight_graph.probe.functions import locate_points
from innersight_graph.probe.session import hooked, math_attention
from innersight_graph.probe.sites import Site, neuron_shape
from innersight_graph.probe.suffix import Suffix

__all__ = ["GroupCloser"]

# Buffers alive at the same time while one operation runs, as multiples of the widest output (input, output,
# workspace, mask).
_LIVE_BUFFERS = 4
# On a CPU, chunks beyond the cache cost more than they save.
_CPU_CHUNK_BYTES = 2**24
# Fewer samples than this at a time and the layers before the closed one run too often.
_FEWEST_SAMPLES = 2


@dataclass
class GroupCloser:
    """Runs a bare model under many closings.

    Attributes
    ----------
    model : Module
        In evaluation mode, within `undisturbed`.
    sites : mapping of layer to Site
        Where the layers can be closed.
    output : callable, str or int, optional
        What of the model's result is returned.
    max_memory : int
        Bytes that the extra tensors may take together.
    methods : dict
        Layer -> how it was closed: ``"hook"`` or ``"weights"`` when all groups ran in one batch, ``"... out of place"``
        when the model's in-place additions had to be replaced for that, ``"... one by one"`` when the model could not
        be batched over groups.
    """

    model: nn.Module
    sites: Mapping[str, Site]
    output: Output = None
    max_memory: int = 2**28
    methods: dict[str, str] = field(default_factory=dict)
    by_weights: set[str] = field(default_factory=set)
    _bytes_behind: dict[str, int] = field(default_factory=dict)
    _weights: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    _convolves: bool = False

    def clean(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run once unclosed: the output and, per layer, each neuron's mean over positions ``(samples, n_neurons)``.

        The first call also finds out which layers' modules are called at all, and how much memory a sample needs.
        """
        if not self._bytes_behind:
            self._measure(batch)
        read = {name: site for name, site in self.sites.items() if name not in self.by_weights}
        means: dict[str, torch.Tensor] = {}

        def see(name: str, tensor: torch.Tensor, state: Pass) -> None:
            outputs = neuron_shape(tensor.detach(), state.sites[name], state.samples)
            wide = outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.float()
            means[name] = wide.mean(2).double()

        with torch.no_grad(), watched(self.model, read, see, located=True):
            result = forward(self.model, batch, self.output)
        return result, means

    def run(
        self, batch: Batch, layer: str, groups: torch.Tensor, value: Any = 0.0
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Close each group in turn.

        Parameters
        ----------
        batch : Batch
            Samples to run.
        layer : str
            Layer of the groups.
        groups : Tensor of bool (n_groups, n_neurons)
            One closing per row.
        value : float, str or Tensor
            What closed neurons put out, as in `Closed`.

        Yields
        ------
        (slice, slice, Tensor)
            Groups, samples, and the model's outputs for them ``(groups, samples, ...)``.
        """
        for rows, groups_at_once in self._chunks(batch, [layer], len(groups), value):
            part = batch if rows == slice(0, batch.size) else batch.rows(rows)
            for start in range(0, len(groups), groups_at_once):
                chosen = slice(start, min(start + groups_at_once, len(groups)))
                yield chosen, rows, self._outputs(part, {layer: groups[chosen]}, value)

    def run_joint(
        self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any = 0.0
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Close groups that span several layers: row i of every layer's table is closed together."""
        count = len(next(iter(groups.values())))
        for rows, at_once in self._chunks(batch, groups, count, value):
            part = batch if rows == slice(0, batch.size) else batch.rows(rows)
            for start in range(0, count, at_once):
                chosen = slice(start, min(start + at_once, count))
                yield chosen, rows, self._outputs(part, {name: table[chosen] for name, table in groups.items()}, value)

    def _outputs(self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any) -> torch.Tensor:
        name = "+".join(groups)
        attempts = {
            "batched": lambda: self._batched(batch, groups, value),
            "out of place": lambda: self._out_of_place(batch, groups, value),
            "one by one": lambda: self._one_by_one(batch, groups, value),
        }
        how = "weights" if self.by_weights & set(groups) else "hook"
        known = self.methods.get(name)
        order = list(attempts)
        if known is not None:
            order = [next((attempt for attempt in order if known.endswith(attempt)), "batched")]
        failure: Exception | None = None
        for attempt in order:
            try:
                result = attempts[attempt]()
                if known is None and not (self._confirmed(batch, groups, value, result) or attempt == order[-1]):
                    raise RuntimeError("a single closing gives other outputs")
            except (RuntimeError, NotImplementedError, ValueError) as error:
                # Another way of closing is no help against too little memory; `evaluate` tries with less at a time.
                if attempt == order[-1] or is_out_of_memory(error):
                    raise
                failure = error
                continue
            self.methods[name] = how if attempt == "batched" else f"{how}, {attempt}"
            return result
        raise InputError("No group of neurons was given to close.") from failure

    def _batched(self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any) -> torch.Tensor:
        names = list(groups)

        def one(*tables: torch.Tensor) -> torch.Tensor:
            plans = [Closed(self.sites[n], t, self._value_for(value, n)) for n, t in zip(names, tables, strict=True)]
            by_weights = [plan for plan in plans if plan.site.layer in self.by_weights]
            hooks = [plan for plan in plans if plan.site.layer not in self.by_weights]
            changed = {
                key: tensor for plan in by_weights for key, tensor in closed_parameters(self.model, plan).items()
            }
            # Only convolutions gain by it.
            suffix = Suffix(self._weights, self.max_memory // 8) if self._convolves else None
            told = None if suffix is None else suffix.closed
            with suffix or nullcontext(), closing(self.model, hooks, located=True, told=told):
                result = torch.func.functional_call(self.model, changed, batch.args, batch.kwargs)
            return select_output(result, self.output)

        # Only the plain attention kernel can be batched over groups.
        with torch.no_grad(), math_attention():
            result: torch.Tensor = torch.vmap(one, randomness="same")(
                *(groups[n].to(self._device(batch)) for n in names)
            )
        return result

    def _out_of_place(self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any) -> torch.Tensor:
        # Rebinding `x += y` to a new tensor is only right if nobody else holds x; `_confirmed` finds out.
        with _OutOfPlace():
            return self._batched(batch, groups, value)

    def _confirmed(self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any, result: torch.Tensor) -> bool:
        """Close one group on a few samples in the plain way: whether it took, and gives what the batch gave."""
        few = batch if value == "resample" else batch.rows(slice(0, min(batch.size, _FEWEST_SAMPLES)))
        row = int(sum(table.long().sum(1) for table in groups.values()).gt(0).long().argmax())  # type: ignore[union-attr]
        plans = [Closed(self.sites[n], t[row], self._value_for(value, n)) for n, t in groups.items()]
        read = {n: self.sites[n] for n in groups if n not in self.by_weights}
        with (
            torch.no_grad(),
            closing(self.model, plans, by_weights=self.by_weights, located=True),
            recorded(self.model, read, detach=True, located=True) as store,
        ):
            plain = forward(self.model, few, self.output)
        for plan in plans:
            name, constant = plan.site.layer, plan.value
            if name in read and isinstance(constant, float | int):
                closed = store[name][:, plan.neurons.to(plain.device)]
                if not bool((closed == torch.as_tensor(constant, dtype=closed.dtype)).all()):
                    raise UnsupportedLayerError(
                        f"Layer {name!r} was closed at {constant}, but what its module hands on is not {constant}: "
                        f"something between puts other values there (a hook, or a module that ignores hooks). "
                        "Remove it, or leave this layer out."
                    )
        found = result[row, : few.size]
        return torch.allclose(found, plain, rtol=1e-3, atol=1e-5 * max(1.0, float(plain.abs().max())))

    def _one_by_one(self, batch: Batch, groups: Mapping[str, torch.Tensor], value: Any) -> torch.Tensor:
        results = []
        with torch.no_grad():
            for row in range(len(next(iter(groups.values())))):
                plans = [Closed(self.sites[n], t[row], self._value_for(value, n)) for n, t in groups.items()]
                with closing(self.model, plans, by_weights=self.by_weights, located=True):
                    results.append(forward(self.model, batch, self.output))
        return torch.stack(results)

    def _value_for(self, value: Any, layer: str) -> Any:
        return value[layer] if isinstance(value, Mapping) else value

    def _device(self, batch: Batch) -> torch.device:
        leaves = tree_leaves((batch.args, batch.kwargs))
        return next(leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor))

    def _chunks(self, batch: Batch, layers: Iterable[str], n_groups: int, value: Any) -> Iterator[tuple[slice, int]]:
        """Cut samples and groups so that what runs behind the closed layers fits the budget.

        The part before them runs again for every cut of the groups, so the samples are cut first, down to a few.
        Resampling needs its whole batch.
        """
        need = max((self._bytes_behind.get(layer, 1) for layer in layers), default=1)
        budget = max(1, self.max_memory // _LIVE_BUFFERS)
        if self._device(batch).type == "cpu":
            budget = min(budget, max(_CPU_CHUNK_BYTES, need))
        fewest = min(batch.size, _FEWEST_SAMPLES)
        rows = batch.size if value == "resample" else min(batch.size, max(budget // (n_groups * need), fewest))
        if value != "resample":
            rows = max(1, min(rows, budget // need))
        groups = max(1, min(n_groups, budget // (rows * need)))
        for start in range(0, batch.size, rows):
            yield slice(start, min(start + rows, batch.size)), groups

    def _measure(self, batch: Batch) -> None:
        """Settle the sites, find out which are passed at all, and how wide the widest output behind each is."""
        self._convolves = any(isinstance(module, nn.Conv2d) for module in self.model.modules())
        probe = batch.rows(slice(0, min(batch.size, 2)))
        self.sites = locate_points(self.model, probe, self.sites)
        behind = dict.fromkeys(self.sites, 1)

        def note(module: nn.Module, args: Any, output: Any) -> None:
            widest = max(
                (leaf.numel() * leaf.element_size() for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)),
                default=0,
            )
            for layer, calls in store.calls.items():
                if calls:
                    behind[layer] = max(behind[layer], widest)

        reading = recorded(self.model, self.sites, detach=True, located=True)
        with torch.no_grad(), reading as store, hooked([(module, note) for module in self.model.modules()]):
            forward(self.model, probe, self.output)
        self.by_weights = {name for name, calls in store.calls.items() if not calls}
        everywhere = max(behind.values(), default=1)
        self._bytes_behind = {
            layer: -(-(everywhere if layer in self.by_weights else size) // probe.size)
            for layer, size in behind.items()
        }


class _OutOfPlace(TorchFunctionMode):
    """Turns ``x += y`` into ``x = x + y``: a batched y cannot be written into an unbatched x."""

    _INSTEAD: ClassVar[dict[Any, Any]] = {
        torch.Tensor.add_: torch.add,
        torch.Tensor.sub_: torch.sub,
        torch.Tensor.mul_: torch.mul,
        torch.Tensor.div_: torch.div,
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._INSTEAD.get(func, func)(*args, **(kwargs or {}))
