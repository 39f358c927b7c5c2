"""The script that compares methods on the twin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.mark.timeout(300)
def test_the_front_is_made_by_one_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPTS / "reproduce.py"),
        "front",
        "--quick",
        "--json",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    at_paper_scan = {row["method"] for row in rows if "same-fast-scan" in row["method"]}
    assert {"paper-same-fast-scan", "fitted-windows-same-fast-scan"} <= at_paper_scan
    for row in rows:
        low, high = row["ci"]["recall"]
        assert low <= row["recall"] <= high
        assert row["total_time"] > (1 / 64 if "0.5us" in row["method"] else 1 / 16)
        assert row["efficiency"] < 1
        assert row["whole"] <= row["recall"]
    # A pitch as fine as that of the analysis finds what a coarse one steps over, in less time.
    best = {row["method"]: row for row in rows if row["target"] == 0.95}
    fine = best["full-pitch-0.5us-fitted-windows-noise-2"]
    assert fine["recall"] > 0.9
    assert fine["total_time"] < 0.1
    assert "| paper-same-fast-scan |" in (tmp_path / "front.md").read_text(encoding="utf-8")
    ElementTree.parse(tmp_path / "front.svg")


def test_parameters_are_never_chosen_on_the_tiles_that_they_are_judged_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import reproduce_front as front
    from front_methods import methods

    name = "paper-same-fast-scan"
    names = {name: methods(True)[name]}
    tiles = [f"t{n}" for n in range(10)]
    entry = front.TileScore(
        tile="",
        sites=10,
        found=10,
        whole=10,
        sites_by_size=(10, 0, 0, 0, 0, 0, 0),
        found_by_size=(10, 0, 0, 0, 0, 0, 0),
        detections=10,
        area_px=100,
        rescanned_px=10,
        ideal_px=10,
        fast_share=1 / 16,
        scan_s=1.0,
        conventional_s=2.0,
    )
    from dataclasses import replace

    scored = {}
    for place, odd in enumerate((0, 1)):
        # Each is cheap and perfect, except on the tiles of one fold, where it is dear and blind.
        scored[name, 0, place] = {
            tile: replace(entry, tile=tile, found=0, rescanned_px=90)
            if n % front.FOLDS == odd
            else replace(entry, tile=tile, rescanned_px=20 + place)
            for n, tile in enumerate(tiles)
        }
    (row, *_) = list(front.judged(names, scored, tiles, 0)) or [None]
    # In fold 0 only the first looks perfect on the others, in fold 1 only the second: both are blind there.
    # In those beyond neither looks perfect, so that nothing can be chosen for 90 % and more.
    assert row is None
    assert front._chosen(scored, tiles, 0, 0.9) == (name, 0, 0)
    assert front._chosen(scored, tiles, 1, 0.9) == (name, 0, 1)


def test_images_of_a_tile_are_the_same_each_time_and_noisier_where_the_dwell_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from front_tiles import FastScan, TwinTile

    tile = TwinTile(1, 3, 512)
    slow, fast = tile.fast(FastScan(1, 32_000.0, 2.0)), tile.fast(FastScan(1, 2_000.0, 2.0))
    np.testing.assert_array_equal(slow, TwinTile(1, 3, 512).fast(FastScan(1, 32_000.0, 2.0)))
    noise = (fast.astype(float) - slow).std()
    # Variances add: 4 at 32 us and 16 * (4 - 0.36) + 0.36 at 2 us, times the grey over 100.
    wanted = np.sqrt((3.64 * 17) * slow.mean() / 100 + 0.72)
    assert noise == pytest.approx(wanted, rel=0.08)
