"""Load a model by name, `file.py:factory` or `torchvision:resnet18`, with weights that cannot run code."""

from __future__ import annotations

import inspect
import mmap
import runpy
import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED, check_source, check_unpacked, parse_json

__all__ = ["load_model", "read_weights"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_PREFIXES = ("module.", "_orig_mod.")
# The format allows no longer header; parsed, it takes many times its size.
_MAX_HEADER = 100_000_000
# How a pickle names the one harmless class that fills any amount of memory from a few bytes.
_FILLS_MEMORY = b"\nbytearray\n"


def load_model(spec: str, weights: str | Path | None = None) -> nn.Module:
    """Make a model from its name and load its weights.

    Parameters
    ----------
    spec : str
        ``"file.py:factory"``: the file is run and ``factory()`` must return a `torch.nn.Module` (a module object is
        taken as it is); ``"torchvision:resnet18"``: that model of torchvision, untrained unless weights are given.
    weights : path, optional
        A ``.safetensors`` file, or a checkpoint of `torch.save`, read with ``weights_only=True`` so that it cannot
        run code. A mapping under ``"state_dict"`` or ``"model"`` is found; prefixes of DataParallel and torch.compile
        are dropped.

    Returns
    -------
    torch.nn.Module
        On the CPU, in evaluation mode.

    Raises
    ------
    InputError
        An unknown model, a file that is missing or not what it should be, weights that do not fit.
    """
    home, separator, name = str(spec).rpartition(":")
    if not separator or not name or not home:
        raise InputError(f"The model {spec!r} is not understood. Write file.py:factory or torchvision:resnet18.")
    model = _from_torchvision(name) if home == "torchvision" else _from_file(Path(home), name)
    if weights is not None:
        _put_weights(model, read_weights(weights), spec, weights)
    return model.eval()


def _from_torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model, get_model_builder, list_models

    known = list_models()
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=4)
        raise InputError(f"torchvision has no model {name!r}. Did you mean one of {near or known[:6]}?")
    untrained: dict[str, Any] = {"weights": None}
    # Detectors and segmenters download a trained backbone unless told not to.
    if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters:
        untrained["weights_backbone"] = None
    model: nn.Module = get_model(name, **untrained)
    return model


def _from_file(path: Path, name: str) -> nn.Module:
    check_source(path, "file of the model")
    try:
        factory = runpy.run_path(str(path)).get(name)
        model = factory if isinstance(factory, nn.Module) else factory() if callable(factory) else None
    except (Exception, SystemExit) as error:
        raise InputError(
            f"Making the model {name!r} of {str(path)!r} raised {type(error).__name__}: {error}. Expected a Python "
            f"file in which {name!r} is a function without arguments that returns a torch.nn.Module."
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{name!r} in {str(path)!r} gave a {type(model if factory is not None else None).__name__}. Expected a "
            "function without arguments that returns a torch.nn.Module."
        )
    return model


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a safetensors file or a checkpoint of `torch.save`, without running code from it.

    Raises
    ------
    InputError
        The file is missing, damaged, or holds something else than tensors by name.
    """
    path = check_source(path, "file of weights")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        _check_checkpoint(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except MALFORMED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{str(path)!r} could not be read as weights only ({reason}). Save model.state_dict() with torch.save, "
            "or use a .safetensors file; whole pickled models are not loaded because they can run code."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise InputError(
            f"{str(path)!r} holds a {type(loaded).__name__}, not tensors by name. Save model.state_dict()."
        )
    odd = [name for name, tensor in loaded.items() if not _is_dense(tensor)]
    if odd:
        raise InputError(
            f"{odd[0]!r} in {str(path)!r} is sparse, quantised or without numbers of its own. Dense tensors were "
            "expected: save model.state_dict() of a model that was neither pruned into sparse tensors nor quantised."
        )
    return _by_plain_name(loaded, path)


def _check_checkpoint(path: Path) -> None:
    """Raise ValueError on what `torch.load` would take any amount of memory for."""
    if zipfile.is_zipfile(path):
        check_unpacked(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_FILLS_MEMORY) >= 0:
            raise ValueError("it makes a bytearray, which can ask for any amount of memory and no model needs")


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized


def _by_plain_name(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Return tensors by their names in the model itself, without what wrappers put before them."""
    named = {_plain(key): value for key, value in tensors.items()}
    if len(named) < len(tensors):
        raise InputError(
            f"{str(path)!r} has a tensor of one name twice, with and without the prefix of a wrapper "
            f"({' or '.join(_PREFIXES)}). Save the state_dict of one model."
        )
    return named


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the format: the length of a JSON header, the header with types, shapes and offsets, then raw numbers."""
    try:
        raw = bytearray(path.read_bytes())
        (length,) = struct.unpack_from("<Q", raw)
        if length > min(_MAX_HEADER, len(raw) - 8):
            raise ValueError(f"its header is said to have {length:,} bytes")
        entries = {k: e for k, e in parse_json(bytes(raw[8 : 8 + length])).items() if k != "__metadata__"}
        base = 8 + length
        # Tensors that share bytes would become any number of copies of them.
        if sum(e["data_offsets"][1] - e["data_offsets"][0] for e in entries.values()) > len(raw) - base:
            raise ValueError("its tensors are larger than the file, or share bytes")
        tensors = {name: _tensor(raw, base, entry) for name, entry in entries.items()}
    except MALFORMED as error:
        raise InputError(
            f"{str(path)!r} is not a safetensors file, or it is cut off ({error}). Copy it again."
        ) from error
    return _by_plain_name(tensors, path)


def _tensor(raw: bytearray, base: int, entry: dict[str, Any]) -> torch.Tensor:
    start, stop = entry["data_offsets"]
    dtype = _DTYPES[entry["dtype"]]
    shape = entry["shape"]
    if any(type(n) is not int or n < 0 for n in (start, stop, *shape)) or prod(shape) * dtype.itemsize != stop - start:
        raise ValueError(f"a tensor of shape {shape} lies between the bytes {start} and {stop}")
    if base + stop > len(raw):
        raise ValueError("a tensor ends after the file")
    if start == stop:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(raw, dtype=dtype, count=prod(shape), offset=base + start).reshape(shape).clone()


def _put_weights(model: nn.Module, state: dict[str, torch.Tensor], spec: str, path: str | Path) -> None:
    own = model.state_dict()
    missing, strange = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    unlike = [
        k
        for k in own
        if k in state and (own[k].shape != state[k].shape or own[k].is_complex() != state[k].is_complex())
    ]
    # A tied weight is often saved once.
    missing = [k for k in missing if not any(own[k].data_ptr() == own[o].data_ptr() and o in state for o in own)]
    if missing or strange or unlike:
        raise InputError(
            f"The weights in {str(path)!r} do not fit {spec}: {len(missing)} missing {missing[:3]}, {len(strange)} "
            f"unknown {strange[:3]}, {len(unlike)} of another shape or kind {unlike[:3]}. Give the "
            "weights of this very model."
        )
    model.load_state_dict(state, strict=False)
