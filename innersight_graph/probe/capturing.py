"""Reading neurons of the live model: `capture`, and one checked forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer
from innersight_graph.probe.batches import Batch, Output, select_output
from innersight_graph.probe.functions import AtFunctions, locate_points
from innersight_graph.probe.session import hooked, undisturbed, unwrap
from innersight_graph.probe.sites import Site, first_tensor, module_sites, named_modules, neuron_shape

__all__ = ["Capture", "Pass", "Reached", "capture", "eager", "forward", "forward_until", "recorded", "watched"]


class Capture(Mapping[str, torch.Tensor]):
    """What the neurons of some layers put out; filled by every call of the model inside `capture`.

    ``store["fc1"]`` is the latest output, ``(batch, n_neurons, n_positions)``; ``store.calls["fc1"]`` lists the outputs
    of all calls of that module, in order (a shared module is called several times in one forward pass).

    Parameters
    ----------
    layers : iterable of str
        Names of the layers, in the order of iteration.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        self.calls: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

    def __getitem__(self, layer: str) -> torch.Tensor:
        calls = self.calls[layer]
        if not calls:
            raise InputError(
                f"Nothing was captured for layer {layer!r}: its module was not called. Run the model inside the "
                f"`with` block; a module "
                "whose weights are used without calling it (such as the output projection of nn.MultiheadAttention) "
                "cannot be read."
            )
        return calls[-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    def clear(self) -> None:
        """Forget everything captured so far."""
        for calls in self.calls.values():
            calls.clear()


@contextmanager
def capture(model: nn.Module, layers: Iterable[str | Layer]) -> Iterator[Capture]:
    """Record what neurons put out while the model runs.

    Parameters
    ----------
    model : Module
        Any model; a compiled or data-parallel one runs as the plain module inside while this lasts.
    layers : iterable of str or Layer
        Qualified module names (their own output is read), or layers of a graph (read where their neurons are closed,
        i.e. after their own norm and activation).

    Yields
    ------
    Capture
        Mapping of layer name to a detached copy of shape ``(batch, n_neurons, n_positions)``, on the model's device. It
        stays valid after the block; the model is in evaluation mode inside the block and bit-identical afterwards.

    Raises
    ------
    InputError
        A name that is no module of the model.
    UnsupportedLayerError
        A module whose output does not begin with a tensor, or a scripted model (hooks have no effect there).

    Notes
    -----
    Copies are taken inside the hook, so an in-place activation behind the module does not overwrite them. Memory: one
    copy of each named output per call.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(inplace=True))
    >>> with capture(model, ["0"]) as store:
    ...     _ = model(torch.zeros(5, 2))
    >>> store["0"].shape
    torch.Size([5, 3, 1])
    """
    with undisturbed(model) as inner, eager(model), recorded(inner, module_sites(inner, layers), detach=True) as store:
        yield store


@contextmanager
def recorded(
    model: nn.Module,
    sites: Mapping[str, Site],
    *,
    detach: bool,
    located: bool = False,
    enough: Mapping[str, int] | None = None,
    raw: Callable[[torch.Tensor], None] | None = None,
) -> Iterator[Capture]:
    """Record the sites of a bare model; with ``detach=False`` gradients flow back through what was recorded.

    ``located`` says that `locate_points` has settled the sites; otherwise the first call of the model does. With
    ``enough`` (calls per layer) the forward pass ends as soon as all of them were recorded; run the model with
    `forward_until` then. ``raw`` is shown each tensor in the shape the model gave it.
    """
    store = Capture(sites)

    def keep(name: str, tensor: torch.Tensor, state: Pass) -> None:
        copy = tensor.detach().clone() if detach else tensor.clone()
        if raw is not None:
            raw(copy)
        store.calls[name].append(neuron_shape(copy, state.sites[name], state.samples))
        if enough is not None and all(len(store.calls[layer]) >= count for layer, count in enough.items()):
            raise Reached

    with watched(model, sites, keep, located=located):
        yield store


@contextmanager
def watched(
    model: nn.Module, sites: Mapping[str, Site], see: Callable[[str, torch.Tensor, Pass], None], *, located: bool
) -> Iterator[None]:
    """Show every tensor of the sites, itself and not a copy, to ``see(layer, tensor, pass)`` while this lasts."""
    modules = named_modules(model)
    points = AtFunctions()
    state = Pass(model, points, dict(sites), settled=located)

    def reader(name: str) -> Any:
        def put(tensor: torch.Tensor) -> None:
            see(name, tensor, state)

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if state.is_due(name):
                put(first_tensor(output, state.sites[name]))

        state.at_functions[name] = put
        return hook

    readers = {name: reader(name) for name in sites}
    hooks = [(modules[site.module], points.unheard(readers[name])) for name, site in sites.items() if site.module]
    state.list_functions()
    with points, hooked([(model, state.begin)], pre=True), hooked(hooks):
        yield


class Reached(BaseException):
    """Ends a forward pass early; not an Exception, so that no handler of the model takes it for its own."""


def forward_until(model: nn.Module, batch: Batch) -> None:
    """Run a batch up to the last layer that `recorded` waits for."""
    with suppress(Reached):
        model(*batch.args, **batch.kwargs)


class Pass:
    """Where one forward pass stands: its number of samples, calls per module, and the settled sites.

    Its `begin` is the model's pre-hook: it settles the sites on the first call unless that was done, and counts calls
    anew.
    """

    def __init__(self, model: nn.Module, points: AtFunctions, sites: dict[str, Site], *, settled: bool) -> None:
        self.model = model
        self.points = points
        self.sites = sites
        self.settled = settled
        self.samples: int | None = None
        self.at_functions: dict[str, Any] = {}
        self._calls: Counter[str] = Counter()
        self.settling = False

    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Start a pass (the model's pre-hook)."""
        if self.settling:
            return
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self.samples = len(leaves[0]) if leaves and leaves[0].ndim else None
        if not self.settled:
            self.settling = True
            try:
                self.sites.update(locate_points(self.model, Batch(args, kwargs, None, self.samples or 1), self.sites))
            finally:
                self.settling = False
            self.settled = True
            self.list_functions()
        self._calls.clear()
        self.points.restart()

    def list_functions(self) -> None:
        """Hand the sites that are function results to the function mode."""
        for name, site in self.sites.items():
            if site.function is not None and name in self.at_functions:
                self.points.add(site.function, self.at_functions.pop(name))

    def is_due(self, name: str) -> bool:
        """Whether this call of the site's module is the one to act on; counts it."""
        if self.settling or self.sites[name].function is not None:
            return False
        call = self._calls[name]
        self._calls[name] += 1
        return self.sites[name].call in (None, call)


def forward(model: nn.Module, batch: Batch, output: Output = None) -> torch.Tensor:
    """Run the model on a checked batch; whatever it objects to is told as one paragraph."""
    try:
        return select_output(model(*batch.args, **batch.kwargs), output)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        shapes = [
            tuple(x.shape)
            for x in torch.utils._pytree.tree_leaves((batch.args, batch.kwargs))
            if isinstance(x, torch.Tensor)
        ]
        kinds = {
            str(x.dtype)
            for x in torch.utils._pytree.tree_leaves((batch.args, batch.kwargs))
            if isinstance(x, torch.Tensor)
        }
        advice = (
            "Pass smaller batches or a smaller max_memory, or move the model to the CPU."
            if isinstance(error, torch.OutOfMemoryError)
            else "Pass data of the shape, type and device the model was trained on, as (inputs, targets) batches."
        )
        raise InputError(
            f"The model could not run on a batch with inputs of shape {', '.join(map(str, shapes))} "
            f"({', '.join(sorted(kinds))}). It said: "
            f"{' '.join(str(error).split())[:300]}. {advice}"
        ) from error


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """While this lasts, compiled models run their plain code, which hooks can see."""
    compiled = unwrap(model) is not model or any(hasattr(module, "_orig_mod") for module in model.modules())
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
