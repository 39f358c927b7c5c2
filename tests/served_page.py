"""A page served in a thread, of a run on disk that nobody makes."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from sparse_actors.page.access import Access
from sparse_actors.page.follower import Follower
from sparse_actors.page.server import Page, server
from sparse_actors.page.view import RunView

PATIENCE_S = 20.0


@dataclass
class Served:
    """A page that can be asked."""

    port: int
    view: RunView

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and content."""
        return self.ask("GET", path, None, headers)

    def order(self, order: Any, **headers: str) -> tuple[int, Any]:
        """Give an order as the page does, with other headers in place of its own."""
        own = {"Origin": self.origin, "Content-Type": "application/json"}
        body = order if isinstance(order, bytes) else json.dumps(order).encode()
        code, _, content = self.ask("POST", "/order", body, own | headers)
        return code, json.loads(content) if content.startswith(b"{") else content

    def ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.origin + path, data=body, headers=named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, dict(answer.headers.items()), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers.items()), error.read()

    @contextmanager
    def browser(self, **headers: str) -> Iterator[Browser]:
        own = {"Origin": self.origin} | headers
        url = f"ws://127.0.0.1:{self.port}/changes"
        with connect(url, additional_headers=own, max_size=2**24, proxy=None) as connection:
            yield Browser(connection)


@dataclass
class Browser:
    """What a browser does with what it gets, without drawing it."""

    connection: ClientConnection

    def receive(self) -> dict[str, Any]:
        """Return the next message with its blocks, and let the one after it come."""
        content = self.connection.recv(PATIENCE_S)
        assert isinstance(content, bytes)
        (size,) = struct.unpack(">I", content[:4])
        header: dict[str, Any] = json.loads(content[4 : 4 + size])
        rest = content[4 + size :]
        blocks = []
        for *described, length in header["blocks"]:
            blocks.append([*described, rest[:length]])
            rest = rest[length:]
        assert not rest
        self.connection.send("drawn")
        return header | {"blocks": blocks}

    def until(self, is_so: Any) -> list[dict[str, Any]]:
        """Return all messages up to one that is so."""
        messages = []
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            messages.append(self.receive())
            if is_so(messages[-1]):
                return messages
        raise AssertionError(f"it did not come in {PATIENCE_S} s")


@contextmanager
def served(
    folder: Path | Callable[[], Path] | None, *, host: str = "127.0.0.1", token: str = ""
) -> Iterator[Served]:
    """Serve the page of a folder, or of what says which, on a free port here, by the rules for `host`."""
    view = RunView()
    find = folder if callable(folder) else lambda: folder
    with socket.create_server(("127.0.0.1", 0)) as listening, Follower(view, find) as follower:
        made = server(Page(view, follower, Access(host, token)), "127.0.0.1", 0)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(listening.getsockname()[1], view)
        finally:
            made.should_exit = True
            thread.join()
