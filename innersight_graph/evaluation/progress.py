"""Progress with time left, only where asked for and only once a step has taken two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["steps"]

T = TypeVar("T")
PATIENCE = 2.0


def steps(items: Sequence[T], what: str, progress: bool) -> Iterator[T]:
    """Yield the items, with a bar on stderr when ``progress`` and the whole is going to take over two seconds."""
    if not progress:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    started = time.monotonic()
    bar: Progress | None = None
    try:
        for done, item in enumerate(items):
            spent = time.monotonic() - started
            if bar is None and console.is_terminal and done and spent * len(items) / done > PATIENCE:
                bar = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    TimeRemainingColumn(),
                    console=console,
                    transient=True,
                )
                bar.start()
                task = bar.add_task(what, total=len(items), completed=done)
            yield item
            if bar is not None:
                bar.update(task, completed=done + 1)
    finally:
        if bar is not None:
            bar.stop()
