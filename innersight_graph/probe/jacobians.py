"""Sensitivity of neurons to the input: the mean of J Jᵀ over samples, exactly or by random directions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.autograd import forward_ad

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import Batch, Batches, Held, Watch, plainly
from innersight_graph.probe.capturing import eager, forward, recorded
from innersight_graph.probe.functions import locate_points
from innersight_graph.probe.session import hooked, math_attention, undisturbed
from innersight_graph.probe.sites import Site, find_sites

__all__ = ["SensitivityGram", "sensitivity_grams"]

FloatArray = NDArray[np.float64]
# Blocks of samples whose sums are kept apart, for intervals.
_BLOCKS = 10


@dataclass(frozen=True)
class SensitivityGram:
    """Mean over samples of J Jᵀ for one layer.

    Attributes
    ----------
    matrix : ndarray (n_neurons, n_neurons)
        Signed; J is the derivative of each neuron's mean (or positions) with respect to the whole input.
    method : str
        ``"exact"``, ``"sketch"`` (forward-mode derivatives along random directions) or ``"sketch by differences"``.
    agreement : float
        Correlation between the off-diagonal entries of two halves of the directions; 1 for the exact method.
    blocks : ndarray (n_blocks, n_neurons, n_neurons)
        The same without the samples of one block, each sample being in one; none for sketches.
    """

    matrix: FloatArray
    method: str
    agreement: float
    blocks: FloatArray


def sensitivity_grams(
    model: nn.Module,
    data: Any,
    G: LayeredDiGraph,
    layers: Iterable[str],
    *,
    spatial: Literal["mean", "sum"] = "mean",
    method: Literal["auto", "exact", "sketch"] = "auto",
    directions: int = 16,
    budget: int = 2_000_000,
    max_memory: int = 2**28,
    seed: int = 0,
    watch: Watch = plainly,
) -> dict[str, SensitivityGram]:
    """Compute the mean of J Jᵀ over samples for several layers.

    Parameters
    ----------
    model, data, G, layers
        As in `activations`. For models that read token ids, the input is the output of their embeddings.
    spatial : {"mean", "sum"}
        A map counts as its mean, or position by position with the products added.
    method : {"auto", "exact", "sketch"}
        ``"auto"`` is exact up to ``budget`` vector-Jacobian products (neurons times samples, per layer) and for
        ``"mean"``.
    directions : int
        Random directions per sample of the sketch.
    budget : int
        See ``method``.
    max_memory : int
        Bytes that Jacobians may take at a time.
    seed : int
        Draws the directions.
    watch : callable
        ``(steps, what they are) -> the same steps``: sees how far a batch has come.
    """
    names = list(layers)
    with undisturbed(model) as inner, eager(model):
        for parameter in inner.parameters():
            parameter.requires_grad_(False)
        batches = Held(Batches(data, inner), max_memory // 4)
        sites = _readable(inner, batches.first(), find_sites(inner, G, names))
        samples = sum(batch.size for batch in batches)
        exact = {
            name: method == "exact"
            or (method == "auto" and spatial == "mean" and G.layer(name).width * samples <= budget)
            for name in names
        }
        grams = _exact(inner, batches, {n: sites[n] for n in sites if exact[n]}, spatial, max_memory, watch)
        grams |= _sketch(inner, batches, {n: sites[n] for n in sites if not exact[n]}, spatial, directions, seed)
    return {name: grams[name] if name in grams else _unread(G.layer(name).width) for name in names}


def _readable(model: nn.Module, batch: Batch, sites: Mapping[str, Site]) -> dict[str, Site]:
    """Settle the sites on one sample and leave out those without a tensor of their own."""
    few = batch.rows(slice(0, 1))
    settled = locate_points(model, few, sites)
    with torch.no_grad(), recorded(model, settled, detach=True, located=True) as store:
        forward(model, few)
    return {name: site for name, site in settled.items() if store.calls[name]}


def _unread(width: int) -> SensitivityGram:
    return SensitivityGram(np.full((width, width), np.nan), "not readable", float("nan"), np.zeros((0, width, width)))


def _exact(
    model: nn.Module,
    batches: Held,
    sites: Mapping[str, Site],
    spatial: str,
    max_memory: int,
    watch: Watch,
) -> dict[str, SensitivityGram]:
    """One vector-Jacobian product per neuron and batch: backward from the neuron to the input."""
    if not sites:
        return {}
    widths = [site.width or 1 for site in sites.values()]
    widest = max(widths)
    blocks = max(1, min(_BLOCKS, max_memory // 4 // (8 * sum(n * n for n in widths))))
    totals = {name: np.zeros((blocks, site.width or 1, site.width or 1)) for name, site in sites.items()}
    samples = 0
    for batch in batches:
        width = max(1, _input_size(model, batch))
        rows = max(1, min(batch.size, max_memory // (12 * width * widest)))
        for start in range(0, batch.size, rows):
            part = batch.rows(slice(start, start + rows))
            with (
                _differentiable_input(model, part) as (leaves, tracked),
                recorded(model, sites, detach=False, located=True) as store,
            ):
                forward(model, tracked)
                for name in sites:
                    _add_grams(totals[name], store[name], leaves, samples, part.size, spatial, watch)
            samples += part.size
    sizes = [len(range(block, samples, blocks)) for block in range(blocks)]
    return {
        name: SensitivityGram(
            table.sum(0) / samples, "exact", 1.0,
            np.array([
                (table.sum(0) - part) / (samples - size)
                for part, size in zip(table, sizes, strict=True) if 0 < size < samples
            ]).reshape(-1, *table.shape[1:]),
        )
        for name, table in totals.items()
    }  # fmt: skip


def _add_grams(
    totals: FloatArray,
    outputs: torch.Tensor,
    leaves: list[torch.Tensor],
    first: int,
    size: int,
    spatial: str,
    watch: Watch,
) -> None:
    """Add J Jᵀ of some samples to the blocks they belong to; ``first`` is the number of the first one."""
    positions = [outputs.mean(2)] if spatial == "mean" else list(outputs.unbind(2))
    for values in positions:
        rows = []
        for neuron in watch(range(values.shape[1]), "neurons"):
            gradients = torch.autograd.grad(
                values[:, neuron].sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            rows.append(torch.cat([g.reshape(size, -1) for g in gradients], 1))
        jacobian = torch.stack(rows).float()
        for block in range(min(len(totals), size)):
            own = jacobian[:, block :: len(totals)].flatten(1)
            # Products in float32 lose digits over long rows: pieces in float64.
            for piece in own.split(2**16, dim=1):
                totals[(first + block) % len(totals)] += (piece.double() @ piece.double().T).cpu().numpy()


def _sketch(
    model: nn.Module, batches: Held, sites: Mapping[str, Site], spatial: str, directions: int, seed: int
) -> dict[str, SensitivityGram]:
    """E[(J v)(J v)ᵀ] = J Jᵀ for v ~ N(0, I), with a direction of its own for every sample."""
    if not sites:
        return {}
    halves: dict[str, list[Any]] = {name: [0.0, 0.0] for name in sites}
    generator = torch.Generator().manual_seed(seed)
    samples = sum(batch.size for batch in batches)
    derivative, how = _along_direction, "sketch"
    for batch in batches:
        for direction in range(directions):
            try:
                changes = derivative(model, batch, sites, generator)
            except (RuntimeError, NotImplementedError, InputError):
                if derivative is _by_difference:
                    raise
                derivative, how = _by_difference, "sketch by differences"
                changes = derivative(model, batch, sites, generator)
            for name, change in changes.items():
                rows = change.double()
                rows = rows.mean(2) if spatial == "mean" else rows.transpose(1, 2).flatten(0, 1)
                halves[name][direction % 2] = halves[name][direction % 2] + (rows.T @ rows).cpu().numpy()
    grams = {}
    for name, (even, odd) in halves.items():
        off = ~np.eye(len(even), dtype=bool)
        known = directions > 1 and off.any() and even[off].std() > 0 and odd[off].std() > 0
        agreement = float(np.corrcoef(even[off], odd[off])[0, 1]) if known else float("nan")
        grams[name] = SensitivityGram((even + odd) / (samples * directions), how, agreement, np.zeros((0, *even.shape)))
    return grams


def _along_direction(
    model: nn.Module, batch: Batch, sites: Mapping[str, Site], generator: torch.Generator
) -> dict[str, torch.Tensor]:
    # Some derivative rules announce their own use of TorchScript.
    with warnings.catch_warnings(), forward_ad.dual_level(), math_attention():
        warnings.simplefilter("ignore", FutureWarning)
        changed = _with_inputs(model, batch, lambda x: forward_ad.make_dual(x, _normal_like(x, generator)))
        with changed as (_, tracked), recorded(model, sites, detach=False, located=True) as store:
            forward(model, tracked)
            tangents = {name: forward_ad.unpack_dual(store[name]) for name in sites}
            return {
                name: torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent.detach()
                for name, dual in tangents.items()
            }


def _by_difference(
    model: nn.Module, batch: Batch, sites: Mapping[str, Site], generator: torch.Generator
) -> dict[str, torch.Tensor]:
    step = 1e-3
    directions: list[torch.Tensor] = []

    def moved(sign: float) -> dict[str, torch.Tensor]:
        drawn = iter(list(directions))

        def move(x: torch.Tensor) -> torch.Tensor:
            v = next(drawn, None)
            if v is None:
                v = _normal_like(x, generator)
                directions.append(v)
            return x + sign * step * v

        moving, reading = _with_inputs(model, batch, move), recorded(model, sites, detach=True, located=True)
        with torch.no_grad(), moving as (_, tracked), reading as store:
            forward(model, tracked)
            return {name: store[name] for name in sites}

    ahead, behind = moved(1.0), moved(-1.0)
    return {name: (ahead[name].double() - behind[name].double()) / (2 * step) for name in sites}


def _normal_like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(device=x.device, dtype=x.dtype)


@contextmanager
def _differentiable_input(model: nn.Module, batch: Batch) -> Iterator[tuple[list[torch.Tensor], Batch]]:
    with torch.enable_grad():
        leaves: list[torch.Tensor] = []

        def lead(x: torch.Tensor) -> torch.Tensor:
            leaf = x.detach().clone().requires_grad_(True)
            leaves.append(leaf)
            # A model may write into its input, which a leaf forbids.
            return leaf.clone()

        with _with_inputs(model, batch, lead) as (_, tracked):
            yield leaves, tracked


@contextmanager
def _with_inputs(model: nn.Module, batch: Batch, change: Any) -> Iterator[tuple[None, Batch]]:
    """Change every floating input, or, where there is none, the output of every embedding."""
    args, kwargs = batch.args, batch.kwargs
    floating = [
        x
        for x in torch.utils._pytree.tree_leaves((args, kwargs))
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    ]
    if floating:
        args, kwargs = torch.utils._pytree.tree_map(
            lambda x: change(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x, (args, kwargs)
        )
        yield None, Batch(args, kwargs, batch.targets, batch.size)
        return
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if not embeddings:
        raise InputError(
            "The model's inputs are whole numbers and it has no nn.Embedding, so there is nothing to differentiate "
            "with respect to; "
            "sensitivity needs floating-point inputs or embeddings."
        )

    def hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        new: torch.Tensor = change(output.detach())
        return new

    with hooked([(module, hook) for module in embeddings]):
        yield None, batch


def _input_size(model: nn.Module, batch: Batch) -> int:
    leaves = [x for x in torch.utils._pytree.tree_leaves((batch.args, batch.kwargs)) if isinstance(x, torch.Tensor)]
    floating = sum(x.numel() for x in leaves if x.is_floating_point())
    width = max((m.embedding_dim for m in model.modules() if isinstance(m, nn.Embedding)), default=1)
    return (floating or sum(x.numel() for x in leaves) * width) // max(1, batch.size)
