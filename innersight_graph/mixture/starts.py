"""Where EM starts: responsibilities drawn on the host, keyed by (seed, layer, number of components, restart).

Every start is a function `f(starter, r, restarts) -> float32 array (restarts, r, n_rows)`. A restart's numbers come
from its own place in a Philox stream, so that they do not depend on which are drawn together, where, or by whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import Group
from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.engines.table import Problem
from innersight_graph.errors import InputError
from innersight_graph.mixture.geometry import Geometry, squared_between

__all__ = ["DETERMINISTIC", "INITS", "Init", "Starter"]

Responsibilities = NDArray[np.float32]
Draw = Callable[["Starter", int, Sequence[int]], Responsibilities]
Init = str | Callable[[NDArray[np.bool_], int, np.random.Generator], NDArray[np.generic]]

# Starts that have no randomness: a second restart would be the first one again.
DETERMINISTIC = ("ward", "spectral")
# Relative size of the noise a near-uniform start begins with, and how many of its first iterations are float64: the
# bifurcation it starts at amplifies rounding. (After one, 480 of 480 restarts ended where float64 throughout ends;
# after none, 477. The second is for larger layers.)
_RIPPLE = 0.1
_EXACT_ITERATIONS = 2
_COOLING_STEPS = 16
_SAMPLE = 4096
_DRAW_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Starter:
    """Draws the starts of one layer's search.

    Parameters
    ----------
    problem : Problem
    seed : int
    layer : str
        Keys the draws, with `seed`.
    max_components : int
        Largest number of components that will be asked for.
    """

    problem: Problem
    seed: int
    layer: str = ""
    max_components: int = 20

    @cached_property
    def geometry(self) -> Geometry:
        """Distances between the rows, made when a start first needs them."""
        return Geometry(self.problem.table, self.max_components + 8, self.sequence("geometry", 0))

    @cached_property
    def ward_tree(self) -> NDArray[np.float64]:
        """Ward's hierarchy of the rows (of a sample of them beyond 4096), as SciPy's linkage."""
        from scipy.cluster.hierarchy import linkage

        if self.geometry.exact:
            upper = np.triu_indices(self.problem.table.n_rows, 1)
            return np.asarray(linkage(np.sqrt(self.geometry.squared[upper].astype(np.float64)), "ward"))
        return np.asarray(linkage(self.geometry.points[self.sample].astype(np.float64), "ward"))

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """The rows Ward's hierarchy is made of."""
        n = self.problem.table.n_rows
        if n <= _SAMPLE:
            return np.arange(n)
        return np.sort(np.random.Generator(np.random.Philox(self.sequence("sample", 0))).permutation(n)[:_SAMPLE])

    def group(self, init: Init, n_components: int, restarts: Sequence[int]) -> Group:
        """Return the restarts of one number of components, drawn when the engine asks for them."""
        return Group(n_components, tuple(restarts), _Drawer(self, init, n_components))

    def sequence(self, purpose: str, n_components: int, *more: int) -> np.random.SeedSequence:
        """Return the seed sequence of one purpose."""
        keys = (crc32(self.layer.encode()), n_components, crc32(purpose.encode()), *more)
        return np.random.SeedSequence(entropy=self.seed, spawn_key=keys)

    def uniforms(self, purpose: str, n_components: int, restarts: Sequence[int], size: int) -> Responsibilities:
        """Uniform numbers in (0, 1), `size` of them for each restart, float32, shape (len(restarts), size).

        One Philox stream per (seed, layer, number of components, purpose); restart k owns its k-th stretch.
        """
        key = self.sequence(purpose, n_components).generate_state(2, np.uint64)
        stretch = -(-size // 8)  # one step of the counter makes eight float32 numbers
        result = np.empty((len(restarts), stretch * 8), dtype=np.float32)
        for start, stop in _runs(restarts):
            bits = np.random.Philox(key=key)
            bits.advance(restarts[start] * stretch)
            np.random.Generator(bits).random(out=result[start:stop], dtype=np.float32)
        # Numbers are multiples of 2^-24 below 1; without the zero, logarithms stay finite.
        np.maximum(result, np.float32(2.0**-25), out=result)
        return result[:, :size]


@dataclass(frozen=True)
class _Drawer:
    """A start, bound to its arguments: small enough to travel to a worker."""

    starter: Starter
    init: Init
    n_components: int

    def __call__(self, restarts: tuple[int, ...]) -> Responsibilities:
        if self.n_components == 1:
            return np.ones((len(restarts), 1, self.starter.problem.table.n_rows), dtype=np.float32)
        if callable(self.init):
            return _custom(self.starter, self.init, self.n_components, restarts)
        return INITS[self.init](self.starter, self.n_components, restarts)


def _runs(restarts: Sequence[int]) -> list[tuple[int, int]]:
    """Places (start, stop) of stretches of consecutive restarts."""
    breaks = [i for i in range(1, len(restarts)) if restarts[i] != restarts[i - 1] + 1]
    return list(zip([0, *breaks], [*breaks, len(restarts)], strict=True))


def _one_hot(labels: NDArray[np.integer], r: int) -> Responsibilities:
    """Labels of shape (restarts, n_rows) as responsibilities."""
    return np.asarray(labels[:, None, :] == np.arange(r)[None, :, None], dtype=np.float32)


def _random(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Draw every probability uniformly, as the paper does, and take one E-step with equal weights."""
    table = starter.problem.table
    together = max(1, _DRAW_BYTES // (4 * r * max(table.n_columns, 1)))
    result = np.empty((len(restarts), r, table.n_rows), dtype=np.float32)
    for start in range(0, len(restarts), together):
        part = restarts[start : start + together]
        hit = starter.uniforms("random", r, part, r * table.n_columns).reshape(len(part), r, table.n_columns)
        # A float32 draw can be exactly 0, whose logarithm times 0 is not a number; its nearest neighbour has one.
        np.clip(hit, 2.0**-25, 1.0 - 2.0**-24, out=hit)
        log_density = _LOG_DENSITIES[starter.problem.likelihood](starter, hit)
        log_density -= log_density.max(axis=1, keepdims=True)
        np.exp(log_density, out=log_density)
        result[start : start + together] = log_density / log_density.sum(axis=1, keepdims=True)
    return result


def _bernoulli_log_density(starter: Starter, hit: NDArray[np.float32]) -> NDArray[np.float32]:
    table = starter.problem.table
    weights = table.multiplicity.astype(np.float32) if table.merged else None
    log_miss = np.log1p(-hit)
    log_odds = np.log(hit, out=hit)
    log_odds -= log_miss
    if weights is not None:
        log_odds *= weights
        log_miss *= weights
    total = np.zeros((*hit.shape[:2], table.n_rows), dtype=np.float32)
    for columns, values, observed in table.blocks():
        total += log_odds[:, :, columns] @ values.T
        if observed is None:
            total += log_miss[:, :, columns].sum(axis=2, keepdims=True)
        else:
            total += log_miss[:, :, columns] @ observed.T
    return total


def _multinomial_log_density(starter: Starter, hit: NDArray[np.float32]) -> NDArray[np.float32]:
    table = starter.problem.table
    weights = table.multiplicity.astype(np.float32)
    for group in np.unique(table.groups):
        members = table.groups == group
        hit[:, :, members] /= (hit[:, :, members] @ weights[members])[:, :, None]
    log_share = np.log(hit, out=hit)
    log_share *= weights
    total = np.zeros((*hit.shape[:2], table.n_rows), dtype=np.float32)
    for columns, values, _ in table.blocks():
        total += log_share[:, :, columns] @ values.T
    return total


_LOG_DENSITIES = {"bernoulli": _bernoulli_log_density, "multinomial": _multinomial_log_density}


def _dirichlet(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Each row's responsibilities from Dirichlet(1, ..., 1)."""
    n = starter.problem.table.n_rows
    q = starter.uniforms("dirichlet", r, restarts, r * n).reshape(len(restarts), r, n)
    np.log(q, out=q)
    q /= q.sum(axis=1, keepdims=True)
    return q


def _near_uniform(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Equal responsibilities with a ripple; the first iterations are run here, in float64."""
    n = starter.problem.table.n_rows
    q = 1.0 + _RIPPLE * starter.uniforms("near-uniform", r, restarts, r * n).reshape(len(restarts), r, n).astype(
        np.float64
    )
    q /= q.sum(axis=1, keepdims=True)
    engine = ArrayEngine()
    for _ in range(_EXACT_ITERATIONS):
        q, _ = engine.step(starter.problem, q)
    return q.astype(np.float32)


def _annealed(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Cool from where a single community is the only answer down to the likelihood itself (Ueda and Nakano 1998)."""
    n = starter.problem.table.n_rows
    q = 1.0 + _RIPPLE * starter.uniforms("annealed", r, restarts, r * n).reshape(len(restarts), r, n).astype(np.float64)
    q /= q.sum(axis=1, keepdims=True)
    engine = ArrayEngine()
    # Above the leading eigenvalue of the rows' covariance in the columns' own units nothing separates.
    _, values = starter.geometry.directions
    hottest = max(4.0, float(values[0] ** 2) / n / 0.25)
    for temperature in np.geomspace(hottest, 1.0, _COOLING_STEPS):
        q, _ = engine.step(starter.problem, q, temperature=float(temperature))
    return q.astype(np.float32)


def _k_means_plus_plus(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Rows drawn far from one another (Arthur and Vassilvitskii 2007); every row joins its nearest."""
    geometry = starter.geometry
    draws = starter.uniforms("k-means++", r, restarts, r).astype(np.float64)
    n = starter.problem.table.n_rows
    chosen = np.minimum((draws[:, 0] * n).astype(np.intp), n - 1)
    nearest = geometry.squared_to(chosen)
    labels = np.zeros(nearest.shape, dtype=np.int32)
    for k in range(1, r):
        total = np.cumsum(nearest, axis=1, dtype=np.float64)
        # Where every row coincides with a chosen one, any row will do.
        total[total[:, -1] <= 0] = np.arange(1, n + 1)
        # The first row whose cumulated distance exceeds the draw: one that coincides with a chosen row cannot be it.
        chosen = np.minimum((total <= (draws[:, k] * total[:, -1])[:, None]).sum(axis=1), n - 1)
        distances = geometry.squared_to(chosen)
        closer = distances < nearest
        labels[closer] = k
        np.minimum(nearest, distances, out=nearest)
    return _one_hot(labels, r)


def _ward(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Ward's hierarchy cut into r groups."""
    labels = _cut(starter.ward_tree, r)
    if not starter.geometry.exact:
        points = starter.geometry.points
        sizes = np.bincount(labels, minlength=r)
        centres = np.zeros((r, points.shape[1]), dtype=np.float32)
        np.add.at(centres, labels, points[starter.sample])
        centres /= sizes[:, None].astype(np.float32)
        labels = squared_between(points, centres).argmin(axis=1)
    return _one_hot(np.broadcast_to(labels, (len(restarts), len(labels))), r)


def _cut(tree: NDArray[np.float64], r: int) -> NDArray[np.intp]:
    """Labels of a linkage's first n - r merges: exactly r groups, also when heights are tied."""
    n = len(tree) + 1
    parent = np.full(2 * n - 1, 2 * n - 1)
    parent[tree[:, 0].astype(np.intp)] = parent[tree[:, 1].astype(np.intp)] = np.arange(n, 2 * n - 1)
    # A row's group is its highest ancestor among those merged so far.
    ancestor = np.arange(n)
    while True:
        above = parent[ancestor]
        climbing = above < 2 * n - r
        if not climbing.any():
            break
        ancestor = np.where(climbing, above, ancestor)
    return np.unique(ancestor, return_inverse=True)[1].astype(np.intp)


def _spectral(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Leading directions, rotated to the rows that stand for a group each (Damle, Minden and Ying 2019)."""
    from scipy.linalg import qr

    n = starter.problem.table.n_rows
    directions, _ = starter.geometry.directions
    # The means were taken out: the constant direction is put back.
    basis = np.concatenate([np.full((n, 1), n**-0.5), directions[:, : r - 1]], axis=1)
    _, _, pivots = qr(basis.T, mode="economic", pivoting=True)
    left, _, right = np.linalg.svd(basis[pivots[: basis.shape[1]]].T)
    labels = np.abs(basis @ (left @ right)).argmax(axis=1)
    return _one_hot(np.broadcast_to(labels, (len(restarts), n)), r)


# Restart 0 is Ward's, restart 1 spectral, and the others follow this cycle.
_CYCLE: tuple[str, ...] = (*("k-means++",) * 9, "near-uniform")


def structured_kind(restart: int) -> tuple[str, int]:
    """Which start a restart of "structured" is, and its number among its own kind."""
    if restart < len(DETERMINISTIC):
        return DETERMINISTIC[restart], 0
    turn, place = divmod(restart - len(DETERMINISTIC), len(_CYCLE))
    kind = _CYCLE[place]
    return kind, turn * _CYCLE.count(kind) + _CYCLE[:place].count(kind)


def _structured(starter: Starter, r: int, restarts: Sequence[int]) -> Responsibilities:
    """Return a mix: Ward, spectral, k-means++ and near-uniform."""
    result = np.empty((len(restarts), r, starter.problem.table.n_rows), dtype=np.float32)
    by_kind: dict[str, list[tuple[int, int]]] = {}
    for place, restart in enumerate(restarts):
        kind, number = structured_kind(restart)
        by_kind.setdefault(kind, []).append((place, number))
    for kind, entries in by_kind.items():
        places, numbers = zip(*entries, strict=True)
        result[list(places)] = INITS[kind](starter, r, numbers)
    return result


def _custom(
    starter: Starter, init: Callable[..., NDArray[np.generic]], r: int, restarts: Sequence[int]
) -> Responsibilities:
    """Return the user's own start: labels, shape (n_rows,), or responsibilities, shape (n_rows, r)."""
    values, _ = starter.problem.table.unpack()
    result = np.empty((len(restarts), r, len(values)), dtype=np.float32)
    for place, restart in enumerate(restarts):
        generator = np.random.Generator(np.random.Philox(starter.sequence("custom", r, restart)))
        start = np.asarray(init(values, r, generator))
        if start.shape == (len(values),) and start.dtype.kind in "iu" and start.min() >= 0 and start.max() < r:
            result[place] = _one_hot(start[None], r)[0]
        elif start.shape == (len(values), r) and np.isfinite(start).all() and (start >= 0).all() and start.sum(1).all():
            result[place] = (start / start.sum(axis=1, keepdims=True)).T
        else:
            raise InputError(
                f"init returned an array of shape {start.shape} and dtype {start.dtype}; labels 0 to {r - 1} of shape "
                f"({len(values)},) or non-negative responsibilities of shape ({len(values)}, {r}) were expected."
            )
    return result


INITS: dict[str, Draw] = {
    "random": _random,
    "dirichlet": _dirichlet,
    "near-uniform": _near_uniform,
    "k-means++": _k_means_plus_plus,
    "ward": _ward,
    "spectral": _spectral,
    "annealed": _annealed,
    "structured": _structured,
}
