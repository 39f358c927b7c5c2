"""What a classifier of spectra implements: counts in, phases out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import ClassifierError

from .spectra import EnergyAxis

FITS_NONE = 0
"""The class of spectra that fit no known phase (ill or unknown)."""

MAX_PHASES = 250


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classes:
    """The phases of some spectra, in their order."""

    labels: NDArray[np.int32]
    """(n,): 1..L in the order of the classifier's `phases`, FITS_NONE for none of them."""
    confidence: NDArray[np.float64]
    """(n,): calibrated probability, 0..1, that the label is right."""

    def __post_init__(self) -> None:
        n = self.labels.size
        if self.labels.shape != (n,) or self.labels.dtype != np.int32:
            raise ClassifierError(
                f"labels must be (n,) of int32, got {self.labels.shape} of {self.labels.dtype}"
            )
        if self.confidence.shape != (n,) or self.confidence.dtype != np.float64:
            raise ClassifierError(
                f"confidence must be ({n},) of float64, got {self.confidence.shape} "
                f"of {self.confidence.dtype}"
            )
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            raise ClassifierError("confidence holds a number outside 0..1")
        if not ((self.labels >= 0) & (self.labels <= MAX_PHASES)).all():
            raise ClassifierError(f"labels holds a number outside 0..{MAX_PHASES}")
        self.labels.flags.writeable = self.confidence.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)


class SpectrumClassifier(Protocol):
    """Tells the phase of spectra. Runs in a worker process, never in the daemon."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the known phases; label 1 is the first."""
        ...

    def classify(self, counts: NDArray[Any], live_time_s: NDArray[np.float64], axis: EnergyAxis) -> Classes:
        """Classify spectra.

        Parameters
        ----------
        counts
            (n, channels) of uint16 or uint32, read-only.
        live_time_s
            (n,), how long each was counted.
        axis
            Energy of the channels.

        Raises
        ------
        ClassifierError
            The classifier was made for another energy axis and cannot convert.
        """
        ...
