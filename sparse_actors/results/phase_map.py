"""The phase map of a field and the spectra that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import JournalError
from sparse_actors.geometry import PixelBox
from sparse_actors.messages import NOT_KNOWN, MapField, SpectraRecorded

Read = Callable[[SpectraRecorded], tuple[NDArray[Any], EnergyAxis]]


class PointSpectra:
    """The recorded spectra of a field in the order of measurement, read batch by batch.

    ``spectra[5]`` and ``spectra[10:20]`` read counts, (channels,) and (n, channels).

    Attributes
    ----------
    points_px : (n, 2), x and y on the grid of the map over the whole field of view
    live_time_s : (n,)
    """

    def __init__(self, batches: list[SpectraRecorded], read: Read, tell: Callable[[str], None]) -> None:
        self._batches, self.read, self._tell = batches, read, tell
        nothing = [np.empty((0, 2), np.int64)], [np.empty(0)]
        self.points_px: NDArray[np.int64] = np.concatenate([b.points_px for b in batches] or nothing[0])
        self.live_time_s: NDArray[np.float64] = np.concatenate([b.live_time_s for b in batches] or nothing[1])
        self._ends = np.cumsum([len(batch.points_px) for batch in batches])

    def __len__(self) -> int:
        return len(self.points_px)

    @cached_property
    def axis(self) -> EnergyAxis:
        """Which energy each channel stands for.

        Raises
        ------
        JournalError
            No spectrum can be read.
        """
        for batch in self._batches:
            if (found := self._read_or_tell(batch)) is not None:
                return found[1]
        raise JournalError("the field has no spectrum that can be read")

    @property
    def energy_kev(self) -> NDArray[np.float64]:
        """(channels,): the middle of each channel."""
        return self.axis.energies_kev + self.axis.scale_kev / 2

    def __getitem__(self, key: int | slice) -> NDArray[Any]:
        chosen = np.arange(len(self))[key]
        numbers = np.atleast_1d(chosen)
        rows: list[NDArray[Any]] = [np.empty(0)] * len(numbers)
        of_batch = np.searchsorted(self._ends, numbers, side="right")
        for number in np.unique(of_batch):
            counts, _ = self.read(self._batches[number])
            first = self._ends[number] - len(counts)
            for place in np.flatnonzero(of_batch == number):
                rows[place] = counts[numbers[place] - first]
        if isinstance(key, (int, np.integer)):
            return rows[0]
        return np.array(rows).reshape(len(rows), self.axis.channels)

    def sum(self, chosen: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.int64], float]:
        """Return the sum of the spectra, (channels,), and of their live times in s.

        What cannot be read is left out, and told in the problems of the run.

        Parameters
        ----------
        chosen
            (n,): which of them; None for all.
        """
        picked = np.ones(len(self), np.bool_) if chosen is None else np.asarray(chosen, np.bool_)
        total, live_s, first = np.zeros(self.axis.channels, np.int64), 0.0, 0
        for batch in self._batches:
            of_batch = picked[first : first + len(batch.points_px)]
            first += len(of_batch)
            if of_batch.any() and (found := self._read_or_tell(batch)) is not None:
                total += found[0][of_batch].sum(axis=0, dtype=np.int64)
                live_s += float(batch.live_time_s[of_batch].sum())
        return total, live_s

    def readable(self) -> list[SpectraRecorded]:
        """Return the batches that can be read; the others are told in the problems of the run."""
        return [batch for batch in self._batches if self._read_or_tell(batch) is not None]

    def _read_or_tell(self, batch: SpectraRecorded) -> tuple[NDArray[Any], EnergyAxis] | None:
        try:
            return self.read(batch)
        except (JournalError, OSError) as error:
            self._tell(f"spectra of {batch.field}, batch {batch.batch}, cannot be read: {error}")
            return None


@dataclass(frozen=True, eq=False)
class PhaseMap:
    """The phases of a field, as far as it was mapped. Arrays are (rows, columns) of the field."""

    field: MapField
    """Which rectangle of which tile it shows."""
    pitch_um: float
    """Distance of neighbouring points."""
    phases: tuple[str, ...]
    """Names; label 1 is the first."""
    labels: NDArray[np.uint8]
    """The phase of every point, 0 where nothing is known."""
    confidence: NDArray[np.float32]
    """0..1; 0 in a field that was not finished."""
    erd: NDArray[np.float32]
    """What one more spectrum there is expected to correct, points of the map."""
    is_complete: bool
    """Whether the map ended by its own rules."""
    reason: str
    """Why it ended."""
    distortion: float
    """Estimated share of wrong points; NaN where it cannot be told."""
    distortion_range: tuple[float, float]
    """95 % interval of it."""
    spectra: PointSpectra
    spectrum_labels: NDArray[np.int64]
    """(n,): the phase of each spectrum, 0: of none, -1: not classified."""
    beam_kev: float | None
    """Energy of the beam, where the configuration says it."""

    dims = ("y", "x")

    @property
    def name(self) -> str:
        """Such as "r000c001m0002": the third field of that tile."""
        return str(self.field.id)

    @property
    def tile(self) -> str:
        """Name of the tile."""
        return str(self.field.id.tile)

    @property
    def box(self) -> PixelBox:
        """Where the field lies on the grid of the map over the whole field of view."""
        return self.field.box

    @property
    def grid_px(self) -> tuple[int, int]:
        """(width, height): the points of a map that would fill the whole field of view."""
        return self.field.grid_px

    @property
    def coords(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Middle of each row (y) and of each column (x) from the corner of the tile, um."""
        return {
            "y": (self.box.top + np.arange(self.box.height) + 0.5) * self.pitch_um,
            "x": (self.box.left + np.arange(self.box.width) + 0.5) * self.pitch_um,
        }

    @property
    def extent_um(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) edges from the corner of the tile, for ``matplotlib``."""
        box, pitch = self.box, self.pitch_um
        return box.left * pitch, box.right * pitch, box.bottom * pitch, box.top * pitch

    @property
    def shares(self) -> dict[str, float]:
        """Share of the area by phase, 0..1, of what is known."""
        known = max(1, int((self.labels > 0).sum()))
        return {name: float((self.labels == n + 1).sum()) / known for n, name in enumerate(self.phases)}

    def spectrum_at(self, x_px: int, y_px: int) -> NDArray[Any]:
        """Return the counts (channels,) of a measured point, by its place on the map grid.

        Of several spectra there, the last.

        Raises
        ------
        LookupError
            No spectrum was taken there.
        """
        there = np.flatnonzero((self.spectra.points_px == (x_px, y_px)).all(axis=1))
        if not len(there):
            raise LookupError(f"no spectrum was taken at ({x_px}, {y_px}) of {self.name}")
        return self.spectra[int(there[-1])]

    def phase_spectrum(self, phase: str) -> tuple[NDArray[np.int64], float]:
        """Return the sum of the spectra of a phase, (channels,), and their live time in s.

        Raises
        ------
        LookupError
            There is no phase of that name.
        """
        if phase not in self.phases:
            raise LookupError(f"phase {phase!r}: expected one of {', '.join(self.phases)}")
        return self.spectra.sum(self.spectrum_labels == self.phases.index(phase) + 1)

    def to_xarray(self) -> Any:
        """Return labels, confidence and ERD as an ``xarray.Dataset`` with coordinates in um.

        Raises
        ------
        ImportError
            xarray is not installed.
        """
        import xarray

        coords = {axis: (axis, values, {"units": "um"}) for axis, values in self.coords.items()}
        planes = {"labels": self.labels, "confidence": self.confidence, "erd": self.erd}
        attrs = {"phases": self.phases, "reason": self.reason, "distortion": self.distortion}
        return xarray.Dataset({name: (self.dims, plane) for name, plane in planes.items()}, coords, attrs)


def spectrum_labels(
    spectra: PointSpectra, points_px: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the label of each spectrum by the labels of points, -1 where there is none."""
    of_point = {(int(x), int(y)): int(label) for (x, y), label in zip(points_px, labels, strict=True)}
    found = [of_point.get((int(x), int(y)), NOT_KNOWN) for x, y in spectra.points_px]
    return np.array(found, dtype=np.int64)
