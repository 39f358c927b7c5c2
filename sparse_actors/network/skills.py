"""What a worker can do: the detectors and the classifier of a run, loaded and watched over."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.contracts.classifier import SpectrumClassifier
from sparse_actors.contracts.detector import Detector, Pois, checked_pois
from sparse_actors.errors import ClassifierError, DetectorError
from sparse_actors.map_files import OPTIONS, changed, option_files
from sparse_actors.messages import (
    ClassificationReturned,
    ClassifySpectra,
    DetectionReturned,
    InspectionReturned,
    InspectRegion,
    WorkerWelcome,
)

from . import jobs
from .jobs import Job, Lost, Returned
from .same_code import code_of, difference, label


class LoadError(Exception):
    """A detector or classifier could not be made, or is not the daemon's."""


class Skills:
    """The detector, the inspector and the classifier of a run, as far as it has them.

    Raises
    ------
    LoadError
        One of them cannot be made, or consists of other code than the daemon's.
    """

    def __init__(self, welcome: WorkerWelcome) -> None:
        self._welcome = welcome
        self._detector: Detector | None = None
        self._inspector: Detector | None = None
        self._classifier: SpectrumClassifier | None = None
        self.phases: tuple[str, ...] = ()
        self.models = _same_models(welcome)
        if welcome.detector:
            self._detector = _built("detector", welcome.detector, welcome.options)
            _warm_up(self._detector)
        if welcome.inspector:
            self._inspector = _built("detector", welcome.inspector, welcome.inspector_options)
            _warm_up(self._inspector)
        if welcome.classifier:
            before = {k: v for k, v in welcome.classifier_files.items() if k.startswith(OPTIONS)}
            if problems := changed(before, option_files(welcome.classifier_options, OPTIONS)):
                raise LoadError("; ".join(problems))
            self._classifier = _built("classifier", welcome.classifier, welcome.classifier_options)
            self.phases = tuple(self._classifier.phases)

    def do(self, job: Job) -> Returned | Lost:
        """Do a job; whatever goes wrong is its answer."""
        kind, name = jobs.plugin(job, self._welcome)
        try:
            return self._done(job)
        except (DetectorError, ClassifierError) as error:
            reason = f"{kind} {name!r}: {error}"
        except BaseException as error:
            reason = f"{kind} {name!r} raised {type(error).__name__}: {error}"
        return jobs.lost(job, reason, worker="")

    def _done(self, job: Job) -> Returned:
        if isinstance(job, ClassifySpectra):
            return self._classify(job)
        if isinstance(job, InspectRegion):
            pois, elapsed_s = _detected(self._inspector, job.image, 1)
            return InspectionReturned(
                scan_id=job.scan_id, attempt=job.attempt, pois=pois, worker="", elapsed_s=elapsed_s
            )
        pois, elapsed_s = _detected(self._detector, job.image, job.scale)
        return DetectionReturned(
            partition=job.partition, attempt=job.attempt, pois=pois, worker="", elapsed_s=elapsed_s
        )

    def _classify(self, job: ClassifySpectra) -> ClassificationReturned:
        if self._classifier is None:
            raise ClassifierError("the run has no classifier")
        started_s = time.perf_counter()
        result = self._classifier.classify(job.counts, job.live_time_s, job.axis)
        elapsed_s = time.perf_counter() - started_s
        classes = jobs.checked_classes(result, len(job.counts))
        if self.phases and classes.labels.max(initial=0) > len(self.phases):
            raise ClassifierError(f"label {classes.labels.max()} of {len(self.phases)} phases")
        return ClassificationReturned(
            field=job.field,
            batch=job.batch,
            attempt=job.attempt,
            classes=classes,
            worker="",
            elapsed_s=elapsed_s,
        )


def _detected(detector: Detector | None, image: NDArray[Any], scale: int) -> tuple[Pois, float]:
    """Return what is found in an image, and how long it took in s."""
    if detector is None:
        raise DetectorError("the run has no such detector")
    started_s = time.perf_counter()
    result = detector.detect(image, scale)
    elapsed_s = time.perf_counter() - started_s
    pois = checked_pois(result, (image.shape[0], image.shape[1]), scale)
    return Pois.at(pois.xy_px, pois.score, pois.boxes_px), elapsed_s  # of the exact types that are sent


def _built(kind: plugins.Kind, name: str, options: dict[str, Any]) -> Any:
    try:
        return plugins.build(kind, name, options)
    except BaseException as error:
        reason = f"{kind} {name!r} could not be loaded: {type(error).__name__}: {error}"
        raise LoadError(reason) from None


def _same_models(welcome: WorkerWelcome) -> tuple[str, ...]:
    """Return the labels of what is loaded, once it is certain that the daemon has the same."""
    models: list[str] = []
    code: dict[str, str] = {}
    wanted: list[tuple[plugins.Kind, str, dict[str, Any]]] = [
        ("detector", welcome.detector, welcome.options),
        ("detector", welcome.inspector, welcome.inspector_options),
        ("classifier", welcome.classifier, welcome.classifier_options),
    ]
    for kind, name, options in wanted:
        if name:
            try:
                own = code_of(kind, name, options)
            except BaseException as error:
                raise LoadError(f"{kind} {name!r} could not be loaded: {error}") from None
            if label(name, own) not in models:
                models.append(label(name, own))
            code |= own
    if welcome.code and (found := difference(welcome.code, code)):
        raise LoadError(f"the worker's code is not the daemon's: {found}; install the same on both")
    return tuple(models)


def _warm_up(detector: Detector) -> None:
    """Let the detector compile itself on a tiny image, before an image has to wait for it."""
    image = np.zeros((32, 32), dtype=np.uint8)
    image[12:20, 12:20] = 255
    image.flags.writeable = False
    # A detector need not work on so small an image.
    with contextlib.suppress(Exception):
        detector.detect(image, 1)
