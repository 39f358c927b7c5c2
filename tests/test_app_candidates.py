"""A survey with the trained detector, in worker processes, and what is recorded of its model."""

from __future__ import annotations

from pathlib import Path

import h5py
import kills
import pytest

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config
from sparse_actors.detection.scored_candidates import ScoredCandidates
from sparse_actors.errors import ConfigError
from sparse_actors.messages import Message, PoisFound
from sparse_actors.recording.run_record import RunRecord


def test_a_run_finds_candidates_and_records_the_model(tmp_path: Path) -> None:
    text = kills.CONFIG.format(
        time_scale=0, log=str(tmp_path / "log.jsonl"), state=str(tmp_path / "state.json")
    )
    changes = ['detect.detector="candidates"', "detect.options={min_score = 0.0}"]
    seen: list[Message] = []
    config = parse_config(text, changes)
    result = run_survey(config, out=tmp_path / "run", observe=lambda message, number: seen.append(message))
    assert (result.outcome, result.problems) == ("completed", ())
    assert sum(len(message.pois) for message in seen if isinstance(message, PoisFound)) > 0
    digest = ScoredCandidates.model_files()["built in"]
    record = RunRecord.open(tmp_path / "run")
    assert record.sessions[0].models == (f"candidates: built in, sha256 {digest}",)
    with h5py.File(tmp_path / "run" / "run.nxs") as file:
        (entry,) = (name for name in file if name.startswith("entry"))
        assert digest in file[entry]["note_models"]["description"].asstr()[()]


def test_a_scale_that_the_model_does_not_know_is_refused_before_the_microscope_is_touched(
    tmp_path: Path,
) -> None:
    text = kills.CONFIG.format(
        time_scale=0, log=str(tmp_path / "log.jsonl"), state=str(tmp_path / "state.json")
    )
    config = parse_config(text, ['detect.detector="candidates"', "detect.options={}"])
    width, height = config.analysis.size_px
    other = parse_config(
        text,
        [
            'detect.detector="candidates"',
            "detect.options={}",
            f"scan.fast.size_px=[{width // 2}, {height // 2}]",
        ],
    )
    with pytest.raises(ConfigError, match="trained with 4 analysis pixels"):
        run_survey(other, out=tmp_path / "run")
    assert not (tmp_path / "state.json").exists()
