"""Another library under the same name must not be mixed in: neither by a resumed run nor by a new worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_actors.models.spectrum_library import SpectrumLibrary
from story_map import MODEL
from test_app_signals import send
from test_processes_map import CONFIG

from sparse_actors import app
from sparse_actors.config import parse_config
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ConfigError
from sparse_actors.map_files import changed, option_files
from sparse_actors.messages import SpectraRecorded
from sparse_actors.network.pool import WorkerPool
from sparse_actors.recording.run_record import RunRecord


def save_library(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    SpectrumLibrary(
        counts=rng.poisson(np.repeat([[30, 3], [3, 30]], 512, axis=1).repeat(4, axis=0)).astype(np.uint32),
        labels=np.repeat(np.array([1, 2], np.int32), 4),
        phases=("a", "b"),
        axis=EnergyAxis(channels=1024, offset_kev=0.0, scale_kev=0.02),
        live_time_s=np.ones(8),
        beam_kev=15.0,
    ).save(path)


@pytest.fixture
def text(tmp_path: Path) -> str:
    save_library(tmp_path / "library.npz", 1)
    (tmp_path / "sampler.json").write_text(MODEL.to_json(), encoding="utf-8")
    config = CONFIG.format(library=str(tmp_path / "library.npz"), sampler=str(tmp_path / "sampler.json"))
    return config.format(time_scale=0, log=str(tmp_path / "log.jsonl"), state=str(tmp_path / "state.json"))


def run(folder: Path, text: str, **options: Any) -> app.RunResult:
    return app.run_survey(parse_config(text, ["workers.local=1"]), out=folder / "run", **options)


def begun(folder: Path, text: str) -> None:
    """A run that is stopped after the first spectra."""

    def observe(message: Any, number: int) -> None:
        if isinstance(message, SpectraRecorded) and message.batch == 0:
            send("SIGTERM")

    assert run(folder, text, observe=observe).outcome == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals to itself")
def test_a_run_is_not_resumed_with_another_library(tmp_path: Path, text: str) -> None:
    begun(tmp_path, text)
    assert set(RunRecord.open(tmp_path / "run").sessions[0].files) == {"eds.options.library", "eds.sampler"}
    kept = (tmp_path / "library.npz").read_bytes()
    save_library(tmp_path / "library.npz", 2)
    with pytest.raises(ConfigError, match=r"eds\.options\.library: its content is not"):
        run(tmp_path, text, resume=True)
    (tmp_path / "library.npz").write_bytes(kept)
    assert run(tmp_path, text, resume=True).outcome == "completed"
    save_library(tmp_path / "library.npz", 2)
    assert run(tmp_path, text, resume=True).reason == "it was finished before and is left as it is"


def test_a_worker_does_not_load_a_library_that_was_replaced_while_the_run_began(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WorkerPool.start

    def replaced(pool: Any) -> None:
        save_library(tmp_path / "library.npz", 2)
        start(pool)

    monkeypatch.setattr(WorkerPool, "start", replaced)
    result = run(tmp_path, text)
    assert (result.outcome, result.cause) == ("failed", "worker")
    assert "eds.options.library: its content is not what the run was begun with" in result.reason


def test_what_counts_is_every_file_of_a_folder_and_nothing_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.onnx").write_bytes(b"1")
    options = {"model": str(folder), "threads": 1, "name": "no such file", "empty": ""}
    before = option_files(options, "eds.options.")
    assert set(before) == {"eds.options.model"}
    (folder / ".listing").write_bytes(b"x")
    assert not changed(before, option_files(options, "eds.options."))
    (folder / "card.json").write_bytes(b"2")
    assert changed(before, option_files(options, "eds.options."))
    assert "is not there" in changed(before, {})[0]
