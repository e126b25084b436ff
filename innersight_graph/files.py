"""Writing files: whatever happens in between, a file is the old one or the new one, whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from innersight_graph.errors import InputError, WriteError

__all__ = ["check_target", "whole_file", "write_bytes", "write_text"]


def check_target(path: str | os.PathLike[str], what: str = "file") -> Path:
    """Return the path of a file that can be written, before any work is done for it.

    Parameters
    ----------
    path : path
        A link stands for the file it points to.
    what : str
        What is to be written, for the message.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        The path is a folder or a device, or stands in a folder that does not exist.
    WriteError
        The file or its folder is write-protected.
    """
    target = Path(os.path.realpath(path))
    problem = None
    if target.is_dir():
        problem = "is a folder"
    elif target.exists() and not target.is_file():
        problem = "is a device, not a file"
    elif not target.parent.is_dir():
        problem = "stands in a folder that does not exist"
    if problem is not None:
        raise InputError(
            f"The {what} cannot be written to {os.fspath(path)!r}, which {problem}. "
            "Give the path of a file in an existing folder."
        )
    places = [place for place in (target, target.parent) if place.exists()]
    protected = next((place for place in places if not os.access(place, os.W_OK)), None)
    if protected is not None:
        raise WriteError(
            f"The {what} cannot be written to {os.fspath(path)!r}: {str(protected)!r} is write-protected. "
            "Name another place, or change its permissions."
        )
    return target


@contextmanager
def whole_file(path: str | os.PathLike[str], what: str = "file") -> Iterator[Path]:
    """Give the path of a temporary file, which takes the wanted name only when the block ended well.

    Parameters
    ----------
    path : path
    what : str
        What is written, for the messages.

    Yields
    ------
    pathlib.Path
        A hidden file with the same ending in the same folder, not yet there.

    Raises
    ------
    InputError
        As `check_target`.
    WriteError
        The system could not write, for example because the disk is full. The old file is as it was.

    Notes
    -----
    The temporary file reaches the disk before it is renamed, so that a power cut cannot leave an empty file under the
    wanted name. It is removed after an exception, Ctrl-C included; only a process that is killed leaves it behind,
    hidden under its own name, and it may be deleted.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "answer.txt")) as temporary:
    ...         _ = temporary.write_text("42")
    ...     [file.name for file in Path(folder).iterdir()]
    ['answer.txt']
    """
    target = check_target(path, what)
    # Not made from the target's name, which may be as long as the file system allows; the ending may name a format.
    temporary = target.with_name(f".innersight-{uuid4().hex}{target.suffix[:16]}")
    try:
        try:
            yield temporary
            _reach_disk(temporary)
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"The {what} could not be written to {os.fspath(path)!r} ({error.strerror or error}). What was there "
            "before is unchanged. Free some room, close programs that hold the file open, or name another place."
        ) from error
    _reach_disk_folder(target.parent)


def write_text(path: str | os.PathLike[str], text: str, what: str = "file") -> None:
    """Write text as UTF-8 with the line ends it has, on every system; errors as `whole_file`.

    Characters that UTF-8 cannot carry (halves of surrogate pairs) become question marks.
    """
    write_bytes(path, text.encode("utf-8", "replace"), what)


def write_bytes(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write bytes; errors as `whole_file`."""
    with whole_file(path, what) as temporary:
        temporary.write_bytes(content)


def _reach_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _reach_disk_folder(folder: Path) -> None:
    """Put the new name on the disk too, where the system can (Windows and some network file systems cannot)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
