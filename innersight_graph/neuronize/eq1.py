"""Eq. 1 of the paper: the weight between two kernels from what their maps look like on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from innersight_graph.errors import InputError

__all__ = ["READINGS", "eq1_weights", "pool_to_grid"]

# Pairs of neurons in one tile, and numbers in one block of maps.
_TILE = 2**17
_BLOCK = 2**18


def eq1_weights(
    previous: torch.Tensor, following: torch.Tensor, *, reading: str = "similarity", eps: float | None = None
) -> torch.Tensor:
    """Sum Eq. 1 over samples for every pair of maps of two layers.

    Parameters
    ----------
    previous : torch.Tensor, shape (samples, n_previous, positions)
        Signed maps p of the previous layer, on the same grid as `following`.
    following : torch.Tensor, shape (samples, n_following, positions)
        Signed maps q.
    reading : {"similarity", "literal"}
        "similarity": w = s exp(-[KL(p⁺‖(s q)⁺) + KL(p⁻‖(s q)⁻)]) with s = sign cos(p, q), each part normalised to sum
        1 and
        mixed with the uniform distribution by `eps`; a part empty on both sides contributes 0, on one side it counts as
        uniform. "literal": the printed (KL⁺ + KL⁻) / sign(cos) with `eps` added to each part before it is normalised.
    eps : float, optional
        1e-4 for "similarity", 1e-8 for "literal".

    Returns
    -------
    torch.Tensor, shape (n_previous, n_following), float64
        The sum over samples; divide by their number for the mean.

    Raises
    ------
    InputError
        An unknown reading, or maps of different samples or grids.

    Notes
    -----
    Three matrix products per sample, no loop over pairs: about 10 n_previous n_following positions operations each.
    Memory is bounded by blocks of 2**18 numbers. Work is in float32 and sums in float64; pass float64 maps for
    float64 throughout.

    References
    ----------
    Paper, Eq. 1.

    Examples
    --------
    >>> p = torch.tensor([[[1.0, -2.0, 3.0, 0.5]]])
    >>> round(eq1_weights(p, p).item(), 6), round(eq1_weights(p, -p).item(), 6)
    (1.0, -1.0)
    """
    if reading not in READINGS:
        raise InputError(f"reading={reading!r} is unknown. Use one of {sorted(READINGS)}.")
    if previous.ndim != 3 or following.ndim != 3 or previous.shape[::2] != following.shape[::2]:
        raise InputError(
            f"Maps of shapes {tuple(previous.shape)} and {tuple(following.shape)} cannot be compared. "
            "Expected (samples, neurons, positions) with equal samples and positions; see pool_to_grid."
        )
    rule = READINGS[reading]
    eps = rule.eps if eps is None else eps
    total = torch.zeros(previous.shape[1], following.shape[1], dtype=torch.float64, device=previous.device)
    rows = max(1, _TILE // max(1, following.shape[1]))
    step = max(1, _BLOCK // (previous.shape[2] * (previous.shape[1] + following.shape[1])))
    for start in range(0, len(previous), step):
        p, q = previous[start : start + step], following[start : start + step]
        if p.numel() and q.numel():
            _add_block(total, p, q, rule, eps, rows)
    return total


@dataclass(frozen=True)
class Reading:
    """How a part of a map becomes a distribution, and how a divergence becomes a weight.

    Attributes
    ----------
    sides : function of (sum of a part, number of positions, eps)
        Factor and floor of the part: share = factor * |map| + floor, relative to the uniform distribution.
    signed : whether an inhibition compares p with -q, and the weight is s exp(-KL) instead of s KL.
    eps : default.
    """

    sides: Callable[[torch.Tensor, int, float], tuple[torch.Tensor, torch.Tensor]]
    signed: bool
    eps: float


def _mixed(mass: torch.Tensor, n: int, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(1 - eps) part + eps uniform; an empty part is uniform."""
    there = mass > 0
    return torch.where(there, (1 - eps) * n / mass, 0), torch.where(there, torch.full_like(mass, eps), 1)


def _padded(mass: torch.Tensor, n: int, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Part + eps, normalised."""
    factor = n / (mass + n * eps)
    return factor, factor * eps


READINGS: Mapping[str, Reading] = {"similarity": Reading(_mixed, True, 1e-4), "literal": Reading(_padded, False, 1e-8)}


def _shares(maps: torch.Tensor, rule: Reading, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both parts of maps as distributions relative to the uniform one, and the maps over their mass.

    Shapes (samples, neurons, 2 positions), the parts side by side, and (samples, neurons, positions); products of the
    latter have the sign of the cosine.
    """
    n = maps.shape[2]
    both = maps.new_empty(*maps.shape[:2], 2 * n)
    mass = torch.full_like(maps[..., :1], torch.finfo(maps.dtype).tiny)
    for part, signed in ((both[..., :n], maps), (both[..., n:], -maps)):
        torch.clamp(signed, min=0, out=part)
        own = part.sum(dim=2, keepdim=True)
        factor, floor = rule.sides(own, n, eps)
        part.mul_(factor).add_(floor)
        mass += own
    return both, maps / mass


def _add_block(total: torch.Tensor, p: torch.Tensor, q: torch.Tensor, rule: Reading, eps: float, rows: int) -> None:
    """Add the weights of a block of samples to the total."""
    n = p.shape[2]
    shares, p_direction = _shares(p, rule, eps)
    same, q_direction = _shares(q, rule, eps)
    same.log_()
    # For an inhibition p is compared with -q, whose positive part is q's negative one.
    crossed = torch.cat((same[..., n:], same[..., :n]), dim=2) if rule.signed else same
    entropy = (shares * shares.log()).sum(dim=2, keepdim=True).div_(n)
    shares /= n
    # Tiles of pairs that stay in the processor's cache.
    for start in range(0, p.shape[1], rows):
        tile = slice(start, start + rows)
        sums = torch.zeros_like(total[tile], dtype=p.dtype)
        for s in range(len(p)):
            sign = (p_direction[s, tile] @ q_direction[s].T).sign_()
            # The negative divergence: a product with the logarithms minus the entropy of p.
            agreement = (shares[s, tile] @ same[s].T).sub_(entropy[s, tile])
            if rule.signed:
                opposed = (shares[s, tile] @ crossed[s].T).sub_(entropy[s, tile])
                sums.addcmul_(torch.where(sign < 0, opposed, agreement).clamp_(max=0).exp_(), sign)
            else:
                # Dividing by a sign of +1 or -1 is multiplying by it; a sign of 0 drops the sample.
                sums.addcmul_(agreement.clamp_(max=0), sign, value=-1)
            if s % 16 == 15 or s == len(p) - 1:
                total[tile] += sums
                sums.zero_()


def pool_to_grid(maps: torch.Tensor, grid: tuple[int, ...], target: tuple[int, ...]) -> torch.Tensor:
    """Average maps (samples, neurons, positions) on one grid adaptively to another one of 1 to 3 axes.

    Examples
    --------
    >>> pool_to_grid(torch.arange(4.0).reshape(1, 1, 4), (2, 2), (1, 1))
    tensor([[[1.5000]]])
    """
    if grid == target:
        return maps
    pools = {1: torch.nn.functional.adaptive_avg_pool1d, 2: torch.nn.functional.adaptive_avg_pool2d}
    pool = pools.get(len(grid), torch.nn.functional.adaptive_avg_pool3d)
    pooled: torch.Tensor = pool(maps.reshape(*maps.shape[:2], *grid), target).flatten(2)  # type: ignore[arg-type]
    return pooled
