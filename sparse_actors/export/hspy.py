"""One self-contained file for HyperSpy: panoramas, phase maps and spectra, copied and not linked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_actors.recording.hdf5_file import written
from sparse_actors.recording.hyperspy_links import axis, signal
from sparse_actors.recording.map_nexus import phases_signal, spectra_signal
from sparse_actors.recording.packed import CHUNK_PX, FILTERS
from sparse_actors.recording.packed_spectra import pack_field
from sparse_actors.results.phase_map import PhaseMap
from sparse_actors.results.picture import Picture
from sparse_actors.results.run import Run

from .pictures import pictures_of


def write_hspy(run: Run, path: Path) -> None:
    """Write the signals "fast_scans", "analysis_scans", "<field>_phases" and "<field>_spectra"."""
    with written(path) as (file, check):
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        experiments = file.create_group("Experiments")
        for picture in [] if run.panorama_fast is None and run.maps else pictures_of(run):
            _write_picture(experiments, picture, check)
        for shown in run.maps.values():
            _write_map(file, experiments, shown)
            check()


def _write_picture(experiments: Any, picture: Picture, check: Callable[[], None]) -> None:
    group = signal(experiments, picture.name.replace(" ", "_"))
    chunks = tuple(min(n, CHUNK_PX) for n in picture.shape)
    data = group.create_dataset("data", shape=picture.shape, dtype=picture.dtype, chunks=chunks, **FILTERS)
    for box, pixels in picture.blocks(CHUNK_PX, picture.shape[1]):
        data[box.slices] = pixels
        check()
    for number, (name, middles) in enumerate(picture.coords.items()):
        step_um = picture.pixel_um[1 - number]
        axis(group, number, name, len(middles), step_um, "µm", offset=float(middles[0]))


def _write_map(file: Any, experiments: Any, shown: PhaseMap) -> None:
    phases = phases_signal(experiments, shown.name, shown.box, shown.pitch_um)
    phases.create_dataset("data", data=shown.labels, chunks=shown.labels.shape, **FILTERS)
    for number, name in enumerate(shown.phases, start=1):
        phases["metadata/General"].attrs[f"phase_{number}"] = name
    batches = shown.spectra.readable()
    if not batches:
        return
    packed = file.create_group("packed")
    pack_field(packed, shown.field, batches, shown.spectra.read)
    spectra = spectra_signal(experiments, shown.name, shown.box, packed, shown.pitch_um, shown.beam_kev)
    spectra["data"] = packed["counts"]
    del file["packed"]
