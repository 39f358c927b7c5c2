"""What `check` says of maps, and `verify` of spectra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_actors.models.spectrum_library import SpectrumLibrary
from test_cli import file, invoke

from sparse_actors.contracts.spectra import EnergyAxis

stand_ins = file  # the fixture of the tests of the command line
EDS = """
[eds]
where = "field"
grid_px = [100, 100]
live_time_ms = 10.0
points_pct = 10
beam_kev = 15
[eds.options]
library = "library.npz"
"""


@pytest.fixture
def config(stand_ins: Path) -> Path:
    stand_ins.write_text(stand_ins.read_text("utf-8") + EDS, encoding="utf-8")
    return stand_ins


def checked(config: Path, *changes: str) -> dict[str, Any]:
    settings = [word for change in changes for word in ("--set", change)]
    result = invoke("check", config, "--json", *settings)
    assert result.exit_code == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def write_library(path: Path, counts_per_s: float) -> None:
    """Two phases that differ by a fifth in half of their channels."""
    axis = EnergyAxis(channels=400, offset_kev=0.0, scale_kev=0.01)
    shapes = np.ones((2, 400))
    shapes[0, :200], shapes[1, 200:] = 1.2, 1.2
    shapes /= shapes.sum(axis=1, keepdims=True)
    labels = np.repeat([1, 2], 12).astype(np.int32)
    counts = np.random.default_rng(0).poisson(10 * counts_per_s * shapes[labels - 1])
    SpectrumLibrary(
        counts=counts.astype(np.uint32),
        labels=labels,
        phases=("a", "b"),
        axis=axis,
        live_time_s=np.full(24, 10.0),
        beam_kev=15.0,
    ).save(path)


def test_maps_of_whole_tiles_are_predicted_and_no_survey(config: Path) -> None:
    printed = checked(config, "microscope.beam_current_pa=100")
    assert printed["prediction"] is None
    maps = printed["maps"]
    assert maps["pitch_nm"] == pytest.approx(1000)
    (cost,) = maps["costs"]
    assert (cost["share"], cost["points"]) == (1.0, 2000)
    assert cost["spectra_s"] == pytest.approx(20)
    assert cost["full_s"] == pytest.approx(200)
    assert cost["disk_bytes"] == 2000 * maps["channels"] * 4
    # 1e-10 A x 10 ms / e electrons on 1000 nm x 1000 nm.
    assert maps["dose_e_per_nm2"] == pytest.approx(6.2415e6 * 1e-6, rel=1e-3)


def test_dead_time_and_settling_count_for_time_and_dose(config: Path) -> None:
    settling = "microscope.options.settling_ms=5"
    changes = ("microscope.beam_current_pa=100", "eds.dead_time_pct=50", settling)
    maps = checked(config, *changes)["maps"]
    # 10 ms live, as much dead, 5 ms settling.
    assert maps["spot_s"] == pytest.approx(0.025)
    assert maps["costs"][0]["spectra_s"] == pytest.approx(2000 * 0.025)
    assert maps["costs"][0]["full_s"] == pytest.approx(20000 * 0.025)
    assert maps["dose_e_per_nm2"] == pytest.approx(2.5 * 6.2415, rel=1e-3)

    def limited(spectra: float) -> tuple[int, str]:
        limit = f"limits.max_dose_e_per_nm2={spectra * 6.2415}"
        result = invoke("check", config, *(word for one in (*changes, limit) for word in ("--set", one)))
        return result.exit_code, " ".join(result.stderr.split())

    code, words = limited(1.9)
    assert code != 0
    assert "20 ms of beam" in words
    code, words = limited(2.4)
    assert code == 0
    assert "the settling time is 5 ms" in words
    code, words = limited(2.6)
    assert code == 0
    assert "the settling time" not in words


def test_maps_of_regions_are_predicted_beside_the_survey(config: Path) -> None:
    printed = checked(config, "eds.where=regions", "eds.time_min=0.1")
    assert printed["prediction"]["tiles"] == 2
    one, five, twenty = printed["maps"]["costs"]
    assert [cost["share"] for cost in (one, five, twenty)] == [0.01, 0.05, 0.20]
    assert one["points"] == 20
    # No more than eds.time_min.
    assert twenty["spectra_s"] == five["spectra_s"] * 4 == pytest.approx(4)
    assert checked(config, "eds.where=regions", "eds.time_min=0.01")["maps"]["costs"][2]["points"] == 60


def test_check_of_maps_for_people(config: Path) -> None:
    words = " ".join(invoke("check", config).stderr.split())
    assert "maps of whole tiles: 100 x 100 points a field of view" in words
    assert "conventional" not in words
    assert "4096 taken" in words
    both = " ".join(invoke("check", config, "--set", "eds.where=regions").stderr.split())
    assert "conventional" in both
    assert "20% in regions" in both


def test_what_cannot_work_or_is_not_meant_is_a_warning(config: Path) -> None:
    def warned(*changes: str) -> str:
        return "\n".join(checked(config, *changes)["warnings"])

    assert "eds: cli_stand_ins:Scope gives no spectra" in warned()
    assert "eds.options.library = 'library.npz': there is no such file yet; `learn` makes it" in warned()
    assert "the beam waits" not in warned()
    assert "64 points, the most in a batch, take 32 ms" in warned("eds.live_time_ms=0.5")
    assert "has only 5 x 5 points" in warned("eds.where=regions", "eds.grid_px=[50, 50]")
    assert "gives no spectra" not in warned("microscope.options.is_mute=true")


def test_a_live_time_too_short_for_the_classifier_is_a_warning_with_a_better_one(config: Path) -> None:
    write_library(config.parent / "library.npz", counts_per_s=10_000)

    def warned(live_ms: float) -> list[str]:
        warnings = checked(config, f"eds.live_time_ms={live_ms}")["warnings"]
        return [text for text in warnings if "classified wrongly" in text]

    (text,) = warned(10.0)
    assert text.startswith("eds.live_time_ms = 10: ")
    assert "; with " in text
    assert not warned(1000.0)


def test_a_library_that_is_none_is_a_warning(config: Path) -> None:
    (config.parent / "library.npz").write_text("nonsense")
    assert any("is no library of spectra" in text for text in checked(config)["warnings"])
