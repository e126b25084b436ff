"""Trained networks with known parts: several networks merged into one, and one network that reads two digits."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.partition import Partition
from innersight_graph.planted.programs import known_neurons

if TYPE_CHECKING:
    import torch

__all__ = ["merged_networks", "two_digits_network"]

Floats = npt.NDArray[np.float64]
Layers = list[tuple[Floats, Floats]]
_SIDES = 2


def merged_networks(
    n_networks: int = 3,
    *,
    cross: float = 0.0,
    inputs: str = "own",
    widths: Sequence[int] = (32, 16),
    epochs: int = 30,
    seed: int | None = None,
) -> tuple[torch.nn.Sequential, Partition]:
    """Train small networks on digits and lay them side by side in one, neurons shuffled.

    Parameters
    ----------
    n_networks : int
        Networks to merge.
    cross : float
        Standard deviation of the weights added between networks, in units of each layer's own.
    inputs : {"own", "shared"}
        Each network reads its own copy of the 64 pixels and tells all ten digits apart, or all read the same pixels and
        each tells its own share of the digits apart.
    widths : sequence of int
        Hidden neurons of each network.
    epochs : int
        Passes over the training digits.
    seed : int, optional
        Seed of initialisation, batches, order and cross weights.

    Returns
    -------
    model : torch.nn.Sequential
        ``fc1, relu1, …, out``.
    truth : Partition
        The network each hidden neuron came from. ``params["accuracy"]`` holds the mean test accuracy of the merged
        networks' own outputs, ``params["accuracy_before"]`` the one before merging; they are equal at ``cross=0``.

    Raises
    ------
    InputError
        If an option is unknown, or there are fewer digits than networks to share them.
    """
    import torch

    from innersight_graph.data import load_digits

    if inputs not in ("own", "shared") or not 1 <= n_networks <= 5 or cross < 0 or not widths:
        raise InputError(
            f"inputs={inputs!r}, n_networks={n_networks}, cross={cross}, widths={tuple(widths)} came; 'own' or "
            "'shared', 1 to 5 networks, a non-negative number and at least one width were expected."
        )
    rng = np.random.default_rng(seed)
    digits = load_digits(seed=0)
    shares = np.array_split(np.arange(10), n_networks if inputs == "shared" else 1)
    nets, tests = [], []
    for i in range(n_networks):
        classes = shares[i % len(shares)]
        x, y = _of_classes(digits.train, classes)
        nets.append(train_mlp(x, y, (x.shape[1], *widths, classes.size), epochs=epochs, rng=rng))
        tests.append(_of_classes(digits.test, classes))
    weights, biases, owners = _side_by_side(nets, shared=inputs == "shared")
    before = [float((forward(net, x).argmax(1) == y).mean()) for net, (x, y) in zip(nets, tests, strict=True)]
    for i, W in enumerate(weights):
        same = owners[i + 1][:, None] == owners[i][None, :]
        if not (i == 0 and inputs == "shared"):
            weights[i] = W + ~same * rng.standard_normal(W.shape) * cross * W[same].std()
    for i in range(1, len(owners) - 1):
        order = rng.permutation(owners[i].size)
        weights[i - 1], biases[i - 1], owners[i] = weights[i - 1][order], biases[i - 1][order], owners[i][order]
        weights[i] = weights[i][:, order]
    layers = list(zip(weights, biases, strict=True))
    after = []
    for i, (x, y) in enumerate(tests):
        whole = x if inputs == "shared" else np.tile(x, (1, n_networks))
        after.append(float((forward(layers, whole)[:, owners[-1] == i].argmax(1) == y).mean()))
    model = sequential(layers, torch.float32)
    params = {
        "n_networks": n_networks, "cross": cross, "inputs": inputs,
        "accuracy_before": float(np.mean(before)), "accuracy": float(np.mean(after)),
    }  # fmt: skip
    labels = {f"fc{i}": owners[i].astype(np.intp) for i in range(1, len(owners) - 1)}
    return model, known_neurons(model, labels, "merged_networks", params, seed)


def two_digits_network(
    task: str = "heads", *, width: int = 128, l1: float = 0.0, epochs: int = 40, seed: int | None = None
) -> tuple[torch.nn.Sequential, Partition]:
    """Train one network on two digits side by side, and find out by ablation which side each neuron works for.

    Parameters
    ----------
    task : {"heads", "parity"}
        Name both digits by two separate heads, or say whether both are even or both odd, which needs both sides at
        once.
    width : int
        Hidden neurons.
    l1 : float
        Weight of the L1 penalty in training.
    epochs : int
        Passes over the training pairs.
    seed : int, optional
        Seed of pairs, initialisation, batches and resampling.

    Returns
    -------
    model : torch.nn.Sequential
        ``fc1, relu1, out``; 128 pixels in, 20 or 2 outputs.
    truth : Partition
        **Functional**: left, right, or shared. A neuron's output is replaced by its output when one side shows other
        digits; it belongs to the side whose replacement raises the loss more, and is shared where the ratio lies within
        [1/3, 3]. ``params`` holds the test ``accuracy``. Structure need not follow function: no method is promised to
        find this.

    Raises
    ------
    InputError
        If the task is unknown.
    """
    import torch

    from innersight_graph.data import load_digits

    if task not in ("heads", "parity") or width < 1:
        raise InputError(
            f"task={task!r} with width={width} came; 'heads' or 'parity' and at least one neuron were expected."
        )
    rng = np.random.default_rng(seed)
    digits = load_digits(seed=0)
    x, pair = _pairs(digits.train, rng, 4)
    test_x, test_pair = _pairs(digits.test, rng, 2)
    heads = 2 if task == "heads" else 1
    y, test_y = (pair, test_pair) if task == "heads" else (_parity(pair), _parity(test_pair))
    layers = train_mlp(
        x, y, (x.shape[1], width, 20 if task == "heads" else 2), epochs=epochs, rng=rng, heads=heads, l1=l1
    )
    right = [part.argmax(1) == test_y[:, i] for i, part in enumerate(np.split(forward(layers, test_x), heads, axis=1))]
    effects = _side_effects(layers, test_x, test_y, heads, rng)
    left, other = np.maximum(effects, 1e-9)
    labels = np.where(left > 3 * other, 0, np.where(other > 3 * left, 1, 2)).astype(np.intp)
    model = sequential(layers, torch.float32)
    params = {"task": task, "width": width, "l1": l1, "accuracy": float(np.mean(right))}
    return model, known_neurons(model, {"fc1": labels}, "two_digits_network", params, seed)


def train_mlp(
    inputs: Floats,
    targets: npt.NDArray[np.int64],
    widths: Sequence[int],
    *,
    epochs: int,
    rng: np.random.Generator,
    heads: int = 1,
    l1: float = 0.0,
    lr: float = 3e-3,
    start: Callable[[int, Floats], Floats] | None = None,
) -> Layers:
    """Train a ReLU network by Adam and return its weights and biases, without touching any global random state.

    Parameters
    ----------
    inputs : ndarray (n, n_inputs)
    targets : ndarray (n,) or (n, heads)
        Class of each sample, for each head.
    widths : sequence of int
        Inputs, hidden layers, outputs of all heads together.
    epochs, rng, heads, l1, lr
        As they say; batches of 64.
    start : callable, optional
        Changes a layer's initial weights: (number of the layer, weights (n_out, n_in)) to weights.

    Returns
    -------
    list of (weight (n_out, n_in), bias (n_out,))
    """
    import torch

    x = torch.as_tensor(inputs, dtype=torch.float32)
    y = torch.as_tensor(np.atleast_2d(targets.T).T, dtype=torch.int64)
    parameters = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        bound = 1 / np.sqrt(n_in)
        weight, bias = rng.uniform(-bound, bound, (n_out, n_in)), rng.uniform(-bound, bound, n_out)
        for initial in (weight if start is None else start(i, weight), bias):
            parameters.append(torch.tensor(initial.astype(np.float32), requires_grad=True))
    optimiser = torch.optim.Adam(parameters, lr=lr)
    with torch.enable_grad():
        for _ in range(epochs):
            for batch in np.array_split(rng.permutation(len(x)), max(1, len(x) // 64)):
                h = x[torch.as_tensor(batch)]
                for i in range(0, len(parameters), 2):
                    h = torch.nn.functional.linear(torch.relu(h) if i else h, parameters[i], parameters[i + 1])
                parts = zip(h.chunk(heads, dim=1), y[torch.as_tensor(batch)].T, strict=True)
                losses = [torch.nn.functional.cross_entropy(part, target) for part, target in parts]
                loss = torch.stack([*losses, *(l1 * p.abs().sum() for p in parameters[::2])]).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    arrays = [p.detach().numpy().astype(float) for p in parameters]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def forward(layers: Layers, inputs: Floats) -> Floats:
    """Return the outputs of a ReLU network, in double precision."""
    h = np.asarray(inputs, dtype=float)
    for i, (W, b) in enumerate(layers):
        h = (np.maximum(h, 0.0) if i else h) @ W.T + b
    return h


def sequential(layers: Layers, dtype: Any) -> torch.nn.Sequential:
    """Return a ReLU network as a model: ``fc1, relu1, …, out``."""
    import torch

    modules: OrderedDict[str, Any] = OrderedDict()
    for i, (W, b) in enumerate(layers, start=1):
        last = i == len(layers)
        linear = torch.nn.utils.skip_init(torch.nn.Linear, W.shape[1], W.shape[0], dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(W))
            linear.bias.copy_(torch.as_tensor(b))
        modules["out" if last else f"fc{i}"] = linear
        if not last:
            modules[f"relu{i}"] = torch.nn.ReLU()
    return torch.nn.Sequential(modules)


def _of_classes(split: Any, classes: npt.NDArray[Any]) -> tuple[Floats, npt.NDArray[np.int64]]:
    x, y = split.inputs.numpy().astype(float), split.targets.numpy()
    kept = np.isin(y, classes)
    return x[kept], np.searchsorted(classes, y[kept]).astype(np.int64)


def _side_by_side(nets: list[Layers], shared: bool) -> tuple[list[Floats], list[Floats], list[npt.NDArray[np.intp]]]:
    from scipy.linalg import block_diag

    depth = len(nets[0])
    weights = [block_diag(*(net[i][0] for net in nets)) for i in range(depth)]
    if shared:
        weights[0] = np.vstack([net[0][0] for net in nets])
    biases = [np.concatenate([net[i][1] for net in nets]) for i in range(depth)]
    sizes = [[net[0][0].shape[1] for net in nets], *([net[i][0].shape[0] for net in nets] for i in range(depth))]
    owners = [np.repeat(np.arange(len(nets)), size) for size in sizes]
    if shared:
        owners[0] = np.full(nets[0][0][0].shape[1], -1)
    return weights, biases, owners


def _pairs(split: Any, rng: np.random.Generator, times: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    x, y = split.inputs.numpy().astype(float), split.targets.numpy().astype(np.int64)
    left, right = (np.concatenate([rng.permutation(len(y)) for _ in range(times)]) for _ in range(_SIDES))
    return np.hstack([x[left], x[right]]), np.stack([y[left], y[right]], axis=1)


def _parity(pair: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    result: npt.NDArray[np.int64] = (pair.sum(axis=1) % 2)[:, None]
    return result


def _side_effects(layers: Layers, x: Floats, y: npt.NDArray[np.int64], heads: int, rng: np.random.Generator) -> Floats:
    """Rise of the loss when one neuron sees other digits on one side: (2, n_neurons)."""
    W, b = layers[0]
    hidden = np.maximum(x @ W.T + b, 0.0)
    half = x.shape[1] // _SIDES
    effects = np.zeros((_SIDES, W.shape[0]))
    base = _loss(forward(layers[1:], hidden), y, heads)
    for side in range(_SIDES):
        mixed = x.copy()
        mixed[:, side * half : (side + 1) * half] = x[rng.permutation(len(x)), side * half : (side + 1) * half]
        replaced = np.maximum(mixed @ W.T + b, 0.0)
        for neuron in range(W.shape[0]):
            closed = hidden.copy()
            closed[:, neuron] = replaced[:, neuron]
            effects[side, neuron] = _loss(forward(layers[1:], closed), y, heads) - base
    return effects


def _loss(logits: Floats, y: npt.NDArray[np.int64], heads: int) -> float:
    total = 0.0
    for i, part in enumerate(np.split(logits, heads, axis=1)):
        shifted = part - part.max(axis=1, keepdims=True)
        total += float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y[:, i]]))
    return total
