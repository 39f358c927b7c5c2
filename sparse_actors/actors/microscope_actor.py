"""Carries out orders to the microscope, one at a time, and reports what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import structlog

from sparse_actors.contracts.microscope import Microscope, MicroscopeState
from sparse_actors.contracts.spectra import Spectra
from sparse_actors.errors import CapabilityError, MicroscopeError
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import (
    ExposureStarted,
    FieldId,
    MeasureSpots,
    Message,
    MicroscopeFailed,
    MicroscopePrepared,
    MicroscopeReset,
    MoveToTile,
    PartitionScanned,
    PrepareMicroscope,
    RegionScanned,
    ResetMicroscope,
    Scan,
    ScanArea,
    ScanId,
    SpectraMeasured,
    SpotsStarted,
    TileReached,
)

MicroscopeOrder = PrepareMicroscope | MoveToTile | ScanArea | MeasureSpots | ResetMicroscope
Order = Literal["prepare", "move", "scan", "spots", "reset"]


class Instrument:
    """A driver and what it owes: once touched, it is brought back to the state it was found in.

    Outlives the actor that uses it, so that the duty survives the actor's crash.

    Parameters
    ----------
    driver
        The microscope.
    initial
        The state to restore if an interrupted run already changed the instrument.
    """

    def __init__(self, driver: Microscope, initial: MicroscopeState | None = None) -> None:
        self.driver = driver
        self.initial = initial
        self.is_given_up = False
        """Whether nothing more is to be exposed, though it was ordered; may be set from any thread."""
        self._is_touched = initial is not None
        self._is_open = False

    def open(self) -> MicroscopeState:
        """Connect (anew) and return the state to restore at the end."""
        self._connect()
        if self.initial is None:
            self.initial = self.driver.get_state()
        self._is_touched = True
        return self.initial

    def restore(self) -> None:
        """Restore and disconnect, once; raises MicroscopeError naming what could not be restored."""
        if not self._is_touched or self.initial is None:
            return
        if not self._is_open:
            self._connect()
        self.driver.reset_microscope(self.initial)
        self._is_touched = self._is_open = False
        self.initial = None
        self.driver.disconnect()

    def _connect(self) -> None:
        self._is_open = False
        self.driver.disconnect()
        self.driver.connect()
        self._is_open = True


class MicroscopeActor:
    """The only caller of the driver. I/O lives here: an order returns when it is carried out.

    Parameters
    ----------
    instrument
        The driver and its initial state.
    note_exposure
        Called before each exposure; returns once the note would survive the death of this process.
    now
        Unix seconds.
    metadata
        Folder that gets the driver's metadata of each tile; None for none.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        PrepareMicroscope,
        MoveToTile,
        ScanArea,
        MeasureSpots,
        ResetMicroscope,
    )

    def __init__(
        self,
        instrument: Instrument,
        note_exposure: Callable[[ExposureStarted | SpotsStarted], None],
        now: Callable[[], float],
        metadata: Path | None = None,
    ) -> None:
        self._instrument = instrument
        self._driver = instrument.driver
        self._note_exposure = note_exposure
        self._now = now
        self._metadata = metadata
        self._tile: TileIndex | None = None
        self._exposed: dict[ScanId | tuple[FieldId, int], int] = {}
        """The last attempt at each exposure."""
        self._is_prepared = False
        self._spectrum_type: np.dtype[Any] | None = None

    def handle(self, message: MicroscopeOrder) -> Iterator[Message]:
        """Carry out one order; an exposure ordered twice, or again and then late, is made once."""
        if isinstance(message, ScanArea | MeasureSpots):
            what = message.scan.id if isinstance(message, ScanArea) else (message.field, message.batch)
            if message.attempt <= self._exposed.get(what, 0):
                return
            self._exposed[what] = message.attempt
        order: Order
        try:
            if self._instrument.is_given_up and isinstance(message, ScanArea | MeasureSpots):
                order = "scan" if isinstance(message, ScanArea) else "spots"
                raise MicroscopeError("the run was given up")
            match message:
                case PrepareMicroscope():
                    order = "prepare"
                    yield self._prepare(message)
                case MoveToTile():
                    order = "move"
                    yield self._move(message)
                case ScanArea():
                    order = "scan"
                    yield self._scan(message.scan, message.attempt)
                case MeasureSpots():
                    order = "spots"
                    yield self._measure(message)
                case ResetMicroscope():
                    order = "reset"
                    self._tile, self._is_prepared = None, False
                    self._instrument.restore()
                    yield MicroscopeReset()
        except Exception as error:  # whatever a driver raises is its failure
            is_known = isinstance(error, MicroscopeError)
            yield MicroscopeFailed(
                order=order,
                reason=str(error) if is_known else f"{type(error).__name__}: {error}",
                attempt=message.attempt,
                scan_id=message.scan.id if isinstance(message, ScanArea) else None,
                tile=message.tile if isinstance(message, MoveToTile) else None,
                is_retryable=not isinstance(error, CapabilityError),
                field=message.field if isinstance(message, MeasureSpots) else None,
                batch=message.batch if isinstance(message, MeasureSpots) else None,
            )

    def close(self) -> None:
        """Bring the instrument back, whatever happened before."""
        self._instrument.restore()

    def _prepare(self, order: PrepareMicroscope) -> MicroscopePrepared:
        self._tile, self._is_prepared = None, False
        self._exposed.clear()  # whoever prepares may be a new scheduler that counts anew
        initial = self._instrument.open()
        self._driver.prepare()
        can = self._driver.capabilities
        if can.view_field:
            self._driver.set_view_field(order.view_field_mm)
        if can.scan_rotation:
            self._driver.set_scan_rotation(order.scan_rotation_deg)
        elif abs(order.scan_rotation_deg) > 0.01:
            raise CapabilityError(
                f"the panorama is rotated by {order.scan_rotation_deg:.2f} deg and the microscope has no "
                "scan rotation: give corners along the stage axes"
            )
        self._is_prepared = True
        return MicroscopePrepared(
            name=self._driver.name or type(self._driver).__name__, capabilities=can, initial=initial
        )

    def _move(self, order: MoveToTile) -> TileReached:
        if not self._is_prepared:
            # An order that comes late must not move the stage of a microscope handed back.
            raise MicroscopeError("the microscope is not prepared")
        started_s = self._now()
        self._tile = None
        self._driver.move_stage(order.x_mm, order.y_mm)
        if order.working_distance_mm is not None:
            self._driver.set_working_distance(order.working_distance_mm)
        if order.brightness_pct is not None and order.contrast_pct is not None:
            self._driver.set_brightness_contrast(order.brightness_pct, order.contrast_pct)
        self._tile = order.tile
        state = self._driver.get_state()
        if self._metadata is not None:
            try:
                self._driver.save_metadata(self._metadata / f"{order.tile}.json")
            except Exception:  # a description that fails must not cost the tile
                structlog.get_logger().exception("no metadata", tile=str(order.tile))
        return TileReached(
            tile=order.tile, attempt=order.attempt, state=state, started_s=started_s, finished_s=self._now()
        )

    def _scan(self, scan: Scan, attempt: int) -> PartitionScanned | RegionScanned:
        tile = scan.id.partition.tile
        if tile != self._tile:
            raise MicroscopeError(f"the stage is not at tile {tile}")
        dwell_ns = scan.imaging.dwell_ns
        started_s = self._now()
        self._note_exposure(ExposureStarted(scan_id=scan.id, attempt=attempt, started_s=started_s))
        if scan.is_point_stream:
            points = np.argwhere(scan.mask())[:, ::-1] + (scan.box.left, scan.box.top)
            image = self._driver.scan_points(points, dwell_ns, scan.imaging.size_px)
        elif scan.mask_boxes:
            width, height = scan.imaging.size_px
            frame = np.zeros((height, width), dtype=np.bool_)
            frame[scan.box.slices] = scan.mask()
            image = self._driver.scan_mask(frame, dwell_ns)
        else:
            image = self._driver.scan_area(scan.box, dwell_ns, scan.imaging.size_px)
        pixel_type = self._driver.limits.pixel_type
        if not isinstance(image, np.ndarray):
            raise MicroscopeError(f"{self._driver.name} returned {type(image).__name__}, expected an array")
        if image.shape != scan.shape or image.dtype != pixel_type:
            raise MicroscopeError(
                f"{self._driver.name} returned {image.shape} of {image.dtype}, "
                f"expected {scan.shape} of {pixel_type}"
            )
        kind = PartitionScanned if scan.id.is_fast else RegionScanned
        return kind(
            scan=scan,
            attempt=attempt,
            image=image,
            dwell_ns=self._driver.actual_dwell_ns(dwell_ns),
            started_s=started_s,
            finished_s=self._now(),
        )

    def _measure(self, order: MeasureSpots) -> SpectraMeasured:
        if order.field.tile != self._tile:
            raise MicroscopeError(f"the stage is not at tile {order.field.tile}")
        axis = self._driver.energy_axis()
        started_s = self._now()
        self._note_exposure(
            SpotsStarted(
                field=order.field,
                batch=order.batch,
                attempt=order.attempt,
                points_px=order.points_px,
                live_time_s=order.live_time_s,
                started_s=started_s,
            )
        )
        spectra: object = self._driver.acquire_spectra(order.points_px, order.live_time_s, order.grid_px)
        wanted = len(order.points_px), axis.channels
        if not isinstance(spectra, Spectra) or spectra.counts.shape != wanted:
            came = spectra.counts.shape if isinstance(spectra, Spectra) else type(spectra).__name__
            raise MicroscopeError(f"{self._driver.name} returned {came}, expected spectra {wanted}")
        self._spectrum_type = self._spectrum_type or spectra.counts.dtype
        if spectra.counts.dtype != self._spectrum_type or not (spectra.live_time_s > 0).all():
            raise MicroscopeError(
                f"{self._driver.name} returned counts of {spectra.counts.dtype} and live times from "
                f"{spectra.live_time_s.min():g} s, expected {self._spectrum_type} and times above 0"
            )
        return SpectraMeasured(
            field=order.field,
            batch=order.batch,
            attempt=order.attempt,
            points_px=order.points_px,
            counts=spectra.counts,
            live_time_s=spectra.live_time_s,
            axis=axis,
            grid_px=order.grid_px,
            started_s=started_s,
            finished_s=self._now(),
        )
