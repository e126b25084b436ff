"""How many communities: fits of growing size, the bound of each, and the one group that always competes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.profile import LARGE, Profile
from innersight_graph.detection._blockmodel.start import Direction, directions, feature_labels, row_labels
from innersight_graph.detection._blockmodel.variational import (
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
_LEG = 10
_FINISHED = 3


@dataclass(frozen=True)
class Outcome:
    """The chosen size, the bound of one group, and the criteria over sizes, all in nats."""

    size: int
    baseline: float
    curve: dict[int, float]
    icl: dict[int, float]


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
        self.largest = max(1, min(largest, self.n_rows))
        self.directions = directions(profile.pairs, self.largest, rng=np.random.default_rng(seed))
        self.one = assess(profile.blocks, np.ones((self.n_rows, 1)), [np.ones((b.shape[1], 1)) for b in profile.blocks])
        self._fits: dict[int, list[State]] = {1: [self.one]}
        self.dropped = 0

    def fits(self, size: int) -> list[State]:
        """Fits with `size` groups, best bound first; those that lost a group come last and are counted."""
        if size not in self._fits:
            starts = [self._start(size, i, d, n_init=self.n_init) for i, d in enumerate(self._strongest(size))]
            ranked = self._race(size, starts, finish=1)
            self.dropped += sum(state.n_groups < size for state in ranked)
            self._fits[size] = ranked
        return self._fits[size]

    def best(self, sizes: Iterable[int] | None = None, *, criterion: str = "bound") -> Outcome:
        """Choose the size among `sizes`; None searches upwards until three sizes in a row bring nothing."""
        curve, icl = {1: self.one.bound}, {1: self.one.bound}
        chosen_by = icl if criterion == "icl" else curve
        asked = range(2, self.largest + 1) if sizes is None else sorted({min(size, self.largest) for size in sizes})
        for size in asked:
            best = self.fits(size)[0]
            curve[size], icl[size] = best.bound, self._icl(best)
            if (
                sizes is None
                and size >= _SMALLEST_STOP
                and max(chosen_by, key=chosen_by.__getitem__) <= size - _PATIENCE
            ):
                break
        eligible = chosen_by if sizes is None else {size: chosen_by[size] for size in asked}
        return Outcome(max(eligible, key=eligible.__getitem__), self.one.bound, curve, icl)

    def restarts(self, size: int) -> list[State]:
        """Fits of one size from single k-means runs besides the ones of the search, best first.

        The k-means start is the main source of run-to-run change, so this is where restarts pay, and the labels of the
        others say how sharp the answer is.
        """
        size = min(size, self.largest)
        if size == 1:
            return [self.one]
        strongest = self._strongest(size)
        count = 0 if is_large(self.profile) else self.n_init
        more = [self._start(size, 10 + i, strongest[i % len(strongest)], n_init=1) for i in range(count)]
        return self._ranked(size, [*self.fits(size), *self._race(size, more, finish=_FINISHED)])

    def with_all_groups(self, size: int) -> list[State]:
        """Return `restarts`, led by the spectral start itself where no fit keeps the `size` groups asked for."""
        ranked = self.restarts(size)
        size = min(size, self.largest)
        if ranked[0].n_groups == size:
            return ranked
        direction = self._strongest(size)[0]
        seed = np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, size, 0))
        labels = row_labels(self.profile, direction, size, n_init=self.n_init, seed=seed)
        features = feature_labels(self.profile, direction, size, n_init=self.n_init, seed=seed)
        R = [soften(w, int(w.max(initial=0)) + 1) for w in features]
        return [assess(self.profile.blocks, soften(labels, size), R), *ranked]

    @staticmethod
    def _ranked(size: int, states: list[State]) -> list[State]:
        return sorted(states, key=lambda state: (state.n_groups == size, state.bound), reverse=True)

    def _strongest(self, size: int) -> list[Direction]:
        weight = {d.name: float(d.values[: max(size - 1, 1)].sum()) for d in self.directions}
        return sorted(self.directions, key=lambda d: -weight[d.name])[:_KEPT_DIRECTIONS]

    def _start(self, size: int, number: int, direction: Direction, *, n_init: int) -> State:
        seed = np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, size, number))
        labels = row_labels(self.profile, direction, size, n_init=n_init, seed=seed)
        features = feature_labels(self.profile, direction, size, n_init=max(n_init // 2, 1), seed=seed)
        R = [soften(w, int(w.max(initial=0)) + 1) for w in features]
        return assess(self.profile.blocks, soften(labels, size), R)

    def _race(self, size: int, starts: list[State], *, finish: int) -> list[State]:
        """Improve all starts a little and the leading ones to the end: who leads after ten rounds wins in the end."""
        ranked = self._ranked(size, [improve(self.profile.blocks, start, max_iter=_LEG) for start in starts])
        return self._ranked(size, [*map(self._finish, ranked[:finish]), *ranked[finish:]])

    def _finish(self, state: State) -> State:
        """Improve until nothing moves, merge feature groups where that raises the bound, improve again."""
        blocks = self.profile.blocks
        state = state if state.converged else improve(blocks, state)
        merged = merge_features(blocks, state)
        return improve(blocks, merged) if merged.bound > state.bound else state

    def _icl(self, state: State) -> float:
        return assess(self.profile.blocks, harden(state.rows), [harden(r) for r in state.features]).bound


def is_large(profile: Profile) -> bool:
    """Whether the layer has so many connections that one start and few iterations must do."""
    rows, features = profile.blocks[0].shape
    return rows * features > LARGE
