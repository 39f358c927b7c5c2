"""Serving the page in a process of its own, at a priority below that of the run."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from sparse_actors.errors import ConfigError

from .access import TOKEN_VARIABLE, Access, parse_listen
from .follower import Follower
from .server import Page, server
from .view import RunView

NICENESS = 10


def serve_page(
    listen: str, find: Callable[[], Path | None], say: Callable[[str], None], *, is_child: bool = False
) -> None:
    """Serve until a signal comes.

    Parameters
    ----------
    listen
        `HOST:PORT`; port 0 takes a free one.
    find
        Returns the folder of the run to show.
    say
        Called with the address, once the page can be opened.
    is_child
        End as well when standard input is closed: whoever started this process has ended.

    Raises
    ------
    ConfigError
        The address is none, or taken.
    """
    host, port = parse_listen(listen)
    access = Access(host, os.environ.get(TOKEN_VARIABLE, ""))
    view = RunView()
    _give_way()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(host, port))
        follower = stack.enter_context(Follower(view, find))
        served = server(Page(view, follower, access), host, port)
        if is_child:

            def end_with_parent() -> None:
                # Not sys.stdin, whose lock would hold up the end of this process.
                while os.read(0, 1):
                    pass
                served.should_exit = True

            threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
        say(_url(host, listening.getsockname()[1]))
        served.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"page.listen = '{host}:{port}': {error.strerror}; is another page served there?"
        ) from None


def _url(host: str, port: int) -> str:
    shown = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def _give_way() -> None:
    """Lower the priority of this process: a run on the same computer comes first."""
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            psutil.Process().nice(NICENESS)
