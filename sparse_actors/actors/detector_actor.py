"""Has each fast image detected by the worker pool, tries again once, and then says it failed.

Where partitions meet, the band around the seam is detected too, as soon as its images are there,
and wider until it shows all that the partitions left to it; see `planning.seams`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex, full_frame
from sparse_actors.messages import (
    DetectImage,
    DetectionFailed,
    DetectionLost,
    DetectionReturned,
    Message,
    PartitionReloaded,
    PartitionScanned,
    PoisFound,
    TileFinished,
)
from sparse_actors.planning.seams import NONE, Boxes, is_sure, left_to_seam
from sparse_actors.planning.survey_plan import SurveyPlan

TRIES = 2


@dataclass(frozen=True, slots=True)
class _Job:
    part: PartitionId
    image: NDArray[Any]
    sending: int
    """Counts how often the pixels came, from the microscope or from disk."""
    widened: int = 0
    tries: int = 1

    @property
    def attempt(self) -> int:
        return (self.sending * 100 + self.widened) * 10 + self.tries

    def is_answered_by(self, result: DetectionReturned) -> bool:
        """Whether a result is of this image; one of another sending is."""
        return result.attempt // 10 % 100 == self.widened


@dataclass(slots=True)
class _Tile:
    images: dict[PartitionId, NDArray[Any]] = field(default_factory=dict)
    """Of the partitions, until the seams are done."""
    found: dict[PartitionId, Boxes] = field(default_factory=dict)
    widened: Counter[PartitionId] = field(default_factory=Counter)


class DetectorActor:
    """Which partitions and seams are with the workers.

    Parameters
    ----------
    plan
        The survey.
    history
        Facts in the journal: what was found in one part of a tile is not found again in another.
    """

    accepts: ClassVar[tuple[type[Message], ...]] = (
        PartitionScanned,
        PartitionReloaded,
        DetectionReturned,
        DetectionLost,
        TileFinished,
    )

    def __init__(self, plan: SurveyPlan, history: Iterable[Message]) -> None:
        self._plan = plan
        self._jobs: dict[PartitionId, _Job] = {}
        self._tiles: defaultdict[TileIndex, _Tile] = defaultdict(_Tile)
        for fact in history:
            match fact:
                case PoisFound(partition=part, pois=pois):
                    self._tiles[part.tile].found[part] = pois.boxes_px
                case TileFinished(tile=tile):
                    self._tiles.pop(tile, None)
                case _:
                    pass

    def handle(
        self, message: PartitionScanned | PartitionReloaded | DetectionReturned | DetectionLost | TileFinished
    ) -> Iterator[Message]:
        """Order a detection, pass its result on, or order it again."""
        match message:
            case PartitionScanned() | PartitionReloaded():
                yield from self._take(message)
            case DetectionReturned(partition=part):
                job = self._jobs.get(part)
                if job is not None and job.is_answered_by(message):
                    del self._jobs[part]
                    yield from self._returned(job, message)
            case DetectionLost(partition=part, reason=reason):
                lost = self._jobs.get(part)
                if lost is None or message.attempt != lost.attempt:
                    return
                if lost.tries < TRIES:
                    yield self._order(replace(lost, tries=lost.tries + 1))
                else:
                    del self._jobs[part]
                    self._close(part, NONE)
                    yield DetectionFailed(partition=part, reason=f"{TRIES} tries: {reason}")
                    for seam in self._open_seams(part.tile):  # which may have relied on this one
                        if seam not in self._jobs:
                            yield from self._detect_seam(seam, lost.sending)
            case TileFinished(tile=tile):
                self._tiles.pop(tile, None)
                self._jobs = {part: job for part, job in self._jobs.items() if part.tile != tile}

    def _take(self, message: PartitionScanned | PartitionReloaded) -> Iterator[Message]:
        partition, sending = message.scan.id.partition, message.attempt
        wanted = message.partition if isinstance(message, PartitionReloaded) else partition
        if wanted == partition and self._is_news(partition, sending):
            yield self._order(_Job(partition, message.image, sending))
        tile = self._tiles[partition.tile]
        if self._plan.seam(wanted):
            tile.found.pop(wanted, None)  # somebody missed it
        if seams := self._open_seams(partition.tile):
            tile.images[partition] = message.image
        for seam in seams:
            if self._is_news(seam, sending):
                yield from self._detect_seam(seam, sending)

    def _is_news(self, part: PartitionId, sending: int) -> bool:
        return part not in self._jobs or self._jobs[part].sending < sending

    def _open_seams(self, tile: TileIndex) -> list[PartitionId]:
        found = self._tiles[tile].found
        return [part for part in self._plan.parts(tile) if self._plan.seam(part) and part not in found]

    def _detect_seam(self, part: PartitionId, sending: int) -> Iterator[Message]:
        """Order the detection of a seam if all images of its band are there."""
        widened = self._tiles[part.tile].widened[part]
        box = self._plan.fast_box(part, widened)
        if box == full_frame(self._plan.fast.size_px) and self._is_whole_detected(part):
            return  # which answers this seam as well
        image = self._stitched(part.tile, box)
        if image is not None:
            yield self._order(_Job(part, image, sending, widened))

    def _is_whole_detected(self, without: PartitionId) -> bool:
        """Whether a seam has grown to the whole tile and is with the workers."""
        return any(
            job.image.shape == self._plan.fast.size_px[::-1]
            for part, job in self._jobs.items()
            if part.tile == without.tile and part != without
        )

    def _stitched(self, tile: TileIndex, box: PixelBox) -> NDArray[Any] | None:
        """Return the fast image of a box, or None if part of it is not there yet."""
        pieces: list[tuple[PixelBox, NDArray[Any]]] = []
        for scan in self._plan.fast_scans(tile):
            if common := scan.box.intersection(box):
                image = self._tiles[tile].images.get(scan.id.partition)
                if image is None:
                    return None
                inside = common.shifted(-scan.box.left, -scan.box.top)
                pieces.append((common.shifted(-box.left, -box.top), image[inside.slices]))
        stitched = np.empty((box.height, box.width), pieces[0][1].dtype)
        for place, pixels in pieces:
            stitched[place.slices] = pixels
        return stitched

    def _returned(self, job: _Job, result: DetectionReturned) -> Iterator[Message]:
        part, tile = job.part, self._tiles[job.part.tile]
        box = self._plan.fast_box(part, job.widened).scaled(self._plan.scale)
        pois = result.pois.shifted(box.left, box.top)
        withheld = None
        if self._plan.seams:
            own = self._own(part, box, pois.boxes_px)
            if own is None:
                tile.widened[part] = job.widened + 1
                yield from self._detect_seam(part, job.sending)
                return
            withheld = None if self._plan.seam(part) else pois.boxes_px[~own]
            kept = own & self._is_new(part, pois.boxes_px)
            pois = Pois(xy_px=pois.xy_px[kept], score=pois.score[kept], boxes_px=pois.boxes_px[kept])
            self._close(part, pois.boxes_px)
        yield PoisFound(
            partition=part,
            pois=pois,
            worker=result.worker,
            elapsed_s=result.elapsed_s,
            withheld_px=withheld,
        )
        if self._plan.seam(part) and box == full_frame(self._plan.analysis.size_px):
            yield from self._close_seams(part.tile, result)

    def _own(self, part: PartitionId, window: PixelBox, boxes_px: Boxes) -> NDArray[np.bool_] | None:
        """Return which features found in a part are its own, or None if it has to be wider to tell."""
        plan, seam = self._plan, self._plan.seam(part)
        reach_px = plan.reach_px * plan.scale
        if seam is None:
            return is_sure(boxes_px, window, full_frame(plan.analysis.size_px), reach_px)
        return left_to_seam(boxes_px, seam.scaled(plan.scale), window, reach_px)

    def _is_new(self, part: PartitionId, boxes_px: Boxes) -> NDArray[np.bool_]:
        """Return which features no other part found: those of which all is shown have the same box in any."""
        others = (boxes.tolist() for other, boxes in self._tiles[part.tile].found.items() if other != part)
        known = {tuple(box) for boxes in others for box in boxes}
        return np.array([tuple(box) not in known for box in boxes_px.tolist()], dtype=np.bool_)

    def _close_seams(self, tile: TileIndex, result: DetectionReturned) -> Iterator[Message]:
        """Leave nothing to the other seams: the whole tile was detected."""
        for seam in self._open_seams(tile):
            self._jobs.pop(seam, None)
            self._close(seam, NONE)
            yield PoisFound(partition=seam, pois=Pois.at([]), worker=result.worker, elapsed_s=0.0)

    def _close(self, part: PartitionId, boxes_px: Boxes) -> None:
        """Keep what was found, and the images only as long as a seam needs them."""
        tile = self._tiles[part.tile]
        tile.found[part] = boxes_px
        if not self._open_seams(part.tile):
            tile.images.clear()

    def _order(self, job: _Job) -> DetectImage:
        self._jobs[job.part] = job
        return DetectImage(partition=job.part, attempt=job.attempt, image=job.image, scale=self._plan.scale)
