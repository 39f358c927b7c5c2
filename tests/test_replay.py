"""A recorded run decides the same again; where a behaviour is another, the first difference is named."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kills
import numpy as np
import pytest
from steel_spectra import write_library
from story_map import MODEL
from test_processes_map import CONFIG as MAP_CONFIG

from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.app import run_survey
from sparse_actors.config import Config, parse_config
from sparse_actors.errors import JournalError
from sparse_actors.messages import Message, PartitionScanned, PoisFound, RegionsPlanned, StopRun
from sparse_actors.recording.flight import FlightRecorder, Session, Step, Told, read_flight
from sparse_actors.replay import replay as gone_through


def config(folder: Path, text: str = kills.CONFIG, *changes: str) -> Config:
    log, state = str(folder / "log.jsonl"), str(folder / "state.json")
    return parse_config(text.format(time_scale=0, log=log, state=state), changes)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a survey that was stopped after two tiles' beginning and taken up again."""
    folder = tmp_path_factory.mktemp("survey")
    given = config(folder)
    run_survey(given, out=folder / "run", until_tile=1)
    run_survey(given, out=folder / "run", resume=True)
    return folder / "run"


def test_a_survey_of_two_sessions_decides_the_same_again(survey: Path) -> None:
    replayed = gone_through(survey)
    assert replayed.difference is None
    assert replayed.sessions == 2
    assert set(replayed.steps) == {"time keeper", "planner", "detector", "scheduler"}
    assert replayed.steps["scheduler"] > 50


def test_maps_decide_the_same_again(tmp_path: Path) -> None:
    write_library(tmp_path / "library.npz")
    (tmp_path / "sampler.json").write_text(MODEL.to_json(), encoding="utf-8")
    text = MAP_CONFIG.format(library=str(tmp_path / "library.npz"), sampler=str(tmp_path / "sampler.json"))
    result = run_survey(config(tmp_path, text, "eds.grid_px=[32, 32]"), out=tmp_path / "run")
    assert result.outcome == "completed"
    replayed = gone_through(tmp_path / "run")
    assert replayed.difference is None
    assert replayed.steps["sampler"] > 20


def test_the_first_other_decision_is_named(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = RegionPlanner.handle

    def other(self: RegionPlanner, message: Message) -> Iterator[Any]:
        for effect in real(self, message):
            yield StopRun(reason="another mind") if isinstance(effect, RegionsPlanned) else effect

    monkeypatch.setattr(RegionPlanner, "handle", other)
    found = gone_through(survey).difference
    assert found is not None
    assert (found.session, found.actor) == (0, "planner")
    assert found.told.startswith("PoisFound(")
    assert found.recorded[0].startswith("RegionsPlanned(")
    assert found.now[0] == "StopRun(reason=another mind)"
    assert "plan" in found.state


def test_a_behaviour_that_raises_now_is_a_difference(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: RegionPlanner, message: Message) -> list[Message]:
        raise ValueError("no idea")

    monkeypatch.setattr(RegionPlanner, "handle", broken)
    found = gone_through(survey).difference
    assert found is not None
    assert found.now == ("raised ValueError: no idea",)


def test_pixels_are_left_out_and_their_shape_kept(survey: Path) -> None:
    told = [entry.told for entry in read_flight(survey / "flight") if isinstance(entry, Step)]
    messages = [entry.message() for entry in told if entry is not None]
    scanned = [message for message in messages if isinstance(message, PartitionScanned)]
    large = replace(scanned[0], image=np.ones((200, 300), np.uint8))
    told_again = Told.of(large)
    assert told_again.arrays == [60_000]
    again = told_again.message()
    assert isinstance(again, PartitionScanned)
    assert (again.image.shape, again.image.any()) == ((200, 300), False)
    assert again.scan == large.scan


def test_a_torn_end_is_cut_before_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    for number in range(2):
        recorder = FlightRecorder(path, list)
        recorder.begin(Session(number, None, None))
        recorder.stepped("scheduler", StopRun(reason="x"), [StopRun(reason="y")])
        recorder.close()
        whole = path.read_bytes()
        path.write_bytes(whole + b"\x05\x00\x00\x00torn")
    numbers = [entry.number if isinstance(entry, Session) else entry.actor for entry in read_flight(path)]
    assert numbers == [0, "scheduler", 1, "scheduler"]


def test_a_disk_that_refuses_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FlightRecorder(tmp_path / "flight", list)

    class Full:
        closed = False

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_file", Full())
        recorder.stepped("planner", StopRun(reason="x"), [])
    recorder.stepped("planner", StopRun(reason="x"), [])
    recorder.close()
    assert "No space left" in recorder.problem
    assert list(read_flight(tmp_path / "flight")) == []


def test_a_run_without_a_recording_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no record of its decisions"):
        gone_through(tmp_path)


def test_what_the_planner_decides_by_is_kept_whole(survey: Path) -> None:
    told = [
        entry.told.message()
        for entry in read_flight(survey / "flight")
        if isinstance(entry, Step) and entry.actor == "planner" and entry.told is not None
    ]
    found = [message for message in told if isinstance(message, PoisFound)]
    assert any(len(message.pois) for message in found)
