"""The maps of a run in `run.nxs`, and as HyperSpy signals."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox
from sparse_actors.messages import FieldMapped

from .hyperspy_links import axis as hyperspy_axis
from .hyperspy_links import signal as hyperspy_signal
from .map_record import MapRecord
from .packed import CHUNK_PX, FILTERS
from .run_folder import RunFolder


def write_maps(entry: Any, maps: MapRecord, tile_fov_um: float, beam_kev: float | None) -> None:
    """Write each map as NXdata, with its points and the way to its spectra.

    Parameters
    ----------
    entry
        The NXentry.
    maps
        The maps; spectra must have been packed.
    tile_fov_um
        Width of the field of view.
    beam_kev
        Energy of the beam where it is known.
    """
    if not maps.mapped:
        return
    group = entry.create_group("maps")
    group.attrs["NX_class"] = "NXcollection"
    group.create_dataset("phases", data=list(maps.phases) or ["unknown"], dtype=h5py.string_dtype())
    for mapped in maps.mapped.values():
        if len(mapped.labels):
            left_out = len(maps.left_out.get(mapped.field.id, ()))
            _write_map(group, mapped, tile_fov_um / mapped.field.grid_px[0], left_out)
    if beam_kev is not None:
        group.create_dataset("beam_energy", data=beam_kev).attrs["units"] = "keV"


def _write_map(group: Any, mapped: FieldMapped, pitch_um: float, left_out: int) -> None:
    field = mapped.field
    data = group.create_group(str(field.id))
    rows, columns = field.shape
    data.attrs.update(
        NX_class="NXdata",
        signal="phase_map",
        auxiliary_signals=["confidence", "erd"],
        axes=["y", "x"],
        y_indices=np.uint32(0),
        x_indices=np.uint32(1),
        interpretation="image",
        is_complete=mapped.is_complete,
        reason=mapped.reason,
        distortion=mapped.distortion,
        distortion_95=np.array(mapped.distortion_range),
        points_unclassified=mapped.unclassified,
        points_left_out=left_out,
    )
    data["title"] = f"phases of {field.id}"
    for name, image, units in (
        ("phase_map", mapped.phase_map, ""),
        ("confidence", mapped.confidence, ""),
        ("erd", mapped.erd, "px"),
    ):
        chunks = (min(rows, CHUNK_PX), min(columns, CHUNK_PX))
        dataset = data.create_dataset(name, data=image, chunks=chunks, **FILTERS)
        dataset.attrs["interpretation"] = "image"
        if units:
            dataset.attrs["units"] = units
    for name, first, count in (("y", field.box.top, rows), ("x", field.box.left, columns)):
        dataset = data.create_dataset(name, data=(first + np.arange(count) + 0.5) * pitch_um)
        dataset.attrs["units"], dataset.attrs["long_name"] = "um", f"{name} in the tile (µm)"
    points = data.create_group("points")
    points.attrs["NX_class"] = "NXcollection"
    points["x_px"], points["y_px"] = mapped.points_px.T
    points["label"] = mapped.labels


def add_map_experiments(
    experiments: Any, maps: MapRecord, folder: RunFolder, tile_fov_um: float, beam_kev: float | None
) -> None:
    """Offer the phases of each field and its spectra (signal type EDS_SEM) to HyperSpy.

    Parameters
    ----------
    experiments
        The group of that name.
    maps, folder
        The run.
    tile_fov_um
        Width of the field of view.
    beam_kev
        Energy of the beam where it is known.
    """
    if not folder.packed_spectra.exists():
        return
    with h5py.File(folder.packed_spectra, "r") as packed:
        for mapped in maps.mapped.values():
            name = str(mapped.field.id)
            if name not in packed:
                continue
            pitch_um = tile_fov_um / mapped.field.grid_px[0]
            box = mapped.field.box
            spectra = spectra_signal(experiments, name, box, packed[name], pitch_um, beam_kev)
            spectra["data"] = h5py.ExternalLink("data/spectra.h5", f"/{name}/counts")
            phases = phases_signal(experiments, name, box, pitch_um)
            phases["data"] = h5py.SoftLink(f"/entry/maps/{name}/phase_map")


def phases_signal(experiments: Any, name: str, box: PixelBox, pitch_um: float) -> Any:
    """Make the signal of the phases of a field, without its data."""
    phases = hyperspy_signal(experiments, f"{name}_phases")
    _space(phases, box, pitch_um, navigate=False)
    return phases


def spectra_signal(
    experiments: Any, name: str, box: PixelBox, packed: Any, pitch_um: float, beam_kev: float | None
) -> Any:
    """Make the signal of the spectra of a field, as described where they are packed, without its data."""
    spectra = hyperspy_signal(experiments, f"{name}_spectra", signal_type="EDS_SEM")
    _space(spectra, box, pitch_um, navigate=True)
    scale_kev = float(packed.attrs["energy_scale_keV"])
    hyperspy_axis(
        spectra,
        2,
        "Energy",
        packed["counts"].shape[2],
        scale_kev,
        "keV",
        # Of the middle of the first channel, as HyperSpy counts; an EnergyAxis begins at its lower edge.
        offset=float(packed.attrs["energy_offset_keV"]) + scale_kev / 2,
        is_binned=True,
    )
    sem = spectra["metadata"].create_group("Acquisition_instrument/SEM")
    if beam_kev is not None:
        sem.attrs["beam_energy"] = beam_kev
    live_time_s: NDArray[np.float64] = packed["live_time_s"][()]
    measured = live_time_s[live_time_s > 0]
    sem.create_group("Detector/EDS").attrs["live_time"] = float(measured.mean()) if measured.size else 0.0
    return spectra


def _space(signal: Any, box: PixelBox, pitch_um: float, *, navigate: bool) -> None:
    for number, name, first, count in ((0, "y", box.top, box.height), (1, "x", box.left, box.width)):
        hyperspy_axis(
            signal, number, name, count, pitch_um, "µm", navigate=navigate, offset=(first + 0.5) * pitch_um
        )
