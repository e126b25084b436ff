"""The paper's two networks on the data at hand: three linear layers; three convolutions before three linear ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from innersight_graph.data import ImageData, Split, load_afhq, load_digits, load_image_folder, load_mnist, make_faces
from innersight_graph.errors import InputError

__all__ = [
    "KINDS",
    "NETWORKS",
    "accuracy",
    "convolutional_network",
    "fewer",
    "linear_network",
    "load_data",
    "one_thread",
    "predictions",
    "train",
]

# The paper's sizes (sections 4.1.1 and 4.1.2).
LINEAR, KERNELS, HEAD = (128, 64, 32), (32, 64, 128), (64, 32)
# Passes over the training images by (network, data); validation accuracy no longer rises beyond.
EPOCHS = {
    ("linear", "digits"): 40,
    ("convolutional", "digits"): 15,
    ("linear", "faces"): 20,
    ("convolutional", "faces"): 6,
}
USUAL_EPOCHS = 8
FACES = 3000


def load_data(data: str | ImageData, *, seed: int, quick: bool) -> ImageData:
    """Return the images by name or folder: ``"digits"``, ``"faces"``, MNIST's IDX files, AFHQ, or one folder per class.

    Raises
    ------
    InputError
        The name is unknown and no folder, or its content cannot be read.
    """
    if isinstance(data, ImageData):
        return data
    if data == "digits":
        return load_digits(flat=False, seed=seed)
    if data == "faces":
        return make_faces(900 if quick else FACES, size=16 if quick else 32, seed=seed)
    name, colon, rest = data.partition(":")
    readers: dict[str, Callable[..., ImageData]] = {"mnist": load_mnist, "afhq": load_afhq, "folder": load_image_folder}
    if colon and name in readers:
        return readers[name](rest, seed=seed)
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(
            f"data={data!r} is neither 'digits' nor 'faces' nor a folder. Give a folder with MNIST's IDX files, with "
            "AFHQ's train/ and val/, or with one folder of pictures per class; nothing is downloaded."
        )
    if (folder / "train" / "cat").is_dir() and (folder / "train" / "dog").is_dir():
        return load_afhq(folder, seed=seed)
    if any(file.name.startswith("train-images") for file in folder.rglob("train-images*")):
        return load_mnist(folder, seed=seed)
    return load_image_folder(folder, seed=seed)


def fewer(data: ImageData, held_out: int | None) -> ImageData:
    """Return the same data with at most so many validation and test images."""
    if held_out is None:
        return data
    validation, test = (Split(*(tensor[:held_out] for tensor in split)) for split in (data.validation, data.test))
    masks = {name: mask if name == "train" else mask[:held_out] for name, mask in data.masks.items()}
    return replace(data, masks=masks, validation=validation, test=test)


def linear_network(data: ImageData, *, seed: int) -> nn.Sequential:
    """Three linear layers of 128, 64 and 32 neurons with ReLU, and the outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        width = data.train.inputs[0].numel()
        for i, size in enumerate(LINEAR, start=1):
            parts[f"fc{i}"], parts[f"relu{i}"] = nn.Linear(width, size), nn.ReLU()
            width = size
        parts["out"] = nn.Linear(width, len(data.classes))
    return nn.Sequential(parts).eval()


def convolutional_network(data: ImageData, *, seed: int) -> nn.Sequential:
    """Three convolutions of 32, 64 and 128 kernels with ReLU and pooling, and three linear layers."""
    channels, side = data.train.inputs.shape[1], min(data.train.inputs.shape[2:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for i, kernels in enumerate(KERNELS, start=1):
            parts[f"conv{i}"], parts[f"relu{i}"] = nn.Conv2d(channels, kernels, 3, padding=1), nn.ReLU()
            channels = kernels
            # Pictures of 64 pixels and more are halved twice, so that all end near 4x4 positions.
            for _ in range(2 if side >= 64 else 1 if side >= 4 else 0):
                parts[f"pool{i}{'b' if f'pool{i}' in parts else ''}"] = nn.MaxPool2d(2)
                side //= 2
        parts["flatten"] = nn.Flatten()
        with torch.no_grad():
            width = nn.Sequential(parts)(data.train.inputs[:1]).shape[1]
        for i, size in enumerate(HEAD, start=1):
            parts[f"fc{i}"], parts[f"act{i}"] = nn.Linear(width, size), nn.ReLU()
            width = size
        parts["out"] = nn.Linear(width, len(data.classes))
    # Convolution and pooling of few small maps take half the time when the channels lie innermost in memory.
    return nn.Sequential(parts).eval().to(memory_format=torch.channels_last)


NETWORKS: dict[str, Callable[..., nn.Sequential]] = {"linear": linear_network, "convolutional": convolutional_network}
KINDS = tuple(NETWORKS)


def train(
    model: nn.Module,
    split: Split,
    *,
    kind: str,
    name: str,
    seed: int,
    quick: bool = False,
    penalty: Callable[[], torch.Tensor] | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train in place with Adam and cross-entropy, plus a penalty if one is given; returns the model in eval mode.

    ``kind`` and ``name`` (network and data) set the number of passes; ``seed`` the order of the images.
    """
    order = torch.Generator().manual_seed(seed)
    epochs = EPOCHS.get((kind, name), USUAL_EPOCHS)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3 if name == "digits" else 1e-3)
    model.train()
    for epoch in range(max(2, epochs // 2) if quick else epochs):
        for rows in torch.randperm(len(split.targets), generator=order).split(32):
            optimiser.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(split.inputs[rows]), split.targets[rows])
            if penalty is not None:
                loss = loss + penalty()
            loss.backward()
            optimiser.step()
        if after_epoch is not None:
            after_epoch(epoch)
    optimiser.zero_grad(set_to_none=True)
    return model.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: on small matrices several mostly wait for each other, longest where the machine is busy."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def predictions(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the predicted class of each image."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in inputs.split(512)])


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of images classified correctly."""
    return float((predictions(model, split.inputs) == split.targets).double().mean())
