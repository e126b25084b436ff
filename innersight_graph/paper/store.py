"""The folder of a run: whole files only, and finished artefacts that are taken over when a killed run is repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innersight_graph.files import MALFORMED, csv_text, make_folder, parse_json, read_text, write_bytes
from innersight_graph.paper.record import Artefact, Verdict, plain
from innersight_graph.provenance import environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Store"]


class Store:
    """Files of one run.

    Parameters
    ----------
    folder : Path
        Made if missing.
    fingerprint : str
        Of settings and data; only files that carry it are taken over.

    Raises
    ------
    InputError
        The folder is a file or cannot be written to.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.work = make_folder(folder / "work" / fingerprint)
        self.write(folder / "fingerprint.txt", fingerprint + "\n")

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a file whole or not at all."""
        write_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return the record of a finished artefact, or None where it must be made (again)."""
        try:
            record: dict[str, Any] = parse_json(read_text(self.folder / f"{name}.json"))
            shown = [figure["file"] for figure in record["figures"]]
            for v in record["verdicts"]:
                Verdict(**v)
            # Only files of this artefact in this folder: what a record names is put on the page.
            own = re.compile(rf"{re.escape(name)}(-\d+)?\.(csv|svg|png)")
            complete = set(shown) <= set(record["files"]) and all(
                own.fullmatch(file) and (self.folder / file).is_file() for file in record["files"]
            )
        except MALFORMED:
            return None
        return record if complete and record.get("fingerprint") == self.fingerprint else None

    def save(self, artefact: Artefact, seconds: Mapping[str, float]) -> dict[str, Any]:
        """Write figures and CSV, then the JSON that declares the artefact finished; return its record.

        An older JSON goes first: killed in between, it would declare files finished that are partly another run's.
        """
        (self.folder / f"{artefact.name}.json").unlink(missing_ok=True)
        files = {f"{artefact.name}.csv": csv_text(plain(artefact.rows)).encode("utf-8")}
        figures = []
        for number, (caption, figure) in enumerate(artefact.figures.items()):
            suffix, content = _picture(figure)
            file = f"{artefact.name}{'' if number == 0 else f'-{number + 1}'}.{suffix}"
            files[file] = content
            figures.append({"file": file, "caption": caption, "width": round(96 * figure.get_figwidth())})
        for file, content in files.items():
            self.write(self.folder / file, content)
        record = {
            "name": artefact.name,
            "title": artefact.title,
            "fingerprint": self.fingerprint,
            "environment": environment(),
            "files": list(files),
            "figures": figures,
            "verdicts": [plain(asdict(v)) for v in artefact.verdicts],
            "numbers": plain(artefact.numbers),
            "rows": plain(list(artefact.rows)),
            "seconds": plain(seconds),
        }
        self.write(
            self.folder / f"{artefact.name}.json", json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        )
        return record


def _picture(figure: Figure) -> tuple[str, bytes]:
    """Return vector or palette PNG, whichever is smaller."""
    from innersight_graph.figures.style import to_png, to_svg

    vector, pixels = to_svg(figure).encode("utf-8"), to_png(figure)
    return ("svg", vector) if len(vector) <= len(pixels) else ("png", pixels)
