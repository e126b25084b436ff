"""Eq. 1 of the paper: the weight between two kernels from what their maps look like on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from innersight_graph.errors import InputError

__all__ = ["READINGS", "eq1_weights", "pool_to_grid"]

_BLOCK_BYTES = 32 * 2**20


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
    Memory is bounded
    by blocks of 32 MiB. Work is in float32 and sums in float64; pass float64 maps for float64 throughout.

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
    kernel, default = READINGS[reading]
    eps = default if eps is None else eps
    n_previous, n_following = previous.shape[1], following.shape[1]
    total: torch.Tensor = torch.zeros(n_previous, n_following, dtype=torch.float64, device=previous.device)
    step = max(1, int(_BLOCK_BYTES / (previous.element_size() * 4 * n_previous * n_following)))
    for start in range(0, len(previous), step):
        total = total + kernel(previous[start : start + step], following[start : start + step], eps)
    return total


def _mixed(part: torch.Tensor, eps: float) -> torch.Tensor:
    """Return a part as a distribution mixed with, and relative to, the uniform one; an empty part is uniform."""
    largest = part.amax(dim=2, keepdim=True)
    scaled = part / torch.where(largest > 0, largest, 1)
    sums = scaled.sum(dim=2, keepdim=True)
    share = torch.where(sums > 0, scaled * (part.shape[2] / torch.where(sums > 0, sums, 1)), 1)
    return (1 - eps) * share + eps


def _padded(part: torch.Tensor, eps: float) -> torch.Tensor:
    """Return a part with eps added, as a distribution relative to the uniform one."""
    part = part + eps
    return part * (part.shape[2] / part.sum(dim=2, keepdim=True))


def _both_parts(
    maps: torch.Tensor, as_share: Callable[[torch.Tensor, float], torch.Tensor], eps: float
) -> torch.Tensor:
    """Return the positive and the negative part of maps side by side, (samples, neurons, 2 positions)."""
    return torch.cat([as_share(maps.clamp(min=0), eps), as_share((-maps).clamp(min=0), eps)], dim=2)


def _cosine_sign(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    # Scaled by their largest entries so that products neither overflow nor vanish.
    p = p / p.abs().amax(dim=2, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    q = q / q.abs().amax(dim=2, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    return torch.sign(p @ q.transpose(1, 2))


def _similarity(p: torch.Tensor, q: torch.Tensor, eps: float) -> torch.Tensor:
    sign = _cosine_sign(p, q)
    shares, logs = _both_parts(p, _mixed, eps), _both_parts(q, _mixed, eps).log()
    # For an inhibition p is compared with -q, whose positive part is q's negative one.
    crossed = torch.roll(logs, logs.shape[2] // 2, dims=2)
    entropy = torch.special.xlogy(shares, shares).sum(dim=2, keepdim=True)
    cross = torch.where(sign < 0, shares @ crossed.transpose(1, 2), shares @ logs.transpose(1, 2))
    divergence = ((entropy - cross) / p.shape[2]).clamp_(min=0)
    return (sign * torch.exp(-divergence)).sum(dim=0, dtype=torch.float64)


def _literal(p: torch.Tensor, q: torch.Tensor, eps: float) -> torch.Tensor:
    shares, logs = _both_parts(p, _padded, eps), _both_parts(q, _padded, eps).log()
    entropy = torch.special.xlogy(shares, shares).sum(dim=2, keepdim=True)
    divergence = ((entropy - shares @ logs.transpose(1, 2)) / p.shape[2]).clamp_(min=0)
    # Dividing by a sign of +1 or -1 is multiplying by it; a sign of 0 drops the sample.
    return (_cosine_sign(p, q) * divergence).sum(dim=0, dtype=torch.float64)


READINGS: Mapping[str, tuple[Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor], float]] = {
    "similarity": (_similarity, 1e-4),
    "literal": (_literal, 1e-8),
}


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
