"""The same data for HyperSpy: `/Experiments` in `run.nxs`, and `run.hspy`, which links to it.

Only real, chunked datasets are offered: read lazily, HyperSpy refuses a whole file in which one
signal is contiguous or virtual. Layout: https://hyperspy.org/rosettasciio, format HSPY 3.3.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from sparse_actors.geometry import TileIndex

from . import disk
from .hdf5_file import written
from .run_folder import RunFolder


def add_experiments(file: Any, folder: RunFolder, tiles: list[TileIndex]) -> None:
    """Offer the fast images and the overview, when there are any, as HyperSpy signals."""
    experiments = file.create_group("Experiments")
    if not tiles:
        return
    entry = file["entry"]
    stack = entry["measurement/event_fast/image_fast/stack_2d"]
    fast = signal(experiments, "tiles_fast")
    fast["data"] = h5py.ExternalLink(f"{folder.data.name}/{folder.packed_fast.name}", "/real")
    axis(fast, 0, "tile", len(tiles), 1.0, "", navigate=True)
    axis(fast, 1, "y", len(stack["axis_j"]), _step(stack["axis_j"]), "µm")
    axis(fast, 2, "x", len(stack["axis_i"]), _step(stack["axis_i"]), "µm")
    overview = signal(experiments, "overview")
    overview["data"] = entry["overview/data"]
    axis(overview, 0, "y", len(entry["overview/y"]), _step(entry["overview/y"]), "µm")
    axis(overview, 1, "x", len(entry["overview/x"]), _step(entry["overview/x"]), "µm")


def write_sidecar(folder: RunFolder) -> None:
    """Write `run.hspy`, which holds nothing but links to the experiments in `run.nxs`."""
    temporary = folder.hyperspy.with_name(folder.hyperspy.name + ".tmp")
    with h5py.File(folder.nexus, "r") as master, written(temporary) as (file, _):
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        experiments = file.create_group("Experiments")
        for name in master["Experiments"]:
            experiments[name] = h5py.ExternalLink(folder.nexus.name, f"/Experiments/{name}")
    disk.publish(temporary, folder.hyperspy)


def signal(experiments: Any, name: str, signal_type: str = "") -> Any:
    """Make the group of a signal, without its data and axes."""
    group = experiments.create_group(name)
    group.attrs["package"] = group.attrs["package_version"] = ""
    group.create_group("original_metadata")
    group.create_group("metadata/General").attrs["title"] = name
    group.create_group("metadata/Signal").attrs["signal_type"] = signal_type
    return group


def axis(
    signal: Any,
    number: int,
    name: str,
    size: int,
    scale: float,
    units: str,
    *,
    navigate: bool = False,
    offset: float = 0.0,
    is_binned: bool = False,
) -> None:
    """Describe an axis of a signal."""
    signal.create_group(f"axis-{number}").attrs.update(
        _type="UniformDataAxis",
        name=name,
        size=size,
        scale=scale,
        offset=offset,
        units=units,
        navigate=np.bool_(navigate),
        is_binned=np.bool_(is_binned),
    )


def _step(values: Any) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 1.0
