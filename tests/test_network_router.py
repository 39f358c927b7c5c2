"""Where the pool listens, and what it refuses before it starts."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sparse_actors.errors import ConfigError
from sparse_actors.network.endpoints import check_listen
from sparse_actors.network.keys import DAEMON, Keys
from sparse_actors.network.router import Router
from sparse_actors.network.welcome import welcome_of


@pytest.mark.parametrize(
    "listen",
    [
        "tcp://*:5555",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1.example.org:5555",
        "tcp://127.1:5555",
        "tcp://eth0:5555",
        "ipc:///somewhere",
        "127.0.0.1:5555",
        "udp://127.0.0.1:5555",
        "tcp://127.0.0.1:5555;tcp://0.0.0.0:1",
    ],
)
def test_what_is_no_address_is_not_listened_on(listen: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.new(DAEMON)
    with pytest.raises(ConfigError, match=r"workers\.listen = .*loopback"):
        check_listen(listen, keys)


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:5555", "tcp://192.168.1.2:5555", "tcp://[::]:5555"])
def test_other_computers_are_heard_with_a_key_only(listen: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    for without in (None, keys):
        with pytest.raises(ConfigError, match="sparse-actors keys new daemon"):
            check_listen(listen, without)
    with pytest.raises(ConfigError, match="sparse-actors keys new daemon"):
        Router(listen)
    keys.new(DAEMON)
    check_listen(listen, keys)


@pytest.mark.parametrize(
    "listen", ["", "tcp://127.0.0.1:5555", "tcp://127.9.9.9:1", "tcp://[::1]:5555", "tcp://127.0.0.1:*"]
)
def test_loopback_addresses_are_accepted(listen: str) -> None:
    check_listen(listen, None)


def test_a_port_in_use_is_a_plain_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigError, match="in use"):
            Router(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there the endpoint is a port")
def test_a_long_temporary_path_does_not_hinder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    router = Router("")
    directory = Path(router.endpoints[0].removeprefix("ipc://")).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    router.close()
    assert not directory.exists()
    assert not list(long.iterdir())


def test_options_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(ConfigError, match="not finite"):
        welcome_of(detector="find", options={"threshold": float("nan")}, deadline_s=1.0)
