"""`report.html`: everything needed to judge a run, in one file, from what is on disk."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from sparse_actors.cli.display import duration
from sparse_actors.config import parse_config
from sparse_actors.errors import JournalError
from sparse_actors.messages import AuditUpdated, Message, Recorded, SpectraRecorded, WorkerJoined
from sparse_actors.planning.audit import AUDIT
from sparse_actors.recording.dose_maps import beam_current_pa, tile_dose
from sparse_actors.recording.journal import inspect_journal
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.run_record import RunRecord

from .beam_time import beam_time, run_figures
from .charts import Axis, Chart
from .gallery import gallery
from .page import write_page
from .panorama_map import panorama_map
from .phases import phases
from .problems import problems
from .sites import Sites, found_sites
from .spacing import Spacing, spacing

CONFIDENCE = 0.95
BINS = 24
PACKAGES = ("numpy", "scipy", "h5py", "scikit-learn", "numba", "opencv-python-headless")


def write_report(folder: Path, check: Callable[[], None] = lambda: None, after: Iterable[str] = ()) -> Path:
    """Write the report of a run, finished or not, and return where it is.

    Parameters
    ----------
    folder
        Of the run.
    check
        Called between the parts; may raise KeyboardInterrupt to end this.
    after
        What went wrong after the last scan, which is in no file of the run.

    Raises
    ------
    JournalError
        There is no run, or its journal is damaged.
    ConfigError
        Its configuration is of another version of the program.
    OSError
        The disk refused.
    """
    record = RunRecord.open(folder)
    if not record.sessions:
        raise JournalError(f"{folder}: the run was not begun, so there is nothing to report")
    config = parse_config(record.sessions[-1].config_toml)
    history, _ = inspect_journal(record.folder.journal)
    mosaic = Mosaic(record.panorama, config.analysis.size_px)
    figures = run_figures(record, config, history)
    check()
    sites = found_sites(record, mosaic)
    shown_map, greys = panorama_map(record, mosaic, sites)
    check()
    pictures = gallery(record, mosaic, sites, greys)
    check()
    found_phases = None if figures.maps is None else phases(record, mosaic, figures.maps)
    check()
    unread = (*shown_map.damaged, *(found_phases.problems if found_phases else ()))
    near = spacing(sites, record.sessions[-1].seed)
    write_page(
        record.folder.report,
        "report.html",
        ("page.js", "map.js"),
        record=record,
        config=config,
        figures=figures,
        states=_state(record),
        began=_when(record.sessions[0].started_s),
        ended=_when(max((one.finished_s for one in _exposures(record)), default=None)),
        map=shown_map,
        sites=sites,
        density=_density(sites),
        sizes=_sizes(sites),
        size_chart=_size_chart(sites),
        spacing=near,
        spacing_chart=None if near is None else _spacing_chart(near),
        gallery=pictures,
        phases=found_phases,
        beam=beam_time(record, figures),
        rescanned_share=_rescanned_share(record, sites),
        dose=_dose(record),
        audit=_audit(record),
        problems=problems(record, history, after, unread),
        provenance=_provenance(record, history),
        duration=duration,
        number=_number,
        now=_when(datetime.now(UTC).timestamp()),
    )
    return record.folder.report


def _state(record: RunRecord) -> tuple[str, str]:
    """Return how the run ended in one word, and why."""
    if record.outcome is None:
        return "unfinished", "the journal has no end: it is going on, or it was cut short"
    return record.outcome.outcome, record.outcome.reason


def _number(value: float, digits: int = 3) -> str:
    """Write a number with so many digits that count, thousands apart and without powers of ten."""
    if not value or not np.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    rounded = float(f"{value:.{digits}g}")
    text = f"{rounded:,.{places}f}".replace(",", "\u202f")
    return text.rstrip("0").rstrip(".") if places else text


def _exposures(record: RunRecord) -> list[Recorded | SpectraRecorded]:
    return [*record.recorded.values(), *record.maps.batches.values()]


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _density(sites: Sites) -> tuple[float, float, float] | None:
    """Return the number of sites in a mm^2, with the exact 95 % interval of a Poisson count.

    The limits are those of Garwood (1936, doi:10.1093/biomet/28.3-4.437).
    """
    if not sites.searched_um2:
        return None
    n, tail, area_mm2 = len(sites), (1 - CONFIDENCE) / 2, sites.searched_um2 * 1e-6
    low = float(gammaincinv(n, tail)) if n else 0.0
    return n / area_mm2, low / area_mm2, float(gammaincinv(n + 1, 1 - tail)) / area_mm2


def _sizes(sites: Sites) -> list[tuple[str, float]] | None:
    """Return sizes in um by what they are."""
    if not (len(sites) and sites.has_sizes):
        return None
    names = ("smallest", "lower quartile", "median", "upper quartile", "largest")
    return list(zip(names, np.quantile(sites.size_um, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))


def _size_chart(sites: Sites) -> Chart | None:
    if not (len(sites) and sites.has_sizes):
        return None
    size_um = sites.size_um
    low, high = float(size_um.min()), float(size_um.max())
    is_log = high > 8 * low
    if high == low:
        low, high = 0.5 * low, 1.5 * high
    edges = np.geomspace(low, high, BINS + 1) if is_log else np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(size_um, np.concatenate([edges[:-1], [np.inf]]))
    y = Axis("sites", 0, 1.05 * float(counts.max()))
    chart = Chart("Sizes of the sites", Axis("size, µm", low, high, is_log=is_log), y)
    chart.bars(edges.tolist(), counts.tolist())
    return chart


def _spacing_chart(near: Spacing) -> Chart:
    x = Axis("distance of the nearest neighbour, µm", 0, float(near.distance_um[-1]))
    chart = Chart("Nearest neighbours", x, Axis("share of the sites", 0, 1, is_share=True))
    distance_um = near.distance_um.tolist()
    chart.band(distance_um, near.random_low.tolist(), near.random_high.tolist(), 8, "at random, 95 %")
    chart.line(distance_um, near.share.tolist(), 0, "the sites")
    return chart


def _rescanned_share(record: RunRecord, sites: Sites) -> float | None:
    """Return rescanned pixels relative to all that the searched area has on the analysis grid."""
    area_px = float((sites.searched_px[:, 2] * sites.searched_px[:, 3]).sum())
    return record.totals.analysis_pixels / area_px if area_px else None


@dataclass(frozen=True, slots=True)
class Dose:
    """Electrons per nm^2."""

    largest: float
    tile: str
    limit: float | None
    current_pa: float


def _dose(record: RunRecord) -> Dose | None:
    """Return the largest dose of any pixel; None: the beam current is not known."""
    current_pa = beam_current_pa(record)
    if current_pa is None or not record.tiles:
        return None
    doses = {str(tile): float(tile_dose(record, tile).max()) for tile in sorted(record.tiles)}
    tile = max(doses, key=lambda name: doses[name])
    limit = record.config.get("limits", {}).get("max_dose_e_per_nm2")
    return Dose(doses[tile], tile, limit, current_pa)


@dataclass(frozen=True, slots=True)
class Audit:
    """What the random windows tell of all audited tiles."""

    told: AuditUpdated
    windows: int
    seen: int
    """Missed sites in them."""
    beam_s: float
    """Time of their scans."""


def _audit(record: RunRecord) -> Audit | None:
    """Return what the run has missed, as it told itself with its last tile; None: it had no audit."""
    if not record.audits:
        return None
    audits = list(record.audits.values())
    parts = {part for part, planned in record.regions.items() if planned.source == AUDIT}
    scans = [one for scan_id, one in record.recorded.items() if scan_id.partition in parts]
    return Audit(
        told=audits[-1],
        windows=sum(len(one.missed) for one in audits),
        seen=sum(sum(one.missed) for one in audits),
        beam_s=sum(one.finished_s - one.started_s for one in scans),
    )


def _provenance(record: RunRecord, history: list[Message]) -> dict[str, Any]:
    """Return what the result hangs on beside the specimen."""
    workers = {fact.host: fact for fact in history if isinstance(fact, WorkerJoined)}
    last = record.sessions[-1]
    models = [*last.models, *(model for worker in workers.values() for model in worker.models)]
    return {
        "seed": last.seed,
        "models": tuple(dict.fromkeys(models)),
        "files": next((one.files for one in record.sessions if one.files), {}),
        "hosts": tuple(sorted(workers)),
        "journal": _sha256(record.folder.journal),
        "python": f"Python {platform.python_version()} on {platform.platform(terse=True)}",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        "given": _text(record.folder),
        "resolved": last.config_toml,
        "sessions": [(one.session, _when(one.started_s), one.version) for one in record.sessions],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(folder: RunFolder) -> str:
    try:
        return folder.config_given.read_text("utf-8", errors="replace")
    except OSError:
        return ""
