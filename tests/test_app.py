"""Runs that cannot begin, or cannot go on, say so and leave the microscope as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import kills
import pytest
import structlog

from sparse_actors.app import run_survey
from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError, ControlError
from sparse_actors.messages import Message, MicroscopePrepared, RegionsPlanned, RunFinished, RunStarted
from sparse_actors.network.control import ask
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.run_requests import Answered, Pause

UNLOADABLE = """
import sys

class Unloadable:
    def __init__(self):
        if "worker" in sys.argv:
            raise OSError("the model file is only on the daemon's disk")

    def detect(self, image, scale):
        return []

class Raising:
    def detect(self, image, scale):
        raise ValueError("no idea")
"""


@pytest.fixture(autouse=True)
def plugins_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_odd_detectors.py").write_text(UNLOADABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def config(folder: Path, *changes: str, time_scale: float = 0) -> Config:
    text = kills.CONFIG.format(
        time_scale=time_scale, log=str(folder / "log.jsonl"), state=str(folder / "state.json")
    )
    return parse_config(text, changes)


def test_a_detector_that_no_worker_can_load_ends_the_run_before_the_microscope_is_touched(
    tmp_path: Path,
) -> None:
    odd = config(tmp_path, 'detect.detector="my_odd_detectors:Unloadable"', "detect.options={}")
    result = run_survey(odd, out=tmp_path / "run")
    assert (result.outcome, result.cause) == ("failed", "worker")
    assert "the model file is only on the daemon's disk" in result.reason
    assert not (tmp_path / "state.json").exists()


def test_a_detector_that_raises_costs_a_full_rescan_and_is_recorded_as_such(tmp_path: Path) -> None:
    odd = config(tmp_path, 'detect.detector="my_odd_detectors:Raising"', "detect.options={}")
    seen: list[Message] = []
    result = run_survey(odd, out=tmp_path / "run", observe=lambda message, number: seen.append(message))
    assert (result.outcome, result.problems) == ("completed", ())
    plans = [message for message in seen if isinstance(message, RegionsPlanned)]
    assert len(plans) == 8
    assert all(plan.is_fallback and plan.strategy == "whole partition" for plan in plans)


def test_a_full_disk_ends_the_run_in_order_and_it_can_be_resumed(tmp_path: Path) -> None:
    full = config(tmp_path, "limits.min_free_disk_gb=1000000.0")
    result = run_survey(full, out=tmp_path / "run")
    assert (result.outcome, result.cause) == ("failed", "storage")
    assert "limits.min_free_disk_gb" in result.reason
    state = json.loads((tmp_path / "state.json").read_text())["state"]
    assert (state["x_mm"], state["working_distance_mm"], state["beam_on"]) == (0.0, 10.0, False)
    again = run_survey(config(tmp_path), out=tmp_path / "run", resume=True)
    assert (again.outcome, again.problems) == ("completed", ())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("panorama.partitions=9", "panorama.partitions"),
        ("scan.fast.dwell_ns=9000.0", "scan.fast"),
        ("panorama.corners_mm=[[0.0,0.0],[0.1,0.0],[0.0,0.025]]", "panorama.corners_mm"),
        ("panorama.grid=[2,2]", "panorama.grid"),
    ],
)
def test_a_run_is_not_resumed_with_another_geometry(tmp_path: Path, change: str, key: str) -> None:
    stopped = run_survey(config(tmp_path), out=tmp_path / "run", until_tile=1)
    assert stopped.outcome == "completed"
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        run_survey(config(tmp_path, change), out=tmp_path / "run", resume=True)


def test_a_run_goes_on_after_the_corners_were_set_anew(tmp_path: Path) -> None:
    run_survey(config(tmp_path), out=tmp_path / "run", until_tile=1)
    # The same specimen, put back 20 um to the right, turned by 30 degrees, and set 0.25 % too long by hand.
    moved = "panorama.corners_mm=[[0.02,0.0],[0.0634091,0.0250625],[0.0075,0.0216506]]"
    moves: list[Any] = []
    result = run_survey(
        config(tmp_path, moved),
        out=tmp_path / "run",
        resume=True,
        observe=lambda message, number: moves.append(message),
    )
    assert (result.outcome, result.problems) == ("completed", ())
    (reached,) = [m for m in moves if type(m).__name__ == "TileReached"]
    assert (reached.tile.row, reached.tile.column) == (0, 1)
    assert reached.state.scan_rotation_deg == pytest.approx(30, abs=0.01)
    assert isinstance(moves[-1], RunFinished)


def contents(folder: Path) -> dict[str, bytes]:
    """Everything of a run but the result, which is the same whenever it is made again, and logs."""
    names = ("journal", "config.toml", "config.resolved.toml", "data/fast.h5", "data/regions.h5")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    given = config(tmp_path, "microscope.beam_current_pa=100.0")
    assert run_survey(given, out=tmp_path / "run").outcome == "completed"
    before = contents(tmp_path / "run")
    other = config(tmp_path, "microscope.beam_current_pa=900.0", "run.seed=99", "regions.size_px=[64, 64]")
    (tmp_path / "run" / "run.nxs").unlink()
    touched: list[Message] = []
    again = run_survey(
        other, out=tmp_path / "run", resume=True, observe=lambda message, number: touched.append(message)
    )
    assert (again.outcome, again.problems, touched) == ("completed", (), [])
    assert "finished before and is left as it is" in again.reason
    assert contents(tmp_path / "run") == before
    with h5py.File(tmp_path / "run" / "run.nxs") as file:
        assert file["entry/note_config/description"].asstr()[()] == given.to_toml()
    assert run_survey(given, out=tmp_path / "run", resume=True).reason == again.reason


def test_a_finished_run_whose_microscope_was_not_handed_back_keeps_its_configuration(tmp_path: Path) -> None:
    given = config(tmp_path)
    run_survey(given, out=tmp_path / "run")
    journal, history, _ = Journal.open(tmp_path / "run" / "journal")
    (prepared,) = [fact for fact in history if isinstance(fact, MicroscopePrepared)]
    journal.append(prepared)
    journal.close()
    result = run_survey(config(tmp_path, "run.seed=99"), out=tmp_path / "run", resume=True)
    assert (result.outcome, result.problems) == ("completed", ())
    record = RunRecord.open(tmp_path / "run")
    assert [session.config_toml for session in record.sessions] == [given.to_toml()] * 2
    assert (tmp_path / "run" / "config.resolved.toml").read_text() == given.to_toml()
    assert set(record.exposures.values()) == {1}


def test_a_run_is_not_resumed_with_another_pixel_type(tmp_path: Path) -> None:
    run_survey(config(tmp_path), out=tmp_path / "run", until_tile=1)
    other = config(tmp_path, 'microscope.options.pixel_type="uint16"')
    result = run_survey(other, out=tmp_path / "run", resume=True)
    assert (result.outcome, result.cause) == ("failed", "microscope")
    assert "uint8" in result.reason
    again = run_survey(config(tmp_path), out=tmp_path / "run", resume=True)
    assert (again.outcome, again.problems) == ("completed", ())


def test_each_tile_has_the_drivers_metadata(tmp_path: Path) -> None:
    run_survey(config(tmp_path), out=tmp_path / "run")
    files = sorted((tmp_path / "run" / "metadata").glob("*.json"))
    assert [file.stem for file in files] == ["r000c000", "r000c001"]
    assert all(json.loads(file.read_text()) for file in files)


def test_logging_is_afterwards_as_it_was(tmp_path: Path) -> None:
    before = structlog.get_config()
    run_survey(config(tmp_path), out=tmp_path / "run", until_tile=1)
    assert structlog.get_config() == before


def test_a_new_run_does_not_overwrite_another(tmp_path: Path) -> None:
    run_survey(config(tmp_path), out=tmp_path / "run", until_tile=1)
    with pytest.raises(ConfigError, match="--resume"):
        run_survey(config(tmp_path), out=tmp_path / "run")


def test_an_order_is_refused_while_nobody_would_hear_of_it(tmp_path: Path) -> None:
    answers: list[str] = []

    def observe(message: Message, number: int) -> None:
        if isinstance(message, RunStarted):
            try:
                ask(tmp_path / "run", Pause(reason="coffee", request="a"), Answered)
            except ControlError as refused:
                answers.append(str(refused))

    result = run_survey(config(tmp_path), out=tmp_path / "run", observe=observe)
    assert result.outcome == "completed"
    assert answers == ["the run takes no orders yet: it is starting; try again in a moment"]
