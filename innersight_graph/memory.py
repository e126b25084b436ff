"""Memory: what a step will need against what the machine has, told before anything large is allocated."""

from __future__ import annotations

from pathlib import Path

from innersight_graph.errors import InputError

__all__ = ["available_memory", "check_memory"]

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
