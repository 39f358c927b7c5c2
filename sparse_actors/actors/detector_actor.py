"""Has each fast image detected by the worker pool, tries again once, and then says it failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from numpy.typing import NDArray

from sparse_actors.geometry import PartitionId
from sparse_actors.messages import (
    DetectImage,
    DetectionFailed,
    DetectionLost,
    DetectionReturned,
    Message,
    PartitionReloaded,
    PartitionScanned,
    PoisFound,
    Scan,
)

TRIES = 2


@dataclass(frozen=True, slots=True)
class _Job:
    scan: Scan
    image: NDArray[Any]
    attempt: int
    tries: int


class DetectorActor:
    """Which partitions are with the workers. `scale` is analysis pixels per fast pixel."""

    accepts: ClassVar[tuple[type[Message], ...]] = (
        PartitionScanned,
        PartitionReloaded,
        DetectionReturned,
        DetectionLost,
    )

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._jobs: dict[PartitionId, _Job] = {}

    def handle(
        self, message: PartitionScanned | PartitionReloaded | DetectionReturned | DetectionLost
    ) -> Iterator[Message]:
        """Order a detection, pass its result on, or order it again."""
        match message:
            case PartitionScanned(scan=scan) | PartitionReloaded(scan=scan):
                if scan.id.partition not in self._jobs:
                    # The tens tell one sending of the image from the next, the ones its tries.
                    job = _Job(scan, message.image, message.attempt * 10, 1)
                    yield self._order(job)
            case DetectionReturned(partition=partition):
                if finished := self._jobs.pop(partition, None):
                    corner = finished.scan.box.scaled(self._scale)
                    yield PoisFound(
                        partition=partition,
                        pois=message.pois.shifted(corner.left, corner.top),
                        worker=message.worker,
                        elapsed_s=message.elapsed_s,
                    )
            case DetectionLost(partition=partition, reason=reason):
                lost = self._jobs.get(partition)
                if lost is None or message.attempt != lost.attempt:
                    return
                if lost.tries < TRIES:
                    yield self._order(replace(lost, attempt=lost.attempt + 1, tries=lost.tries + 1))
                else:
                    del self._jobs[partition]
                    yield DetectionFailed(partition=partition, reason=f"{TRIES} tries: {reason}")

    def _order(self, job: _Job) -> DetectImage:
        partition = job.scan.id.partition
        self._jobs[partition] = job
        return DetectImage(partition=partition, attempt=job.attempt, image=job.image, scale=self._scale)
