"""A network compiled from small programs: every neuron's purpose is known, because a compiler put it there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.partition import Partition

if TYPE_CHECKING:
    import torch

__all__ = ["compiled_programs", "run_programs"]

Floats = npt.NDArray[np.float64]
Affine = tuple[Floats, Floats]


@dataclass(frozen=True)
class Program:
    """Two layers of ReLU between linear maps: bits → relu(A₁ x + b₁) → u = B₁ h → relu(A₂ u + b₂) → B₂ h."""

    name: str
    n_bits: int
    first: Affine
    between: Floats
    second: Affine
    out: Floats
    function: Callable[[Floats], Floats]


def _steps(total: list[float], at: range | list[int]) -> Affine:
    """relu(total · x − j) for each j."""
    return np.tile(np.asarray(total, dtype=float), (len(at), 1)), -np.asarray(list(at), dtype=float)


def _parity() -> Program:
    # a xor b = relu(a + b) − 2 relu(a + b − 1), twice, and the same of the two results.
    pairs, offsets = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1.0]]), np.array([0, -1, 0, -1.0])
    between = np.array([[1, -2, 0, 0], [0, 0, 1, -2.0]])
    return Program(
        "parity of 4", 4, (pairs, offsets), between, _steps([1, 1], [0, 1]), np.array([[1, -2.0]]),
        lambda x: x.sum(axis=1) % 2,
    )  # fmt: skip


def _majority() -> Program:
    first = _steps([1] * 5, [2, 3])
    return Program(
        "majority of 5", 5, first, np.array([[1, -1.0]]), _steps([1], [0]), np.array([[1.0]]),
        lambda x: (x.sum(axis=1) >= 3).astype(float),
    )  # fmt: skip


def _modular() -> Program:
    # s mod 7 = s − 7 [s ≥ 7] − 7 [s ≥ 14], and [s ≥ j] = relu(s − j + 1) − relu(s − j); a lookup table squares it
    # modulo 7.
    table = np.array([(u * u) % 7 for u in range(7)], dtype=float)
    bends = np.diff(table, prepend=0.0)[1:] - np.diff(table, prepend=0.0)[:-1]
    second = _steps([1], list(range(6)))
    return Program(
        "squared sum modulo 7", 6, _steps([4, 2, 1, 4, 2, 1], [0, 6, 7, 13, 14]),
        np.array([[1, -7, 7, -7, 7.0]]), second,
        bends[None, :],
        lambda x: ((x @ [4, 2, 1, 4, 2, 1]) % 7) ** 2 % 7,
    )  # fmt: skip


def _comparator() -> Program:
    difference = [4, 2, 1, -4, -2, -1]
    weights, offsets = _steps([float(d) for d in difference], [0, 1])
    negative = (-weights, offsets)
    first = np.vstack([weights, negative[0]]), np.concatenate([offsets, offsets])
    between = np.array([[1, -1, 0, 0], [0, 0, 1, -1.0]])
    return Program(
        "comparator of 3 bits", 6, first, between, (np.eye(2), np.zeros(2)), np.array([[1, -1.0]]),
        lambda x: np.sign(x @ np.array(difference, dtype=float)),
    )  # fmt: skip


PROGRAMS = (_parity(), _majority(), _modular(), _comparator())


def compiled_programs(
    *, rotate: bool = False, noise: float = 0.0, stream: int = 16, copies: int = 6, seed: int | None = None
) -> tuple[torch.nn.Sequential, Partition]:
    """Compile four programs into one network: parity of 4 bits, majority of 5, a lookup modulo 7, and a comparator.

    Each program writes its values into its own `stream` linear neurons by a random full-rank code, and reads them by
    the code's inverse into ReLU neurons, each of which exists in `copies` copies of random gain. Neurons are permuted.

    Parameters
    ----------
    rotate : bool
        Turn both streams by random rotations. The function stays the same, and no neuron of a stream belongs to a
        program any more: the correct answer there is one community.
    noise : float
        Standard deviation of Gaussian noise on all weights, in units of each matrix's root mean square.
    stream, copies : int
        Neurons that hold each program's values, and copies of each ReLU neuron.
    seed : int, optional
        Seed of codes, gains, order, rotation and noise.

    Returns
    -------
    model : torch.nn.Sequential
        ``stream1, read1 (ReLU), stream2, read2 (ReLU), out``: 21 bits in, four answers out, double precision.
    truth : Partition
        The program of each neuron of the four hidden layers; with `rotate`, one community in each stream and no
        statement on the ReLU layers.

    Raises
    ------
    InputError
        If a stream is too narrow to hold a program's values.

    Examples
    --------
    >>> import numpy as np
    >>> model, truth = compiled_programs(seed=0)
    >>> [len(truth.restrict(layer)) for layer in truth.layers]
    [4, 4, 4, 4]
    >>> bits = np.random.default_rng(0).integers(0, 2, (5, 21))
    >>> import torch
    >>> bool(np.allclose(model(torch.as_tensor(bits, dtype=torch.float64)).detach(), run_programs(bits)))
    True
    """
    import torch

    needed = max(p.n_bits for p in PROGRAMS)
    if stream < needed or copies < 1 or noise < 0:
        raise InputError(f"stream={stream}, copies={copies}, noise={noise}: at least {needed}, 1 and 0 were expected.")
    rng = np.random.default_rng(seed)
    parts = [_compile(program, stream, copies, rng) for program in PROGRAMS]
    weights = [_block_diagonal([part[0][i] for part in parts]) for i in range(5)]
    biases = [np.concatenate([part[1][i] for part in parts]) for i in range(5)]
    owners = [np.concatenate([np.full(part[0][i].shape[0], p) for p, part in enumerate(parts)]) for i in range(4)]
    for i in range(4):
        order = rng.permutation(owners[i].size)
        weights[i], biases[i], owners[i] = weights[i][order], biases[i][order], owners[i][order]
        weights[i + 1] = weights[i + 1][:, order]
    if rotate:
        for i in (0, 2):
            turn = np.linalg.qr(rng.standard_normal((owners[i].size, owners[i].size)))[0]
            weights[i], biases[i], weights[i + 1] = turn @ weights[i], turn @ biases[i], weights[i + 1] @ turn.T
    if noise:
        weights = [W + noise * np.sqrt((W**2).mean()) * rng.standard_normal(W.shape) for W in weights]
    names = ("stream1", "read1", "stream2", "read2", "out")
    modules: OrderedDict[str, Any] = OrderedDict()
    for name, W, b in zip(names, weights, biases, strict=True):
        linear = torch.nn.utils.skip_init(torch.nn.Linear, W.shape[1], W.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(W))
            linear.bias.copy_(torch.as_tensor(b))
        modules[name] = linear
        if name.startswith("read"):
            modules[f"{name}_relu"] = torch.nn.ReLU()
    model = torch.nn.Sequential(modules)
    known = dict(zip(names[:4], owners, strict=True))
    if rotate:
        known = {name: np.zeros_like(known[name]) for name in ("stream1", "stream2")}
    params = {"rotate": rotate, "noise": noise, "stream": stream, "copies": copies}
    return model, known_neurons(model, known, "compiled_programs", params, seed)


def run_programs(bits: npt.ArrayLike) -> Floats:
    """Return what the four programs answer: (n, 21) bits to (n, 4)."""
    x = np.asarray(bits, dtype=float)
    out, begin = [], 0
    for program in PROGRAMS:
        out.append(program.function(x[:, begin : begin + program.n_bits]))
        begin += program.n_bits
    return np.stack(out, axis=1)


def _compile(program: Program, stream: int, copies: int, rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
    """Return weights and biases of the five linear maps of one program alone."""
    first_code = rng.standard_normal((stream, program.n_bits))
    second_code = rng.standard_normal((stream, program.between.shape[0]))
    A1, b1, B1 = _copied(*program.first, program.between, copies, rng)
    A2, b2, B2 = _copied(*program.second, program.out, copies, rng)
    weights = [first_code, A1 @ np.linalg.pinv(first_code), second_code @ B1, A2 @ np.linalg.pinv(second_code), B2]
    return weights, [np.zeros(stream), b1, np.zeros(stream), b2, np.zeros(program.out.shape[0])]


def _copied(A: Floats, b: Floats, B: Floats, copies: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Copy every ReLU neuron with random gains, its outputs shared among the copies at random."""
    gain = rng.uniform(0.5, 2.0, (A.shape[0], copies))
    share = rng.dirichlet(np.full(copies, 4.0), A.shape[0])
    rows = np.repeat(A, copies, axis=0) * gain.reshape(-1, 1)
    return rows, np.repeat(b, copies) * gain.ravel(), np.repeat(B, copies, axis=1) * (share / gain).ravel()


def _block_diagonal(parts: list[Floats]) -> Floats:
    from scipy.linalg import block_diag

    full: Floats = block_diag(*parts)
    return full


def known_neurons(
    model: Any, labels: dict[str, Any], method: str, params: dict[str, Any], seed: int | None
) -> Partition:
    """Return labels as a partition of the graph that `neuron_graph` makes of the model."""
    import warnings

    import torch

    from innersight_graph.neuronize import neuron_graph

    first = next(model.parameters())
    example = torch.zeros(1, first.shape[1], dtype=first.dtype)
    with warnings.catch_warnings():
        # Streams are linear on purpose; the warning about folded units is for users' models.
        warnings.simplefilter("ignore")
        G = neuron_graph(model, example=example)
    return Partition.from_labels(G, labels, method=method, params=params, seed=seed)
