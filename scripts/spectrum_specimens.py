"""Real spectra of known phases, for the tables on classifiers. Their files are not part of the checkout."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from sparse_actors.models.augmentation import Augmentation, thinned
from sparse_actors.models.network_classifier import NetworkClassifier
from sparse_actors.models.spectrum_library import SpectrumLibrary
from sparse_actors.models.training import train_spectra

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError

DATA = Path(__file__).parents[2] / "shared" / "data"
LIBRARY_COUNTS, LIVE_TIME_S = 7500.0, 10.0
"""Counts and live time of a library spectrum, as the SLADS-EDS paper's spots of 10 s have them."""
PER_PHASE = 12
ZERO_PEAK_KEV = 0.1
CLOSE, CLOSE_SHARES = "0.6 K412 + 0.4 SiO2", (("K412", 0.6), ("SiO2", 0.4))
"""Made from real spectra to lie near K412: 0.054 nat a count."""
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Specimen:
    """Real spectra of some phases, those for the library apart from those for tests.

    The zero-energy peak, below 0.1 keV, is cut away, so that doses are counts of X-rays.
    """

    name: str
    axis: EnergyAxis
    beam_kev: float
    library: dict[str, Counts]
    """Of each phase (n, channels)."""
    tests: dict[str, Counts]

    def spectrum_library(self, phases: tuple[str, ...], random: np.random.Generator) -> SpectrumLibrary:
        """Return up to twelve spectra of each phase, thinned to a spot's counts."""
        spectra = [
            _cycled(self.library[phase], PER_PHASE if len(self.library[phase]) < 4 else None)
            for phase in phases
        ]
        counts = np.concatenate(spectra)
        return SpectrumLibrary(
            counts=thinned(counts, np.full(len(counts), LIBRARY_COUNTS), random).astype(np.uint32),
            labels=np.repeat(np.arange(1, len(phases) + 1), [len(s) for s in spectra]).astype(np.int32),
            phases=phases,
            axis=self.axis,
            live_time_s=np.full(len(counts), LIVE_TIME_S),
            beam_kev=self.beam_kev,
        )

    def mean(self, phase: str) -> NDArray[np.float64]:
        """Return the mean test spectrum of a phase, (channels,), sum 1."""
        total = self.tests[phase].sum(axis=0)
        return total / total.sum()

    def real(self, phase: str, n: int, dose_counts: float, random: np.random.Generator) -> Counts:
        """Return held-out spectra, thinned to a dose, (n, channels)."""
        return thinned(_cycled(self.tests[phase], n), np.full(n, dose_counts), random)

    def drawn(self, phase: str, n: int, dose_counts: float, random: np.random.Generator) -> Counts:
        """Return Poisson counts of the mean test spectrum, (n, channels): nothing varies but counting."""
        return random.poisson(dose_counts * self.mean(phase), (n, self.axis.channels))


def standards() -> Specimen:
    """Return NIST's standards, 15 kV: 5 points each of 7 to 10 million counts, 3 of them for the library."""
    file = _open("eds_spectra/nist_15keV.npz")
    channels = 2048
    axis = EnergyAxis(
        channels=channels,
        offset_kev=float(file["energy_offset_keV"][0]),
        scale_kev=float(file["energy_scale_keV"][0]),
    )
    counts = np.where(axis.energies_kev >= ZERO_PEAK_KEV, file["counts"][:, :channels], 0).astype(np.int64)
    material = np.array([str(name).split()[1].split("[")[0] for name in file["names"]])
    spectra = {name: counts[material == name] for name in set(material)}
    random = np.random.default_rng(0)
    spectra[CLOSE] = sum(
        thinned(spectra[name], share * spectra[name].sum(axis=1), random) for name, share in CLOSE_SHARES
    )
    return Specimen(
        "NIST standards",
        axis,
        15.0,
        {name: points[:3] for name, points in spectra.items()},
        {name: points[3:] for name, points in spectra.items()},
    )


def minerals() -> Specimen:
    """Return four minerals of a chevkinite section, 20 kV: pixels of about 16,000 counts.

    A pixel is used when it and its eight neighbours are of one class of the reference labels, and it is
    nearest to that class's mean by its own counts (square roots of shares in 80 eV). Half of a phase's
    pixels, twelve at most, drawn at random, are the library's.
    """
    file = _open("eds_maps/chevkinite_30x30.npz")
    rows, columns, channels = (int(size) for size in file["shape"])
    counts = np.zeros(rows * columns * channels, dtype=np.int64)
    counts[file["idx"]] = file["val"]
    axis = EnergyAxis(
        channels=channels,
        offset_kev=float(file["energy_offset_keV"]),
        scale_kev=float(file["energy_scale_keV"]),
    )
    counts = np.where(axis.energies_kev >= ZERO_PEAK_KEV, counts.reshape(-1, channels), 0)
    labels = file["labels_reference"]
    inner = np.where(minimum_filter(labels, 3) == maximum_filter(labels, 3), labels, 0).ravel()
    binned = np.add.reduceat(counts, np.arange(0, channels, 8), axis=1).astype(np.float64)
    roots = np.sqrt(binned / binned.sum(axis=1, keepdims=True))
    classes = range(1, int(labels.max()) + 1)
    means = np.stack([roots[inner == label].mean(axis=0) for label in classes])
    nearest = ((roots[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) + 1
    random = np.random.default_rng(0)
    library, tests = {}, {}
    for label in classes:
        members = random.permutation(np.flatnonzero((inner == label) & (nearest == label)))
        half = min(PER_PHASE, len(members) // 2)
        library[f"mineral {label}"] = counts[members[:half]]
        tests[f"mineral {label}"] = counts[members[half:]]
    return Specimen("chevkinite section", axis, 20.0, library, tests)


def trained_network(
    folder: Path, library: Path, background: float, *, epochs: int, seed: int, **options: Any
) -> NetworkClassifier | None:
    """Return the paper's network, trained on a library, or None without PyTorch.

    Parameters
    ----------
    background
        Mean noise counts per channel of a spectrum of LIVE_TIME_S.
    """
    noise = Augmentation(background_per_channel=(background, background))
    try:
        train_spectra(library, folder / "model", seed=seed, epochs=epochs, augmentation=noise)
    except ClassifierError as error:
        print(f"no network: {error}", file=sys.stderr)
        return None
    per_s = background / LIVE_TIME_S
    return NetworkClassifier(model=folder / "model", background_per_channel_s=per_s, **options)


def _cycled(spectra: Counts, n: int | None) -> Counts:
    return spectra if n is None else spectra[np.arange(n) % len(spectra)]


def _open(name: str) -> Any:
    path = DATA / name
    if not path.exists():
        raise SystemExit(f"these tables need the real spectra in {DATA.name}/{name}, beside the checkout")
    return np.load(path, allow_pickle=False)
