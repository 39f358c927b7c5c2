"""Keys: who can read them, who is let in, and what the commands say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.errors import ConfigError
from sparse_actors.network.gate import Gate, present
from sparse_actors.network.keys import DAEMON, Keys, parse_key, read_public, read_secret

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="access rights are not checked there")
WAIT_MS = 10_000
EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    keys.new(DAEMON)
    return keys


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def a_key(keys: Keys, name: str) -> Path:
    return keys.new(name, keys.daemon().public)


@posix_only
def test_a_secret_is_its_owners_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = Keys(tmp_path / "keys").new(DAEMON)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_secret(path).secret.hex() not in repr(read_secret(path))
    assert read_secret(path).secret.hex() not in path.with_suffix(".key").read_text()


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_can_read_is_refused(keys: Keys, mode: int) -> None:
    (keys.folder / "daemon.secret").chmod(mode)
    with pytest.raises(ConfigError, match="others"):
        keys.daemon()


def test_a_key_is_never_replaced(keys: Keys) -> None:
    with pytest.raises(ConfigError, match="already"):
        keys.new(DAEMON)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 41, 'a"b', "a\nb"])
def test_a_name_is_a_plain_word(keys: Keys, name: str) -> None:
    for use in (keys.new, keys.revoke):
        with pytest.raises(ConfigError, match="name"):
            use(name)


@pytest.mark.parametrize(
    "text", ["", "x", "\0", "public = 3", 'name = "a"\npublic = "00"', "[" * 3000, "name = 'a/b'"]
)
def test_a_file_that_is_no_key_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.key"):
        read_public(path)


def test_a_secret_is_not_taken_where_a_public_key_is_wanted(keys: Keys) -> None:
    with pytest.raises(ConfigError, match="stay where it was made"):
        read_public(keys.folder / "daemon.secret")
    with pytest.raises(ConfigError, match="64"):
        parse_key("00")


def test_a_list_holds_what_can_be_read(keys: Keys) -> None:
    public = read_secret(a_key(keys, "bench")).public
    keys.allow("bench", public, "workers")
    (keys.folder / "allowed" / "workers" / "broken.key").write_text("no key")
    assert keys.allowed("workers") == {public: "bench"}
    assert keys.allowed("control") == {}
    with pytest.raises(ConfigError, match="already, as 'bench'"):
        keys.allow("other", public, "workers")
    assert keys.revoke("bench") == ["workers"]
    assert keys.allowed("workers") == {}


@posix_only
def test_a_list_that_others_can_write_holds_nobody(keys: Keys) -> None:
    keys.allow("bench", read_secret(a_key(keys, "bench")).public, "workers")
    (keys.folder / "allowed" / "workers").chmod(0o777)
    assert keys.allowed("workers") == {}


# -- the gate ----------------------------------------------------------------------------------------


class Guarded:
    """A guarded socket that a client may or may not reach."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._context = context
        self.gate = Gate(context, keys)
        self.socket = context.socket(zmq.ROUTER)
        self.gate.guard(self.socket, "workers")
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def close(self) -> None:
        self.gate.close()
        self.socket.close(linger=0)

    def lets_in(self, key: Path | None, mechanism: str = "curve", server: bytes = b"") -> bool:
        """Whether a message of a client with this key arrives; a refusal is an event, no time-out."""
        client = self._context.socket(zmq.DEALER)
        monitor = client.get_monitor_socket(EVENTS)
        if key is not None:
            present(client, read_secret(key))
        if server:
            client.curve_serverkey = server
        if mechanism == "plain":
            client.plain_username, client.plain_password = b"admin", b"admin"
        client.connect(f"tcp://127.0.0.1:{self.port}")
        client.send(b"hello")
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        ready = dict(poller.poll(WAIT_MS))
        assert ready
        while monitor in ready and self.socket not in ready:
            event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
            if event != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                break
            ready = dict(poller.poll(WAIT_MS))
        if self.socket in ready:
            self.socket.recv()
            frame = self.socket.recv(copy=False)
            assert frame.get("User-Id") == read_secret(key or Path()).public.hex()
        client.disable_monitor()
        monitor.close(linger=0)
        client.close(linger=0)
        return self.socket in ready


@pytest.mark.failure_matrix
def test_only_who_is_listed_gets_in_and_at_once(keys: Keys, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    guarded = Guarded(context, keys)
    bench, stranger = a_key(keys, "bench"), a_key(keys, "stranger")
    assert not guarded.lets_in(bench)
    keys.allow("bench", read_secret(bench).public, "workers")
    keys.allow("stranger", read_secret(stranger).public, "taps")
    assert guarded.lets_in(bench)
    assert not guarded.lets_in(stranger), "a tap is no worker"
    assert not guarded.lets_in(None), "no key"
    assert not guarded.lets_in(None, "plain")
    assert not guarded.lets_in(bench, server=read_secret(stranger).public), "another daemon"
    keys.revoke("bench")
    assert not guarded.lets_in(bench)
    guarded.close()


@pytest.mark.failure_matrix
def test_without_the_gate_nobody_gets_in(keys: Keys, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    bench = a_key(keys, "bench")
    keys.allow("bench", read_secret(bench).public, "workers")
    guarded = Guarded(context, keys)
    guarded.gate.close()
    assert not guarded.lets_in(bench)
    guarded.close()


# -- the commands --------------------------------------------------------------------------------------


def test_the_commands_take_a_worker_from_nothing_to_allowed_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invoke(*words: str, code: int = 0) -> dict[str, object]:
        result = CliRunner().invoke(app, ["keys", *words, "--json"])
        assert result.exit_code == code, result.output
        return dict(json.loads(result.stdout))

    monkeypatch.setenv("SPARSE_ACTORS_KEYS", str(tmp_path / "microscope"))
    daemon = str(invoke("new", "daemon")["public"])
    assert "--daemon" in str(invoke("new", "bench", code=3))
    monkeypatch.setenv("SPARSE_ACTORS_KEYS", str(tmp_path / "bench"))
    bench = invoke("new", "bench", "--daemon", daemon)
    assert read_secret(Path(str(bench["secret_file"]))).daemon.hex() == daemon
    monkeypatch.setenv("SPARSE_ACTORS_KEYS", str(tmp_path / "microscope"))
    assert "name" in str(invoke("allow", str(bench["public"]), code=3))
    assert "expected one of" in str(invoke("allow", str(bench["file"]), "--for", "beam", code=3))
    invoke("allow", str(bench["file"]))
    listed = invoke("list")
    assert listed["own"] == {"daemon": daemon}
    assert listed["allowed"] == {"workers": {"bench": bench["public"]}, "control": {}, "taps": {}}
    assert invoke("revoke", "bench")["services"] == ["workers"]
    assert "not allowed anything" in str(invoke("revoke", "bench", code=3))
