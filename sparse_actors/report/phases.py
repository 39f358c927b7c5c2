"""What the maps of a run show: phases in their places, their shares, how sure they are, their spectra."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.cli.map_display import why
from sparse_actors.cli.map_progress import MapFigures
from sparse_actors.errors import JournalError
from sparse_actors.messages import NOT_KNOWN, FieldMapped
from sparse_actors.recording.mosaic import Mosaic
from sparse_actors.recording.run_record import RunRecord

from .charts import Axis, Chart
from .pictures import png, resized

COLOURS = (0x0072B2, 0xE69F00, 0x009E73, 0xCC79A7, 0x56B4E9, 0xD55E00, 0xF0E442, 0x8C6BB1, 0x666666, 0xA6761D)
"""Of the phases, red-green-blue; the first seven are told apart by people who see colours differently
(Okabe and Ito, https://jfly.uni-koeln.de/color)."""
MOST_MAPS = 24
SHOWN_PX = 256
OVERLAY_PX = 1600
MOST_SPECTRA = 6
SPECTRUM_POINTS = 500
Spectra = dict[int, tuple[NDArray[np.float64], int]]
"""Of each label the sum of its spectra, and how many."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase over all maps."""

    name: str
    label: int
    colour: str
    share: float
    share_range: tuple[float, float] | None
    """What the share is at least and at most, if no more of the maps is wrong than they estimate."""
    confidence: float
    """Mean over its pixels, 0..1."""
    points: int
    """Spectra of it."""


@dataclass(frozen=True, slots=True)
class ShownMap:
    """One map."""

    field: str
    stage_mm: tuple[float, float]
    size_um: tuple[float, float]
    phases: str
    confidence: str
    points: str
    """Data URIs: the map, how sure it is (white: sure), and what was measured."""
    count: int
    share_measured: float
    ended: str
    distortion: tuple[float, float, float] | None
    """Estimated share of wrong pixels, and its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Phases:
    """All maps of a run."""

    phases: tuple[Phase, ...]
    maps: tuple[ShownMap, ...]
    count: int
    """Maps that there are."""
    overlay: str
    """All maps in the picture of the panorama: a data URI with transparency."""
    spectra: Chart | None
    problems: tuple[str, ...]


def phases(record: RunRecord, mosaic: Mosaic, figures: MapFigures) -> Phases | None:
    """Show the maps of a run; None: it has none."""
    mapped = [one for one in record.maps.mapped.values() if one.labels.size]
    if not mapped:
        return None
    largest = sorted(mapped, key=lambda one: (-one.field.box.area, one.field.id))
    ends = {end.field: why(end) for end in figures.ended}
    spectra, axis, problems = _summed(record, mapped)
    found = _shares(record, mapped)
    return Phases(
        phases=tuple(found),
        maps=tuple(_shown(one, mosaic, ends.get(str(one.field.id), "")) for one in largest[:MOST_MAPS]),
        count=len(mapped),
        overlay=_overlay(mapped, mosaic),
        spectra=_spectra(found, spectra, axis),
        problems=tuple(problems),
    )


def _shares(record: RunRecord, mapped: list[FieldMapped]) -> list[Phase]:
    """Return the phases by falling share.

    The share of a phase in a map with a share d of wrong pixels differs from the true one by at most d.
    """
    pixels, sure, points = (np.zeros(256) for _ in range(3))
    wrong, is_judged = 0.0, all(one.distortion >= 0 for one in mapped)
    for one in mapped:
        pixels += np.bincount(one.phase_map.ravel(), minlength=256)
        sure += np.bincount(one.phase_map.ravel(), weights=one.confidence.ravel(), minlength=256)
        points += np.bincount(one.labels[one.labels >= 0], minlength=256)
        wrong += one.distortion_range[1] * one.field.box.area
    pixels[0] = 0
    total = max(1.0, pixels.sum())
    off = wrong / total
    names = record.maps.phases
    return [
        Phase(
            name=names[label - 1] if label <= len(names) else f"phase {label}",
            label=int(label),
            colour=f"#{_colour(int(label)):06x}",
            share=(share := float(pixels[label] / total)),
            share_range=(max(0.0, share - off), min(1.0, share + off)) if is_judged else None,
            confidence=float(sure[label] / pixels[label]),
            points=int(points[label]),
        )
        for label in np.argsort(-pixels, kind="stable")
        if pixels[label]
    ]


def _colour(label: int) -> int:
    return COLOURS[(label - 1) % len(COLOURS)]


def _palette() -> NDArray[np.uint8]:
    """Return blue, green, red and opacity of each label; 0 and what is not known are transparent."""
    colours = np.zeros((256, 4), np.uint8)
    for label in range(1, 256):
        rgb = _colour(label)
        colours[label] = rgb & 255, rgb >> 8 & 255, rgb >> 16, 255
    return colours


def _shown(one: FieldMapped, mosaic: Mosaic, ended: str) -> ShownMap:
    field = one.field
    rows, columns = field.shape
    scale = max(1, SHOWN_PX // max(rows, columns))
    size = columns * scale, rows * scale
    measured = np.zeros((rows, columns), np.uint8)
    x, y = one.points_px.T - np.array([[field.box.left], [field.box.top]])
    is_inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows) & (one.labels > 0)
    measured[y[is_inside], x[is_inside]] = one.labels[is_inside]
    confidence = np.clip(one.confidence * 255, 0, 255).astype(np.uint8)
    pitch = mosaic.size_px[0] / field.grid_px[0]
    left, top = field.box.left * pitch, field.box.top * pitch
    width_mm, height_mm = mosaic.pixel_mm
    low, high = one.distortion_range
    return ShownMap(
        field=str(field.id),
        stage_mm=mosaic.stage_mm(field.id.tile, left + columns * pitch / 2, top + rows * pitch / 2),
        size_um=(columns * pitch * width_mm * 1e3, rows * pitch * height_mm * 1e3),
        phases=png(_large(_palette()[one.phase_map], size)),
        confidence=png(_large(confidence, size)),
        points=png(_large(_palette()[measured], size)),
        count=len(one.labels),
        share_measured=len(one.labels) / field.box.area,
        ended=ended,
        distortion=(one.distortion, low, high) if one.distortion >= 0 else None,
    )


def _large(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if max(image.shape[:2]) > SHOWN_PX:
        # Labels are no numbers to be averaged: every so many pixels are left out.
        step = -(-max(image.shape[:2]) // SHOWN_PX)
        return np.ascontiguousarray(image[::step, ::step])
    return resized(image, *size)


def _overlay(mapped: list[FieldMapped], mosaic: Mosaic) -> str:
    """Paint all maps into the picture of the panorama."""
    rows, columns = mosaic.shape
    factor = max(1.0, max(rows, columns) / OVERLAY_PX)
    picture = np.zeros((int(rows / factor), int(columns / factor), 4), np.uint8)
    colours = _palette()
    for one in mapped:
        box, pitch = one.field.box, mosaic.size_px[0] / one.field.grid_px[0]
        x, y = mosaic.origin_px(one.field.id.tile)
        left, top = int((x + box.left * pitch) / factor), int((y + box.top * pitch) / factor)
        width = max(1, min(picture.shape[1] - left, round(box.width * pitch / factor)))
        height = max(1, min(picture.shape[0] - top, round(box.height * pitch / factor)))
        across = np.arange(width) * box.width // width
        down = np.arange(height) * box.height // height
        picture[top : top + height, left : left + width] = colours[one.phase_map[down][:, across]]
    return png(picture)


def _summed(record: RunRecord, mapped: list[FieldMapped]) -> tuple[Spectra, Any, list[str]]:
    """Add up the spectra of each phase, as the maps have their points in the end.

    Also returns their energy axis and what could not be read.
    """
    sums: defaultdict[int, Any] = defaultdict(float)
    counts: defaultdict[int, int] = defaultdict(int)
    axis, problems = None, []
    labels = {one.field.id: _at_points(one) for one in mapped}
    for (field_id, batch), recorded in record.maps.batches.items():
        if field_id not in labels:
            continue
        try:
            spectra, this_axis = record.maps.spectra(recorded)
        except (JournalError, OSError) as error:
            problems.append(f"spectra of {field_id}, batch {batch}: {error}")
            continue
        axis = axis or this_axis
        if this_axis != axis:
            continue  # a resumed run with another axis: its channels are others
        x, y = recorded.points_px.T
        found = labels[field_id][y, x]
        for label in np.unique(found[found > 0]).tolist():
            sums[label] += spectra[found == label].sum(axis=0, dtype=np.float64)
            counts[label] += int((found == label).sum())
    return {label: (total, counts[label]) for label, total in sums.items()}, axis, problems


def _at_points(one: FieldMapped) -> NDArray[np.int64]:
    """Return the labels of the measured points in the grid of the field of view, (rows, columns)."""
    width, height = one.field.grid_px
    labels = np.full((height, width), NOT_KNOWN, np.int64)
    x, y = one.points_px.T
    labels[y, x] = one.labels
    return labels


def _spectra(found: list[Phase], spectra: Spectra, axis: Any) -> Chart | None:
    """Draw the mean spectra of the most frequent phases, on a scale of powers of ten."""
    shown = [phase for phase in found if phase.label in spectra][:MOST_SPECTRA]
    if axis is None or not shown:
        return None
    lines = []
    for phase in shown:
        total, count = spectra[phase.label]
        channels = len(total) // SPECTRUM_POINTS + 1
        whole = len(total) // channels * channels
        mean = total[:whole].reshape(-1, channels).sum(axis=1) / channels / count
        energy = axis.offset_kev + axis.scale_kev * channels * (np.arange(len(mean)) + 0.5)
        lines.append((phase, energy, mean))
    every = np.concatenate([mean for _, _, mean in lines])
    positive = every[every > 0]
    if not positive.size:
        return None
    seen = np.concatenate([energy[mean > 0] for _, energy, mean in lines])
    x = Axis("energy, keV", max(0.0, float(seen.min())), float(seen.max()))
    y = Axis("counts in a channel, mean", float(positive.min()), float(positive.max()) * 1.3, is_log=True)
    chart = Chart("Mean spectra of the phases", x, y, width=900, height=300)
    for phase, energy, mean in lines:
        is_there = (energy >= x.low) & (energy <= x.high)
        chart.line(energy[is_there], mean[is_there], phase.label - 1, phase.name)
    return chart
