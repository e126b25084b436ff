"""Files: written whole or not at all, whatever happens in between; read as data that may be damaged or hostile."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from innersight_graph.errors import InputError, WriteError

__all__ = [
    "MALFORMED",
    "MAX_TEXT_BYTES",
    "check_folder",
    "check_source",
    "check_target",
    "check_unpacked",
    "csv_text",
    "make_folder",
    "parse_json",
    "read_text",
    "whole_file",
    "write_bytes",
    "write_text",
]

# What parsers raise on data that is not what it should be; RecursionError (deep nesting) is a RuntimeError.
MALFORMED: tuple[type[Exception], ...] = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, pickle.UnpicklingError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# Text is parsed into objects many times its size: what is larger than this belongs into arrays (.npz).
MAX_TEXT_BYTES = 2**30
# A spreadsheet runs cells that begin like this; names of layers, classes and methods are the user's.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:
        raise InputError(
            f"{os.fspath(path)!r} is not the name of a file ({error}). Name the {what} otherwise."
        ) from error
    problem = None
    if os.path.isdir(target):
        problem = "is a folder"
    elif os.path.exists(target) and not os.path.isfile(target):
        problem = "is a device, not a file"
    elif not os.path.isdir(target.parent):
        problem = "stands in a folder that does not exist"
    if problem is not None:
        raise InputError(
            f"The {what} cannot be written to {os.fspath(path)!r}, which {problem}. "
            "Give the path of a file in an existing folder."
        )
    places = [place for place in (target, target.parent) if os.path.exists(place)]
    protected = next((place for place in places if not os.access(place, os.W_OK)), None)
    if protected is not None:
        raise WriteError(
            f"The {what} cannot be written to {os.fspath(path)!r}: {str(protected)!r} is write-protected. "
            "Name another place, or change its permissions."
        )
    return target


def check_folder(path: str | os.PathLike[str], what: str = "results") -> Path:
    """Return the path of a folder that is there or can be made, before any work is done for it.

    Parameters
    ----------
    path : path
    what : str
        What is to be written there, for the message.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError
        The path, or a part of it, is a file, or it is no name of a folder.
    WriteError
        The folder, or the one it would be made in, is write-protected.
    """
    folder = Path(path)
    try:
        os.path.realpath(folder)
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{os.fspath(path)!r} is not the name of a folder ({error}). Name the folder of the {what} otherwise."
        ) from error
    if not nearest.is_dir():
        raise InputError(
            f"The {what} cannot be written to {os.fspath(path)!r}: {str(nearest)!r} is a file; a folder was expected. "
            "Name another place, or remove that file."
        )
    if not os.access(nearest, os.W_OK):
        raise WriteError(
            f"The {what} cannot be written to {os.fspath(path)!r}: {str(nearest)!r} is write-protected. "
            "Name another place, or change its permissions."
        )
    return folder


def make_folder(path: str | os.PathLike[str], what: str = "results") -> Path:
    """Make a folder, with those above it, and return its path; errors as `check_folder`."""
    folder = check_folder(path, what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"The folder {os.fspath(path)!r} of the {what} could not be made ({error.strerror or error}). Free some "
            "room, or name another place."
        ) from error
    return folder


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


def check_source(path: str | os.PathLike[str], what: str = "file", max_bytes: int | None = None) -> Path:
    """Return the path of a file that can be read; InputError where there is none, or a larger one than max_bytes."""
    source = Path(path)
    # os.path answers False where Path raises, for example on a name that is too long.
    if not os.path.isfile(source):
        problem = "is a folder or a device" if os.path.exists(source) else "does not exist"
        raise InputError(f"The {what} {os.fspath(path)!r} {problem}. Give the path of a file.")
    size = source.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise InputError(
            f"The {what} {os.fspath(path)!r} has {size:,} bytes; at most {max_bytes:,} are read as text. "
            "Graphs of that size are kept as .npz."
        )
    return source


def check_unpacked(path: Path) -> None:
    """Raise ValueError unless an archive is as NumPy and torch write them: nothing compressed, every name once.

    A compressed member can unpack to any size, whatever the archive says of it; of two members of one name, programs
    differ in which they read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    size = path.stat().st_size
    if unpacked > size:
        raise ValueError(
            f"it unpacks to {unpacked:,} bytes from {size:,}, and what this package reads is not compressed"
        )
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"its part {member.filename!r} is compressed; parts stored as they are were expected")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its parts have one name")


def read_text(path: str | os.PathLike[str], what: str = "file") -> str:
    """Return the text of a UTF-8 file, with or without byte-order mark and carriage returns.

    Raises
    ------
    InputError
        The file does not exist, is larger than a gigabyte, cannot be read, or is not UTF-8.
    """
    source = check_source(path, what, MAX_TEXT_BYTES)
    try:
        return source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The {what} {os.fspath(path)!r} cannot be read as UTF-8 text ({error}). Write it again."
        ) from error


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; ValueError where an object has a key twice, of which readers silently keep one.

    Examples
    --------
    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    return json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return rows as CSV: every column that occurs, empty cells for None, no text that a spreadsheet would run.

    Examples
    --------
    >>> csv_text([{"a": 1}, {"a": "=1+1", "b": None}])
    "a,b\n1,\n'=1+1,\n"
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return "" if value is None else value


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
