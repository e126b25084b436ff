"""How many communities: fits of growing size, the bound of each, and the one group that always competes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from innersight_graph.detection._blockmodel.profile import LARGE, Profile
from innersight_graph.detection._blockmodel.start import Direction, directions, feature_labels, row_labels
from innersight_graph.detection._blockmodel.variational import (
    Ints,
    State,
    assess,
    harden,
    improve,
    merge_features,
    soften,
)

_KEPT_DIRECTIONS = 3
_PATIENCE = 3
_SMALLEST_STOP = 5


@dataclass(frozen=True)
class Outcome:
    """The chosen fit, the baseline of one group, and the curve over sizes, all in nats."""

    state: State
    baseline: float
    curve: dict[int, float]
    icl: dict[int, float]
    rivals: list[Ints] = field(default_factory=list)  # labels of the best starts, best first
    dropped: int = 0

    @property
    def gain(self) -> float:
        """Bound of the chosen fit over one group."""
        return self.state.bound - self.baseline


class Search:
    """Fits of one layer; the spectral decomposition is made once and shared by all sizes.

    Parameters
    ----------
    profile
        The layer.
    largest
        Largest number of groups that will be asked for.
    n_init
        K-means starts for each embedding.
    seed
        Sequence from which every start is keyed by (size, direction).
    """

    def __init__(self, profile: Profile, largest: int, *, n_init: int, seed: np.random.SeedSequence) -> None:
        self.profile = profile
        self.n_init = n_init
        self.seed = seed
        self.n_rows = profile.blocks[0].shape[0]
        self.largest = max(1, min(largest, self.n_rows - 1))
        self.directions = directions(profile.pairs, self.largest, rng=np.random.default_rng(seed))
        self.one = assess(profile.blocks, np.ones((self.n_rows, 1)), [np.ones((b.shape[1], 1)) for b in profile.blocks])
        self._fits: dict[int, list[State]] = {1: [self.one]}
        self.dropped = 0

    def fits(self, size: int) -> list[State]:
        """Fits with `size` groups, best bound first; those that lost a group come last and are counted."""
        if size not in self._fits:
            ranked = sorted(
                (self._fit(size, number, direction) for number, direction in enumerate(self._strongest(size))),
                key=lambda state: (state.n_groups == size, state.bound),
                reverse=True,
            )
            self.dropped += sum(state.n_groups < size for state in ranked)
            self._fits[size] = ranked
        return self._fits[size]

    def best(self, sizes: Iterable[int] | None = None) -> Outcome:
        """Return the fit with the highest bound among `sizes`; None searches upwards until three sizes bring nothing."""
        curve = {1: self.one.bound} if sizes is None else {}
        for size in range(2, self.largest + 1) if sizes is None else sorted(set(sizes)):
            curve[size] = self.fits(min(size, self.largest) if size > 1 else 1)[0].bound
            if sizes is None and size >= _SMALLEST_STOP and max(curve, key=curve.__getitem__) <= size - _PATIENCE:
                break
        winner = max(curve, key=curve.__getitem__)
        ranked = self.fits(min(winner, self.largest) if winner > 1 else 1)
        icl = {size: self._icl(self.fits(min(size, self.largest) if size > 1 else 1)[0]) for size in curve}
        return Outcome(ranked[0], self.one.bound, curve, icl, [s.labels for s in ranked], self.dropped)

    def _strongest(self, size: int) -> list[Direction]:
        weight = {d.name: float(d.values[: max(size - 1, 1)].sum()) for d in self.directions}
        return sorted(self.directions, key=lambda d: -weight[d.name])[:_KEPT_DIRECTIONS]

    def _fit(self, size: int, number: int, direction: Direction) -> State:
        seed = int(np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, size, number)).generate_state(1)[0])
        labels = row_labels(self.profile, direction, size, n_init=self.n_init, seed=seed)
        features = feature_labels(self.profile, direction, size, n_init=max(self.n_init // 2, 1), seed=seed)
        return self.refine(labels, features, size)

    def refine(self, labels: Ints, features: list[Ints], size: int) -> State:
        """Improve hard labels, merge feature groups where that raises the bound, improve again."""
        blocks = self.profile.blocks
        R = [soften(w, int(w.max(initial=0)) + 1) for w in features]
        state = improve(blocks, assess(blocks, soften(labels, size), R))
        merged = merge_features(blocks, state)
        if merged.bound > state.bound:
            state = improve(blocks, merged)
        return state

    def _icl(self, state: State) -> float:
        return assess(self.profile.blocks, harden(state.rows), [harden(r) for r in state.features]).bound


def is_large(profile: Profile) -> bool:
    """Whether the layer has so many connections that one start and few iterations must do."""
    rows, features = profile.blocks[0].shape
    return rows * features > LARGE
