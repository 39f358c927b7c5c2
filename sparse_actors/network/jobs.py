"""What workers are given to do: images to detect and spectra to classify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparse_actors.contracts.classifier import Classes
from sparse_actors.contracts.detector import checked_pois
from sparse_actors.errors import ClassifierError, DetectorError
from sparse_actors.geometry import PartitionId
from sparse_actors.messages import (
    ClassificationLost,
    ClassificationReturned,
    ClassifySpectra,
    DetectImage,
    DetectionLost,
    DetectionReturned,
    FieldId,
    InspectionLost,
    InspectionReturned,
    InspectRegion,
    ScanId,
    WorkerWelcome,
)

Job = DetectImage | InspectRegion | ClassifySpectra
Returned = DetectionReturned | InspectionReturned | ClassificationReturned
Lost = DetectionLost | InspectionLost | ClassificationLost

JobKey = tuple[PartitionId | ScanId | tuple[FieldId, int], int]
"""What is worked on, and the attempt."""


def key(message: Job | Returned | Lost) -> JobKey:
    """Tell which job a message is about."""
    if isinstance(message, DetectImage | DetectionReturned | DetectionLost):
        return message.partition, message.attempt
    if isinstance(message, InspectRegion | InspectionReturned | InspectionLost):
        return message.scan_id, message.attempt
    return (message.field, message.batch), message.attempt


def problem(job: Job) -> str:
    """Say why no worker can be given this job, or nothing."""
    if isinstance(job, DetectImage | InspectRegion):
        array, wanted = job.image, "an image (rows, columns) of uint8 or uint16"
        dtypes: tuple[type, ...] = (np.uint8, np.uint16)
    else:
        array, wanted = job.counts, "spectra (n, channels) of uint16 or uint32"
        dtypes = (np.uint16, np.uint32)
    if array.ndim == 2 and array.dtype in dtypes:
        return ""
    return f"expected {wanted}, got {array.shape} of {array.dtype}"


def plugin(job: Job, welcome: WorkerWelcome) -> tuple[str, str]:
    """Return the kind and the name of what does a job."""
    if isinstance(job, DetectImage):
        return "detector", welcome.detector
    if isinstance(job, InspectRegion):
        return "detector", welcome.inspector
    return "classifier", welcome.classifier


def without_arrays(job: Job) -> Job:
    """Return what has to be kept of a job while a worker has it."""
    if isinstance(job, DetectImage | InspectRegion):
        return replace(job, image=np.broadcast_to(job.image.dtype.type(0), job.image.shape))
    return replace(job, counts=np.broadcast_to(job.counts.dtype.type(0), job.counts.shape))


def lost(job: Job, reason: str, worker: str) -> Lost:
    """Say that a job was not done."""
    if isinstance(job, DetectImage):
        return DetectionLost(partition=job.partition, attempt=job.attempt, reason=reason, worker=worker)
    if isinstance(job, InspectRegion):
        return InspectionLost(scan_id=job.scan_id, attempt=job.attempt, reason=reason, worker=worker)
    return ClassificationLost(
        field=job.field, batch=job.batch, attempt=job.attempt, reason=reason, worker=worker
    )


def checked(job: Job, result: Returned) -> Returned:
    """Return a result of the job in order, or say what is wrong with it.

    Raises
    ------
    DetectorError, ClassifierError
        It is not what was asked for.
    """
    if isinstance(job, DetectImage) and isinstance(result, DetectionReturned):
        rows, columns = job.image.shape
        return replace(result, pois=checked_pois(result.pois, (rows, columns), job.scale))
    if isinstance(job, InspectRegion) and isinstance(result, InspectionReturned):
        rows, columns = job.image.shape
        return replace(result, pois=checked_pois(result.pois, (rows, columns), 1))
    if isinstance(job, ClassifySpectra) and isinstance(result, ClassificationReturned):
        return replace(result, classes=checked_classes(result.classes, len(job.counts)))
    raise DetectorError(f"answered {type(job).__name__} by {type(result).__name__}")


def checked_classes(result: object, n: int) -> Classes:
    """Return what a classifier returned for n spectra, or say what is wrong with it."""
    if not isinstance(result, Classes):
        raise ClassifierError(f"expected Classes, got {type(result).__name__}")
    if len(result) != n:
        raise ClassifierError(f"expected classes of {n} spectra, got {len(result)}")
    return result
