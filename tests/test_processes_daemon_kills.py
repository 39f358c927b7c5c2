"""Daemon and runs killed again and again at random moments: nothing is lost or doubled, in order."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from daemons import DaemonProcess, Gated, until

from sparse_actors.network.control import read_address
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.recording.verify import verify


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is what POSIX has")
@pytest.mark.timeout(3600)
@pytest.mark.long
@pytest.mark.parametrize("kills", [3, 40])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    surveys = [Gated(tmp_path / name, free=1000) for name in ("first", "second")]
    turn = threading.Event()
    with DaemonProcess(tmp_path / "queue") as daemon:
        numbers = [daemon.submit(survey) for survey in surveys]
        for _ in range(kills):
            if daemon.runs()[-1].state == "done":
                surveys.append(Gated(tmp_path / f"more{len(surveys)}", free=1000))
                numbers.append(daemon.submit(surveys[-1]))
            turn.wait(rng.uniform(0, 8))
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            if rng.random() < 0.5:
                for address in filter(None, (read_address(survey.run) for survey in surveys)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(address.pid, signal.SIGKILL)
            daemon.start()
            assert [run.run for run in daemon.runs()] == numbers
        for number in numbers:
            daemon.wait_for(number, "done")
        ends = [run.ended_s for run in daemon.runs()]
        begins = [run.begun_s for run in daemon.runs()]
        assert all(begin >= end for begin, end in zip(begins[1:], ends, strict=False))
    images = []
    for survey in surveys:
        assert verify(survey.run).problems == []
        record = RunRecord.open(survey.run)
        images.append({str(scan_id): record.image(scan_id) for scan_id in record.recorded})
        # Each session of a run begins with at most one exposure that was made before.
        assert survey.exposures() - len(record.recorded) <= len(record.sessions) - 1
    for found in images[1:]:
        assert found.keys() == images[0].keys()
        for name, image in found.items():
            np.testing.assert_array_equal(image, images[0][name])
    until(lambda: not any(read_address(survey.run) for survey in surveys), "all have ended")
