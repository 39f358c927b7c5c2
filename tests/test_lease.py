"""One run at a time on an instrument: the next is told who has it, and death ends a lease."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import kills
import pytest
from daemons import environment

from sparse_actors.app import run_survey
from sparse_actors.config import MicroscopeTable, parse_config
from sparse_actors.errors import InstrumentInUseError
from sparse_actors.lease import lease_file, leased

LEASED = MicroscopeTable(driver="gated_microscope:LeasedMicroscope")


def variables(folder: Path) -> dict[str, str]:
    return {"SPARSE_ACTORS_LEASES": str(folder / "leases")}


def test_the_second_is_refused_with_who_has_it_and_may_follow(tmp_path: Path) -> None:
    with leased(LEASED, "the first run", variables(tmp_path)):
        with pytest.raises(InstrumentInUseError, match=rf"the first run \(user .+, process {os.getpid()}\)"):
            with leased(LEASED, "the second", variables(tmp_path)):
                pytest.fail("both have it")
    with leased(LEASED, "the second", variables(tmp_path)):
        pass


def test_simulated_instruments_and_other_addresses_do_not_exclude_each_other(tmp_path: Path) -> None:
    simulated = MicroscopeTable(driver="simulated")
    assert lease_file(tmp_path, simulated) is None
    with leased(simulated, "a", variables(tmp_path)), leased(simulated, "b", variables(tmp_path)):
        pass
    one, other, same = (
        MicroscopeTable(driver="gated_microscope:AddressedMicroscope", options=options)
        for options in ({"address": "a"}, {"address": "b"}, {"address": "a", "seed": 2})
    )
    assert lease_file(tmp_path, one) == lease_file(tmp_path, same) != lease_file(tmp_path, other)


HOLDER = """
import os, sys
from sparse_actors.config import MicroscopeTable
from sparse_actors.lease import leased
with leased(MicroscopeTable(driver="gated_microscope:LeasedMicroscope"), "a process", os.environ):
    print("has it", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_does_not_keep_its_lease(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env=environment() | variables(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline().strip() == b"has it"
        with pytest.raises(InstrumentInUseError, match=f"a process .* process {holder.pid}"):
            with leased(LEASED, "mine", variables(tmp_path)):
                pass
        holder.kill()
    with leased(LEASED, "mine", variables(tmp_path)):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_every_user_of_the_computer_can_take_a_lease_and_links_are_not_followed(tmp_path: Path) -> None:
    with leased(LEASED, "a", variables(tmp_path)):
        pass
    file = lease_file(tmp_path / "leases", LEASED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o1777
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file.unlink()
    file.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        with leased(LEASED, "a", variables(tmp_path)):
            pass
    assert victim.read_text() == "precious"


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    text = kills.CONFIG.format(time_scale=0, log=str(tmp_path / "log"), state=str(tmp_path / "state"))
    gate = [
        'microscope.driver="gated_microscope:LeasedMicroscope"',
        f'microscope.options.gate="{tmp_path / "gate"}"',
    ]
    with leased(LEASED, "somebody", os.environ), pytest.raises(InstrumentInUseError, match="somebody"):
        run_survey(parse_config(text, gate), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
