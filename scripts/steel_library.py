"""A library of spectra of the simulated steel, measured where its phases are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sparse_actors.models.spectrum_library import SpectrumLibrary

from sparse_actors import plugins
from sparse_actors.geometry import PixelBox

PHASES = ("matrix", "islands", "void", "MnS", "oxide")
LIVE_TIME_S = 0.2


def steel_library(seed: int, spectra: int, first_mm: tuple[float, float]) -> SpectrumLibrary:
    """Return so many spectra of each phase, from fields in a row that begins at x, y = `first_mm`."""
    microscope = plugins.build("microscope", "simulated", {"time_scale": 0, "seed": seed})
    microscope.connect()
    microscope.prepare()
    microscope.set_view_field(0.1)
    window_px = (512, 512)
    rng = np.random.default_rng(seed)
    counts: list[NDArray[np.uint32]] = []
    labels: list[int] = []
    for step_mm in np.arange(0, 3, 0.12):
        microscope.move_stage(first_mm[0] + float(step_mm), first_mm[1])
        truth = microscope.true_phases(PixelBox(0, 0, *window_px), window_px)
        for label in range(1, len(PHASES) + 1):
            rows, columns = np.nonzero(truth == label)
            n = min(4, len(rows), spectra - labels.count(label))
            if n > 0:
                chosen = rng.choice(len(rows), n, replace=False)
                points_px = np.column_stack([columns[chosen], rows[chosen]]).astype(np.int64)
                counts += list(
                    microscope.acquire_spectra(points_px, np.full(n, LIVE_TIME_S), window_px).counts
                )
                labels += [label] * n
    axis = microscope.energy_axis()
    microscope.disconnect()
    return SpectrumLibrary(
        counts=np.array(counts, np.uint32),
        labels=np.array(labels, np.int32),
        phases=PHASES,
        axis=axis,
        live_time_s=np.full(len(labels), LIVE_TIME_S),
        beam_kev=15.0,
    )
