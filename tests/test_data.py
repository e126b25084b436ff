"""Loaders: splits that do not overlap, formats written by hand, faces whose masks are where the parts are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from innersight_graph.data import ImageData, load_afhq, load_digits, load_image_folder, load_mnist, make_faces
from innersight_graph.errors import InputError


def sizes(data: ImageData) -> tuple[int, int, int]:
    return len(data.train.targets), len(data.validation.targets), len(data.test.targets)


def test_digits_are_the_embedded_ones_split_evenly() -> None:
    from sklearn.datasets import load_digits as embedded

    data = load_digits()
    assert sum(sizes(data)) == 1797
    assert data.train.inputs.dtype == torch.float32
    assert (float(data.train.inputs.min()), float(data.train.inputs.max())) == (0.0, 1.0)
    rows = np.concatenate([s.inputs.numpy() for s in (data.train, data.validation, data.test)]) * 16
    assert sorted(map(bytes, rows.astype(np.uint8))) == sorted(map(bytes, embedded().data.astype(np.uint8)))
    for split in (data.train, data.validation, data.test):
        share = np.bincount(split.targets.numpy()) / len(split.targets)
        np.testing.assert_allclose(share, np.bincount(embedded().target) / 1797, atol=0.01)
    again, other = load_digits(), load_digits(seed=1)
    assert torch.equal(again.test.inputs, data.test.inputs)
    assert not torch.equal(other.test.inputs, data.test.inputs)
    maps = load_digits(flat=False)
    assert maps.test.inputs.shape[1:] == (1, 8, 8)
    assert torch.equal(maps.test.inputs.flatten(1), data.test.inputs)


def write_idx(path: Path, array: np.ndarray, *, packed: bool = False) -> None:
    raw = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(raw) if packed else raw)


def write_mnist(folder: Path, *, packed: bool = False, dotted: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = rng.integers(0, 256, (60, 5, 4), dtype=np.uint8), np.arange(60, dtype=np.uint8) % 3
    for stem, n in (("train", 60), ("t10k", 12)):
        for kind, array in (("images-idx3", images[:n]), ("labels-idx1", labels[:n])):
            name = f"{stem}-{kind}-ubyte" + (".gz" if packed else "")
            write_idx(folder / (name.replace("-idx", ".idx") if dotted else name), array, packed=packed)
    return images, labels


@pytest.mark.parametrize(
    ("place", "packed", "dotted"), [("", False, False), ("raw", True, False), ("MNIST/raw", False, True)]
)
def test_mnist_is_read_from_the_users_files(tmp_path: Path, place: str, packed: bool, dotted: bool) -> None:
    images, labels = write_mnist(tmp_path / place, packed=packed, dotted=dotted)
    data = load_mnist(tmp_path)
    assert sizes(data) == (50, 10, 12)
    np.testing.assert_allclose(data.test.inputs[:, 0].numpy(), images[:12] / 255, atol=1e-7)
    assert data.test.targets.tolist() == labels[:12].tolist()
    both = torch.cat([data.train.inputs, data.validation.inputs])
    assert sorted(map(bytes, (both * 255).round().to(torch.uint8).numpy())) == sorted(map(bytes, images))
    assert load_mnist(tmp_path, flat=True).train.inputs.shape == (50, 20)


def test_mnist_files_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="never downloads"):
        load_mnist(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        load_mnist(tmp_path / "nowhere")
    write_mnist(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    for damaged in (whole[:100], b"PNG" + whole, b"", whole[:6]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="t10k-images"):
            load_mnist(tmp_path)
    write_idx(path, np.zeros((7, 5, 4), dtype=np.uint8))
    with pytest.raises(InputError, match="belong together"):
        load_mnist(tmp_path)


def write_pictures(root: Path, names: list[str], n: int = 10) -> None:
    from PIL import Image

    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(n):
            colour = (40 * label, 20 * i, 255)
            Image.new("RGB", (30, 20 + label), colour).save(root / name / f"{i}.png")


def test_image_folders_with_and_without_ready_splits(tmp_path: Path) -> None:
    write_pictures(tmp_path / "flat", ["b", "a", "c"])
    data = load_image_folder(tmp_path / "flat", size=8)
    assert data.classes == ("a", "b", "c")
    assert sizes(data) == (18, 6, 6)
    assert data.train.inputs.shape[1:] == (3, 8, 8)
    chosen = load_image_folder(tmp_path / "flat", classes=["c", "a"], size=8, limit=5)
    assert chosen.classes == ("c", "a")
    assert sum(sizes(chosen)) == 10
    # "c" was written third: red 80; "a" second by writing order "b", "a", "c": red 40.
    red = (chosen.train.inputs[:, 0].mean((1, 2)) * 255).round()
    assert set(zip(chosen.train.targets.tolist(), red.tolist(), strict=True)) == {(0, 80.0), (1, 40.0)}
    for folder in ("train", "val"):
        write_pictures(tmp_path / "afhq" / folder, ["cat", "dog", "wild"], n=6)
    data = load_afhq(tmp_path / "afhq", size=8)
    assert data.classes == ("cat", "dog")
    assert sizes(data) == (12, 6, 6)
    for folder in ("train", "test"):
        write_pictures(tmp_path / "other" / folder, ["x", "y"])
    assert sizes(load_image_folder(tmp_path / "other", size=8)) == (16, 4, 20)
    write_pictures(tmp_path / "single" / "train", ["x", "y"])
    assert sizes(load_image_folder(tmp_path / "single", size=8)) == (12, 4, 4)


def test_image_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a", "b"], n=3)
    with pytest.raises(InputError, match="missing"):
        load_image_folder(tmp_path, classes=["a", "z"])
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="no picture"):
        load_image_folder(tmp_path)
    (tmp_path / "c" / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"x\.png"):
        load_image_folder(tmp_path)
    with pytest.raises(InputError, match="at least two"):
        load_image_folder(tmp_path, classes=["a"])


def test_faces_have_parts_where_their_masks_say() -> None:
    faces = make_faces(200, size=32, noise=0.0, seed=3)
    assert sizes(faces) == (120, 40, 40)
    assert faces.classes == ("cat", "dog")
    images, masks, targets = faces.train.inputs, faces.masks["train"], faces.train.targets
    assert masks.dtype == torch.bool
    assert masks.shape == (120, 4, 32, 32)
    head, ears, eyes, muzzle = masks.unbind(1)
    assert bool(masks.flatten(2).any(dim=2).all()), "every part is in every picture"
    # Eyes are darker than the head around them; the light changes slowly.
    brightness = images.mean(dim=1)
    fur = head & ~ears & ~eyes & ~muzzle
    dark = [float(b[e].mean()) < float(b[f].mean()) for b, e, f in zip(brightness, eyes, fur, strict=True)]
    assert all(dark)
    area = muzzle.flatten(1).float().mean(1)
    assert float(area[targets == 1].mean()) > 1.5 * float(area[targets == 0].mean())
    rows = torch.arange(32.0)
    height = (ears.float().sum(2) * rows).sum(1) / ears.float().sum((1, 2))
    assert float(height[targets == 0].mean()) < float(height[targets == 1].mean()) - 5
    again = make_faces(200, size=32, noise=0.0, seed=3)
    assert torch.equal(again.test.inputs, faces.test.inputs)
    with pytest.raises(InputError, match="at least 10 images"):
        make_faces(3)
