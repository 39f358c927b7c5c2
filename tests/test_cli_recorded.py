"""`replay` and `repair` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import pytest
from recorded_run import whole_run
from typer.testing import CliRunner, Result

from sparse_actors import replay
from sparse_actors.cli.commands import app
from sparse_actors.recording.flight import FlightRecorder
from sparse_actors.recording.journal import Journal
from sparse_actors.recording.run_folder import RunFolder


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_repair_writes_the_result_files_anew(tmp_path: Path) -> None:
    whole_run(tmp_path / "run", outcome="stopped")
    result = invoke("repair", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    (tmp_path / "run" / "run.nxs").unlink()
    (tmp_path / "run" / "run.hspy").write_bytes(b"torn")
    again = invoke("repair", tmp_path / "run")
    assert again.exit_code == 0
    assert h5py.is_hdf5(tmp_path / "run" / "run.nxs")
    assert h5py.is_hdf5(tmp_path / "run" / "run.hspy")


def test_repair_says_what_is_damaged(tmp_path: Path) -> None:
    images = whole_run(tmp_path / "run", outcome="stopped").images
    scan_id, image = next(iter(images.items()))
    slab = tmp_path / "run" / "data" / f"{scan_id.partition.tile}-fast.h5"
    content = slab.read_bytes()
    slab.write_bytes(content.replace(image.tobytes(), bytes(image.nbytes)))
    result = invoke("repair", tmp_path / "run", "--json")
    assert result.exit_code == 1
    assert slab.stem in " ".join(json.loads(result.stdout)["problems"])


def test_repair_leaves_out_what_was_damaged_after_it_was_packed(tmp_path: Path) -> None:
    whole_run(tmp_path / "run")
    assert invoke("repair", tmp_path / "run").exit_code == 0
    packed = tmp_path / "run" / "data" / "fast.h5"
    with h5py.File(packed) as file:
        chunk = file["real"].id.get_chunk_info(0)
    with packed.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(byte ^ 0x5A for byte in packed.read_bytes()[chunk.byte_offset :][: chunk.size]))
    (tmp_path / "run" / "run.nxs").unlink()
    result = invoke("repair", tmp_path / "run", "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert problems
    assert all("is left out of the result" in problem for problem in problems)
    assert h5py.is_hdf5(tmp_path / "run" / "run.nxs")


def test_repair_needs_a_run_and_leaves_nothing_where_there_is_none(tmp_path: Path) -> None:
    result = invoke("repair", tmp_path)
    assert result.exit_code == 5
    assert "is not a run: it has no journal" in result.stderr
    assert not list(tmp_path.iterdir())


def test_repair_leaves_a_run_that_goes_on_alone(tmp_path: Path) -> None:
    whole_run(tmp_path / "run", outcome="stopped")
    journal, _, _ = Journal.open(RunFolder(tmp_path / "run").journal)
    try:
        result = invoke("repair", tmp_path / "run")
    finally:
        journal.close()
    assert result.exit_code != 0
    assert "is open in another process" in result.stderr


@pytest.mark.parametrize("is_same", [True, False])
def test_replay_tells_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    difference = replay.Difference(
        1, "planner", 7, "PoisFound(x)", ("RegionsPlanned(1)",), (), {"plan": "SurveyPlan(...)"}
    )
    found = replay.Replayed(2, {"planner": 9}, None if is_same else difference)
    monkeypatch.setattr(replay, "replay", lambda folder: found)
    result = invoke("replay", tmp_path, "--json")
    assert result.exit_code == (0 if is_same else 1)
    assert json.loads(result.stdout)["is_same"] is is_same
    words = invoke("replay", tmp_path).stderr
    if is_same:
        assert "every decision is the same" in words
    else:
        assert "FIRST DIFFERENCE: session 1, planner, step 7" in words
        assert "then:  RegionsPlanned(1)" in words
        assert "now:   (nothing)" in words


def test_replay_needs_a_recording(tmp_path: Path) -> None:
    result = invoke("replay", tmp_path)
    assert result.exit_code != 0
    assert "no record of its decisions" in result.stderr


def test_a_recording_without_a_decision_is_not_taken_for_the_same(tmp_path: Path) -> None:
    whole_run(tmp_path / "run", outcome="stopped")
    FlightRecorder(RunFolder(tmp_path / "run").flight, list).close()
    result = invoke("replay", tmp_path / "run")
    assert result.exit_code != 0
    assert "holds none" in result.stderr
