"""Ctrl-C in a map whose instrument hangs: the same sentences and the same patience as in a survey."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import hanging_microscope
import numpy as np
import pytest
from sparse_actors.models.spectrum_library import SpectrumLibrary
from story_map import MODEL
from test_app_signals import HANGING, code, send
from test_processes_map import CONFIG

from sparse_actors import app, ending
from sparse_actors.actors.microscope_actor import Instrument
from sparse_actors.cli.exit_codes import ExitCode
from sparse_actors.config import parse_config
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import FieldId, MeasureSpots, MicroscopeFailed, ResetMicroscope

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals to itself")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[str]:
    files = {name: tmp_path / name for name in ("library.npz", "sampler.json", "log.jsonl", "state.json")}
    rng = np.random.default_rng(1)
    SpectrumLibrary(
        counts=rng.poisson(np.repeat([[30, 3], [3, 30]], 32, axis=1).repeat(4, axis=0)).astype(np.uint32),
        labels=np.repeat(np.array([1, 2], np.int32), 4),
        phases=("a", "b"),
        axis=EnergyAxis(channels=64, offset_kev=0.0, scale_kev=0.2),
        live_time_s=np.ones(8),
        beam_kev=15.0,
    ).save(files["library.npz"])
    files["sampler.json"].write_text(MODEL.to_json(), encoding="utf-8")
    text = CONFIG.format(library=str(files["library.npz"]), sampler=str(files["sampler.json"]))
    hanging_microscope.LET_GO.clear()
    yield text.format(time_scale=0, log=str(files["log.jsonl"]), state=str(files["state.json"]))
    hanging_microscope.LET_GO.set()


def mapped(folder: Path, config: str, hangs_in: str, said: list[str]) -> app.RunResult:
    """Run, and press Ctrl-C once the first spots are ordered, and again when told what is waited for."""

    def say(text: str) -> None:
        said.append(text)
        send("SIGINT")

    def observe(message: Any, number: int) -> None:
        if isinstance(message, MeasureSpots) and not said:
            send("SIGINT")

    changes = ("workers.local=1", HANGING, f'microscope.options.hangs_in="{hangs_in}"')
    return app.run_survey(parse_config(config, changes), out=folder / "run", observe=observe, say=say)


def test_a_second_signal_does_not_wait_for_spectra_that_never_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setattr(ending, "PATIENCE_S", 0.5)
    said: list[str] = []
    result = mapped(tmp_path, config, "acquire_spectra", said)
    waits_for = "the end of spectra r000c000m0000, batch 0"
    assert len(said) == 1
    assert waits_for in said[0]
    assert (result.outcome, code(result)) == ("stopped", ExitCode.INTERRUPTED)
    assert waits_for in result.reason
    assert any("THE MICROSCOPE WAS NOT RESET" in problem for problem in result.problems)


def test_a_second_signal_ends_all_spectra_that_were_ordered_and_the_microscope_is_reset(
    tmp_path: Path, config: str
) -> None:
    started_s = time.monotonic()
    result = mapped(tmp_path, config, "spectra", [])
    assert (result.outcome, code(result)) == ("stopped", ExitCode.INTERRUPTED)
    assert not any("RESET" in problem for problem in result.problems)
    state = json.loads((tmp_path / "state.json").read_text())["state"]
    assert (state["x_mm"], state["beam_on"]) == (0.0, False)
    assert time.monotonic() - started_s < 60


def test_each_batch_is_waited_for_until_it_is_there() -> None:
    said: list[str] = []
    watching = ending.Ending(Instrument(cast("Any", None)), lambda message: None, said.append)
    field = FieldId(TileIndex(0, 0), 0)
    for number in range(2):
        points_px, live_time_s = np.zeros((1, 2), np.int64), np.ones(1)
        order = MeasureSpots(
            field=field, batch=number, attempt=1, points_px=points_px, live_time_s=live_time_s, grid_px=(8, 8)
        )
        watching.watch(order, number)
    watching.watch(ResetMicroscope(attempt=1), 2)
    for number in range(2):
        watching.stop("SIGTERM", 1)
        failed = MicroscopeFailed(order="spots", reason="", attempt=1, field=field, batch=number)
        watching.watch(failed, 3 + number)
    watching.stop("SIGTERM", 1)
    waited_for = [text.split("waiting for ")[1].split(";")[0] for text in said]
    assert waited_for[0] == "the end of spectra r000c000m0000, batch 0"
    assert waited_for[1:] == ["the end of spectra r000c000m0000, batch 1", "the microscope to be reset"]
