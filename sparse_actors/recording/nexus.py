"""The result of a run as NeXus: `run.nxs`, by links and virtual datasets over the packed images.

Layout: application definition NXem, https://manual.nexusformat.org, with what NXem leaves open as
further NXdata and NXcollection groups. The default plot is a real, reduced image and not a virtual
one, which every viewer draws quickly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import JournalError
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import Scan
from sparse_actors.version import VERSION

from . import disk
from .dose_maps import beam_current_pa, dose_overview
from .hdf5_file import written
from .hyperspy_links import add_experiments, write_sidecar
from .map_nexus import add_map_experiments, write_maps
from .mosaic import Mosaic
from .packed import CHUNK_PX, FILTERS, Packable, is_packed, pack_fast, pack_regions, region_paths
from .packed_spectra import PackedSpectra, pack_spectra
from .run_record import RunRecord
from .slabs import PIXELS, describe
from .tables import (
    Columns,
    audit_table,
    left_out_table,
    poi_table,
    recorded_scans,
    region_table,
    skipped_table,
    tile_table,
    timing_table,
    units_of,
)

OVERVIEW_MAX_PX = 4096


def finalize(
    folder: Path, check: Callable[[], None] = lambda: None, *, is_distrusted: bool = False
) -> tuple[str, ...]:
    """Pack the recorded images and write `run.nxs` and `run.hspy`.

    May be repeated, also for a run that is to be resumed, and may be killed at any moment: each file
    appears whole or not at all. Slabs of a completed run are removed once all their images are packed
    and were read back.

    Parameters
    ----------
    folder
        Of the run.
    check
        Called between images; may raise KeyboardInterrupt to end this.
    is_distrusted
        Whether images are read again although they were packed and read back once.

    Returns
    -------
    tuple of str
        Which images and spectra are left out because their pixels are not those that were recorded, and why.

    Raises
    ------
    JournalError
        The journal cannot be read, or a packed file does not read back.
    OSError
        The disk refused; all slabs are kept.
    """
    record = RunRecord.open(folder)
    record.folder.data.mkdir(exist_ok=True)
    fast, rescans = record.folder.packed_fast, record.folder.packed_regions
    for path, is_fast in ((fast, True), (rescans, False)):
        check()
        if is_distrusted or not is_packed(path, _packables(record, check, is_fast=is_fast)):
            _leave_out_damaged(record, check, is_fast=is_fast)
    tiles = pack_fast(fast, _packables(record, check, is_fast=True))
    pack_regions(rescans, _packables(record, check, is_fast=False))
    check()
    spectra, problems = record.maps.readable()
    fields = {
        record.maps.mapped[name].field: of for name, of in spectra.items() if name in record.maps.mapped
    }
    pack_spectra(record.folder.packed_spectra, fields, record.maps.spectra)
    check()
    _write_master(record, tiles)
    write_sidecar(record.folder)
    if record.outcome is not None and record.outcome.outcome == "completed":
        _remove_slabs(record)
    problems += [f"scan {scan_id} is left out of the result: {why}" for scan_id, why in record.lost.items()]
    return tuple(problems)


def _packables(record: RunRecord, check: Callable[[], None], *, is_fast: bool) -> list[Packable]:
    return [_packable(record, scan, check) for scan in recorded_scans(record) if scan.id.is_fast is is_fast]


def _leave_out_damaged(record: RunRecord, check: Callable[[], None], *, is_fast: bool) -> None:
    """Read all fast images or all rescans, and count those as lost that are not what was recorded."""
    for scan_id in [scan_id for scan_id in record.recorded if scan_id.is_fast is is_fast]:
        check()
        try:
            record.image(scan_id)
        except (JournalError, OSError) as error:
            record.lose(scan_id, str(error))


def _packable(record: RunRecord, scan: Scan, check: Callable[[], None]) -> Packable:
    recorded = record.recorded[scan.id]

    def read() -> NDArray[Any]:
        check()
        return record.image(scan.id)

    return Packable(scan, record.slabs[recorded.slab].pixel_type, recorded.crc32, read)


def _remove_slabs(record: RunRecord) -> None:
    # A slab with a scan that was missed stays: a resumed run writes that scan into it.
    for name, slab in record.slabs.items():
        if all(scan.id in record.recorded for scan in slab.scans):
            record.folder.slab(name).unlink(missing_ok=True)
    packed = PackedSpectra(record.folder.packed_spectra)
    batches = [recorded for _, recorded in sorted(record.maps.batches.items())]
    if packed.holds(batches):
        for slab_name in {recorded.slab for recorded in batches}:
            record.folder.slab(slab_name).unlink(missing_ok=True)
    for left_over in record.folder.data.glob("*.h5.tmp"):
        left_over.unlink()
    disk.sync_folder(record.folder.data)


def _write_master(record: RunRecord, tiles: list[TileIndex]) -> None:
    path = record.folder.nexus
    temporary = path.with_name(path.name + ".tmp")
    with written(temporary) as (file, _):
        file.attrs.update(
            NX_class="NXroot",
            default="entry",
            creator=f"sparse-actors {VERSION}",
            file_name=path.name,
            file_time=_iso(record.sessions[-1].started_s),
            file_format="HyperSpy",
            file_format_version="3.3",
        )
        entry = _group(file, "entry", "NXentry")
        _write_session(entry, record)
        _write_tables(entry, record)
        if tiles:
            _write_fast(entry, record, tiles)
            _write_rescans(entry, record)
        if beam_current_pa(record) is not None:
            _write_dose(entry, record)
        write_maps(entry, record.maps, *_map_settings(record))
    if tiles:
        # Sources and linked files are opened as the file is that names them: they are only ever read
        # through a file that is open for reading, so that nothing touches a packed file again.
        with h5py.File(temporary, "r") as file:
            panorama = file["entry/panorama_fast/data"]
            factor = -(-max(panorama.shape) // OVERVIEW_MAX_PX)
            picture = _reduced(panorama, factor)
    with written(temporary, "r+") as (file, _):
        if tiles:
            _write_overview(file["entry"], record, picture, factor)
        add_experiments(file, record.folder, tiles)
        add_map_experiments(file["Experiments"], record.maps, record.folder, *_map_settings(record))
    disk.publish(temporary, path)


def _write_session(entry: Any, record: RunRecord) -> None:
    """Write what, when and with what."""
    first, last = record.sessions[0], record.sessions[-1]
    config = record.config
    definition = entry.create_dataset("definition", data="NXem")
    definition.attrs["version"] = "2026.01"
    entry["title"] = entry["experiment_alias"] = first.name
    entry["start_time"] = _iso(first.started_s)
    ends = [recorded.finished_s for recorded in record.recorded.values()]
    if record.outcome is not None:
        entry["outcome"] = record.outcome.outcome
    if ends:
        entry["end_time"] = _iso(max(ends))

    sample = _group(entry, "sample1", "NXsample")
    sample["is_simulation"] = config.get("microscope", {}).get("driver") == "simulated"
    given = config.get("sample", {})
    sample["name"] = given.get("name") or first.name
    # NXem demands both of the next; what the configuration leaves open is said to be open.
    prepared = given.get("preparation_date")
    sample["preparation_date"] = prepared or _iso(first.started_s)
    sample["atom_types"] = ", ".join(given.get("elements", ()))
    if not prepared:
        sample["description"] = "prepared no later than preparation_date"
    note = _group(entry, "note_config", "NXnote")
    note["type"] = "application/toml"
    note["file_name"] = record.folder.config_resolved.name
    note["description"] = last.config_toml
    note["checksum"] = hashlib.sha256(last.config_toml.encode()).hexdigest()
    note["algorithm"] = "sha256"
    if last.models:
        models = _group(entry, "note_models", "NXnote")
        models["type"], models["description"] = "text/plain", "\n".join(last.models)

    measurement = _group(entry, "measurement", "NXem_measurement")
    instrument = _group(measurement, "instrument", "NXem_instrument")
    name = record.microscope.name.strip() if record.microscope else ""
    name = name or "unknown"
    instrument["name"], instrument["type"] = name, "sem"
    fabrication = _group(instrument, "fabrication", "NXfabrication")
    fabrication["vendor"], fabrication["model"] = name.split()[0], name
    program = _group(instrument, "program1", "NXprogram").create_dataset("program", data="sparse-actors")
    program.attrs["version"] = last.version
    _group(instrument, "ebeam_column", "NXebeam_column")


def _write_tables(entry: Any, record: RunRecord) -> None:
    mosaic = Mosaic(record.panorama, record.analysis_px)
    tables: dict[str, Columns] = {
        "tiles": tile_table(record),
        "regions": region_table(record, mosaic),
        "left_out": left_out_table(record),
        "audit": audit_table(record),
        "skipped": skipped_table(record),
        "pois": poi_table(record, mosaic),
        "timing": timing_table(record),
    }
    for name, columns in tables.items():
        table = _group(entry, name, "NXcollection")
        for column, values in columns.items():
            if not len(values):
                continue  # HyperSpy's NeXus reader fails for the whole file at an empty array
            if isinstance(values, list):
                table.create_dataset(column, data=values, shape=(len(values),), dtype=h5py.string_dtype())
            else:
                dataset = table.create_dataset(column, data=values)
                if units := units_of(column):
                    dataset.attrs["units"] = units


def _write_fast(entry: Any, record: RunRecord, tiles: list[TileIndex]) -> None:
    """Write the stack of fast images, their panorama, and its reduced picture."""
    event = _group(entry["measurement"], "event_fast", "NXem_event_data")
    event["start_time"] = entry["start_time"][()]
    if "end_time" in entry:
        event["end_time"] = entry["end_time"][()]
    stack = _group(_group(event, "image_fast", "NXimage"), "stack_2d", "NXdata")
    fast = [scan for scan in recorded_scans(record) if scan.id.is_fast]
    mosaic = Mosaic(record.panorama, fast[0].imaging.size_px)
    width, height = mosaic.size_px
    pixel_um = (mosaic.pixel_mm[0] * 1e3, mosaic.pixel_mm[1] * 1e3)
    stack.attrs["axes"] = ["indices_image", "axis_j", "axis_i"]
    index = stack.create_dataset("indices_image", data=np.arange(len(tiles), dtype=np.uint32))
    index.attrs["long_name"] = "Tile"
    stack["tile"] = [str(tile) for tile in tiles]
    _axis(stack, "axis_j", 1, height, pixel_um[1], "y (µm)")
    _axis(stack, "axis_i", 2, width, pixel_um[0], "x (µm)")
    _signal(stack, "real", "fast images")
    stack.attrs["indices_image_indices"] = np.uint32(0)

    shape, dtype = (len(tiles), height, width), _pixels(record, fast)
    source = h5py.VirtualSource("data/fast.h5", "real", shape=shape, dtype=dtype)
    real = _whole(stack, "real", source)
    real.attrs["interpretation"], real.attrs["long_name"] = "image", "fast images"

    layout = h5py.VirtualLayout(mosaic.shape, dtype)
    planes = {tile: plane for plane, tile in enumerate(tiles)}
    for scan, parts in mosaic.visible_parts(fast):
        for place, part in parts:
            rows, columns = part.shifted(scan.box.left, scan.box.top).slices
            layout[place.slices] = source[planes[scan.id.partition.tile], rows, columns]
    _picture(entry, "panorama_fast", layout, mosaic, "fast scans")


def _write_overview(entry: Any, record: RunRecord, picture: NDArray[Any], factor: int) -> None:
    """Write the reduced panorama of the fast scans as the default plot."""
    group = _group(entry, "overview", "NXdata")
    chunks = tuple(min(n, CHUNK_PX) for n in picture.shape)
    data = group.create_dataset("data", data=picture, chunks=chunks, **FILTERS)
    data.attrs["interpretation"], data.attrs["long_name"] = "image", "fast scans, reduced"
    fast = [scan for scan in recorded_scans(record) if scan.id.is_fast]
    width_mm, height_mm = Mosaic(record.panorama, fast[0].imaging.size_px).pixel_mm
    pixel_um = (width_mm * 1e3 * factor, height_mm * 1e3 * factor)
    _image_axes(group, picture.shape, pixel_um, "fast scans, reduced")
    entry.attrs["default"] = "overview"


def _write_rescans(entry: Any, record: RunRecord) -> None:
    """Write the panorama of the rescans, 0 where nothing was rescanned, and each rescan by itself."""
    scans = [scan for scan in recorded_scans(record) if not scan.id.is_fast]
    if not scans:
        return
    mosaic = Mosaic(record.panorama, record.analysis_px)
    paths = dict(zip([scan.id for scan in scans], region_paths(scans), strict=True))
    dtype = _pixels(record, scans)
    layout = h5py.VirtualLayout(mosaic.shape, dtype)
    sources = {}
    for scan in scans:
        shape = (scan.box.height, scan.box.width)
        source = h5py.VirtualSource("data/regions.h5", paths[scan.id], shape=shape, dtype=dtype)
        describe(_whole(entry["regions"], paths[scan.id], source), scan)
        sources[scan.id] = source
    # A run of pairs has fast images of several settings among them, which have their own grids.
    for scan, parts in mosaic.visible_parts(s for s in scans if s.imaging.size_px == mosaic.size_px):
        for place, part in parts:
            layout[place.slices] = sources[scan.id][part.slices]
    _picture(entry, "panorama_analysis", layout, mosaic, "analysis scans")


def _whole(parent: Any, name: str, source: Any) -> Any:
    """Show a dataset of a packed file; an external link would not do, some readers misplace its file."""
    layout = h5py.VirtualLayout(source.shape, source.dtype)
    layout[...] = source
    return parent.create_virtual_dataset(name, layout, fillvalue=0)


def _write_dose(entry: Any, record: RunRecord) -> None:
    """Write the electrons per nm^2 of the whole panorama, reduced, over all exposures."""
    mosaic = Mosaic(record.panorama, record.analysis_px)
    factor = -(-max(mosaic.shape) // OVERVIEW_MAX_PX)
    group = _group(entry, "dose", "NXdata")
    dose = dose_overview(record, factor)
    data = group.create_dataset(
        "data", data=dose, chunks=tuple(min(n, CHUNK_PX) for n in dose.shape), **FILTERS
    )
    data.attrs["units"] = "1/nm^2"
    pixel_um = (mosaic.pixel_mm[0] * 1e3 * factor, mosaic.pixel_mm[1] * 1e3 * factor)
    _image_axes(group, dose.shape, pixel_um, "electrons per nm^2, all exposures")


def _picture(entry: Any, name: str, layout: Any, mosaic: Mosaic, title: str) -> None:
    group = _group(entry, name, "NXdata")
    data = group.create_virtual_dataset("data", layout, fillvalue=0)
    pixel_um = (mosaic.pixel_mm[0] * 1e3, mosaic.pixel_mm[1] * 1e3)
    data.attrs["interpretation"], data.attrs["long_name"] = "image", title
    data.attrs["element_size_um"] = np.array([1.0, pixel_um[1], pixel_um[0]])
    _image_axes(group, mosaic.shape, pixel_um, title)


def _image_axes(group: Any, shape: tuple[int, ...], pixel_um: tuple[float, float], title: str) -> None:
    group.attrs["axes"] = ["y", "x"]
    _axis(group, "y", 0, shape[0], pixel_um[1], "y (µm)")
    _axis(group, "x", 1, shape[1], pixel_um[0], "x (µm)")
    _signal(group, "data", title)


def _axis(group: Any, name: str, dimension: int, count: int, step_um: float, title: str) -> None:
    axis = group.create_dataset(name, data=np.arange(count) * step_um)
    axis.attrs["units"], axis.attrs["long_name"] = "um", title
    group.attrs[f"{name}_indices"] = np.uint32(dimension)


def _signal(group: Any, name: str, title: str) -> None:
    # Some readers look for the interpretation at the group, others at the dataset.
    group.attrs["signal"], group.attrs["interpretation"] = name, "image"
    group["title"] = title


def _reduced(panorama: Any, factor: int) -> NDArray[Any]:
    """Average squares of `factor` pixels, strip by strip; a remainder at the edges is left out."""
    rows, columns = (n // factor for n in panorama.shape)
    picture: NDArray[Any] = np.empty((rows, columns), dtype=panorama.dtype)
    step = max(1, CHUNK_PX // factor)
    for top in range(0, rows, step):
        count = min(step, rows - top)
        strip = panorama[top * factor : (top + count) * factor, : columns * factor]
        squares = strip.reshape(count, factor, columns, factor)
        picture[top : top + count] = squares.mean(axis=(1, 3)).round()
    return picture


def _map_settings(record: RunRecord) -> tuple[float, float | None]:
    """Return the width of the field of view (um) and, where it is known, the energy of the beam (keV)."""
    beam_kev = record.config.get("eds", {}).get("beam_kev")
    return record.panorama.tile_fov_mm[0] * 1e3, beam_kev


def _pixels(record: RunRecord, scans: list[Scan]) -> np.dtype[Any]:
    return PIXELS[record.slabs[record.recorded[scans[0].id].slab].pixel_type]


def _group(parent: Any, name: str, nexus_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
