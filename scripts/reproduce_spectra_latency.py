"""Time per spectrum of the classifiers, in batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sparse_actors.models.likelihood import LikelihoodClassifier
from spectrum_specimens import LIBRARY_COUNTS, LIVE_TIME_S, standards, trained_network

PHASES = ("SiO2", "K412")
Row = dict[str, Any]


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Time the classifiers in one thread of one process, as a worker of the pool runs them."""
    random = np.random.default_rng(seed)
    specimen = standards()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "library.npz"
        specimen.spectrum_library(PHASES, random).save(path)
        likelihood = LikelihoodClassifier(library=path)
        noisy = LikelihoodClassifier(library=path, background_per_channel_s=2 / LIVE_TIME_S)
        methods = {
            "likelihood, phase only": likelihood.probabilities,
            "likelihood": likelihood.classify,
            "likelihood, with noise": noisy.classify,
        }
        if network := trained_network(folder, path, 0.0, epochs=1, seed=seed):
            methods |= {"cnn, phase only": network.probabilities, "cnn": network.classify}
    for batch in (1, 32, 1024):
        counts = specimen.real(PHASES[0], batch, 1000, random).astype(np.uint16)
        live = np.full(batch, LIVE_TIME_S * 1000 / LIBRARY_COUNTS)
        for method, run in methods.items():
            run(counts, live, specimen.axis)
            times_s = []
            for _ in range(3 if quick else max(20, 2000 // batch)):
                begin_s = time.perf_counter()
                run(counts, live, specimen.axis)
                times_s.append(time.perf_counter() - begin_s)
            yield {
                "method": method,
                "batch": batch,
                "us_per_spectrum": 1e6 * float(np.median(times_s)) / batch,
                "us_per_spectrum_worst": 1e6 * max(times_s) / batch,
            }


def line(row: Row) -> str:
    """Return one time for people."""
    return "{method:24} batch {batch:5}: {us_per_spectrum:8.1f} us a spectrum".format(**row)


def documents(points: list[Row], made_by: str) -> dict[str, str]:
    """Return the table."""
    batches = sorted({row["batch"] for row in points})
    text = (
        "# Time per spectrum\n\nMicroseconds a spectrum of 2048 channels, median, two phases, one process. "
    )
    text += made_by + "\n\n| classifier | " + " | ".join(f"batch of {b}" for b in batches) + " |\n"
    text += "|---|" + "---|" * len(batches) + "\n"
    times = {(row["method"], row["batch"]): row["us_per_spectrum"] for row in points}
    for method in dict.fromkeys(row["method"] for row in points):
        text += f"| {method} | " + " | ".join(f"{times[method, b]:.1f}" for b in batches) + " |\n"
    return {"spectra-latency.md": text}
