"""Progress with time left, only where asked for and only once a step has taken two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

__all__ = ["Interrupted", "steps", "watching"]

T = TypeVar("T")
PATIENCE = 2.0
# The display on the terminal now: there is one, and work inside other work gets a line of its own on it.
_SHOWN: list[Any] = []


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after a part of an evaluation was finished; `evaluate` keeps that part, marked partial.

    Parameters
    ----------
    partial : Evaluation
        What was finished.
    """

    def __init__(self, partial: Any) -> None:
        super().__init__("interrupted; .partial holds what was finished")
        self.partial = partial


def watching(progress: bool) -> Callable[[Sequence[Any], str], Iterator[Any]]:
    """Return `steps` for this setting, to hand to rooms that know nothing of terminals."""
    return partial(steps, progress=progress)


def steps(items: Sequence[T], what: str, progress: bool) -> Iterator[T]:
    """Yield the items, with a bar on stderr when ``progress`` and the whole is going to take over two seconds."""
    if not progress:
        yield from items
        return
    started = time.monotonic()
    show: Any = None
    task: Any = None
    begun = False
    try:
        for done, item in enumerate(items):
            spent = time.monotonic() - started
            if task is None and done and spent * len(items) / done > PATIENCE:
                show, begun = _display()
                task = None if show is None else show.add_task(what, total=len(items), completed=done)
            yield item
            if task is not None:
                show.update(task, completed=done + 1)
    finally:
        if task is not None:
            show.remove_task(task)
        if begun:
            _SHOWN.remove(show)
            show.stop()


def _display() -> tuple[Any, bool]:
    """Return the display and whether it was begun here; none where nobody looks."""
    if _SHOWN:
        return _SHOWN[-1], False
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return None, False
    show = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    show.start()
    _SHOWN.append(show)
    return show, True
