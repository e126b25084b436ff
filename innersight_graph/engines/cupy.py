"""The readable engine on CuPy: the code of `innersight_graph.engines.numpy`, run on an NVIDIA device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innersight_graph.engines.base import Fits, Group
from innersight_graph.engines.numpy import STATE_BYTES, ArrayEngine
from innersight_graph.engines.table import Problem
from innersight_graph.errors import InputError, MissingExtraError
from innersight_graph.memory import with_less_memory

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

    def fit(self, problem: Problem, groups: Sequence[Group], *, max_iter: int, tol: float) -> list[Fits]:
        """Run every group; see `innersight_graph.engines.base.Engine`. Without enough memory the CPU is used."""

        def here(share: float) -> list[Fits]:
            if share < 1.0:
                self.xp.get_default_memory_pool().free_all_blocks()
            return self._fit(problem, groups, max_iter, tol, int(STATE_BYTES * share))

        return with_less_memory(
            here,
            lambda: ArrayEngine().fit(problem, groups, max_iter=max_iter, tol=tol),
            lambda error: isinstance(error, self.xp.cuda.memory.OutOfMemoryError),
            said="engine='cupy' ran out of memory: the search is repeated",
            instead="free memory on the device, or pass engine='torch'",
            stacklevel=2,
        )

    def _host(self, array: Any) -> NDArray[Any]:
        return np.asarray(self.xp.asnumpy(array))
