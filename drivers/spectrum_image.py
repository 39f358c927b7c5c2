"""A recorded spectrum image: for each pixel the counts in each channel, kept sparse."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import MicroscopeError

from .pixel_noise import compiled, hash64

_S32 = np.uint64(32)
NM_PER_UNIT = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6}


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumImage:
    """Spectra of a field of view, and the image scanned with them."""

    axis: EnergyAxis
    shape: tuple[int, int]
    """(rows, columns)."""
    first: NDArray[np.int64]
    """(rows * columns + 1,): where the entries of a pixel begin, in row-major order."""
    channel: NDArray[np.int64]
    """(entries,)."""
    count: NDArray[np.int64]
    """(entries,), of one channel of one pixel."""
    image: NDArray[Any]
    """(rows, columns), uint8 or uint16."""
    pixel_nm: float | None
    """None: the file does not say."""

    def exposed(
        self, columns: NDArray[np.int64], rows: NDArray[np.int64], share: NDArray[np.float64], key: np.uint64
    ) -> NDArray[np.uint32]:
        """Return what pixels (n,) give in a share (n,) of the recorded time, (n, channels).

        Each recorded photon arrives within that share or not (binomial thinning), by a hash of its
        pixel, of the share and of `key`. A share above 1 returns the recorded photons over and over.
        """
        counts = np.zeros((len(columns), self.axis.channels), dtype=np.uint32)
        _thin(counts, rows * self.shape[1] + columns, share, key, self.first, self.channel, self.count)
        return counts


@compiled
def _thin(
    counts: NDArray[np.uint32],
    pixels: NDArray[np.int64],
    share: NDArray[np.float64],
    key: np.uint64,
    first: NDArray[np.int64],
    channel: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    for n in range(len(pixels)):
        whole = int(share[n])
        part = share[n] - whole
        of_point = hash64(key, pixels[n], int(share[n] * 2.0**40))
        for entry in range(first[pixels[n]], first[pixels[n] + 1]):
            kept = whole * count[entry]
            if part > 0:
                for photon in range(count[entry]):
                    bits = hash64(of_point, channel[entry], photon)
                    kept += np.int64(bits >> _S32) * 2.0**-32 < part
            counts[n, channel[entry]] += np.uint32(kept)


def read_spectrum_image(path: Path) -> SpectrumImage:
    """Read a spectrum image.

    A file .npz holds `shape` (rows, columns, channels), the counts above zero `val` at the places
    `idx` of the flattened array in rising order, `energy_offset_keV`, `energy_scale_keV`, one or more
    `image_*` (rows, columns), of which the first by name is taken, and may hold `pixel_size` and
    `pixel_units`. Any other file is read by RosettaSciIO, where that is installed; an image
    of the same size in it is taken, or else the number of counts.

    Raises
    ------
    ValueError
        The file cannot be read or holds no spectrum image.
    """
    try:
        if path.suffix.lower() == ".npz":
            return _read_npz(path)
        return _read_with_rosettasciio(path)
    except (OSError, KeyError, IndexError, TypeError, ValueError, MicroscopeError) as error:
        raise ValueError(
            f"spectrum_image = {str(path)!r} cannot be read: {type(error).__name__} {error}"
        ) from error


def _read_npz(path: Path) -> SpectrumImage:
    with np.load(path, allow_pickle=False) as file:
        rows, columns, channels = (int(size) for size in file["shape"])
        images = [file[name] for name in sorted(file) if name.startswith("image_")]
        unit = str(file["pixel_units"]) if "pixel_units" in file else ""
        return _checked(
            file["idx"].astype(np.int64),
            file["val"].astype(np.int64),
            (rows, columns),
            EnergyAxis(
                channels=channels,
                offset_kev=float(file["energy_offset_keV"]),
                scale_kev=float(file["energy_scale_keV"]),
            ),
            images,
            float(file["pixel_size"]) * NM_PER_UNIT[unit] if unit in NM_PER_UNIT else None,
        )


def _read_with_rosettasciio(path: Path) -> SpectrumImage:
    try:
        plugins: list[Any] = importlib.import_module("rsciio").IO_PLUGINS
    except ImportError as error:
        raise ValueError("expected .npz; files of other kinds need the package rosettasciio") from error
    suffix = path.suffix.lower().removeprefix(".")
    apis = [plugin["api"] for plugin in plugins if suffix in plugin["file_extensions"]]
    if not apis:
        raise ValueError(f"RosettaSciIO reads no file .{suffix}")
    signals = importlib.import_module(apis[0]).file_reader(str(path))
    cubes = [signal for signal in signals if np.ndim(signal["data"]) == 3]
    if not cubes:
        raise ValueError("there is no spectrum image in it")
    # HyperSpy puts the axis of the signal last.
    counts = np.asarray(cubes[0]["data"])
    (row, _, energy), shape = cubes[0]["axes"], counts.shape[:2]
    per_kev = {"kev": 1.0, "ev": 1e-3}[str(energy["units"]).lower()]
    scale_kev = float(energy["scale"]) * per_kev
    idx = np.flatnonzero(counts)
    return _checked(
        idx,
        counts.ravel()[idx].astype(np.int64),
        shape,
        EnergyAxis(
            channels=counts.shape[2],
            # HyperSpy gives the middle of the first channel, an EnergyAxis its lower edge.
            offset_kev=float(energy["offset"]) * per_kev - scale_kev / 2,
            scale_kev=scale_kev,
        ),
        [np.asarray(s["data"]) for s in signals if np.shape(s["data"]) == shape] or [_sums(counts)],
        float(row["scale"]) * NM_PER_UNIT[str(row["units"])] if row["units"] in NM_PER_UNIT else None,
    )


def _sums(counts: NDArray[Any]) -> NDArray[np.uint16]:
    sums = counts.sum(axis=2, dtype=np.float64)
    image: NDArray[np.uint16] = np.rint(sums * (65535 / max(sums.max(), 1))).astype(np.uint16)
    return image


def _checked(
    idx: NDArray[np.int64],
    val: NDArray[np.int64],
    shape: tuple[int, int],
    axis: EnergyAxis,
    images: list[NDArray[Any]],
    pixel_nm: float | None,
) -> SpectrumImage:
    pixels = shape[0] * shape[1]
    if len(idx) != len(val) or (val < 0).any() or (np.diff(idx) <= 0).any():
        raise ValueError("the counts are negative, or their places do not rise")
    if len(idx) and not (idx[0] >= 0 and idx[-1] < pixels * axis.channels):
        raise ValueError(f"there are counts outside of {shape} pixels and {axis.channels} channels")
    if not images or images[0].shape != shape or images[0].dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected an image of {shape} of uint8 or uint16")
    return SpectrumImage(
        axis=axis,
        shape=shape,
        first=np.searchsorted(idx, np.arange(pixels + 1) * axis.channels),
        channel=idx % axis.channels,
        count=val,
        image=images[0],
        pixel_nm=pixel_nm,
    )
