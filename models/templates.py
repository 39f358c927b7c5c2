"""What a spectrum of each phase looks like, and how much spectra of one phase differ.

A library holds few counts in most channels. Its template is therefore taken as what a detector can
have seen: a sum of lines that are not negative, each as wide as the best silicon detector makes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import fdtrc

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError

from .spectrum_library import SpectrumLibrary, resampled

LEAST_ENERGY_KEV = 0.1
"""Below lies the zero-energy peak, which tells nothing of the sample."""
LEAST_SPREAD = 0.02
"""Relative difference of spectra of one phase that no small library can rule out."""
BIN_KEV = 0.1
"""Width of the bins in which spectra are compared: about the resolution of the detector."""

_FOLDS = 4
_ITERATIONS = (10, 20, 40, 80, 160)
_LEAST_EXPECTED = 5.0
_DOUBTFUL_CHANCE = 0.001
"""That the largest difference in a phase is as large as it is."""
_FEWEST_TO_JUDGE = 3
_NOISE_LIMIT = 5.0
_OWN_SPREAD = 10
"""Spectra from which on a phase's differences are its own and not those of all phases."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Templates:
    """The expected spectrum of each phase, and its variation."""

    phases: tuple[str, ...]
    axis: EnergyAxis
    window: slice
    """The channels that are used."""
    shapes: NDArray[np.float64]
    """(L, channels of the window): share of the counts in each channel, above 0."""
    rates_per_s: NDArray[np.float64]
    """(L,): counts per second in the library, 0 where the live time is not known."""
    spread: tuple[NDArray[np.float64], ...]
    """Of each phase: differences of its spectra from the template beyond counting noise, as chi² a count."""
    correlation: float
    """rho in the variance 1 + rho N of the log-likelihood ratio of N counts, relative to counting noise."""
    doubtful: tuple[int, ...] = ()
    """Spectra of the library, by number, that are left out because they are unlike their phase."""

    def on(self, axis: EnergyAxis) -> Templates:
        """Return the templates for spectra on another energy axis.

        Raises
        ------
        ClassifierError
            A tenth or more of a phase's counts lies outside that axis.
        """
        if axis == self.axis:
            return self
        whole = np.zeros((len(self.shapes) + 1, self.axis.channels))
        whole[:-1, self.window], whole[-1, self.window] = self.shapes, 1
        moved = resampled(whole, self.axis, axis)
        covered = moved[-1] > 0.999 * axis.scale_kev / self.axis.scale_kev
        window = _window(covered & (axis.energies_kev >= LEAST_ENERGY_KEV))
        shapes = moved[:-1, window]
        share = shapes.sum(axis=1)
        if not share.min() > 0.9:
            phase = self.phases[int(share.argmin())]
            raise ClassifierError(
                f"the library's spectra cover {_range(self.axis)} and these {_range(axis)}: only "
                f"{share.min():.0%} of the counts of {phase!r} lie in both; use a library of this instrument"
            )
        return replace(
            self,
            axis=axis,
            window=window,
            shapes=shapes / share[:, None],
            rates_per_s=self.rates_per_s * share,
        )

    @property
    def bin_starts(self) -> NDArray[np.int64]:
        """First channel, within the window, of each bin of BIN_KEV."""
        return np.arange(
            0, self.shapes.shape[1], max(1, round(BIN_KEV / self.axis.scale_kev)), dtype=np.int64
        )


def estimated_templates(library: SpectrumLibrary) -> Templates:
    """Return the templates of a library.

    Spectra of a phase are dealt into four parts (halves of the counts where there is one spectrum).
    What is left out of a template tells how long to unfold, and how much spectra differ. Spectra that
    differ more than the others of their phase allow are wrong labels or inclusions: they are left out, and
    `doubtful` names them.
    """
    templates, differences, noise = _estimated(library)
    doubtful = np.zeros(len(library), dtype=bool)
    for phase in range(len(library.phases)):
        members = np.flatnonzero(library.labels == phase + 1)
        members = members[np.argsort(differences[members])]
        while len(members) > _FEWEST_TO_JUDGE and _is_doubtful(differences[members], noise[members[-1]]):
            doubtful[members[-1]] = True
            members = members[:-1]
    if not doubtful.any():
        return templates
    left = replace(
        library,
        counts=library.counts[~doubtful],
        labels=library.labels[~doubtful],
        live_time_s=library.live_time_s[~doubtful],
    )
    return replace(_estimated(left)[0], doubtful=tuple(np.flatnonzero(doubtful).tolist()))


def distribution_of(spread: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean and degrees of freedom (k, k (n - 1)) of the difference of one more spectrum over the mean.

    A difference is a sum of squares of k parts. k follows from how much n of them differ (Satterthwaite
    1946), n - 1 at most; that they are few makes the distribution of the next one over their mean F.
    """
    mean = float(spread.mean())
    others = max(1, len(spread) - 1)
    parts = float(np.clip(2 * mean**2 / max(float(spread.var()), 1e-12), 1, others))
    return mean, parts, parts * others


def _is_doubtful(differences: NDArray[np.float64], noise: float) -> bool:
    """Return whether the last and largest of a phase's differences (n,) is too large to be one of them."""
    others, largest = np.maximum(differences[:-1], LEAST_SPREAD**2), float(differences[-1])
    mean, parts, degrees = distribution_of(others)
    chance = len(differences) * float(fdtrc(parts, degrees, max(largest, 0) / mean))
    return largest > noise and chance < _DOUBTFUL_CHANCE


def _estimated(library: SpectrumLibrary) -> tuple[Templates, NDArray[np.float64], NDArray[np.float64]]:
    """Return templates, and of each spectrum how it differs from its phase and what noise might add."""
    window = _window(library.axis.energies_kev >= LEAST_ENERGY_KEV)
    counts = library.counts[:, window].astype(np.float64)
    pooled = np.stack(
        [counts[library.labels == label].sum(axis=0) for label in range(1, len(library.phases) + 1)]
    )
    left_out = [
        (phase, members, part)
        for phase in range(len(pooled))
        for members, part in _parts(counts, np.flatnonzero(library.labels == phase + 1))
    ]
    tested = np.stack([part.sum(axis=0) for _, _, part in left_out])
    trained = pooled[[phase for phase, _, _ in left_out]] - tested
    response = _response(library.axis, window)
    best, fits, steps = -math.inf, trained, _ITERATIONS[0]
    for iterations, shapes in _unfold(trained, response):
        score = float((tested * np.log(shapes)).sum())
        if score > best:
            best, fits, steps = score, shapes, iterations
    shapes = next(shapes for iterations, shapes in _unfold(pooled, response) if iterations == steps)
    held_out = [
        (phase, member, fit, spectrum)
        for (phase, members, part), fit in zip(left_out, fits, strict=True)
        for member, spectrum in zip(members.tolist(), part, strict=True)
        if spectrum.any()
    ]
    templates = Templates(
        phases=library.phases,
        axis=library.axis,
        window=window,
        shapes=shapes,
        rates_per_s=_rates_per_s(library, counts),
        spread=(),
        correlation=_correlation(held_out, shapes),
    )
    differences, noise = np.zeros(len(library)), np.zeros(len(library))
    for _, member, fit, spectrum in held_out:
        chi2, degrees = _chi2(spectrum, fit, templates.bin_starts)
        differences[member] = (chi2 - degrees) / spectrum.sum()
        noise[member] = _NOISE_LIMIT * math.sqrt(2 * degrees) / spectrum.sum()
    known = np.maximum(differences, LEAST_SPREAD**2)
    of_phase = [known[library.labels == phase + 1] for phase in range(len(pooled))]
    spread = tuple(values if len(values) >= _OWN_SPREAD else known for values in of_phase)
    return replace(templates, spread=spread), differences, noise


_HeldOut = list[tuple[int, int, NDArray[np.float64], NDArray[np.float64]]]
"""(phase from 0, number of the spectrum, template made without it, its counts) each."""


def _window(kept: NDArray[np.bool_]) -> slice:
    channels = np.flatnonzero(kept)
    return slice(int(channels[0]), int(channels[-1]) + 1) if len(channels) else slice(0, 0)


def _parts(
    counts: NDArray[np.float64], members: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Deal the spectra of a phase into parts: (which, their counts) each."""
    if len(members) > 1:
        parts = [members[first::_FOLDS] for first in range(min(_FOLDS, len(members)))]
        return [(part, counts[part]) for part in parts]
    whole = counts[members]
    half = np.random.default_rng(0).binomial(whole.astype(np.int64), 0.5).astype(np.float64)
    return [(members, half), (members, whole - half)]


def _response(axis: EnergyAxis, window: slice) -> csr_array:
    """Return (channels, channels): counts in each channel of one photon of each channel's energy.

    FWHM² = (40 eV)² + 5.545 * 3.65 eV * 0.115 * E: the Fano limit of silicon and the least electronic
    noise (Fitzgerald, Keil & Heinrich 1968). A real detector is wider, so nothing real is lost.
    """
    energy_ev = 1e3 * (axis.energies_kev[window] + axis.scale_kev / 2)
    sigma = np.sqrt(40.0**2 + 5.545 * 3.65 * 0.115 * energy_ev) / 2.355 / (1e3 * axis.scale_kev)
    reach = math.ceil(4 * sigma.max())
    photon = np.arange(len(sigma))
    channel = photon + np.arange(-reach, reach + 1)[:, None]
    inside = (channel >= 0) & (channel < len(sigma))
    weight = np.where(inside, np.exp(-0.5 * ((channel - photon) / sigma) ** 2), 0)
    weight /= weight.sum(axis=0)
    columns = np.broadcast_to(photon, channel.shape)[inside]
    return csr_array((weight[inside], (channel[inside], columns)), shape=(len(sigma), len(sigma)))


def _unfold(counts: NDArray[np.float64], response: csr_array) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield numbers of iterations and the shapes, (k, channels), of the most likely sums of lines.

    The iteration is that of Richardson (1972) and Lucy (1974). Half a count for each width of the
    detector is mixed in evenly (Krichevsky & Trofimov 1981), so that one stray count never decides.
    """
    seen = counts.T
    total = np.maximum(seen.sum(axis=0), 1)
    lines = np.tile(total / len(seen), (len(seen), 1))
    back = csr_array(response.T)
    squared = response.multiply(response)
    resolved = float(squared.sum())  # Channels over the mean of 1 / sum p², the width of the response.
    share = 0.5 * resolved / (total + 0.5 * resolved)
    done = 0
    for iterations in _ITERATIONS:
        for _ in range(iterations - done):
            expected = response @ lines
            lines *= back @ np.divide(seen, expected, out=np.zeros_like(seen), where=expected > 0)
        done = iterations
        shape = response @ lines
        yield iterations, ((1 - share) * shape / shape.sum(axis=0) + share / len(seen)).T


def _rates_per_s(library: SpectrumLibrary, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    rates = np.zeros(len(library.phases))
    for phase in range(len(rates)):
        timed = (library.labels == phase + 1) & (library.live_time_s > 0)
        if timed.any():
            rates[phase] = counts[timed].sum() / library.live_time_s[timed].sum()
    return rates


def _chi2(
    spectrum: NDArray[np.float64], shape: NDArray[np.float64], bin_starts: NDArray[np.int64]
) -> tuple[float, int]:
    """Return chi² of a spectrum in the bins that expect enough counts, and the number of those."""
    expected = np.add.reduceat(spectrum.sum() * shape, bin_starts)
    seen = np.add.reduceat(spectrum, bin_starts)
    many = expected >= _LEAST_EXPECTED
    return float(((seen - expected)[many] ** 2 / expected[many]).sum()), int(many.sum())


def _correlation(held_out: _HeldOut, shapes: NDArray[np.float64]) -> float:
    """Return rho: by how much the log-likelihood ratios of left-out spectra vary beyond counting noise.

    The mean ratio a count of N counts varies by V / N from counting, and by rho V from spectrum to
    spectrum, as it does for a Dirichlet-multinomial distribution of concentration 1 / rho - 1.
    """
    logs = np.log(shapes)
    beyond = counting = 0.0
    for phase, _, shape, spectrum in held_out:
        total = spectrum.sum()
        for other in range(len(shapes)):
            ratio = logs[phase] - logs[other]
            mean = float(shape @ ratio)
            variance = float(shape @ ratio**2) - mean**2
            beyond += (float(spectrum @ ratio) / total - mean) ** 2 - variance / total
            counting += variance
    return max(LEAST_SPREAD**2, beyond / counting) if counting else LEAST_SPREAD**2


def _range(axis: EnergyAxis) -> str:
    energies = axis.energies_kev
    return f"{energies[0]:.2f} to {energies[-1] + axis.scale_kev:.2f} keV"
