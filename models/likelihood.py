"""The phase under which a spectrum's counts are most likely."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import Classes
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError, ConfigError

from .fit_test import FitTest
from .spectrum_library import SpectrumLibrary
from .templates import Templates, estimated_templates

_STEPS_PER_OCTAVE = 2
_SIGMAS = 4.0
_LEAST_AMPLITUDE = 10.0
"""Counts of the phase below which no amplitude is tried."""


class LikelihoodClassifier:
    """Classifies by Poisson likelihood against the templates of a library.

    Parameters
    ----------
    library
        File written by `SpectrumLibrary.save`.
    background_per_channel_s
        Noise counts per channel and second that the spectra have and the library has not.
    false_alarm
        Share of spectra of known phases that may be said to fit none.

    Raises
    ------
    ClassifierError
        The library cannot be read.
    ConfigError
        An option is out of range.
    """

    def __init__(
        self, *, library: Path, background_per_channel_s: float = 0.0, false_alarm: float = 0.001
    ) -> None:
        problems = []
        if not 0 <= background_per_channel_s < math.inf:
            problems.append(f"background_per_channel_s = {background_per_channel_s}: expected 0 or more")
        if not 0 < false_alarm <= 0.1:
            problems.append(f"false_alarm = {false_alarm}: expected above 0, at most 0.1")
        if problems:
            raise ConfigError(*problems)
        self._background_per_channel_s = background_per_channel_s
        self._false_alarm = false_alarm
        self._templates = estimated_templates(SpectrumLibrary.load(library))
        self._likelihood = PhaseLikelihood(self._templates)
        self._fit_test = FitTest(self._templates, false_alarm=false_alarm)

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, label 1 first."""
        return self._templates.phases

    def probabilities(
        self, counts: NDArray[Any], live_time_s: NDArray[np.float64], axis: EnergyAxis
    ) -> NDArray[np.float64]:
        """Return the probability of each phase, (n, L), given that it is one of them."""
        self._convert_to(counts, axis)
        background = self._background_per_channel_s * live_time_s
        ratios, amplitude = self._likelihood.ratios(counts, background)
        return posterior(ratios, amplitude, self._templates.correlation)

    def classify(self, counts: NDArray[Any], live_time_s: NDArray[np.float64], axis: EnergyAxis) -> Classes:
        """Classify spectra, as `SpectrumClassifier` says."""
        probabilities = self.probabilities(counts, live_time_s, axis)
        background = self._background_per_channel_s * live_time_s
        return self._fit_test.classes(counts, probabilities, live_time_s, background)

    def _convert_to(self, counts: NDArray[Any], axis: EnergyAxis) -> None:
        """Move the templates to another energy axis, not the spectra: those stay Poisson counts."""
        if counts.ndim != 2 or counts.shape[1] != axis.channels:
            raise ClassifierError(f"expected spectra of {axis.channels} channels, got {counts.shape}")
        if axis != self._likelihood.templates.axis:
            templates = self._templates.on(axis)
            self._likelihood = PhaseLikelihood(templates)
            self._fit_test = FitTest(templates, false_alarm=self._false_alarm)


class PhaseLikelihood:
    """Log-likelihood ratios of spectra on one energy axis.

    Parameters
    ----------
    templates
        On that axis.
    """

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self._weights: dict[int | None, NDArray[np.float32]] = {}

    def ratios(
        self, counts: NDArray[Any], background: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the log-likelihood ratio of each phase, (n, L), and the counts of the phase, (n,).

        Without background the ratio is sum x log(p / mean p), against the mean of all phases; with it
        sum x log(1 + A p / b) - A, against noise alone. The amplitude A is then not known well, so the
        likelihood is its mean over all A that the total leaves open, on a grid of half octaves of A / b: a
        single estimate of A would make weak spectra seem better known than they are.

        Parameters
        ----------
        counts
            (n, channels), whole spectra.
        background
            (n,), mean noise counts per channel.
        """
        seen = counts[:, self.templates.window].astype(np.float32)
        total = seen.sum(axis=1, dtype=np.float64)
        noise = background * seen.shape[1]
        amplitude = np.maximum(total - noise, np.sqrt(noise))
        ratios = np.full((len(seen), len(self.templates.shapes)), -np.inf)
        quiet, loud = np.flatnonzero(background <= 0), np.flatnonzero(background > 0)
        if not len(loud):
            return (seen @ self._weight(None)).astype(np.float64), amplitude
        ratios[quiet] = seen[quiet] @ self._weight(None)
        scatter = _SIGMAS * np.sqrt(np.maximum(total, noise))
        lowest = _level(np.maximum(total - noise - scatter, _LEAST_AMPLITUDE), background)
        highest = np.maximum(
            _level(np.maximum(total - noise + scatter, _LEAST_AMPLITUDE), background), lowest
        )
        for level in range(lowest[loud].min(), highest[loud].max() + 1):
            chosen = loud[(lowest[loud] <= level) & (level <= highest[loud])]
            if len(chosen):
                counted = 2 ** (level / _STEPS_PER_OCTAVE) * background[chosen]
                of_level = seen[chosen] @ self._weight(level) - counted[:, None]
                ratios[chosen] = np.logaddexp(ratios[chosen], of_level)
        ratios[loud] -= np.log(1 + highest[loud] - lowest[loud])[:, None]
        return ratios, amplitude

    def _weight(self, level: int | None) -> NDArray[np.float32]:
        if level not in self._weights:
            shapes = self.templates.shapes
            if level is None:
                weights = np.log(shapes / shapes.mean(axis=0))
            else:
                weights = np.log1p(2 ** (level / _STEPS_PER_OCTAVE) * shapes)
            self._weights[level] = np.ascontiguousarray(weights.T, dtype=np.float32)
        return self._weights[level]


def _level(amplitude: NDArray[np.float64], background: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the step of A / b, (n,); 0 where there is no background."""
    ratio = np.divide(amplitude, background, out=np.ones_like(amplitude), where=background > 0)
    level: NDArray[np.int64] = np.rint(_STEPS_PER_OCTAVE * np.log2(ratio)).astype(np.int64)
    return level


def posterior(
    ratios: NDArray[np.float64], amplitude: NDArray[np.float64], correlation: float
) -> NDArray[np.float64]:
    """Return the probabilities of phases alike before, (n, L), from log-likelihood ratios.

    Ratios are divided by 1 + rho A: by as much as their variance is larger than counting makes it.
    """
    scaled = ratios / (1 + correlation * amplitude)[:, None]
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return probabilities
