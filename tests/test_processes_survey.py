"""The whole program as processes, killed and taken up again."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from kills import KilledSurvey

from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is what POSIX has")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> KilledSurvey:
    survey = KilledSurvey(tmp_path_factory.mktemp("undisturbed"), time_scale=0)
    survey.finish()
    return survey


def same_panorama(survey: KilledSurvey, undisturbed: KilledSurvey) -> None:
    images, wanted = survey.panorama(), undisturbed.panorama()
    assert images.keys() == wanted.keys()
    for name, image in images.items():
        np.testing.assert_array_equal(image, wanted[name], err_msg=name)
    report = verify(survey.run)
    assert not report.problems


def test_scanned_pixels_in_the_journal_are_what_the_instrument_counted(undisturbed: KilledSurvey) -> None:
    record = RunRecord.open(undisturbed.run)
    journal = sum(record.scans[scan_id].pixels for scan_id in record.recorded)
    assert journal == sum(entry["pixels"] for entry in undisturbed.exposures())


@pytest.mark.failure_matrix
@posix_only
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [pytest.param(3), pytest.param(25, marks=pytest.mark.long)])
def test_killed_daemon_loses_and_doubles_nothing(
    tmp_path: Path, undisturbed: KilledSurvey, kills: int
) -> None:
    rng = random.Random(kills)
    done = round_number = 0
    while done < kills:
        round_number += 1
        survey = KilledSurvey(tmp_path / str(round_number))
        started_with = survey.state.read_text() if survey.state.exists() else None
        assert started_with is None
        killed = 0
        while killed < 5 and done < kills:
            code = survey.interrupt(rng.randrange(1, 20_000), lambda process: process.kill())
            if code != -signal.SIGKILL:
                assert code == 0
                break
            killed += 1
            done += 1
        survey.finish()
        same_panorama(survey, undisturbed)
        record = RunRecord.open(survey.run)
        exposed, recorded = len(survey.exposures()), len(record.recorded)
        # At most twice: the scan in flight, and the one before it that was still being written.
        assert recorded <= exposed <= recorded + 2 * killed
        assert '"beam_on": false' in survey.state.read_text().lower()
        assert survey_state_is_initial(survey)


@pytest.mark.failure_matrix
@posix_only
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [pytest.param(2), pytest.param(25, marks=pytest.mark.long)])
def test_killed_workers_are_replaced_and_nothing_is_missing(
    tmp_path: Path, undisturbed: KilledSurvey, kills: int
) -> None:
    rng = random.Random(kills)
    for number in range(kills):
        survey = KilledSurvey(tmp_path / str(number))
        code = survey.interrupt(rng.randrange(200, 8_000), lambda _, survey=survey: survey.kill_a_worker(rng))
        assert code == 0, survey.output.read_text(errors="replace")[-2000:]
        same_panorama(survey, undisturbed)


@posix_only
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGHUP", 75)])
def test_a_signal_ends_after_the_scan_in_flight_and_restores_the_microscope(
    tmp_path: Path, undisturbed: KilledSurvey, sent: str, code: int
) -> None:
    survey = KilledSurvey(tmp_path, time_scale=1.0)  # slow enough to be caught on a busy computer
    ended = survey.interrupt(4_000, lambda process: os.kill(process.pid, getattr(signal, sent)))
    assert ended == code, survey.output.read_text(errors="replace")[-2000:]
    assert survey_state_is_initial(survey)
    survey.finish()
    same_panorama(survey, undisturbed)


def survey_state_is_initial(survey: KilledSurvey) -> bool:
    import json

    state = json.loads(survey.state.read_text())["state"]
    return (state["x_mm"], state["y_mm"], state["working_distance_mm"]) == (0.0, 0.0, 10.0)
