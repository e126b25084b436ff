"""Memory: what a step will need against what the machine has, and what is done when a device runs out of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from innersight_graph.errors import InputError

__all__ = ["available_memory", "check_memory", "with_less_memory"]

T = TypeVar("T")
# Shares of a device's memory that are tried one after another, before the CPU.
SHARES = (1.0, 1 / 4, 1 / 16)

# Linux: free memory and caches that give way; the limits of a container (version 2, version 1).
MEMINFO = Path("/proc/meminfo")
LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available_memory() -> int | None:
    """Return the bytes that can still be allocated without swapping; None where the system does not say."""
    found = []
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in LIMITS:
        try:
            found.append(int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return max(0, min(found)) if found else None


def check_memory(need: float, what: str, instead: str) -> None:
    """Raise InputError if a step needs more memory than there is.

    Parameters
    ----------
    need : float
        Bytes.
    what : str
        The step and its size, to begin the message with.
    instead : str
        What the user can do, a sentence.

    Raises
    ------
    InputError
        With the gigabytes that are needed and those that are free. Nothing is checked where the system does not say.
    """
    free = available_memory()
    if free is not None and need > free:
        raise InputError(
            f"{what} needs about {need / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free. {instead}"
        )


def with_less_memory(
    attempt: Callable[[float], T],
    elsewhere: Callable[[], T],
    ran_out: Callable[[Exception], bool],
    *,
    said: str,
    instead: str,
    stacklevel: int,
) -> T:
    """Run ``attempt(share)`` with smaller and smaller shares of a device's memory, at last ``elsewhere()``, and say so.

    Parameters
    ----------
    attempt, elsewhere : callable
        Work on the device with a share of its memory, and on the CPU.
    ran_out : callable
        Whether an error means that the device has too little memory; others are raised.
    said, instead : str
        What the warning begins with ("… ran out of memory: the search is repeated"), and what the user can do.
    stacklevel : int
        Of the warning, counted from the caller.
    """
    for share in SHARES:
        try:
            return attempt(share)
        except Exception as error:
            if not ran_out(error):
                raise
        # Outside the handler: the error holds the tensors of the attempt that failed.
        then = "in smaller batches" if share > SHARES[-1] else "on the CPU"
        warnings.warn(f"{said} {then}. The result is the same; {instead}.", RuntimeWarning, stacklevel=stacklevel + 1)
    return elsewhere()
