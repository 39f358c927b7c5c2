"""Labelled spectra on disk: what a classifier is made from."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.classifier import MAX_PHASES
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError, MicroscopeError

FORMAT = "sparse-actors spectra 1"
"""What the key `format` of a library file says."""

_KEYS = (
    "format",
    "counts",
    "labels",
    "phases",
    "energy_offset_kev",
    "energy_scale_kev",
    "live_time_s",
    "beam_kev",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectrumLibrary:
    """Spectra of known phases, all on one energy axis and of one beam energy.

    Raises
    ------
    ClassifierError
        With the first thing that is wrong.
    """

    counts: NDArray[np.uint32]
    """(n, channels)."""
    labels: NDArray[np.int32]
    """(n,): 1..L in the order of `phases`."""
    phases: tuple[str, ...]
    axis: EnergyAxis
    live_time_s: NDArray[np.float64]
    """(n,), 0 where it is not known."""
    beam_kev: float

    def __post_init__(self) -> None:
        n, names = len(self.counts), self.phases
        good_names = len(set(names)) == len(names) and all(names)
        known = bool(np.isin(self.labels, np.arange(1, len(names) + 1)).all())
        live = self.live_time_s
        for accepted, expected in (
            (1 <= len(names) <= MAX_PHASES, f"1 to {MAX_PHASES} phases, not {len(names)}"),
            (good_names, f"phases with different names, not {names}"),
            (
                self.counts.shape == (n, self.axis.channels),
                f"counts of shape (n, {self.axis.channels}), not {self.counts.shape}",
            ),
            (self.counts.dtype == np.uint32, f"counts of uint32, not {self.counts.dtype}"),
            (
                self.labels.shape == (n,) and self.labels.dtype == np.int32,
                f"{n} labels of int32, not {self.labels.shape} of {self.labels.dtype}",
            ),
            (known, f"labels 1 to {len(names)}, the phases in their order"),
            (
                live.shape == (n,) and bool((np.isfinite(live) & (live >= 0)).all()),
                f"{n} live times of 0 s or more",
            ),
            (np.isfinite(self.beam_kev) and self.beam_kev > 0, f"a beam energy, not {self.beam_kev} keV"),
        ):
            if not accepted:
                raise ClassifierError(f"a library of spectra needs {expected}")
        for label, name in enumerate(names, start=1):
            if not self.counts[self.labels == label].any():
                raise ClassifierError(f"a library of spectra needs counts of every phase; {name!r} has none")
        for array in (self.counts, self.labels, self.live_time_s):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.counts)

    def save(self, path: Path) -> None:
        """Write a compressed npz file."""
        with path.open("wb") as file:  # A file object keeps numpy from changing the name.
            np.savez_compressed(
                file,
                format=np.array(FORMAT),
                counts=self.counts,
                labels=self.labels,
                phases=np.array(self.phases),
                energy_offset_kev=np.array(self.axis.offset_kev),
                energy_scale_kev=np.array(self.axis.scale_kev),
                live_time_s=self.live_time_s,
                beam_kev=np.array(self.beam_kev),
            )

    @classmethod
    def load(cls, path: Path) -> SpectrumLibrary:
        """Read a library.

        Raises
        ------
        ClassifierError
            There is no such file, or it holds no library; the message says which key is wrong.
        """
        try:
            # numpy leaves a file open that it cannot read.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if missing := [key for key in _KEYS if key not in file.files]:
                    raise ClassifierError(f"{path} is no library of spectra: it lacks {', '.join(missing)}")
                read: dict[str, Any] = {key: file[key] for key in _KEYS}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ClassifierError(f"{path} is no library of spectra: {error}") from error
        try:
            if str(read["format"]) != FORMAT:
                raise ValueError(f"its format is {str(read['format'])!r}, expected {FORMAT!r}")
            counts = read["counts"]
            if counts.ndim != 2 or not np.issubdtype(counts.dtype, np.integer):
                raise ValueError(
                    f"counts must be (n, channels) of integers, got {counts.shape} {counts.dtype}"
                )
            if counts.size and not 0 <= int(counts.min()) <= int(counts.max()) < 2**32:
                raise ValueError("counts must be 0 to 2**32 - 1")
            axis = EnergyAxis(
                channels=counts.shape[1],
                offset_kev=float(read["energy_offset_kev"]),
                scale_kev=float(read["energy_scale_kev"]),
            )
            return cls(
                counts=counts.astype(np.uint32),
                labels=read["labels"].astype(np.int32, casting="same_kind"),
                phases=tuple(str(name) for name in read["phases"]),
                axis=axis,
                live_time_s=read["live_time_s"].astype(np.float64, casting="safe"),
                beam_kev=float(read["beam_kev"]),
            )
        except (ClassifierError, MicroscopeError, TypeError, ValueError) as error:
            raise ClassifierError(f"{path}: {error}") from error


def resampled(spectra: NDArray[Any], source: EnergyAxis, target: EnergyAxis) -> NDArray[np.float64]:
    """Return spectra on another energy axis; counts are shared out, none are made or lost.

    The counts of a channel are taken as evenly spread over its energies. What lies outside the
    target axis falls away.

    Parameters
    ----------
    spectra
        (..., source channels).

    Returns
    -------
    (..., target channels)
    """
    if target == source:
        return np.asarray(spectra, dtype=np.float64)
    edges = (target.offset_kev + target.scale_kev * np.arange(target.channels + 1) - source.offset_kev) / (
        source.scale_kev
    )
    edges = np.clip(edges, 0, source.channels)
    channel = np.minimum(edges.astype(np.int64), source.channels - 1)
    below = np.zeros((*spectra.shape[:-1], source.channels + 1))
    np.cumsum(spectra, axis=-1, out=below[..., 1:])
    up_to = below[..., channel] + (edges - channel) * np.asarray(spectra, dtype=np.float64)[..., channel]
    moved: NDArray[np.float64] = np.diff(up_to, axis=-1)
    return moved
