"""A library of spectra of the simulated steel, measured where its phases are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sparse_actors.models.spectrum_library import SpectrumLibrary

from sparse_actors import plugins
from sparse_actors.geometry import PixelBox

PHASES = ("matrix", "islands", "void", "MnS", "oxide")


def write_library(path: Path, seed: int = 1, spectra: int = 30) -> None:
    """Write so many spectra of each phase."""
    microscope = plugins.build("microscope", "simulated", {"time_scale": 0, "seed": seed})
    microscope.connect()
    microscope.prepare()
    microscope.set_view_field(0.1)
    window_px = (512, 512)
    rng = np.random.default_rng(seed)
    counts: list[np.ndarray] = []
    labels: list[int] = []
    for x_mm in np.arange(1, 4, 0.12):
        microscope.move_stage(float(x_mm), 2.0)
        truth = microscope.true_phases(PixelBox(0, 0, *window_px), window_px)
        for label in range(1, len(PHASES) + 1):
            rows, columns = np.nonzero(truth == label)
            count = min(4, len(rows), spectra - labels.count(label))
            if count > 0:
                chosen = rng.choice(len(rows), count, replace=False)
                points_px = np.column_stack([columns[chosen], rows[chosen]]).astype(np.int64)
                found = microscope.acquire_spectra(points_px, np.full(count, 0.2), window_px)
                counts += list(found.counts)
                labels += [label] * count
    SpectrumLibrary(
        counts=np.array(counts, np.uint32),
        labels=np.array(labels, np.int32),
        phases=PHASES,
        axis=microscope.energy_axis(),
        live_time_s=np.full(len(labels), 0.2),
        beam_kev=15.0,
    ).save(path)
    microscope.disconnect()
