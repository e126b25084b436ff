"""The IDX format of MNIST: an array of numbers behind a short header, plain or gzipped; its size may be a lie."""

from __future__ import annotations

import gzip
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from innersight_graph.errors import InputError
from innersight_graph.files import MALFORMED

__all__ = ["read_idx"]

_BYTES = 2**32
# No gzip file can hold more than about 1,032 times its size.
_PACKING = 1100
_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Read one IDX file: two zero bytes, a type code, the number of axes, the sizes, the values, all big-endian."""
    try:
        packed = path.suffix == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(4)
            zero, code, n_axes = struct.unpack(">HBB", start)
            if zero or code not in _TYPES:
                raise InputError(
                    f"{str(path)!r} is not an IDX file: it starts with {start!r}. Expected two zero bytes, a type and "
                    "the number of axes. Name the folder of the right files."
                )
            shape = struct.unpack(f">{n_axes}I", file.read(4 * n_axes))
            size = prod(shape) * np.dtype(_TYPES[code]).itemsize
            if size > min(_BYTES, path.stat().st_size * (_PACKING if packed else 1)):
                raise InputError(
                    f"{str(path)!r} says that it holds values of shape {shape}, {size:,} bytes: more than is in it, or "
                    f"more than is read into memory ({_BYTES:,}). Copy it again, or use fewer images."
                )
            # A few packed bytes can unpack to terabytes: no more is read than the shape asks for.
            raw = file.read(size + 1)
        if len(raw) != size:
            raise ValueError(f"it says {size:,} bytes of values and holds {'more' if len(raw) > size else len(raw)}")
        return np.frombuffer(raw, dtype=_TYPES[code]).reshape(shape)
    except MALFORMED as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)!r} could not be read as an IDX file ({error}). Copy it again: it may be cut off."
        ) from error
