"""The last co-design of an instrument: `check` says from it what another fast scan saves.

A small JSON file beside what is learnt of the instrument's times.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .config import Config

FORMAT = 1
WORTH_SAYING = 1.3
LONG_DWELL_NS = 8000.0
COARSE_SCALE = 4


def record_file(folder: Path, config: Config) -> Path:
    """Return the file for an instrument, a field of view and an analysis scan."""
    what = [
        config.microscope.driver,
        config.microscope.options,
        config.panorama.tile_fov_um,
        config.analysis.size_px,
        config.analysis.dwell_ns,
    ]
    identity = json.dumps(what, sort_keys=True, default=str)
    return folder / f"codesign-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def write_record(folder: Path, config: Config, found: dict[str, Any]) -> None:
    """Keep what `codesign` found, in the place of what it found before. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_file(folder, config)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"format": FORMAT, **found}, indent=1), encoding="utf-8")
    beside.replace(path)


def advice(folder: Path | None, config: Config) -> str | None:
    """Return what `check` warns of: a fast scan that takes longer than it must.

    A factor is named only where one was found by `codesign`; a file that is damaged counts as none.
    """
    (width, height), dwell_ns = config.fast.size_px, config.fast.dwell_ns
    if folder is not None and (said := _by_record(record_file(folder, config), config)) is not None:
        return said or None
    if (
        config.scale >= COARSE_SCALE
        and dwell_ns >= LONG_DWELL_NS
        and dwell_ns >= config.analysis.dwell_ns / 2
    ):
        return (
            f"scan.fast {width} x {height} at {dwell_ns:g} ns: {config.scale} analysis pixels apart and "
            "long on each; smaller steps and a shorter dwell time may find more in less time: "
            "`sparse-actors pairs` and `sparse-actors codesign` tell by how much"
        )
    return None


def _by_record(path: Path, config: Config) -> str | None:
    """Return the warning, "" where there is nothing to warn of, None where nothing is known of this scan."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            return None
        recall, sites = float(data["recall"]), int(data["sites"])
        times = {
            (tuple(row["size_px"]), float(row["dwell_ns"])): float(row["full_time"]) for row in data["rows"]
        }
        missed = {(tuple(row["size_px"]), float(row["dwell_ns"])) for row in data["missed"]}
        (size, dwell_ns), least = min(times.items(), key=lambda entry: entry[1])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = (config.fast.size_px, config.fast.dwell_ns)
    best = f"{size[0]} x {size[1]} at {dwell_ns:g} ns ({least:.1%} of a conventional scan)"
    judged = f"for a recall of {recall:.1%} by the last codesign, {sites} sites"
    if now in missed:
        return f"scan.fast does not reach it with any threshold {judged}; {best} does"
    if now not in times:
        return None
    factor = times[now] / least
    if factor < WORTH_SAYING:
        return ""
    return f"scan.fast takes {factor:.1f} times as long as {best}, {judged}"
