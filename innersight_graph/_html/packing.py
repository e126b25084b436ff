"""Small, safe JSON for a page: typed columns in base64, short numbers, NaN as null, text of bounded length."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["clip", "column", "dumps", "rounded"]

# Names longer than this are cut on the page; the graph keeps them whole.
LONGEST = 200
# What could end a script element, or upset an older JavaScript parser, is written as an escape.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def clip(text: Any, longest: int = LONGEST) -> str:
    """Return text as a string of at most `longest` characters, an ellipsis where it was cut."""
    words = str(text)
    return words if len(words) <= longest else words[: longest - 1] + "…"


def column(values: npt.ArrayLike, kind: str = "index") -> dict[str, str]:
    """Pack a one-dimensional array as little-endian base64.

    ``"index"`` takes the smallest unsigned integer type that holds every value, ``"real"`` float32, ``"share"`` maps
    [0, 1] to a byte,
    ``"signed"`` int16.
    """
    array = np.asarray(values).ravel()
    if kind == "real":
        code, array = "f4", array.astype("<f4")
    elif kind == "share":
        code, array = "u1", np.rint(np.clip(np.nan_to_num(array), 0.0, 1.0) * 255).astype("u1")
    elif kind == "signed":
        code, array = "i2", array.astype("<i2")
    else:
        largest = int(array.max(initial=0))
        code = "u1" if largest < 2**8 else "u2" if largest < 2**16 else "u4"
        array = array.astype("<" + code)
    return {"t": code, "b": base64.b64encode(array.tobytes()).decode("ascii")}


def rounded(value: Any) -> Any:
    """Return numbers with four significant digits, NaN and infinity as None; arrays and sequences as lists of them."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.ndarray | list | tuple):
        return [rounded(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None


def dumps(record: Any) -> str:
    """Return compact JSON that is safe inside a script element."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return text
