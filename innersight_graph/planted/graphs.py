"""Layered signed graphs with planted communities: everything known, nothing trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.errors import InputError
from innersight_graph.graph.layered import Layer, LayeredDiGraph
from innersight_graph.partition import Partition

Ints = NDArray[np.intp]
Floats = NDArray[np.float64]


def detectability(
    width: int, features: Sequence[int], n_communities: int, difference: Sequence[float], mean: Sequence[float]
) -> float:
    """Signal-to-noise ratio λ of a planted layer; groups are detectable by efficient methods above λ = 1.

    λ² = Σ_b (K F_b / C⁴) (Σ_s D_s² / p_s)² for K neurons and F_b features of the adjacent layer b in C equal groups,
    with D_s the matched-minus-unmatched probability of sign s and p_s its mean. With one symmetric unsigned block it is
    the Kesten–Stigum threshold.

    Parameters
    ----------
    width
        Neurons K of the layer.
    features
        Neurons F_b of each adjacent layer.
    n_communities
        Groups C.
    difference, mean
        D_s and p_s of each sign.

    Returns
    -------
    float

    References
    ----------
    Abbe, Community detection and stochastic block models, 2017, arXiv:1703.10146.

    Examples
    --------
    >>> round(detectability(240, (240, 240), 4, (0.0768, -0.0768), (0.1, 0.1)), 2)
    2.5
    """
    signal = sum(d**2 / p for d, p in zip(difference, mean, strict=True) if p > 0)
    return float(np.sqrt(sum(width * f for f in features)) / n_communities**2 * signal)


def planted_layers(
    n_communities: int = 4,
    *,
    snr: float = 2.5,
    widths: Sequence[int] = (240, 240, 240),
    density: float = 0.1,
    seed: int | None = None,
) -> tuple[LayeredDiGraph, Partition]:
    """Signed layered planted partition: groups of adjacent layers match by excitation, others by inhibition.

    With C groups, a matched pair is connected positively with probability p + d(C−1)/C and negatively with p −
    d(C−1)/C, an unmatched pair with p − d/C and p + d/C, so that no neuron's degree tells its group.

    Parameters
    ----------
    n_communities
        C; every layer has C groups of (nearly) equal size.
    snr
        λ of a hidden layer, see `detectability`; 0 plants nothing. d is solved from it for the first hidden layer.
    widths
        Neurons in each layer, input and output included; at least three layers.
    density
        p, the probability of a connection of each sign.
    seed
        Seed of `numpy.random.SeedSequence`.

    Returns
    -------
    G : LayeredDiGraph
        Layers ``input``, ``hidden1`` …, ``output``; weights +1 and −1.
    truth : Partition
        Of the hidden layers.

    Raises
    ------
    InputError
        If the signal is too strong for the density: a probability would be negative.

    Examples
    --------
    >>> G, truth = planted_layers(4, snr=2.5, widths=(60, 40, 60), density=0.2, seed=0)
    >>> G, [len(c) for c in truth]
    (LayeredDiGraph(3 layers, 160 neurons, 1926 edges), [10, 10, 10, 10])
    """
    _check_widths(widths, n_communities)
    rng = np.random.default_rng(seed)
    C, p = n_communities, density
    d = C * np.sqrt(snr * p / (2 * np.sqrt(widths[1] * (widths[0] + widths[2]))))
    if p < d * (C - 1) / C:
        raise InputError(
            f"snr = {snr} needs a difference of {d:.3f} between matched and unmatched pairs, but a density of {p} "
            f"allows at most {p * C / (C - 1):.3f}. Lower snr, raise density, or widen the layers."
        )
    groups = [_groups(width, C, rng) for width in widths]
    matrices = []
    for z, w in _adjacent(groups):
        matched = z[:, None] == w[None, :]
        shift = np.where(matched, d * (C - 1) / C, -d / C)
        matrices.append(_signed_draw(p + shift, p - shift, rng))
    return _assemble(matrices, groups, "planted_layers", {"n_communities": C, "snr": snr, "density": p}, seed)


def planted_roles(
    strength: float = 0.1,
    *,
    widths: Sequence[int] = (240, 240, 240),
    purity: float = 0.85,
    flip: bool = False,
    seed: int | None = None,
) -> tuple[LayeredDiGraph, Partition]:
    """Four communities = two groups of connections × the sign of what a neuron sends out.

    Matched pairs are connected with probability 0.05 + `strength`, others with 0.05, in both adjacent layers. Incoming
    signs are random; outgoing signs are the neuron's own with probability `purity`. Without signs only the two groups
    can be seen, so that a method blind to signs cannot pass an adjusted Rand index of about 0.5.

    Parameters
    ----------
    strength
        Difference s of the densities.
    widths
        Neurons of the input, the hidden layer and the output.
    purity
        Probability that an outgoing connection has its neuron's sign.
    flip
        The sign is also reversed with the group of the neuron it reaches, so that a neuron's excess of one sign says
        less.
    seed
        Seed of the draw.

    Returns
    -------
    G : LayeredDiGraph
    truth : Partition

    Examples
    --------
    >>> G, truth = planted_roles(0.2, widths=(40, 40, 40), seed=0)
    >>> len(truth), truth.names[0]
    (4, 'hidden1/c0')
    """
    _check_widths(widths, 4, exactly=3)
    rng = np.random.default_rng(seed)
    z = _groups(widths[1], 4, rng)
    group, role = z // 2, np.where(z % 2 == 0, 1.0, -1.0)
    before, after = (_groups(widths[side], 2, rng) for side in (0, 2))
    edges = [
        rng.random((z.size, w.size)) < np.where(group[:, None] == w, 0.05 + strength, 0.05) for w in (before, after)
    ]
    sign_in = rng.choice([-1.0, 1.0], size=edges[0].shape)
    sign_out = role[:, None] * np.where(rng.random(edges[1].shape) < purity, 1.0, -1.0)
    if flip:
        sign_out = sign_out * np.where(after == 0, 1.0, -1.0)
    matrices = [(edges[0] * sign_in).T, edges[1] * sign_out]
    params = {"strength": strength, "purity": purity, "flip": flip}
    return _assemble(matrices, [before, z, after], "planted_roles", params, seed)


def planted_hubs(
    sigma: float = 1.0,
    n_communities: int = 4,
    *,
    widths: Sequence[int] = (240, 240, 240),
    matched: float = 0.30,
    unmatched: float = 0.06,
    seed: int | None = None,
) -> tuple[LayeredDiGraph, Partition]:
    """Communities under hubs: matched densities times log-normal propensities of both ends, signs random.

    Parameters
    ----------
    sigma
        Standard deviation of the log propensities (mean propensity 1); connection probabilities are clipped at 0.95.
    n_communities
        Groups of each layer.
    widths
        Neurons of the input, the hidden layer and the output.
    matched, unmatched
        Probabilities of a connection between average neurons; equal ones plant nothing.
    seed
        Seed of the draw.

    Returns
    -------
    G : LayeredDiGraph
    truth : Partition

    Examples
    --------
    >>> G, truth = planted_hubs(1.0, widths=(40, 40, 40), seed=0)
    >>> len(truth)
    4
    """
    _check_widths(widths, n_communities, exactly=3)
    rng = np.random.default_rng(seed)
    groups = [_groups(width, n_communities, rng) for width in widths]
    matrices = []
    for z, w in _adjacent(groups):
        send, receive = (_propensities(n, sigma, rng) for n in (z.size, w.size))
        p = np.minimum(0.95, np.where(z[:, None] == w, matched, unmatched) * np.outer(send, receive))
        matrices.append((rng.random(p.shape) < p) * rng.choice([-1.0, 1.0], size=p.shape))
    params = {"sigma": sigma, "n_communities": n_communities, "matched": matched, "unmatched": unmatched}
    return _assemble(matrices, groups, "planted_hubs", params, seed)


def planted_blocks(
    noise: float = 1.0,
    n_communities: int = 4,
    *,
    widths: Sequence[int] = (240, 240, 240),
    sizes: Sequence[int] | None = None,
    keep: float | None = None,
    seed: int | None = None,
) -> tuple[LayeredDiGraph, Partition]:
    """Noisy block weights: standard normal weights inside the blocks plus `noise` times standard normal everywhere.

    Parameters
    ----------
    noise
        Standard deviation ε of the noise.
    n_communities
        Groups of each layer.
    widths
        Neurons of the input, the hidden layer and the output.
    sizes
        Sizes of the hidden layer's groups, instead of equal ones; they sum to its width.
    keep
        Fraction of the connections kept as bare signs, the largest by absolute value; None keeps all weights.
    seed
        Seed of the draw.

    Returns
    -------
    G : LayeredDiGraph
    truth : Partition

    Raises
    ------
    InputError
        Widths that are too small or not three, or sizes that do not sum to the hidden layer's width.

    Examples
    --------
    >>> G, truth = planted_blocks(0.6, widths=(40, 40, 40), sizes=(20, 10, 6, 4), keep=0.2, seed=0)
    >>> [len(c) for c in truth]
    [20, 10, 6, 4]
    """
    _check_widths(widths, n_communities, exactly=3)
    rng = np.random.default_rng(seed)
    groups = [_groups(width, n_communities, rng) for width in widths]
    if sizes is not None:
        if len(sizes) != n_communities or sum(sizes) != widths[1]:
            raise InputError(
                f"sizes {tuple(sizes)} must be {n_communities} numbers that sum to the hidden layer's {widths[1]}. "
                "Adjust sizes, n_communities or widths."
            )
        groups[1] = rng.permutation(np.repeat(np.arange(n_communities), sizes))
    matrices = []
    for z, w in _adjacent(groups):
        W = (z[:, None] == w) * rng.standard_normal((z.size, w.size)) + noise * rng.standard_normal((z.size, w.size))
        matrices.append(W if keep is None else np.sign(W) * (np.abs(W) > np.quantile(np.abs(W), 1 - keep)))
    params = {"noise": noise, "n_communities": n_communities, "keep": keep}
    return _assemble(matrices, groups, "planted_blocks", params, seed)


def planted_scale(
    n_communities: int = 64,
    *,
    widths: Sequence[int] = (4096, 11008, 4096),
    matched: float = 0.68,
    unmatched: float = 0.09,
    seed: int | None = None,
) -> tuple[LayeredDiGraph, Partition]:
    """Return a layer of a language model's size: excitation only, matched pairs connected more often; stored sparse.

    With both signs shifted in opposite directions so many groups cannot be detectable at any allowed difference
    (d ≤ p C/(C−1) gives λ ≤ 0.48 at p = 0.1), hence excitation only. The defaults have λ = 8.

    Parameters
    ----------
    n_communities
        Groups of each layer.
    widths
        Neurons of the input, the hidden layer and the output.
    matched, unmatched
        Probabilities of a connection.
    seed
        Seed of the draw.

    Returns
    -------
    G : LayeredDiGraph
        Connections as `scipy.sparse.csr_array`; the defaults have about 9 million edges in 75 MB.
    truth : Partition
    """
    from scipy import sparse

    _check_widths(widths, n_communities, exactly=3)
    rng = np.random.default_rng(seed)
    groups = [_groups(width, n_communities, rng) for width in widths]
    matrices = []
    for z, w in _adjacent(groups):
        strips = []
        for rows in np.array_split(z, max(1, z.size // 512)):
            p = np.where(rows[:, None] == w, np.float32(matched), np.float32(unmatched))
            strips.append(sparse.csr_array((rng.random(p.shape, dtype=np.float32) < p).astype(np.float32)))
        matrices.append(sparse.csr_array(sparse.vstack(strips, format="csr")))
    params = {"n_communities": n_communities, "matched": matched, "unmatched": unmatched}
    return _assemble(matrices, groups, "planted_scale", params, seed)


def layered_graph(matrices: Sequence[Any], name: str, params: Mapping[str, Any], seed: int | None) -> LayeredDiGraph:
    """Chain matrices (n_source, n_target) into a graph with layers ``input``, ``hidden1`` …, ``output``."""
    widths = [matrices[0].shape[0], *(m.shape[1] for m in matrices)]
    names = ["input", *(f"hidden{i}" for i in range(1, len(widths) - 1)), "output"]
    kinds = ["input"] + ["linear"] * (len(widths) - 1)
    layers = [
        Layer(n, depth, width, kind) for depth, (n, width, kind) in enumerate(zip(names, widths, kinds, strict=True))
    ]
    connections = {pair: m.astype(np.float32) for pair, m in zip(itertools.pairwise(names), matrices, strict=True)}
    return LayeredDiGraph.from_arrays(layers, connections, graph={"generator": name, **params, "seed": seed})


def _assemble(
    matrices: Sequence[Any], groups: Sequence[Ints], name: str, params: Mapping[str, Any], seed: int | None
) -> tuple[LayeredDiGraph, Partition]:
    G = layered_graph(matrices, name, params, seed)
    labels = dict(zip(G.hidden_layers, groups[1:-1], strict=True))
    return G, Partition.from_labels(G, labels, method=name, params=dict(params), seed=seed)


def _adjacent(groups: Sequence[Ints]) -> Iterator[tuple[Ints, Ints]]:
    return itertools.pairwise(groups)


def _groups(n: int, C: int, rng: np.random.Generator) -> Ints:
    """Labels of C groups as equal as possible, in random order."""
    return rng.permutation(np.arange(n) % C)


def _propensities(n: int, sigma: float, rng: np.random.Generator) -> Floats:
    x = np.exp(sigma * rng.standard_normal(n))
    result: Floats = x / x.mean()
    return result


def _signed_draw(positive: Floats, negative: Floats, rng: np.random.Generator) -> Floats:
    """+1, −1 or 0 with the given probabilities."""
    u = rng.random(positive.shape)
    return np.where(u < positive, 1.0, np.where(u < positive + negative, -1.0, 0.0))


def _check_widths(widths: Sequence[int], n_communities: int, exactly: int | None = None) -> None:
    if len(widths) < 3 or (exactly is not None and len(widths) != exactly):
        wanted = f"exactly {exactly}" if exactly else "at least 3"
        raise InputError(f"widths has {len(widths)} layers, {tuple(widths)}; give {wanted}: input, hidden and output.")
    if not 1 <= n_communities <= min(widths):
        raise InputError(
            f"{n_communities} communities do not fit layers of {tuple(widths)} neurons. Give 1 to {min(widths)}."
        )
