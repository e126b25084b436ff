"""`run_paper`: artefact by artefact, each finished before the next begins, so that a killed run can continue."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from innersight_graph.detection.em import whole_results
from innersight_graph.files import check_folder
from innersight_graph.paper.drops import fig1a, table1
from innersight_graph.paper.levels import fig3c
from innersight_graph.paper.maps import fig1b, fig2a, fig2b
from innersight_graph.paper.networks import KINDS, fewer, load_data, one_thread
from innersight_graph.paper.noise import table2, table4
from innersight_graph.paper.page import make_page
from innersight_graph.paper.pruning import table3
from innersight_graph.paper.record import Artefact, Verdict
from innersight_graph.paper.representations import fig3a, fig3b
from innersight_graph.paper.runtimes import a7
from innersight_graph.paper.settings import Settings
from innersight_graph.paper.store import Store
from innersight_graph.paper.study import Study
from innersight_graph.provenance import environment

if TYPE_CHECKING:
    from innersight_graph.data import ImageData

__all__ = ["ARTEFACTS", "PaperResult", "run_paper"]

ARTEFACTS: Mapping[str, Callable[[Study], Artefact]] = MappingProxyType(
    {
        "fig1a": fig1a,
        "fig1b": fig1b,
        "fig2a": fig2a,
        "fig2b": fig2b,
        "table1": table1,
        "fig3a": fig3a,
        "fig3b": fig3b,
        "fig3c": fig3c,
        "table2": table2,
        "table3": table3,
        "table4": table4,
        "a7": a7,
    }
)
# Made beside each other, the longest first; the tables after them share detections, and run times are taken alone.
APART = ("fig2a", "table1", "fig1a", "fig2b", "fig3b", "fig3c", "fig3a", "fig1b")
PAGE = "paper.html"


@dataclass(frozen=True, repr=False)
class PaperResult:
    """What a run found.

    Attributes
    ----------
    folder : Path
        With ``paper.html``, ``verdicts.json``, and for each artefact a JSON, a CSV and its figures.
    records : mapping of str to dict
        Artefact name to its JSON: ``title``, ``verdicts``, ``numbers``, ``rows``, ``files``, ``seconds``.
    verdicts : tuple of Verdict
        In the order of the artefacts.
    seconds : float
        Wall time of this call.
    """

    folder: Path
    records: Mapping[str, Mapping[str, Any]]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def page(self) -> Path:
        """The page that holds it all."""
        return self.folder / PAGE

    def __repr__(self) -> str:
        counts = {
            word: sum(v.outcome == word for v in self.verdicts)
            for word in dict.fromkeys(v.outcome for v in self.verdicts)
        }
        return (
            f"PaperResult({len(self.records)} artefacts, {', '.join(f'{n} {word}' for word, n in counts.items())},"
            f" {self.page})"
        )


def run_paper(
    data: str | ImageData = "digits",
    out: str | os.PathLike[str] = "innersight-paper",
    *,
    seed: int = 0,
    quick: bool = False,
    seeds: int = 10,
    train_seeds: int = 1,
    literal: bool = True,
    n_jobs: int | None = None,
    progress: bool = False,
    console: Any = None,
) -> PaperResult:
    """Recompute every figure and table of the paper and say which of its claims hold here.

    Parameters
    ----------
    data : str or ImageData
        ``"digits"`` (in place of MNIST), ``"faces"`` (generated, in place of AFHQ), a folder with MNIST's IDX files,
        AFHQ or one folder of pictures per class, or ``"mnist:FOLDER"``, ``"afhq:FOLDER"``, ``"folder:FOLDER"``.
        Nothing is downloaded. A linear and a convolutional network of the paper's sizes are trained on it.
    out : path
        Folder for the files; made if missing. A finished artefact found there is taken over if it was made from the
        same data, settings and versions, so a killed run continues.
    seed : int
        Of splits, training, random groups; the detectors' seeds are ``seed``, ``seed + 1``, …
    quick : bool
        Fewer seeds, starts, images and random groups: shows that all works, decides little.
    seeds : int
        Detection seeds on one network for Tables 2 to 4; the paper's are ten runs.
    train_seeds : int
        Networks trained from different seeds for Tables 2 to 4. With more than one, variance is split between
        networks and detections, and Liu et al.'s training method, which gives other networks, has a row of its own.
    literal : bool
        Report the printed readings beside the corrected ones: the search as printed, selection on test images, the
        printed maps.
    n_jobs : int, optional
        Worker processes, each with one thread, for detections, searches and figures; default one per core, two in a
        quick run.
    progress : bool
        Say what is going on, also without a console.
    console : rich.console.Console, optional
        Where; implies progress.

    Returns
    -------
    PaperResult

    Raises
    ------
    InputError
        Unknown data, `out` is a file, or sizes that make no sense.
    WriteError
        `out` cannot be written to.

    Notes
    -----
    Every verdict names its number and the rule, with thresholds, that turned the one into the other. The outcome is
    ``"supported"``, ``"not supported"`` or ``"cannot be decided here"``. Artefacts of linear layers (Fig. 1, 3a)
    come from the linear network, those of convolutions (Fig. 2, 3b, 3c, Tables 1 and 3) from the convolutional one,
    Tables 2 and 4 from both.

    References
    ----------
    The paper, section 4 and appendix A.6, A.7.
    """
    started = time.perf_counter()
    settings = Settings(seed=seed, seeds=seeds, train_seeds=train_seeds, literal=literal, quick=quick)
    folder = check_folder(out)
    images = fewer(load_data(data, seed=seed, quick=quick), settings.held_out)
    import innersight_graph

    store = Store(folder, settings.fingerprint(images, innersight_graph.__version__))
    jobs = n_jobs or (min(2, os.cpu_count() or 1) if quick else os.cpu_count() or 1)
    with _Teller(console, progress) as teller, one_thread(), whole_results():
        study = Study(images, settings, store, n_jobs=jobs, say=teller.now)
        made = _made_apart(study, teller) if jobs > 1 else {}
        records = {name: made.get(name) or _made(name, study, teller) for name in ARTEFACTS}
        result = _conclude(records, study, started)
    return result


def _made(name: str, study: Study, teller: _Teller) -> dict[str, Any]:
    """Take a finished artefact over, or make it."""
    known = study.store.finished(name)
    if known is not None:
        teller.done(known, "taken over")
        return known
    teller.now(f"making {name}")
    record = _make(name, study)
    teller.done(record, f"{record['seconds']['wall']:.1f} s")
    return record


def _make(name: str, study: Study) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    artefact = ARTEFACTS[name](study)
    return study.store.save(artefact, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})


def _made_apart(study: Study, teller: _Teller) -> dict[str, dict[str, Any]]:
    """Make the artefacts that need nothing but a network and its communities in worker processes, several at a time."""
    missing = [name for name in APART if study.store.finished(name) is None]
    records: dict[str, dict[str, Any]] = {}
    if not missing:
        return records
    alone = (study.data, study.settings, study.store)
    for _ in study.spread({kind: (_prepare, kind, *alone) for kind in reversed(KINDS)}, "networks and communities"):
        pass
    for name, record in study.spread({name: (_make_alone, name, *alone) for name in missing}, "figures and Table 1"):
        records[name] = record
        teller.done(record, f"{record['seconds']['wall']:.1f} s")
    return records


# The study of a worker process: its graphs and measurements serve every artefact made there.
_HERE: dict[str, Study] = {}


def _alone(data: ImageData, settings: Settings, store: Store) -> Study:
    key = f"{store.folder}/{store.fingerprint}"
    if key not in _HERE:
        _HERE.clear()
        _HERE[key] = Study(data, settings, store, n_jobs=1, say=lambda what: None)
    return _HERE[key]


def _prepare(kind: str, data: ImageData, settings: Settings, store: Store) -> None:
    """Train a network and find its communities, both kept in the store."""
    with one_thread():
        _alone(data, settings, store).main(kind)


def _make_alone(name: str, data: ImageData, settings: Settings, store: Store) -> dict[str, Any]:
    with one_thread():
        return _make(name, _alone(data, settings, store))


def _conclude(records: Mapping[str, dict[str, Any]], study: Study, started: float) -> PaperResult:
    verdicts = [Verdict(**v) for r in records.values() for v in r["verdicts"]]
    folder, data, settings = study.store.folder, study.data, study.settings
    summary = {
        "fingerprint": study.store.fingerprint,
        "data": data.name,
        "settings": vars(settings),
        "environment": environment(),
        "refusals": study.refusals,
        "verdicts": [{"artefact": name, **v} for name, r in records.items() for v in r["verdicts"]],
    }
    study.store.write(folder / "verdicts.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False))
    sizes = " / ".join(f"{len(split.targets):,}" for split in (data.train, data.validation, data.test))
    networks = "1 network" if settings.train_seeds == 1 else f"{settings.train_seeds} networks"
    lead = (
        f"{data.name}: {sizes} training, validation and test images, {len(data.classes)} classes; "
        f"{len(settings.detection_seeds)} detection seeds on {networks} of each kind; seed {settings.seed}. "
        "Everything is chosen on validation images and reported on test images, unless it says 'as printed'."
    )
    if settings.quick:
        lead += " Quick run: sizes are cut down, so verdicts show that all works rather than what is true."
    page = make_page(list(records.values()), folder, title="The paper's figures and tables, recomputed", lead=lead)
    study.store.write(folder / PAGE, page)
    return PaperResult(folder, MappingProxyType(dict(records)), tuple(verdicts), time.perf_counter() - started)


class _Teller:
    """Says what is going on, on one line that changes, and what was found, on lines that stay."""

    def __init__(self, console: Any, progress: bool) -> None:
        if console is None and progress:
            from rich.console import Console

            console = Console(stderr=True, highlight=False)
        self.console = console
        self.status: Any = None

    def __enter__(self) -> _Teller:
        if self.console is not None:
            self.status = self.console.status("starting …")
            self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.status is not None:
            self.status.stop()

    def now(self, what: str) -> None:
        """Say what is being done."""
        from rich.markup import escape

        if self.status is not None:
            self.status.update(escape(f"{what} …"))

    def done(self, record: Mapping[str, Any], how: str) -> None:
        """Say what an artefact found."""
        if self.console is None:
            return
        from rich.markup import escape

        self.console.print(f"[bold]{escape(record['title'])}[/bold] [dim]({how})[/dim]")
        for v in record["verdicts"]:
            self.console.print(f"  [bold]{v['outcome']}[/bold]: {escape(v['says'])}")
