"""Whether a spectrum can be of the phase it was given: the deviance, calibrated, and the count rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammainc, pdtr, xlogy

from sparse_actors.contracts.classifier import FITS_NONE, Classes

from .templates import Templates, distribution_of

DRAWS = 4000
"""Spectra drawn to calibrate the deviance at one dose."""
RATE_FACTOR = 25.0
"""A spectrum with this many times more or fewer counts a second than the library's is of no phase.

Beam current and topography change the rate; 5 % of the dose still passes.
"""
ILL_SHARE = 0.01
"""Share of spectra taken to be of no phase before anything is measured."""

_STEPS_PER_OCTAVE = 4
_LEAST_EXPECTED = 2.0
_TAILS = np.array([1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005])


class FitTest:
    """Tests spectra against the template of their phase.

    The deviance 2 sum [x log(x/m) - (x - m)] is taken in bins of BIN_KEV, merged until each expects
    two counts, with the amplitude set by the spectrum's own counts. Its distribution depends on the
    dose, so it is found at the dose at hand, by drawing spectra of the phase: with counting noise, and
    with a difference from the template as large as those among the library's own spectra.

    A spectrum is of no phase, too, where its counts a second are far from the library's, or where noise
    alone is likelier than the phase.

    Parameters
    ----------
    templates
        For the spectra's energy axis.
    false_alarm
        Share of spectra of a phase that may be said to fit none.
    seed
        Of the draws.
    """

    def __init__(self, templates: Templates, *, false_alarm: float = 0.001, seed: int = 0) -> None:
        self._templates = templates
        self._false_alarm = false_alarm
        self._seed = seed
        self._shares = np.add.reduceat(templates.shapes, templates.bin_starts, axis=1)
        self._widths = np.diff(templates.bin_starts, append=templates.shapes.shape[1]).astype(np.float64)
        self._nulls: dict[tuple[int, int, int], NDArray[np.float64]] = {}

    def classes(
        self,
        counts: NDArray[Any],
        probabilities: NDArray[np.float64],
        live_time_s: NDArray[np.float64],
        background: NDArray[np.float64],
    ) -> Classes:
        """Return the likeliest phase of spectra, (n, channels), or FITS_NONE.

        Parameters
        ----------
        probabilities
            (n, L), of the phases, given that it is one of them.
        live_time_s
            (n,), 0 where it is not known.
        background
            (n,), mean noise counts per channel.
        """
        phases = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
        chances, noise = self.chances(counts, phases, live_time_s, background)
        is_ill = chances < self._false_alarm
        is_noise = noise > 0.5
        confidence = np.where(is_ill, confidence_of_ill(chances), confidence)
        confidence = np.where(is_noise, np.maximum(noise, is_ill * confidence), confidence)
        labels = np.where(is_ill | is_noise, FITS_NONE, phases + 1).astype(np.int32)
        return Classes(labels=labels, confidence=np.clip(confidence, 0, 1))

    def chances(
        self,
        counts: NDArray[Any],
        phases: NDArray[np.int64],
        live_time_s: NDArray[np.float64],
        background: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how often a spectrum of its phase (n,), from 0, fits no better, and the odds of noise alone.

        Returns
        -------
        chances
            (n,), small for ill spectra.
        noise
            (n,), probability of noise alone, if it were as likely before as the phase.
        """
        binned = np.add.reduceat(
            counts[:, self._templates.window], self._templates.bin_starts, axis=1, dtype=np.float64
        )
        total = binned.sum(axis=1)
        dark = background * self._widths.sum()
        rates = self._templates.rates_per_s
        least = np.maximum(np.sqrt(dark), rates.min() * live_time_s / RATE_FACTOR)
        amplitude = np.maximum(total - dark, np.where(dark > 0, least, 1))
        keys = np.stack([phases, _level(amplitude), np.where(dark > 0, _level(dark), -1)], axis=1)
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        chances, noise = np.ones(len(counts)), np.zeros(len(counts))
        for number, (phase, dose, darkness) in enumerate(distinct.tolist()):
            chosen = np.flatnonzero(inverse.ravel() == number)
            expected = amplitude[chosen, None] * self._shares[phase]
            expected += background[chosen, None] * self._widths
            starts = self._merged(phase, dose, darkness)
            deviance = _deviance(binned[chosen], expected, starts)
            chances[chosen] = _tail(deviance, self._null(phase, dose, darkness, starts))
            if darkness >= 0:
                alone = background[chosen, None] * self._widths
                ratio = xlogy(binned[chosen], expected / alone).sum(axis=1) - amplitude[chosen]
                noise[chosen] = expit(-ratio)
        usual = rates[phases] * live_time_s
        few = pdtr(total, usual / RATE_FACTOR + dark)
        many = gammainc(np.maximum(total, 1e-9), usual * RATE_FACTOR + dark)
        return np.where(usual > 0, np.minimum(chances, np.minimum(few, many)), chances), noise

    def _merged(self, phase: int, dose: int, dark: int) -> NDArray[np.int64]:
        """Return the first bin of each run of bins that expects enough counts."""
        expected = _amount(dose) * self._shares[phase] + self._noise(dark)
        runs = np.floor(np.cumsum(expected) / _LEAST_EXPECTED)
        return np.concatenate([[0], np.flatnonzero(np.diff(runs)) + 1])

    def _noise(self, dark: int) -> NDArray[np.float64]:
        share: NDArray[np.float64] = self._widths / self._widths.sum()
        return share * (_amount(dark) if dark >= 0 else 0.0)

    def _null(self, phase: int, dose: int, dark: int, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the deviances, (tails,), that spectra of the phase exceed with the chances in _TAILS."""
        key = (phase, dose, dark)
        if key not in self._nulls:
            random = np.random.default_rng([self._seed, phase, dose, dark + 1])
            mean, parts, degrees = distribution_of(self._templates.spread[phase])
            size = mean * random.f(parts, degrees, DRAWS)
            departure = np.sqrt(size)[:, None] * random.standard_normal((DRAWS, len(self._widths)))
            shares = self._shares[phase] * np.maximum(1 + departure, 0)
            shares /= shares.sum(axis=1, keepdims=True)
            noise = self._noise(dark)
            drawn = random.poisson(_amount(dose) * shares + noise).astype(np.float64)
            amplitude = np.maximum(drawn.sum(axis=1, keepdims=True) - noise.sum(), 1)
            deviance = _deviance(drawn, amplitude * self._shares[phase] + noise, starts)
            self._nulls[key] = np.quantile(deviance, 1 - _TAILS)
        null = self._nulls[key]
        return null


def confidence_of_ill(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that spectra that fit this badly are of no known phase, (n,).

    The odds for the known phase are at least -e p log p (Sellke, Bayarri & Berger 2001).
    """
    p = np.clip(chances, 1e-300, math.exp(-1))
    known = -math.e * p * np.log(p)
    confidence: NDArray[np.float64] = ILL_SHARE / (ILL_SHARE + (1 - ILL_SHARE) * known)
    return confidence


def _level(amount: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the dose as steps of a quarter octave, so that spectra of about one dose share a calibration."""
    level: NDArray[np.int64] = np.rint(_STEPS_PER_OCTAVE * np.log2(np.maximum(amount, 1))).astype(np.int64)
    return level


def _amount(level: int) -> float:
    return float(2 ** (level / _STEPS_PER_OCTAVE))


def _deviance(
    seen: NDArray[np.float64], expected: NDArray[np.float64], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the Poisson deviance of spectra in bins, (n, bins), merged to runs that begin at `starts`."""
    seen = np.add.reduceat(seen, starts, axis=1)
    expected = np.add.reduceat(expected, starts, axis=1)
    deviance: NDArray[np.float64] = 2 * (xlogy(seen, seen / expected) - (seen - expected)).sum(axis=1)
    return deviance


def _tail(deviance: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance of a larger deviance; beyond the last quantile drawn the tail is exponential."""
    logs = np.log(_TAILS)
    inside = np.interp(deviance, null, logs)
    slope = (logs[-1] - logs[-3]) / max(null[-1] - null[-3], 1e-9)
    beyond = logs[-1] + slope * np.maximum(deviance - null[-1], 0)
    chance: NDArray[np.float64] = np.exp(np.where(deviance > null[-1], beyond, inside))
    return chance
