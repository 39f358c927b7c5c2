"""A whole survey whose detectors are on another host, over a link that is slow, lossy, cut and half open."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kills import CONFIG, KilledSurvey
from two_hosts import TwoHosts, two_hosts, why_not

from sparse_actors.messages import PoisFound, WorkerJoined
from sparse_actors.network.keys import DAEMON, Keys, read_public
from sparse_actors.recording.journal import read_journal
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.verify import verify

pytestmark = [
    pytest.mark.failure_matrix,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]
WAIT_S = 60.0
PORT = 7741


class FarSurvey(KilledSurvey):
    """A survey on one host that only workers with the tag "far" detect for."""

    text = CONFIG + f'[detect]\nneeds = ["far"]\n[workers]\nlocal = 1\nlisten = "tcp://0.0.0.0:{PORT}"\n'

    def __init__(self, folder: Path, hosts: TwoHosts) -> None:
        super().__init__(folder, time_scale=4.0)
        self._hosts = hosts

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sparse_actors", "run", str(self.config), "--out", str(self.run)]
        with self.output.open("ab") as output:
            return subprocess.Popen(self._hosts.on("scope", command), stdout=output, stderr=output)

    def facts(self, kind: type) -> list[object]:
        journal = RunFolder(self.run).journal
        return [fact for fact in read_journal(journal) if isinstance(fact, kind)] if journal.exists() else []


def wait_until(is_true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < give_up_s
        threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    survey = KilledSurvey(tmp_path_factory.mktemp("undisturbed"), time_scale=0)
    survey.finish()
    return survey.panorama()


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts(delay_s=0.02, loss=0.01, bits_per_s=1e9, seed=7) as hosts:
        yield hosts


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setenv("SPARSE_ACTORS_KEYS", str(tmp_path / "keys"))
    keys = Keys(tmp_path / "keys")
    keys.new(DAEMON)
    return keys


@contextlib.contextmanager
def bench(hosts: TwoHosts, keyfile: Path, printed: Path, *options: str) -> Iterator[None]:
    """Workers on the other host."""
    endpoint = f"tcp://{hosts.scope_address}:{PORT}"
    command = [sys.executable, "-m", "sparse_actors", "worker", endpoint, f"--keyfile={keyfile}", *options]
    with printed.open("wb") as output:
        process = subprocess.Popen(hosts.on("bench", command), stdout=output, stderr=output)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param((), id="whole"),
        pytest.param(("scope", "bench"), marks=pytest.mark.long, id="cut for 10 s"),
        pytest.param(("scope",), marks=pytest.mark.long, id="half open for 10 s"),
    ],
)
def test_a_survey_with_four_workers_on_another_host_loses_and_doubles_nothing(
    tmp_path: Path, hosts: TwoHosts, keys: Keys, wanted: dict[str, np.ndarray], cut: tuple[str, ...]
) -> None:
    survey = FarSurvey(tmp_path / "survey", hosts)
    known = keys.new("bench", keys.daemon().public)
    keys.allow(*read_public(known.with_suffix(".key")), "workers")
    stranger = keys.new("stranger", keys.daemon().public)
    printed = tmp_path / "stranger.txt"
    with (
        bench(hosts, stranger, printed, "--tag=far"),
        bench(hosts, known, tmp_path / "bench.txt", "--slots=4", "--tag=far"),
    ):
        process = survey.start()
        if cut:
            wait_until(lambda: bool(survey.facts(PoisFound)))
            hosts.cut(*cut)
            threading.Event().wait(10.0)
            hosts.heal()
        code = process.wait(300)
    assert code == 0, survey.output.read_text(errors="replace")[-3000:]
    assert hosts.lost > 0
    joined = {fact.worker for fact in survey.facts(WorkerJoined)}  # type: ignore[attr-defined]
    four = {f"bench/{slot}" for slot in range(1, 5)}
    # One that is late to load may find nothing left to do.
    assert len(four & joined) >= (2 if cut else 1)
    assert not [name for name in joined if name.startswith("stranger")]
    assert "does not let this key in" in printed.read_text()
    assert all(fact.worker.startswith("bench/") for fact in survey.facts(PoisFound))  # type: ignore[attr-defined]
    images = survey.panorama()
    assert images.keys() == wanted.keys(), "no image lost, none doubled"
    for name, image in images.items():
        np.testing.assert_array_equal(image, wanted[name], err_msg=name)
    assert len(survey.exposures()) == len(images), "nothing was exposed twice"
    assert not verify(survey.run).problems
