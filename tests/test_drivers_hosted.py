"""The microscope contract on a driver in another process."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sparse_actors.drivers.hosted import HostedMicroscope
from sparse_actors.drivers.hosted.host_process import VENDOR_SIDE

from sparse_actors import plugins
from sparse_actors.config import MicroscopeTable
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import ConfigError
from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.lease import lease_file
from sparse_actors.own_group import own_group
from sparse_actors.testing.microscope_contract import MicroscopeContract

ROOT = Path(__file__).parents[1]
SIMULATED = "sparse_actors.drivers.simulated:SimulatedMicroscope"


def command(driver: str = SIMULATED, **options: Any) -> list[str]:
    module = "sparse_actors.drivers.hosted.contract_driver"
    return [sys.executable, "-m", module, driver, "--options", json.dumps(options)]


VERMIN = [sys.executable, "-c", "from vermin import main; main()", "-t=3.8-", "--violations"]


@contextlib.contextmanager
def served(command: list[str]) -> Iterator[str]:
    """Start a host that waits; yield its address."""
    words = [*command, "--bind", "tcp://127.0.0.1:*"]
    environment = os.environ | {"PYTHONPATH": str(VENDOR_SIDE)}
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, text=True, **own_group()
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-4].removesuffix(";")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a host that somebody else started serves a simulated microscope."""
    state_file = tmp_path_factory.mktemp("host") / "state.json"
    options = {"time_scale": 100.0, "stage_settle_s": 0.0, "state_file": str(state_file)}
    with served(command(**options)) as address:
        yield address


class TestSimulatedInAnotherProcess(MicroscopeContract):
    long_dwell_ns = 1e8

    @pytest.fixture
    def microscope(self, address: str) -> Iterator[Microscope]:
        microscope = HostedMicroscope(address=address)
        yield microscope
        microscope.disconnect()


# -- the example of the docs ----------------------------------------------------------------------


def example() -> str:
    text = (ROOT / "docs" / "hosted.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "serve(" in block)


@pytest.fixture(scope="module")
def example_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("example") / "my_microscope.py"
    file.write_text(example(), encoding="utf-8")
    with served([os.environ.get("SPARSE_ACTORS_HOST_PYTHON", sys.executable), str(file)]) as address:
        yield address


@pytest.mark.long
class TestExampleOfTheDocs(MicroscopeContract):
    @pytest.fixture
    def microscope(self, example_address: str) -> Iterator[Microscope]:
        microscope = HostedMicroscope(address=example_address)
        yield microscope
        microscope.disconnect()


def test_the_vendors_side_needs_python_3_8_and_two_packages_only(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    files = [
        VENDOR_SIDE / "microscope_host.py",
        ROOT / "tests" / "vendor_microscope.py",
        tmp_path / "example.py",
    ]
    vermin = [*VERMIN, *map(str, files)]
    result = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    imported = {
        name.partition(".")[0]
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"zmq", "msgpack", "microscope_host"}


def test_vermin_sees_what_is_too_new(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text(
        "def f(a, b):\n    match a:\n        case 1: return b.removeprefix('x')\n"
    )
    vermin = [*VERMIN, str(tmp_path / "new.py")]
    result = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert "3.10" in result.stdout
    assert result.returncode != 0


# -- as a run names it ----------------------------------------------------------------------------


def test_an_address_is_the_name_of_a_driver(example_address: str, tmp_path: Path) -> None:
    microscope = plugins.build("microscope", example_address, {"reply_timeout_s": 5.0})
    microscope.connect()
    assert microscope.name == "My microscope"
    assert microscope.capabilities.view_field
    assert not microscope.capabilities.spectra
    box, window_px = PixelBox(2, 3, 5, 4), (32, 32)
    frame = microscope.scan_area(full_frame(window_px), 100.0, window_px)
    np.testing.assert_array_equal(microscope.scan_area(box, 100.0, window_px), frame[box.slices])
    microscope.disconnect()
    tables = [
        MicroscopeTable(driver=example_address),
        MicroscopeTable(driver="hosted", options={"address": example_address}),
        MicroscopeTable(driver="ipc:///tmp/other"),
        MicroscopeTable(driver="hosted", options={"command": ["a", "b"]}),
    ]
    leases = [lease_file(tmp_path, table) for table in tables]
    assert leases[0] == leases[1]
    assert len(set(leases)) == 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "give either command"),
        ({"command": ["x"], "address": "ipc://x"}, "give either command"),
        ({"address": "tcp://192.168.1.20:7750"}, "on this computer"),
        ({"command": ["x"], "reply_timeout_s": 0.0}, "above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        plugins.build("microscope", "hosted", options)
    assert plugins.check("microscope", "ipc://x", {"reply_timout_s": 1.0})[0].startswith(
        "microscope.options.reply_timout_s"
    )
