"""Summed spectra in the EMSA/MAS format (ISO 22029), which programs for X-ray analysis read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import ExportError
from sparse_actors.results.phase_map import PhaseMap
from sparse_actors.results.run import Run

PER_LINE = 8


def write_msa(run: Run, folder: Path) -> None:
    """Write for each field the sum of its spectra, and that of each phase.

    Raises
    ------
    ExportError
        The run has no spectra.
    """
    folder.mkdir()
    fields = [shown for shown in run.maps.values() if len(shown.spectra)]
    if not fields:
        raise ExportError(f"{run.path}: there are no spectra in this run")
    for shown in fields:
        chosen = {"all": np.ones(len(shown.spectra), np.bool_)}
        for number, name in enumerate(shown.phases, start=1):
            if (of_phase := shown.spectrum_labels == number).any():
                chosen[f"{number}_{re.sub(r'[^A-Za-z0-9.+-]+', '-', name)}"] = of_phase
        for name, which in chosen.items():
            counts, live_s = shown.spectra.sum(which)
            title = f"{run.name} {shown.name} {name}, {which.sum()} points"
            text = _emsa(run, shown, title, counts, live_s)
            (folder / f"{shown.name}_{name}.msa").write_bytes(text.encode("ascii", "replace"))


def _emsa(run: Run, shown: PhaseMap, title: str, counts: NDArray[np.int64], live_s: float) -> str:
    axis = shown.spectra.axis
    header: list[tuple[str, Any]] = [
        ("FORMAT", "EMSA/MAS Spectral Data File"),
        ("VERSION", "1.0"),
        ("TITLE", title[:64]),
        ("DATE", run.started.strftime("%d-%b-%Y").upper()),
        ("TIME", run.started.strftime("%H:%M")),
        ("OWNER", ""),
        ("NPOINTS", f"{axis.channels}."),
        ("NCOLUMNS", f"{PER_LINE}."),
        ("XUNITS", "keV"),
        ("YUNITS", "counts"),
        ("DATATYPE", "Y"),
        ("XPERCHAN", f"{axis.scale_kev:.9g}"),
        # The first value of x: the middle of the first channel.
        ("OFFSET", f"{shown.spectra.energy_kev[0]:.9g}"),
        ("SIGNALTYPE", "EDS"),
        *([("BEAMKV   -kV", f"{shown.beam_kev:.9g}")] if shown.beam_kev is not None else []),
        ("LIVETIME  -s", f"{live_s:.9g}"),
        ("SPECTRUM", "Spectral data starts here"),
    ]
    lines = [f"#{key:12}: {value}" for key, value in header]
    values = counts.tolist()
    rows = (values[first : first + PER_LINE] for first in range(0, len(values), PER_LINE))
    lines += [", ".join(f"{value}." for value in row) + "," for row in rows]
    return "\r\n".join([*lines, f"#{'ENDOFDATA':12}: End of data and file", ""])
