"""Maps by the daemon itself: of real spectrum images by replay, and in the regions that a survey found."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slads_images import DATA
from sparse_actors.models.likelihood import LikelihoodClassifier
from sparse_actors.models.spectrum_library import SpectrumLibrary
from steel_library import steel_library

from sparse_actors import plugins
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.sampling.reconstruction import reconstruct

Row = dict[str, Any]
AGREEMENTS = (0.95, 0.99)
SPECTRA_OF_A_PHASE, LIBRARY_COUNTS = 24, 2000
"""Pixels of few counts are summed to spectra of about so many."""
STEP = 0.01


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded spectrum image, and how much of it counts as one spot."""

    name: str
    beam_kev: float
    reference: str
    """Where the phases of the library come from."""


IMAGES = (
    Recorded("chevkinite_30x30", 20, "k-means of the smoothed spectra"),
    Recorded("granite_P45_75x100", 20, "k-means of the smoothed spectra"),
    Recorded("cathode_AlCu_240x320", 15, "grey level of the image"),
)

REPLAY = """
[run]
name = "replayed"
seed = {seed}
[microscope]
driver = "replay"
[microscope.options]
spectrum_image = {file!r}
recorded_live_time_s = 0.005
time_scale = 0
[panorama]
corners_mm = {corners}
tile_fov_um = {fov_um}
overlap_pct = 0.0
partitions = 1
[scan.fast]
size_px = [{columns}, {rows}]
dwell_ns = 1000.0
[scan.analysis]
size_px = [{columns}, {rows}]
dwell_ns = 1000.0
[regions]
size_px = [8, 8]
[eds]
where = "field"
grid_px = [{columns}, {rows}]
live_time_ms = 5.0
points_pct = {points_pct}
beam_kev = {beam_kev}
new_phases = "ignore"
[eds.options]
library = {library!r}
[limits]
min_free_disk_gb = 0.0
"""


def eds_rows(quick: bool, seed: int) -> Iterator[Row]:
    """Sample each recorded spectrum image by the daemon, and compare with the map of all its pixels."""
    for image in IMAGES[:1] if quick else IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            yield _replayed(image, Path(folder), 40.0 if quick else 90.0, seed)


def eds_line(row: Row) -> str:
    """Return one image for people."""
    shares = [
        f"{agreement:.0%} of the {reference}: {_percent(row[_key(reference, agreement)])}"
        for reference in ("full map", "reference")
        for agreement in AGREEMENTS
    ]
    return ", ".join([f"{row['image']:22} {row['points']} points", *shares])


def _key(reference: str, agreement: float) -> str:
    return f"{reference.replace(' ', '_')}_{agreement:.0%}"


def _percent(fraction: float | None) -> str:
    return "never" if fraction is None else f"{fraction:.1%}"


EDS_TEXT = """# Real spectrum images, sampled by the daemon

Each recorded spectrum image is replayed pixel by pixel (`driver = "replay"`), classified by the
likelihood classifier in the worker pool and sampled by the sampler that comes with the program. The
share of points is given after which the map agrees, and from there on goes on agreeing, with the map of
all pixels: that of the same classifier on every pixel ("full map"), and that of k-means on smoothed
spectra ("reference"). Where a pixel holds some twenty counts, its own spectrum is often not enough to
tell its phase, and the full map is speckled: no sampling can foresee that, and only the reference tells
how good the map is. The library is made of 24 spectra of each phase of the reference (of the cathode:
which of the lines of Al and Cu is the stronger), single pixels or sums of about 2000 counts. Batches
hold ten points, a fortieth of a second of beam time each.

| spectrum image | counts a pixel | full map = reference | 95 % of full map | 99 % | 95 % of ref. | 99 % |
|---|---|---|---|---|---|---|
"""


def eds_documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    text = EDS_TEXT
    for row in rows:
        cells = [
            _percent(row[_key(reference, a)]) for reference in ("full map", "reference") for a in AGREEMENTS
        ]
        agreement = "" if row["full_vs_reference"] is None else f"{row['full_vs_reference']:.1%}"
        text += f"| {row['image']} | {row['median_counts']:.0f} | {agreement} | {' | '.join(cells)} |\n"
    return {"map-recorded.md": f"{text}\n{made_by}\n"}


def _replayed(image: Recorded, folder: Path, points_pct: float, seed: int) -> Row:
    with np.load(DATA / "eds_maps" / f"{image.name}.npz") as file:
        shape = tuple(int(n) for n in file["shape"])
        counts = np.zeros(shape, np.uint32)
        counts.reshape(-1)[file["idx"]] = file["val"]
        offset_kev, scale_kev = float(file["energy_offset_keV"]), float(file["energy_scale_keV"])
        labels = file["labels_reference"].astype(np.int32) if "labels_reference" in file.files else None
    file = DATA / "eds_maps" / f"{image.name}.npz"
    microscope = plugins.build(
        "microscope", "replay", {"spectrum_image": str(file), "recorded_live_time_s": 0.005, "time_scale": 0}
    )
    microscope.connect()
    rows, columns, channels = shape
    state = microscope.get_state()
    fov_um = float(state.view_field_mm) * 1e3
    axis = microscope.energy_axis()
    flat = counts.reshape(-1, channels)
    phases = _phases_of(flat, labels)
    library = folder / "library.npz"
    _library(flat, phases, axis, image.beam_kev, seed).save(library)
    classifier = LikelihoodClassifier(library=library)
    full = classifier.classify(flat, np.full(len(flat), 0.005), axis).labels.reshape(rows, columns)

    microscope.disconnect()

    config = folder / "map.toml"
    width_mm, height_mm = fov_um / 1e3, fov_um / 1e3 * rows / columns
    left, top = state.x_mm - width_mm / 2, state.y_mm - height_mm / 2
    text = REPLAY.format(
        seed=seed,
        file=str(file),
        fov_um=fov_um,
        corners=[[left, top], [left + width_mm, top], [left, top + height_mm]],
        columns=columns,
        rows=rows,
        points_pct=points_pct,
        beam_kev=image.beam_kev,
        library=str(library),
    )
    config.write_text(text, encoding="utf-8")
    _run(config, folder / "run")
    (mapped,) = RunRecord.open(folder / "run").maps.mapped.values()
    row: Row = {
        "image": image.name,
        "points": len(mapped.labels),
        "median_counts": float(np.median(flat.sum(axis=1))),
        "full_vs_reference": None if labels is None else float((full == labels).mean()),
        "offset_kev": offset_kev,
        "scale_kev": scale_kev,
    }
    for reference, truth in (("full map", full), ("reference", labels)):
        found = [None, None] if truth is None else _fractions(truth, mapped.points_px, mapped.labels)
        row |= {_key(reference, a): f for a, f in zip(AGREEMENTS, found, strict=True)}
    return row


def _fractions(
    truth: NDArray[np.int32], points_px: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[float | None]:
    """Return the share of points from which on the map agrees to each of `AGREEMENTS`."""
    steps = np.arange(STEP, len(labels) / truth.size + STEP / 2, STEP)
    agreement = []
    for step in steps:
        n = min(len(labels), round(step * truth.size))
        found = reconstruct(truth.shape, points_px[:n], labels[:n]).labels
        known = truth > 0
        agreement.append(float((found == truth)[known].mean()))
    lasting = np.minimum.accumulate(agreement[::-1])[::-1]
    return [float(steps[np.argmax(lasting >= a)]) if lasting[-1] >= a else None for a in AGREEMENTS]


def _phases_of(flat: NDArray[np.uint32], labels: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """Return a phase, 1..L, for each pixel that is to teach it, 0 for the others."""
    if labels is not None:
        return labels.ravel()
    # Aluminium or copper: which of the two lines is the stronger, where there are counts at all.
    energies = -0.4746 + 0.01 * np.arange(flat.shape[1])
    al, cu = (flat[:, np.abs(energies - e) < 0.08].sum(axis=1) for e in (1.487, 0.93))
    return np.where(al > cu, 1, np.where(cu > al, 2, 0)).astype(np.int32)


def _library(
    flat: NDArray[np.uint32], phases: NDArray[np.int32], axis: Any, beam_kev: float, seed: int
) -> SpectrumLibrary:
    """Return a library of some pixels of each phase."""
    rng = np.random.default_rng(seed)
    counts, labels = [], []
    together = max(1, round(LIBRARY_COUNTS / max(1.0, float(np.median(flat.sum(axis=1)[phases > 0])))))
    for label in range(1, phases.max() + 1):
        pixels = rng.permutation(np.flatnonzero(phases == label))
        for first in range(0, min(len(pixels), SPECTRA_OF_A_PHASE * together), together):
            counts.append(flat[pixels[first : first + together]].sum(axis=0))
            labels.append(label)
    return SpectrumLibrary(
        counts=np.array(counts, np.uint32),
        labels=np.array(labels, np.int32),
        phases=tuple(f"phase {label}" for label in range(1, phases.max() + 1)),
        axis=axis,
        live_time_s=np.zeros(len(labels)),
        beam_kev=beam_kev,
    )


def _run(config: Path, run: Path) -> None:
    command = [sys.executable, "-m", "sparse_actors", "run", str(config), "--out", str(run)]
    done = subprocess.run(
        command,
        env={**os.environ, "SPARSE_ACTORS_TIMES": "off"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"the run failed with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
        )


# -- survey and map in one run ---------------------------------------------------------------------

SURVEY = """
[run]
name = "survey-and-map"
seed = {seed}
[microscope]
driver = "simulated"
beam_current_pa = {current_pa}
[microscope.options]
seed = {seed}
time_scale = 0
[panorama]
corners_mm = [[1.0, 2.0], [{right_mm}, 2.0], [1.0, 2.05]]
tile_fov_um = {fov_um}
overlap_pct = 0.0
[scan.fast]
size_px = [384, 384]
dwell_ns = 3200.0
[scan.analysis]
size_px = [1536, 1536]
dwell_ns = 3200.0
[detect.options]
threshold = 55
[regions]
size_px = [128, 128]
[eds]
where = "regions"
grid_px = [{grid}, {grid}]
live_time_ms = {live_time_ms}
points_pct = 15.0
beam_kev = 15.0
[eds.options]
library = {library!r}
[limits]
min_free_disk_gb = 0.0
"""
FOV_UM, TILES, QUICK_TILES, GRID, LIVE_TIME_MS, CURRENT_PA = 50.0, 4, 1, 384, 10.0, 3000.0


def survey_rows(quick: bool, seed: int) -> Iterator[Row]:
    """Survey the simulated steel and map its regions, and reckon what scanning and mapping all would cost."""
    tiles = QUICK_TILES if quick else TILES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = folder / "steel.npz"
        steel_library(seed, 40, (5.0, 5.0)).save(library)  # elsewhere than in the run
        config = folder / "c.toml"
        text = SURVEY.format(
            seed=seed,
            current_pa=CURRENT_PA,
            right_mm=1.0 + tiles * FOV_UM / 1e3,
            fov_um=FOV_UM,
            grid=GRID,
            live_time_ms=LIVE_TIME_MS,
            library=str(library),
        )
        config.write_text(text, encoding="utf-8")
        _run(config, folder / "run")
        yield _compared(folder / "run", tiles, seed)


def survey_line(row: Row) -> str:
    """Return the comparison for people."""
    return (
        "{tiles} tiles, {fields} fields, {spots} spots: beam {beam_s:.0f} s, of these maps {map_s:.0f} s; "
        "all of it {full_beam_s:.0f} s ({ratio:.0f}x); electrons {electrons:.3g} of {full_electrons:.3g} "
        "({dose_ratio:.0f}x); "
        "wrong in the maps {wrong:.2%}"
    ).format(**row)


SURVEY_TEXT = """# Survey and map in one run

The simulated dual-phase steel: {tiles} tiles of {fov:g} um, surveyed at 130 nm and 3.2 us, the regions
around what is dark rescanned at 33 nm, and a sparse X-ray map of 130 nm pitch and {live:g} ms a point
made in each of them (15 % of its points). Beside it what a conventional scan at 33 nm and a full map of
the same pitch would take: the same dwell and live times at every point. Beam time as the driver
declares it, without stage moves; dose in electrons over the whole area.

| | survey and maps | conventional scan and full map | ratio |
|---|---|---|---|
| beam time | {beam_s:.0f} s | {full_beam_s:.0f} s | {ratio:.0f} |
| electrons | {electrons:.3g} | {full_electrons:.3g} | {dose_ratio:.0f} |
| spectra | {spots} | {full_spots} | {spot_ratio:.0f} |

{fields} fields were mapped; {wrong:.2%} of their pixels have another phase than the specimen in truth
(labels by the likelihood classifier, maps from 15 % of the points).

{made_by}
"""


def survey_documents(rows: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    (row,) = rows
    return {"survey-and-map.md": SURVEY_TEXT.format(made_by=made_by, fov=FOV_UM, live=LIVE_TIME_MS, **row)}


def _compared(run: Path, tiles: int, seed: int) -> Row:
    record = RunRecord.open(run)
    totals, maps = record.totals, record.maps
    fast_px, rescan_px = totals.fast_pixels, totals.analysis_pixels
    timing = record.microscope.capabilities.limits.timing if record.microscope else None
    if timing is None:
        raise RuntimeError("the run has no microscope")
    scans_s = sum(
        timing.duration_s(record.scans[i].pixels, record.scans[i].rows, record.scans[i].imaging.dwell_ns)
        for i in record.recorded
    )
    full_scan_s = tiles * timing.duration_s(1536 * 1536, 1536, 3200.0)
    full_spots = tiles * GRID * GRID
    per_a_s = CURRENT_PA * 1e-12 / 1.602176634e-19
    electrons = per_a_s * ((fast_px + rescan_px) * 3.2e-6 + maps.beam_s)
    full_electrons = per_a_s * (tiles * 1536 * 1536 * 3.2e-6 + full_spots * LIVE_TIME_MS / 1e3)
    beam_s = scans_s + maps.beam_s
    full_beam_s = full_scan_s + full_spots * LIVE_TIME_MS / 1e3
    wrong = pixels = 0
    microscope = plugins.build("microscope", "simulated", {"time_scale": 0, "seed": seed})
    microscope.connect()
    microscope.prepare()
    microscope.set_view_field(FOV_UM / 1e3)
    for mapped in maps.mapped.values():
        x_mm, y_mm = record.panorama.centre_mm(mapped.field.id.tile)
        microscope.move_stage(x_mm, y_mm)
        truth = microscope.true_phases(mapped.field.box, mapped.field.grid_px)
        wrong += int((mapped.phase_map != truth).sum())
        pixels += truth.size
    microscope.disconnect()
    return {
        "tiles": tiles,
        "fields": len(maps.mapped),
        "spots": maps.spots_recorded,
        "full_spots": full_spots,
        "spot_ratio": full_spots / max(1, maps.spots_recorded),
        "beam_s": beam_s,
        "map_s": maps.beam_s,
        "full_beam_s": full_beam_s,
        "ratio": full_beam_s / beam_s,
        "electrons": electrons,
        "full_electrons": full_electrons,
        "dose_ratio": full_electrons / electrons,
        "wrong": wrong / max(1, pixels),
    }
