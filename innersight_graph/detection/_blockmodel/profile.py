"""From a layer's weight matrices to blocks: how weights become channels, their null, and draws from that null.

`signed_profile` reads sparse signs, `graded_profile` levels of |w| times sign (Poisson channels with degrees of their
own), `scored_profile` signed normal scores (Gaussian). All three see weights only up to a positive factor for each row
and column, wherever the weights are not signs alone: rescaling ReLU neurons cannot move a partition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.detection._blockmodel.degrees import row_degrees, row_locations
from innersight_graph.detection._blockmodel.expectation import Expectation, Floats, Product, signed_expectation
from innersight_graph.detection._blockmodel.gaussian import GaussianBlock
from innersight_graph.detection._blockmodel.poisson import PoissonBlock
from innersight_graph.detection._blockmodel.variational import Block

LARGE = 16_000_000
_SINGLE = 20_000
_STANDARD_ROUNDS = 3
_COPY_TOL = 1e-4  # of equal rows in a copy of the null: its eigenvalue varies by hundredths


@dataclass(frozen=True)
class Pair:
    """Standardised residuals of one block: of the difference of the signs, and of their total."""

    difference: Floats
    total: Floats


@dataclass(frozen=True)
class Profile:
    """What the algorithms see of a layer."""

    blocks: list[Block]
    pairs: list[Pair]
    degrees: Floats  # (n_rows,) relative to their mean
    draw: Callable[[np.random.Generator], list[Pair]]  # residuals of one null copy
    rows: tuple[str, ...]  # the row degrees kept in each block
    turn: Callable[[np.random.Generator], list[Floats]] | None = None  # weights in a random rotation of the rows


def equalised(W: Floats, *, rounds: int = 200, tol: float = 1e-10) -> Floats:
    """|W| with every non-empty row and column divided to a mean of one (iterative proportional fitting)."""
    A = np.abs(W).astype(float)
    for _ in range(rounds):
        rows = A.mean(axis=1, keepdims=True)
        A /= np.where(rows > 0, rows, 1.0)
        columns = A.mean(axis=0, keepdims=True)
        A /= np.where(columns > 0, columns, 1.0)
        if float(np.abs(A.mean(axis=1)[rows[:, 0] > 0] - 1).max(initial=0.0)) < tol:
            break
    return A


def normal_scores(magnitude: Floats) -> Floats:
    """Half-normal quantiles of the ranks of |w| over the block; ties share their mean rank, zeros score zero."""
    from scipy.stats import rankdata

    scores = _half_normal(rankdata(magnitude, axis=None).reshape(magnitude.shape), magnitude.size)
    return np.where(magnitude > 0, scores, 0.0)


def _half_normal(ranks: Floats, n: int) -> Floats:
    from scipy.special import ndtri

    scores: Floats = ndtri(0.5 + 0.5 * (ranks - 0.5) / n)
    return scores


def _nearly_normal_scores(magnitude: Floats) -> Floats:
    """Interpolate `normal_scores` between about a thousand ranks, exact in the tail; sorting values beats ranking."""
    values = np.sort(magnitude, axis=None)
    knots = np.unique(np.r_[0 : values.size : max(1, values.size // 500), max(0, values.size - 500) : values.size])
    at = values[knots]
    if not (at[1:] > at[:-1]).all():
        return normal_scores(magnitude)
    scores: Floats = np.interp(magnitude, at, _half_normal(knots + 1.0, values.size)).astype(magnitude.dtype)
    return scores


def sign_codes(W: Floats) -> NDArray[np.int8]:
    """1 for a positive, 2 for a negative, 0 for an absent connection."""
    codes = np.zeros(W.shape, dtype=np.int8)
    codes[W > 0] = 1
    codes[W < 0] = 2
    return codes


def level_codes(W: Floats, n_levels: int) -> NDArray[np.int8]:
    """Levels of the equalised |w|, each half of what is left, times sign: 2·level − 1 (+), 2·level (−)."""
    magnitude = equalised(W)
    cuts = np.quantile(magnitude, 1 - 0.5 ** np.arange(1, n_levels + 1))
    cuts = np.unique(np.maximum(cuts, np.nextafter(0.0, 1.0)))
    level = (magnitude[:, :, None] > cuts).sum(axis=2) if W.size < LARGE else np.searchsorted(cuts, magnitude)
    codes: NDArray[np.int8] = np.where(level > 0, 2 * level - (W > 0), 0).astype(np.int8)
    return codes


def signed_profile(codes: list[NDArray[np.int8]], *, degree: str = "auto") -> Profile:
    """Blocks of signs: 1 a positive, 2 a negative connection."""
    margins = [_sign_degrees(c) for c in codes]
    sides = [(rows[0], rows[1]) for rows, _ in margins]
    kept = row_degrees(sides) if degree == "auto" else (degree,) * len(sides)
    nulls = [
        signed_expectation(r, c, rows=k, dtype=_dtype(x)) for (r, c), k, x in zip(margins, kept, codes, strict=True)
    ]
    blocks: list[Block] = [PoissonBlock(x, 2, null, dtype=_dtype(x)) for x, (null, _) in zip(codes, nulls, strict=True)]
    pairs = [_sign_residuals(x, null) for x, (null, _) in zip(codes, nulls, strict=True)]
    total = sum((rows.sum(axis=0) for rows, _ in margins), np.zeros(codes[0].shape[0]))

    def draw(rng: np.random.Generator) -> list[Pair]:
        copies = []
        for (null, start), rows in zip(nulls, kept, strict=True):
            E = null.dense().astype(np.float32)
            u = rng.random(E.shape[1:], dtype=np.float32)
            drawn = np.where(u < E[0], np.int8(1), np.where(u < E[0] + E[1], np.int8(2), np.int8(0)))
            refitted, _ = signed_expectation(*_sign_degrees(drawn), rows=rows, rounds=6, start=start, dtype=np.float32)
            copies.append(_sign_residuals(drawn, refitted))
        return copies

    return Profile(blocks, pairs, total / max(float(total.mean()), 1e-300), draw, kept)


def graded_profile(weights: list[Floats], *, n_levels: int = 6) -> Profile:
    """Blocks of levels of |w| times sign; every level keeps its own row and column degrees."""
    codes = [level_codes(W, n_levels) for W in weights]
    blocks: list[Block] = [_graded_block(c) for c in codes]
    return _weighted_profile(weights, blocks, ("level",) * len(weights))


def scored_profile(weights: list[Floats], *, degree: str = "auto") -> Profile:
    """Blocks of signed normal scores, each column centred, rows too where their locations vary continuously."""
    scored, kept = standard_scores(weights, degree=degree)
    blocks: list[Block] = [GaussianBlock(g, dtype=_dtype(g)) for g in scored]
    level = balanced_rows(weights)

    def turn(rng: np.random.Generator) -> list[Floats]:
        Q = rotation(level[0].shape[0], rng)
        return [Q @ W for W in level]

    return replace(_weighted_profile(weights, blocks, kept), turn=turn)


def balanced_rows(weights: list[Floats]) -> list[Floats]:
    """Scale columns to equal size and each neuron's two sides against each other: what rotates is free of the gauge."""
    scaled = [np.array(W, dtype=float) for W in weights]
    for _ in range(3):
        scaled = [W / np.sqrt(np.maximum((W**2).mean(axis=0), 1e-300)) for W in scaled]
        if len(scaled) == 2:
            before, after = (np.maximum((W**2).mean(axis=1), 1e-300) for W in scaled)
            factor = ((before / after) ** 0.25)[:, None]
            scaled = [scaled[0] / factor, scaled[1] * factor]
    return scaled


def rotation(n: int, rng: np.random.Generator) -> Floats:
    """Draw an orthogonal matrix (n, n) uniformly."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    uniform: Floats = Q * np.sign(np.diag(R))
    return uniform


def standard_scores(weights: list[Floats], *, degree: str = "auto") -> tuple[list[Floats], tuple[str, ...]]:
    """Signed normal scores with unit mean square in rows and columns, and the row degrees that were kept."""
    centred = [g - g.mean(axis=0) for g in (np.sign(W) * normal_scores(equalised(W)) for W in weights)]
    sides = [(g.mean(axis=1), float(g.std() / np.sqrt(g.shape[1]))) for g in centred]
    kept = row_locations(sides) if degree == "auto" else (degree,) * len(weights)
    return [_standard(g, rows) for g, rows in zip(centred, kept, strict=True)], kept


def _standard(g: Floats, rows: str) -> Floats:
    for _ in range(4):
        if rows == "sign":
            g = g - g.mean(axis=1, keepdims=True)
        g = g - g.mean(axis=0)
        g = _unit(_unit(g, axis=1), axis=0)
    return g


def _unit(g: Floats, axis: int) -> Floats:
    size = np.sqrt((g**2).mean(axis=axis, keepdims=True))
    scaled: Floats = g / np.where(size > 0, size, 1.0)
    return scaled


def _weighted_profile(weights: list[Floats], blocks: list[Block], rows: tuple[str, ...]) -> Profile:
    degrees = np.ones(weights[0].shape[0])
    scaled = [np.sign(W) * equalised(W) for W in weights]

    def draw(rng: np.random.Generator) -> list[Pair]:
        return [score_residuals(rng.permutation(W.ravel()).reshape(W.shape), tol=_COPY_TOL) for W in scaled]

    return Profile(blocks, [score_residuals(W) for W in scaled], degrees, draw, rows)


def _dtype(codes: NDArray[Any]) -> type[np.floating]:
    """Half the memory traffic from a size on where rounding (10⁻³ nats of thousands) is far below what decides."""
    return np.float32 if codes.size > _SINGLE else np.float64


def _sign_degrees(codes: NDArray[np.int8]) -> tuple[Floats, Floats]:
    rows = np.stack([np.count_nonzero(codes == s, axis=1) for s in (1, 2)]).astype(float)
    columns = np.stack([np.count_nonzero(codes == s, axis=0) for s in (1, 2)]).astype(float)
    return rows, columns


def _sign_residuals(codes: NDArray[np.int8], null: Expectation) -> Pair:
    """S = ((A⁺ − A⁻) − (E⁺ − E⁻)) / d and T = ((A⁺ + A⁻) − p) / d with d = √(max(p, ¼ mean p) · F)."""
    p = null.total()
    d = np.maximum(p, 0.25 * max(float(p.mean()), 1e-12))
    np.sqrt(d, out=d)
    d *= np.sqrt(codes.shape[1])
    total = (codes > 0).astype(p.dtype)
    total -= p
    total /= d
    if not (codes == 2).any():
        return Pair(total, total)
    E = null.dense()
    difference = ((codes == 1).astype(p.dtype) - (codes == 2) - (E[0] - E[1])) / d
    return Pair(difference, total)


def score_residuals(W: Floats, *, tol: float = 1e-10) -> Pair:
    """Signed and squared normal scores with rows and columns of mean zero and unit size, over √F."""
    magnitude = _nearly_normal_scores(equalised(W, tol=tol).astype(_dtype(W)))
    return Pair(_standardised(np.sign(W).astype(magnitude.dtype) * magnitude), _standardised(magnitude**2))


def _standardised(X: Floats) -> Floats:
    """Centre rows and columns and give them all one size.

    Dividing by row and column means leaves their sampling error in, which collects the largest weights of a bounded
    distribution in a few columns. Without equal sizes that alone stands out from permuted copies: the sensitive test
    then split three of five networks at initialisation.
    """
    for _ in range(_STANDARD_ROUNDS):
        X = X - X.mean(axis=1, keepdims=True)
        X = X - X.mean(axis=0)
        X = _unit(_unit(X, axis=1), axis=0)
    result: Floats = X / X.dtype.type(np.sqrt(X.shape[1]))
    return result


def _graded_block(codes: NDArray[np.int8]) -> PoissonBlock:
    channels = int(codes.max(initial=0))
    channels += channels % 2
    channels = max(channels, 2)
    rows = np.stack([np.count_nonzero(codes == s + 1, axis=1) for s in range(channels)]).astype(float)
    columns = np.stack([np.count_nonzero(codes == s + 1, axis=0) for s in range(channels)]).astype(float)
    by_level = columns[0::2] + columns[1::2]
    level_rows = rows[0::2] + rows[1::2]
    positive = columns[0::2].sum(axis=0) / np.maximum(by_level.sum(axis=0), 1e-300)
    share = np.tile(np.stack([positive, 1 - positive]), (channels // 2, 1))
    total = np.sqrt(np.maximum(level_rows.sum(axis=1, keepdims=True), 1.0))
    null = Product(np.repeat(level_rows / total, 2, axis=0), share * np.repeat(by_level / total, 2, axis=0))
    return PoissonBlock(codes, channels, null, dtype=_dtype(codes))
