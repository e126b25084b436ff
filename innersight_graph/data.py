"""Images with train, validation and test splits, from this machine only: nothing here ever downloads.

`load_digits` is embedded (scikit-learn's 8x8 digits), `make_faces` draws two classes of faces whose part masks are
the ground truth for perturbation maps, `load_mnist` reads the user's own IDX files, `load_image_folder` and
`load_afhq` read the user's own pictures. Validation is for choosing, test is for reporting.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from innersight_graph._idx import read_idx
from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED

__all__ = ["ImageData", "Split", "load_afhq", "load_digits", "load_image_folder", "load_mnist", "make_faces"]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
# Pillow goes by the content, not by the ending, and hands some formats (EPS) to other programs: only these are decoded.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "PPM", "TIFF")


class Split(NamedTuple):
    """A pair of tensors, usable wherever this package takes `data`.

    Attributes
    ----------
    inputs : torch.Tensor, shape (n, ...), float32 in [0, 1]
    targets : torch.Tensor, shape (n,), int64 class indices
    """

    inputs: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, slots=True, repr=False)
class ImageData:
    """A data set in three splits.

    Attributes
    ----------
    name : str
    classes : tuple of str
        Class names; ``targets`` index them.
    train, validation, test : Split
    parts : tuple of str
        Names of the masked parts of each image, empty where there are no masks.
    masks : mapping from "train", "validation", "test" to torch.Tensor, shape (n, n_parts, height, width), bool
        Where each part is in each image; empty where there are no masks.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    parts: tuple[str, ...] = ()
    masks: Mapping[str, torch.Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        sizes = "/".join(str(len(split.targets)) for split in (self.train, self.validation, self.test))
        shape = "x".join(str(s) for s in self.train.inputs.shape[1:])
        return f"ImageData({self.name!r}, {len(self.classes)} classes, {shape}, {sizes} train/validation/test)"


def load_digits(*, flat: bool = True, seed: int = 0) -> ImageData:
    """Scikit-learn's 1797 handwritten digits of 8x8 pixels, split 60/20/20 with equal class shares.

    Parameters
    ----------
    flat : bool
        True: inputs of shape (n, 64); False: (n, 1, 8, 8).
    seed : int
        Of the split.

    Returns
    -------
    ImageData
        Inputs float32 in [0, 1], ten classes.

    References
    ----------
    .. [1] E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998, :doi:`10.24432/C50P49`.

    Examples
    --------
    >>> load_digits()
    ImageData('digits', 10 classes, 64, 1079/359/359 train/validation/test)
    """
    from sklearn.datasets import load_digits as embedded

    images, targets = embedded(return_X_y=True)
    inputs = torch.from_numpy((images / 16.0).astype(np.float32))
    if not flat:
        inputs = inputs.reshape(-1, 1, 8, 8)
    return _split("digits", tuple(str(d) for d in range(10)), inputs, torch.from_numpy(targets.astype(np.int64)), seed)


def load_mnist(root: str | Path, *, flat: bool = False, validation: float = 1 / 6, seed: int = 0) -> ImageData:
    """MNIST (or any data set in its format) from IDX files that the user already has.

    The four files may lie in ``root``, ``root/raw`` or ``root/MNIST/raw``, plain or gzipped, with ``-`` or ``.`` before
    ``idx3-ubyte``.

    Parameters
    ----------
    root : path
        Folder that holds the files.
    flat : bool
        True: inputs of shape (n, height * width); False: (n, 1, height, width).
    validation : float
        Share of the training file that becomes the validation split, equal over the classes.
    seed : int
        Of that split.

    Returns
    -------
    ImageData
        Inputs float32 in [0, 1].

    Raises
    ------
    InputError
        A file is missing, truncated or not IDX. Nothing is downloaded.

    Notes
    -----
    60,000 + 10,000 images of 28x28 are 220 MB as float32.
    """
    if not 0 < validation < 1:
        raise InputError(f"validation={validation} came; a share between 0 and 1 was expected.")
    arrays = {stem: read_idx(_find_idx(Path(root), stem)) for stem in _IDX_STEMS}
    train_images, train_labels, test_images, test_labels = (arrays[stem] for stem in _IDX_STEMS)
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
            raise InputError(
                f"The IDX files in {str(root)!r} hold images of shape {images.shape} and labels of shape "
                f"{labels.shape}. Expected (n, height, width) images and n labels, n > 0: do the files belong together?"
            )
        if not np.isfinite(images).all():
            raise InputError(
                f"The images in {str(root)!r} hold NaN or infinite values. Expected finite grey values, from 0 to 255 "
                "in whole numbers. Write the files again."
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= _MAX_CLASSES:
            raise InputError(
                f"The labels in {str(root)!r} are of type {labels.dtype}, from {labels.min()} to {labels.max()}. "
                f"Expected whole numbers from 0 to less than {_MAX_CLASSES}."
            )
    n_classes = int(max(train_labels.max(), test_labels.max())) + 1
    inputs, targets = _as_images(train_images, flat), torch.from_numpy(train_labels.astype(np.int64))
    held_out = _stratified(targets.numpy(), (validation,), seed)[0]
    keep = torch.ones(len(targets), dtype=torch.bool)
    keep[held_out] = False
    return ImageData(
        "mnist",
        tuple(str(c) for c in range(n_classes)),
        Split(inputs[keep], targets[keep]),
        Split(inputs[held_out], targets[held_out]),
        Split(_as_images(test_images, flat), torch.from_numpy(test_labels.astype(np.int64))),
    )


def load_image_folder(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    size: int = 64,
    limit: int | None = None,
    seed: int = 0,
) -> ImageData:
    """Pictures in one folder per class, with or without ready splits.

    With ``root/train`` (and ``root/val``, ``root/validation`` or ``root/test``) these are used, and what is missing is
    cut from them: a validation split from train (20 %), a test split as one half of the held-out pictures. Otherwise
    the folders of ``root`` are the classes and are split 60/20/20.

    Parameters
    ----------
    root : path
    classes : sequence of str, optional
        Folder names to use, in the order of the class indices. Default: all, sorted.
    size : int
        Pictures are scaled so that the shorter side is ``size`` pixels, then cut in the middle to a square.
    limit : int, optional
        At most this many pictures per class and folder, the first by name.
    seed : int
        Of the splits.

    Returns
    -------
    ImageData
        Inputs float32 of shape (n, 3, size, size) in [0, 1].

    Raises
    ------
    InputError
        The folder, a class or its pictures are missing.

    Notes
    -----
    All pictures are held in memory: 12 * size**2 bytes each.
    """
    if size < 1 or (limit is not None and limit < 1):
        raise InputError(f"load_image_folder(size={size}, limit={limit}): both must be at least 1.")
    base = _folder(Path(root))
    ready = [base / name for name in ("train", "val", "validation", "test") if (base / name).is_dir()]
    if (base / "train") in ready:
        by_split = {folder.name: folder for folder in ready}
        names = _class_names(by_split["train"], classes)
        train = _read_classes(by_split["train"], names, size, limit)
        held = by_split.get("val") or by_split.get("validation")
        validation = _read_classes(held, names, size, limit) if held else None
        test = _read_classes(by_split["test"], names, size, limit) if "test" in by_split else None
        if validation is None and test is None:
            return _split(base.name, names, *train, seed)
        if validation is None:
            train, validation = _cut(train, 0.2, seed)
        elif test is None:
            validation, test = _cut(validation, 0.5, seed)
        assert test is not None
        return ImageData(base.name, names, train, validation, test)
    names = _class_names(base, classes)
    return _split(base.name, names, *_read_classes(base, names, size, limit), seed)


def load_afhq(root: str | Path, *, size: int = 64, limit: int | None = None, seed: int = 0) -> ImageData:
    """Read the paper's two-class task, cat against dog, from a user's copy of AFHQ (its ``wild`` class is left out).

    Parameters
    ----------
    root : path
        Folder with ``train/cat``, ``train/dog``, ``val/cat``, ``val/dog``.
    size, limit, seed
        As in `load_image_folder`.

    Returns
    -------
    ImageData

    References
    ----------
    .. [1] Y. Choi et al., "StarGAN v2", CVPR 2020, :doi:`10.1109/CVPR42600.2020.00821`.
    """
    return load_image_folder(root, classes=("cat", "dog"), size=size, limit=limit, seed=seed)


def make_faces(n: int = 2400, *, size: int = 32, noise: float = 0.04, seed: int = 0) -> ImageData:
    """Draw faces of two classes that differ in ears and muzzle, with the mask of every part.

    "cat" has pointed ears and a small muzzle, "dog" hanging ears and a large one. Pose, scale, tilt, fur and background
    colour, light, spots and noise are drawn independently of the class. The masks say where the cue really is, so a
    perturbation map can be scored against them, which no photograph allows.

    Parameters
    ----------
    n : int
        Number of images, half per class; split 60/20/20.
    size : int
        Height and width in pixels.
    noise : float
        Standard deviation of the pixel noise.
    seed : int

    Returns
    -------
    ImageData
        Inputs float32 (n, 3, size, size) in [0, 1]; ``parts`` are head, ears, eyes, muzzle.

    Raises
    ------
    InputError
        Fewer than 10 images, or fewer than 8x8 pixels.

    Examples
    --------
    >>> faces = make_faces(100, size=16)
    >>> faces
    ImageData('faces', 2 classes, 3x16x16, 60/20/20 train/validation/test)
    >>> faces.parts, tuple(faces.masks["test"].shape)
    (('head', 'ears', 'eyes', 'muzzle'), (20, 4, 16, 16))
    """
    if n < 10 or size < 8:
        raise InputError(f"make_faces(n={n}, size={size}): expected at least 10 images of at least 8x8 pixels.")
    rng = np.random.Generator(np.random.Philox(seed))
    targets = (np.arange(n) % 2).astype(np.int64)
    blocks = [_draw_faces(targets[i : i + 256], size, noise, rng) for i in range(0, n, 256)]
    images = torch.from_numpy(np.concatenate([image for image, _ in blocks]))
    masks = torch.from_numpy(np.concatenate([mask for _, mask in blocks]))
    parts = ("head", "ears", "eyes", "muzzle")
    return _split("faces", ("cat", "dog"), images, torch.from_numpy(targets), seed, parts, masks)


# --- splits -----------------------------------------------------------------------------------------------------------


def _stratified(targets: npt.NDArray[Any], shares: Sequence[float], seed: int) -> list[torch.Tensor]:
    """Draw, for each share, sorted indices with (nearly) that share of every class; the draws do not overlap."""
    rng = np.random.Generator(np.random.Philox(seed))
    order = rng.permutation(len(targets))
    # Interleave the classes, so that any slice of `order` has equal class shares up to one image.
    rank = np.empty(len(targets))
    for label in np.unique(targets):
        own = order[targets[order] == label]
        rank[own] = (np.arange(len(own)) + rng.random()) / len(own)
    order = np.argsort(rank, kind="stable")
    bounds = np.cumsum([0, *(round(share * len(targets)) for share in shares)])
    return [torch.from_numpy(np.sort(order[a:b])) for a, b in itertools.pairwise(bounds)]


def _split(
    name: str,
    classes: tuple[str, ...],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    seed: int,
    parts: tuple[str, ...] = (),
    masks: torch.Tensor | None = None,
) -> ImageData:
    n = len(targets)
    fifth = round(n / 5)
    indices = _stratified(targets.numpy(), ((n - 2 * fifth) / n, fifth / n, fifth / n), seed)
    train, validation, test = (Split(inputs[i], targets[i]) for i in indices)
    names = ("train", "validation", "test")
    by_split = {} if masks is None else {s: masks[i] for s, i in zip(names, indices, strict=True)}
    return ImageData(name, classes, train, validation, test, parts, MappingProxyType(by_split))


def _cut(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    (taken,) = _stratified(split.targets.numpy(), (share,), seed)
    keep = torch.ones(len(split.targets), dtype=torch.bool)
    keep[taken] = False
    return Split(split.inputs[keep], split.targets[keep]), Split(split.inputs[taken], split.targets[taken])


# --- IDX --------------------------------------------------------------------------------------------------------------

_IDX_STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_MAX_CLASSES = 2**16


def _find_idx(root: Path, stem: str) -> Path:
    folders = [_folder(root), root / "raw", root / "MNIST" / "raw"]
    names = [f"{s}-ubyte{gz}" for s in (stem, stem.replace("-idx", ".idx")) for gz in ("", ".gz")]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"No {names[0]!r} (or .gz) in {str(root)!r}, its raw/ or its MNIST/raw/. "
        "Put the four IDX files there yourself: this package never downloads data."
    )


def _as_images(images: npt.NDArray[Any], flat: bool) -> torch.Tensor:
    scaled = torch.from_numpy(images.astype(np.float32) / 255.0)
    return scaled.reshape(len(images), -1) if flat else scaled.unsqueeze(1)


# --- folders of pictures ---------------------------------------------------------------------------------------------


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is not a folder. Give the folder that holds the data; nothing is downloaded.")
    return path


def _class_names(folder: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir())
    names = tuple(found if wanted is None else wanted)
    missing = sorted(set(names) - set(found))
    if missing or len(names) < 2:
        lack = f"missing: {missing}" if missing else "at least two are needed"
        raise InputError(
            f"{str(folder)!r} holds the class folders {found}; {lack}. Expected one folder of pictures per class."
        )
    return names


def _read_classes(folder: Path, names: Sequence[str], size: int, limit: int | None) -> Split:
    images: list[torch.Tensor] = []
    targets: list[int] = []
    for label, name in enumerate(names):
        files = sorted(p for p in _folder(folder / name).rglob("*") if p.suffix.lower() in _SUFFIXES)[:limit]
        if not files:
            raise InputError(f"{str(folder / name)!r} holds no picture ({', '.join(sorted(_SUFFIXES))}).")
        images.extend(_read_picture(path, size) for path in files)
        targets.extend([label] * len(files))
    return Split(torch.stack(images), torch.tensor(targets, dtype=torch.int64))


def _read_picture(path: Path, size: int) -> torch.Tensor:
    from PIL import Image

    broken: tuple[type[Exception], ...] = (Image.DecompressionBombError, *MALFORMED)
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            rgb = picture.convert("RGB")
    except broken as error:
        raise InputError(f"{str(path)!r} could not be read as a picture ({error}). Remove it or replace it.") from error
    if max(rgb.size) > 50 * min(rgb.size):
        raise InputError(f"{str(path)!r} is a strip of {rgb.width}x{rgb.height} pixels, not a picture. Remove it.")
    scale = size / min(rgb.size)
    wider = (max(size, round(rgb.width * scale)), max(size, round(rgb.height * scale)))
    rgb = rgb.resize(wider, Image.Resampling.BILINEAR)
    left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
    square = np.asarray(rgb.crop((left, top, left + size, top + size)), dtype=np.float32)
    return torch.from_numpy(square / np.float32(255.0)).permute(2, 0, 1).contiguous()


# --- generated faces -------------------------------------------------------------------------------------------------


def _ellipse(x: npt.NDArray[Any], y: npt.NDArray[Any], cx: Any, cy: Any, rx: Any, ry: Any) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1.0
    return inside


def _draw_faces(
    targets: npt.NDArray[np.int64], size: int, noise: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Draw a block of faces at once, each in its own turned and scaled coordinates (unit: half the picture)."""
    n = len(targets)

    def draw(low: float, high: float) -> npt.NDArray[np.float32]:
        return rng.uniform(low, high, size=(n, 1, 1)).astype(np.float32)

    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    gx, gy = axis[None, None, :] - draw(-0.15, 0.15), axis[None, :, None] - draw(-0.05, 0.2)
    tilt, scale = draw(-0.25, 0.25), draw(0.75, 1.0)
    x = (np.cos(tilt) * gx + np.sin(tilt) * gy) / scale
    y = (np.cos(tilt) * gy - np.sin(tilt) * gx) / scale
    side = np.abs(x)
    dog = (targets == 1)[:, None, None]

    head = _ellipse(x, y, 0.0, 0.0, draw(0.48, 0.58), draw(0.5, 0.6))
    tip, half = draw(-0.95, -0.8), draw(0.16, 0.24)
    pointed = (y > tip) & (y < -0.3) & (np.abs(side - 0.34) < half * (y - tip) / (-0.3 - tip))
    hanging = _ellipse(side, y, draw(0.52, 0.6), draw(0.0, 0.15), draw(0.12, 0.17), draw(0.34, 0.45))
    ears = np.where(dog, hanging, pointed)
    eyes = _ellipse(side, y, draw(0.18, 0.24), -0.12, draw(0.06, 0.09), draw(0.06, 0.1))
    width = np.where(dog, draw(0.26, 0.34), draw(0.12, 0.18))
    height = np.where(dog, draw(0.2, 0.26), draw(0.09, 0.13))
    muzzle = _ellipse(x, y, 0.0, draw(0.2, 0.28), width, height)

    image = rng.uniform(0.0, 1.0, size=(n, 3, 1, 1)) + np.zeros((n, 3, size, size))
    for _ in range(3):
        spot = _ellipse(gx, gy, draw(-1.1, 1.1), draw(-1.1, 1.1), draw(0.05, 0.25), draw(0.05, 0.25))
        image = np.where(spot[:, None], rng.uniform(0.0, 1.0, size=(n, 3, 1, 1)), image)
    fur = rng.uniform(0.25, 0.85, size=(n, 3, 1, 1))
    for part, colour in ((head, fur), (ears, fur * 0.7), (muzzle, fur * 0.5 + 0.5), (eyes, fur * 0.15)):
        image = np.where(part[:, None], colour, image)
    light = 1.0 + draw(-0.3, 0.3) * gx + draw(-0.3, 0.3) * gy
    image = image * light[:, None] + rng.normal(0.0, noise, size=image.shape)
    return np.clip(image, 0.0, 1.0).astype(np.float32), np.stack([head, ears, eyes, muzzle], axis=1)
