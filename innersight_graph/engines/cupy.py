"""The readable engine on CuPy: the code of `innersight_graph.engines.numpy`, run on an NVIDIA device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.numpy import ArrayEngine
from innersight_graph.errors import InputError, MissingExtraError

__all__ = ["CupyEngine"]


class CupyEngine(ArrayEngine):
    """EM in float64 on the current CuPy device.

    Raises
    ------
    MissingExtraError
        If CuPy is not installed.
    InputError
        If CuPy finds no device.
    """

    name = "cupy"

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise MissingExtraError("cupy", "cuda12", "engine='cupy'") from error
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise InputError(
                f"engine='cupy' needs a CUDA device, and CuPy says: {error}. Use engine='auto'."
            ) from error
        super().__init__(cupy)

    def _host(self, array: Any) -> NDArray[Any]:
        return np.asarray(self.xp.asnumpy(array))
