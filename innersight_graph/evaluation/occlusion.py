"""`Occlusion`: which parts of the input a community responds to (perturbation-statistical analysis, Eq. 36)."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.evaluation.measured import Measured
from innersight_graph.evaluation.members import LayerGroups, Members, intervals_of, random_groups
from innersight_graph.evaluation.progress import watching
from innersight_graph.evaluation.result import Evaluation
from innersight_graph.graph.layered import LayeredDiGraph
from innersight_graph.probe.batches import held
from innersight_graph.probe.occluding import Maps, occlusion_maps

__all__ = ["Occlusion"]

FloatArray = NDArray[np.float64]


@final
class Occlusion:
    """Heat map of each community: how much its outputs change when a window of the input is covered.

    ``S_c = sqrt(mean over members of D_j)``, where ``D_j(y, x)`` is the mean over samples of neuron j's mean squared
    change when the window centred at (y, x) is covered. D is measured once per graph for all neurons and serves every
    partition.

    Parameters
    ----------
    model : Module
        The model that the graph was made from.
    images
        Batches of ``(inputs, targets)`` or inputs, a pair of tensors, or a tensor. Pictures of any number of channels,
        flattened square pictures, vectors, or sequences of token ids (then a window covers tokens).
    window : int, default 5
        Side of the window in pixels, or number of tokens.
    stride : int, default 1
        Distance between windows; skipped positions take the value of the nearest tried one.
    fill : float, default 0
        What stands in the window; for token ids the id of a mask or padding token.
    grid : tuple of int, optional
        (height, width) or (length,), where the inputs' shape does not tell.
    mask : array (n_samples, height, width) or (height, width), optional
        A region of interest, 0 to 1; the share of each community's heat inside it is reported.
    literal : bool, default False
        Take the root per sample before averaging, as printed; needs a pass of its own for every partition.
    name : str, default "occlusion"

    References
    ----------
    The paper's perturbation-statistical maps, Eq. 36, Fig. 1b and 2a.

    Notes
    -----
    `evaluate` returns an `Evaluation` with

    - ``value``: mean of ``per_community`` over the communities (the silent ones left out);
    - ``per_community`` (m,): mean of the community's map;
    - ``intervals["per_community"]`` (m, 2): over the samples, a tenth of which is left out in turn (``nan`` for a
      single sample, and where memory is too small for that);
    - ``maps["heat"]`` (m, *grid): the maps S_c, of the size of the input;
    - ``details["focus"]`` (m,): 1 - entropy of the squared map over its largest possible value, 0 = spread evenly, 1 =
      one pixel;
    - ``p_values["focus"]``, ``details["null_mean"]``, ``["null_low"]``, ``["null_high"]``: focus against random groups
      (with ``nulls``);
    - ``details["inside"]`` (m,): share of the squared heat inside ``mask``; ``["mask_share"]``: share of the mask's
      area;
    - ``details["window"]``, ``["stride"]``, ``["fill"]``, ``["n"]``, ``["grid"]``, ``["method"]``.

    Cost: one pass of the model up to the deepest layer for each window and sample.
    """

    cheap: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        images: Any,
        *,
        window: int = 5,
        stride: int = 1,
        fill: float = 0.0,
        grid: tuple[int, ...] | None = None,
        mask: Any = None,
        literal: bool = False,
        name: str = "occlusion",
    ) -> None:
        if window < 1 or stride < 1:
            raise InputError(f"window={window} and stride={stride} came; both are numbers of pixels, at least 1.")
        self.model = model
        self.images = held(images)
        self.window = int(window)
        self.stride = int(stride)
        self.fill = fill
        self.grid = grid
        self.mask = None if mask is None else np.asarray(mask, dtype=np.float64)
        self.literal = literal
        self.name = name
        self._maps: Measured[dict[str, Maps]] = Measured()

    def evaluate(
        self,
        G: Any,
        partition: Any,
        *,
        nulls: int = 0,
        seed: int | None = None,
        progress: bool = False,
        max_memory: int | None = None,
        **options: Any,
    ) -> Evaluation:
        """Map a partition of G; see the class for what is returned."""
        members = Members.of(G, partition)
        layers = [g.layer for g in members.layers]
        if self.literal:
            # The root per sample needs the groups; what it measures besides serves later partitions too.
            tables = {g.layer: g.one_hot() for g in members.layers}
            maps = self._measure(members.graph, layers, max_memory, progress, tables)
            self._maps.setdefault(members.graph, {}).update(dict.fromkeys(layers, maps))
        known = self.neuron_maps(members.graph, layers, max_memory, progress)
        heat = {
            g.layer: maps.rooted[g.layer]
            if self.literal
            else self._heat(known[g.layer].squared[g.layer], g.labels, len(g.sizes))
            for g in members.layers
        }
        heat = {layer: filled(table, self.stride) for layer, table in heat.items()}
        observed = {layer: focus(table) for layer, table in heat.items()}

        def under(groups: LayerGroups, labels: NDArray[np.intp]) -> FloatArray:
            table = self._heat(known[groups.layer].squared[groups.layer], labels, len(groups.sizes))
            return focus(filled(table, self.stride))

        drawn = 0 if self.literal else nulls
        p_values, band = random_groups(members, observed, under, nulls=drawn, seed=seed, key="focus")
        spread = members.spread(heat)
        first = next(iter(known.values()), None)
        per_community = spread.reshape(len(spread), -1).mean(axis=1) if spread.size else np.full(len(spread), np.nan)
        details: dict[str, Any] = {
            "focus": members.spread(observed),
            "window": self.window,
            "stride": self.stride,
            "fill": self.fill,
            "literal": self.literal,
            "n": first.n if first else 0,
            "grid": first.canvas.grid if first else (),
            "method": {layer: known[layer].method[layer] for layer in layers},
        }
        if self.mask is not None:
            details |= self._inside(spread)
        details |= band
        tested = members.tested
        value = float(np.nanmean(per_community[tested])) if tested.any() else float("nan")
        intervals = {} if self.literal else self._intervals(members, known, per_community)
        return Evaluation(self.name, value, per_community, {"heat": spread}, intervals, p_values, details=details)

    def _intervals(self, members: Members, known: dict[str, Maps], per_community: FloatArray) -> dict[str, FloatArray]:
        """Intervals of the communities' mean heat, a block of the samples left out in turn."""
        without = {}
        for g in members.layers:
            parts = known[g.layer].blocks[g.layer]
            heat = [filled(self._heat(part, g.labels, len(g.sizes)), self.stride) for part in parts]
            without[g.layer] = [table.reshape(len(table), -1).mean(axis=1) for table in heat]
        return intervals_of(members, {g.layer: per_community[g.communities] for g in members.layers}, without)

    def neuron_maps(
        self, G: LayeredDiGraph, layers: list[str], max_memory: int | None = None, progress: bool = False
    ) -> dict[str, Maps]:
        """Measure D for the layers that are not known yet, all in one pass."""
        known = self._maps.setdefault(G, {})
        missing = [layer for layer in layers if layer not in known]
        if missing:
            maps = self._measure(G, missing, max_memory, progress, None)
            known |= dict.fromkeys(missing, maps)
        return {layer: known[layer] for layer in layers}

    def _measure(
        self, G: LayeredDiGraph, layers: list[str], max_memory: int | None, progress: bool, groups: Any
    ) -> Maps:
        memory = {} if max_memory is None else {"max_memory": max_memory}
        return occlusion_maps(
            self.model, self.images, G, layers, window=self.window, stride=self.stride, fill=self.fill, grid=self.grid,
            groups=groups, watch=watching(progress), **memory,
        )  # fmt: skip

    def _heat(self, squared: FloatArray, labels: NDArray[np.intp], k: int) -> FloatArray:
        member = (labels[None, :] == np.arange(k)[:, None]).astype(np.float64)
        share = member / np.maximum(member.sum(axis=1, keepdims=True), 1)
        return np.sqrt(np.tensordot(share, squared, axes=1))

    def _inside(self, maps: FloatArray) -> dict[str, Any]:
        region = self.mask if self.mask is not None and self.mask.ndim == maps.ndim - 1 else np.mean(self.mask, axis=0)  # type: ignore[arg-type]
        if region is None or region.shape != maps.shape[1:]:
            raise InputError(
                f"The mask has the shape {None if self.mask is None else self.mask.shape}, the maps "
                f"{maps.shape[1:]}; give one mask of that shape, or "
                "one per sample."
            )
        energy = maps**2
        total = energy.reshape(len(maps), -1).sum(axis=1)
        inside = (energy * region).reshape(len(maps), -1).sum(axis=1)
        return {
            "inside": np.divide(inside, total, out=np.zeros_like(total), where=total > 0),
            "mask_share": float(region.mean()),
        }


def focus(maps: FloatArray) -> FloatArray:
    """1 - normalised entropy of each squared map; 0 for an empty one."""
    energy = maps.reshape(len(maps), -1) ** 2
    total = energy.sum(axis=1, keepdims=True)
    share = np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    most = np.log(max(energy.shape[1], 2))
    return np.where(total[:, 0] > 0, 1.0 - entropy / most, 0.0)


def filled(maps: FloatArray, stride: int) -> FloatArray:
    """Give skipped positions the value of the nearest tried one."""
    for axis in range(1, maps.ndim):
        length = maps.shape[axis]
        nearest = np.minimum((np.arange(length) + stride // 2) // stride * stride, (length - 1) // stride * stride)
        maps = np.take(maps, nearest, axis=axis)
    return maps
