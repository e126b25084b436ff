"""Spectral starts: signed combinations of the channels, not the channels side by side.

Communities usually shift both signs at once. In one square, Σ_s D_s² / p_s, the shifts add before they are squared;
side by side they are squared first, which loses a factor √2 in detectability for two equal signs. Which combination
carries the signal is not known, so several directions are tried and the strongest are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from innersight_graph.detection._blockmodel.expectation import Floats
from innersight_graph.detection._blockmodel.kmeans import best_kmeans
from innersight_graph.detection._blockmodel.profile import Pair, Profile
from innersight_graph.detection._blockmodel.variational import Ints

_GRAM_LIMIT = 3000
_POWER_PASSES = 5
_LANCZOS_STEPS = 18

# Weights of (difference S, total T) in the residual of each block; a direction alternating over blocks mixes the two.
_HALF = 1 / np.sqrt(2)
_SAME = {"difference": (1.0, 0.0), "total": (0.0, 1.0), "plus": (_HALF, _HALF), "minus": (_HALF, -_HALF)}
_MIXED = {"difference-total": ("difference", "total"), "total-difference": ("total", "difference")}


@dataclass(frozen=True)
class Direction:
    """Leading eigenpairs of Σ_b R_b R_b' for one combination R of the residuals, scaled by the mean eigenvalue."""

    name: str
    values: Floats  # (n_vectors,) descending
    vectors: Floats  # (n_rows, n_vectors)


def directions(pairs: list[Pair], n_vectors: int, *, rng: np.random.Generator) -> list[Direction]:
    """Return every direction's leading eigenpairs.

    Up to 3,000 rows the Gram matrices are formed, three for each block; beyond, a block power iteration needs only
    thin products with the residuals.
    """
    n_rows = pairs[0].difference.shape[0]
    n_vectors = min(n_vectors, n_rows)
    if n_rows > _GRAM_LIMIT:
        return [_power(name, matrices, n_vectors, rng) for name, matrices in _residuals(pairs)]
    return [_exact(name, gram, n_vectors) for name, gram in _grams(pairs)]


def one_direction(pairs: list[Pair], name: str, n_vectors: int) -> Direction:
    """Return the leading eigenpairs of one direction alone."""
    R = np.hstack([matrix for b, pair in enumerate(pairs) for matrix in _of(name, pair, b)])
    return _exact(name, R @ R.T, min(n_vectors, R.shape[0]))


def leading_values(pairs: list[Pair], rng: np.random.Generator, *, steps: int = _LANCZOS_STEPS) -> dict[str, float]:
    """Leading eigenvalue over the mean eigenvalue of every direction: the statistics of the sensitive test.

    Lanczos steps for all directions at once, each two products with the residuals; no Gram matrix is formed. The value
    is from below, short by about a thousandth, on the observed graph and on copies of the null alike.
    """
    names = _names(pairs)
    residuals = np.hstack([matrix for pair in pairs for matrix in (pair.difference, pair.total)]).astype(np.float32)
    mix = _Mixture(pairs, names)
    n = residuals.shape[0]
    steps = min(steps, n)
    v: Floats = rng.standard_normal((n, len(names))).astype(np.float32)
    basis: list[Floats] = []
    tridiagonal = np.zeros((len(names), steps, steps))
    for step in range(steps):
        v = v / np.maximum(np.sqrt((v**2).sum(axis=0)), 1e-30)
        basis.append(v)
        w = residuals @ mix(residuals.T @ v)
        tridiagonal[:, step, step] = (v * w).sum(axis=0)
        for u in basis:
            w = w - u * (u * w).sum(axis=0)
        if step + 1 < steps:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = np.sqrt((w**2).sum(axis=0))
        v = w
    top = np.linalg.eigvalsh(tridiagonal)[:, -1]
    return dict(zip(names, (top * n / mix.traces).tolist(), strict=True))


class _Mixture:
    """Applies, column by column, the map of (difference, total) of every block that each direction stands for."""

    def __init__(self, pairs: list[Pair], names: list[str]) -> None:
        self.widths = [pair.total.shape[1] for pair in pairs]
        # maps[b][j] is the 2 x 2 matrix M with R R' = [S T] M [S T]'.
        self.maps = [np.array([self._map(name, b) for name in names], dtype=np.float32) for b in range(len(pairs))]
        inner = [
            [[float(np.vdot(x, y)) for y in (p.difference, p.total)] for x in (p.difference, p.total)] for p in pairs
        ]
        traces = [np.einsum("jxy,xy->j", maps, products) for maps, products in zip(self.maps, inner, strict=True)]
        self.traces = np.maximum(np.sum(traces, axis=0), 1e-300)

    @staticmethod
    def _map(name: str, block: int) -> list[list[float]]:
        if name == "side":
            return [[0.5, 0.0], [0.0, 0.5]]
        s, t = _SAME[_MIXED[name][block % 2] if name in _MIXED else name]
        return [[s * s, s * t], [s * t, t * t]]

    def __call__(self, Z: Floats) -> Floats:
        out, begin = np.empty_like(Z), 0
        for width, maps in zip(self.widths, self.maps, strict=True):
            middle, end = begin + width, begin + 2 * width
            S, T = Z[begin:middle], Z[middle:end]
            out[begin:middle] = S * maps[:, 0, 0] + T * maps[:, 0, 1]
            out[middle:end] = S * maps[:, 1, 0] + T * maps[:, 1, 1]
            begin = end
        return out


def row_labels(
    profile: Profile, direction: Direction, n_groups: int, *, n_init: int, seed: np.random.SeedSequence
) -> Ints:
    """K-means on the direction's vectors, neurons of low degree shrunk by weight, not normalised to unit length."""
    weight = profile.degrees + 0.25
    values = np.sqrt(np.maximum(direction.values[: n_groups - 1], 0.0))
    points = direction.vectors[:, : n_groups - 1] * values / np.sqrt(weight)[:, None]
    return best_kmeans(points, n_groups, seed, n_init=n_init, weight=weight)[0]


def feature_labels(
    profile: Profile, direction: Direction, n_groups: int, *, n_init: int, seed: np.random.SeedSequence
) -> list[Ints]:
    """Do the same for the features of each block, embedded through the rows' vectors."""
    U = direction.vectors[:, : max(n_groups - 1, 1)]
    out = []
    for b, pair in enumerate(profile.pairs):
        embedding = np.hstack([R.T @ U for R in _of(direction.name, pair, b)])
        out.append(best_kmeans(embedding, n_groups, seed, n_init=n_init)[0])
    return out


def _of(name: str, pair: Pair, block: int) -> list[Floats]:
    """Return the residual matrices of a direction in one block; side by side has two."""
    if name == "side":
        return [pair.difference * _HALF, pair.total * _HALF]
    a, b = _SAME[_MIXED[name][block % 2] if name in _MIXED else name]
    return [pair.difference * a + pair.total * b if a and b else (pair.difference if a else pair.total)]


def _names(pairs: list[Pair]) -> list[str]:
    if all(pair.difference is pair.total for pair in pairs):
        return ["total"]
    return [*_SAME, "side", *(_MIXED if len(pairs) == 2 else ())]


def _residuals(pairs: list[Pair]) -> Iterator[tuple[str, list[Floats]]]:
    for name in _names(pairs):
        yield name, [matrix for b, pair in enumerate(pairs) for matrix in _of(name, pair, b)]


def _grams(pairs: list[Pair]) -> Iterator[tuple[str, Floats]]:
    """Grams of every direction from three products a block: SS', TT' and ST' + TS'."""
    names = _names(pairs)
    if names == ["total"]:
        yield "total", np.sum([pair.total @ pair.total.T for pair in pairs], axis=0)
        return
    S = [pair.difference @ pair.difference.T for pair in pairs]
    T = [pair.total @ pair.total.T for pair in pairs]
    cross = [pair.difference @ pair.total.T for pair in pairs]
    X = [c + c.T for c in cross]
    for name in names:
        if name == "side":
            yield name, np.asarray(0.5 * (sum(S) + sum(T)))
            continue
        gram = np.zeros_like(S[0])
        for b in range(len(pairs)):
            s, t = _SAME[_MIXED[name][b % 2] if name in _MIXED else name]
            for weight, part in ((s * s, S[b]), (t * t, T[b]), (s * t, X[b])):
                if weight:
                    gram += weight * part
        yield name, gram


def _exact(name: str, gram: Floats, n_vectors: int) -> Direction:
    from scipy.linalg import eigh

    n = gram.shape[0]
    values, vectors = eigh(gram, subset_by_index=[n - n_vectors, n - 1], check_finite=False)
    mean = max(float(np.trace(gram)) / n, 1e-300)
    return Direction(name, values[::-1] / mean, _fixed_sign(vectors[:, ::-1]))


def _power(name: str, matrices: list[Floats], n_vectors: int, rng: np.random.Generator) -> Direction:
    n = matrices[0].shape[0]
    block = rng.standard_normal((n, n_vectors + 16)).astype(matrices[0].dtype)
    for _ in range(_POWER_PASSES):
        block = np.linalg.qr(np.sum([R @ (R.T @ block) for R in matrices], axis=0))[0]
    small = np.sum([(lambda y: y.T @ y)(R.T @ block) for R in matrices], axis=0)
    values, rotation = np.linalg.eigh(small)
    mean = sum(float(np.vdot(R, R)) for R in matrices) / n
    vectors = (block @ rotation[:, ::-1])[:, :n_vectors]
    return Direction(name, values[::-1][:n_vectors] / mean, _fixed_sign(vectors))


def _fixed_sign(vectors: Floats) -> Floats:
    """Make the largest entry of each vector positive, so that equal inputs give equal starts on every machine."""
    top = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[top, np.arange(vectors.shape[1])])
    fixed: Floats = vectors * np.where(signs == 0, 1.0, signs)
    return fixed
