"""Maps as processes, killed and taken up again: no spectrum lost, the same classes as undisturbed."""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import KilledSurvey
from steel_spectra import write_library
from story_map import MODEL

from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is what POSIX has")

CONFIG = """
[run]
name = "killed-map"
seed = 5
[microscope]
driver = "simulated"
[microscope.options]
seed = 1
time_scale = {{time_scale}}
stage_settle_s = 0.01
log_file = {{log!r}}
state_file = {{state!r}}
[panorama]
corners_mm = [[1.0, 2.0], [1.04, 2.0], [1.0, 2.02]]
tile_fov_um = 20.0
overlap_pct = 0.0
[scan.fast]
size_px = [192, 192]
dwell_ns = 8000.0
[scan.analysis]
size_px = [768, 768]
dwell_ns = 8000.0
[eds]
where = "field"
grid_px = [48, 48]
live_time_ms = 4.0
points_pct = 20.0
sampler = {sampler!r}
[eds.options]
library = {library!r}
[limits]
min_free_disk_gb = 0.0
"""
IN_FLIGHT = 2 * 13
"""Points of the two batches that are ordered ahead."""


class KilledMap(KilledSurvey):
    """Two fields of 48 x 48 points."""

    def __init__(self, folder: Path, library: Path, time_scale: float = 2.0) -> None:
        sampler = library.with_name("sampler.json")
        sampler.write_text(MODEL.to_json(), encoding="utf-8")
        self.text = CONFIG.format(library=str(library), sampler=str(sampler))
        super().__init__(folder, time_scale)

    def spots(self) -> int:
        """How many points the instrument itself says it measured."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return sum(entry["spots"] for entry in entries if entry.get("what") == "spectra")

    def spectra(self) -> dict[tuple[str, int, int], tuple[int, Any]]:
        """Label and counts of every recorded point."""
        maps = RunRecord.open(self.run).maps
        label = {
            (str(mapped.field.id), x, y): int(one)
            for mapped in maps.mapped.values()
            for (x, y), one in zip(mapped.points_px.tolist(), mapped.labels, strict=True)
        }
        found: dict[tuple[str, int, int], tuple[int, Any]] = {}
        for recorded in maps.batches.values():
            counts, _ = maps.spectra(recorded)
            for (x, y), spectrum in zip(recorded.points_px.tolist(), counts, strict=True):
                key = str(recorded.field), x, y
                assert key not in found, f"{key} is recorded twice"
                found[key] = label[key], spectrum
        return found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "steel.npz"
    write_library(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, library: Path) -> KilledMap:
    run = KilledMap(tmp_path_factory.mktemp("undisturbed"), library, time_scale=0)
    run.finish()
    return run


def same_map(run: KilledMap, undisturbed: KilledMap) -> None:
    found, wanted = run.spectra(), undisturbed.spectra()
    assert found.keys() == wanted.keys()
    for key, (label, counts) in wanted.items():
        assert found[key][0] == label, key
        np.testing.assert_array_equal(found[key][1], counts)
    assert not verify(run.run).problems


def test_what_the_instrument_counted_is_what_is_recorded(undisturbed: KilledMap) -> None:
    assert len(undisturbed.spectra()) == undisturbed.spots() == 2 * round(0.2 * 48 * 48)
    assert not verify(undisturbed.run).problems


@posix_only
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [pytest.param(3), pytest.param(100, marks=pytest.mark.long)])
def test_a_killed_map_loses_no_spectrum_and_ends_the_same(
    tmp_path: Path, library: Path, undisturbed: KilledMap, kills: int
) -> None:
    rng = random.Random(kills)
    done = number = 0
    while done < kills:
        number += 1
        run = KilledMap(tmp_path / str(number), library)
        killed = 0
        while killed < 5 and done < kills:
            code = run.interrupt(rng.randrange(1, 60_000), lambda process: process.kill())
            if code != -signal.SIGKILL:
                assert code == 0
                break
            killed += 1
            done += 1
        run.finish()
        same_map(run, undisturbed)
        assert len(run.spectra()) <= run.spots() <= len(run.spectra()) + killed * IN_FLIGHT
        assert json.loads(run.state.read_text())["state"]["x_mm"] == 0.0
