"""A survey of masks with microscopes that take bitmaps, streams of points, or boxes only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from story import ModelMicroscope, Story, picture, survey

from sparse_actors.geometry import PixelBox
from sparse_actors.imaging import dose_e_per_nm2
from sparse_actors.messages import Message, RegionScanned, RegionsPlanned, RunFinished
from sparse_actors.scan import Scan


class PointMicroscope(ModelMicroscope):
    def scan_points(self, points_px: NDArray[np.int64], dwell_ns: float, window_px: tuple[int, int]) -> Any:
        self.listed += 1
        self._spend(self.limits.timing.duration_s(len(points_px), 0, dwell_ns))
        frame = picture(self.state, PixelBox(0, 0, *window_px))
        return frame[points_px[:, 1], points_px[:, 0]]

    listed = 0


class MaskMicroscope(PointMicroscope):
    def scan_mask(self, mask: NDArray[np.bool_], dwell_ns: float) -> Any:
        rows, columns = mask.shape
        rows_with = int(mask.any(axis=1).sum())
        self._spend(self.limits.timing.duration_s(int(mask.sum()), rows_with, dwell_ns))
        return picture(self.state, PixelBox(0, 0, columns, rows))[mask]


def told(microscope: type[ModelMicroscope], **changes: Any) -> tuple[ModelMicroscope, list[Message]]:
    story = Story(survey(merging="mask", **changes))
    story.microscope = microscope(lambda seconds: story.bus.spend(seconds))
    messages = story.tell()
    assert [m.outcome for m in messages if isinstance(m, RunFinished)] == ["completed"]
    return story.microscope, messages


def pixels_of(messages: list[Message]) -> dict[tuple[str, int, int], int]:
    """Return the value of every pixel of the rescans: by tile, column and row."""
    values: dict[tuple[str, int, int], int] = {}
    for scanned in (m for m in messages if isinstance(m, RegionScanned)):
        scan = scanned.scan
        rows, columns = np.nonzero(scan.mask())
        tile = str(scan.id.partition.tile)
        places = zip((columns + scan.box.left).tolist(), (rows + scan.box.top).tolist(), strict=True)
        values |= {
            (tile, *place): value for place, value in zip(places, scanned.image.ravel().tolist(), strict=True)
        }
    return values


def planned(messages: list[Message]) -> tuple[set[str], list[Scan]]:
    plans = [m for m in messages if isinstance(m, RegionsPlanned) and m.scans]
    return {plan.strategy for plan in plans}, [scan for plan in plans for scan in plan.scans]


@pytest.mark.parametrize(
    ("microscope", "form"),
    [
        (ModelMicroscope, "mask as rectangles"),
        (PointMicroscope, "mask as points"),
        (MaskMicroscope, "mask"),
    ],
)
def test_a_mask_becomes_what_the_microscope_can_do_and_is_named_as_such(
    microscope: type[ModelMicroscope], form: str
) -> None:
    used, messages = told(microscope)
    strategies, scans = planned(messages)
    assert strategies == {form}
    assert all(bool(scan.mask_boxes) == (form != "mask as rectangles") for scan in scans)
    assert all(scan.is_point_stream == (form == "mask as points") for scan in scans)
    if isinstance(used, PointMicroscope):
        assert used.listed == (len(scans) if form == "mask as points" else 0)


def test_all_forms_bring_back_the_same_pixels() -> None:
    one, *others = (pixels_of(told(kind)[1]) for kind in (ModelMicroscope, PointMicroscope, MaskMicroscope))
    assert len(one) > 500
    assert others == [one, one]


def test_under_a_dose_limit_a_stream_of_points_stays_one_and_scans_no_pixel_twice() -> None:
    limit = dose_e_per_nm2(500, 1000, 100_000 / 16) + dose_e_per_nm2(500, 1000, 100_000 / 64)
    regions = {"region_px": (20, 20)}
    free = told(PointMicroscope, **regions)[1]
    limited = told(PointMicroscope, **regions, beam_current_pa=500, max_dose_e_per_nm2=limit)[1]
    strategies, scans = planned(limited)
    assert strategies == {"mask as points", "mask as points, within the dose limit"}
    assert all(scan.is_point_stream for scan in scans)
    assert pixels_of(limited) == pixels_of(free)
    assert (
        sum(scan.pixels for scan in scans) == len(pixels_of(free)) < sum(s.pixels for s in planned(free)[1])
    )
