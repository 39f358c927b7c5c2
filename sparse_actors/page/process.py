"""The page of a run, in a process of its own that ends with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sparse_actors.own_group import own_group

END_S = 5.0


@contextlib.contextmanager
def page_process(listen: str, what: tuple[str, ...], log: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Serve a page as long as the block lasts; that it cannot be served is said and harms nobody.

    Parameters
    ----------
    listen
        `HOST:PORT`; empty: no page.
    what
        What it shows, as arguments of the command `page`.
    log
        File for what the process complains of.
    say
        Called from another thread with the address of the page, once it can be opened.
    """
    if not listen:
        yield
        return
    command = [sys.executable, "-P", "-m", "sparse_actors", "page", *what, "--listen", listen, "--as-child"]
    try:
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, **own_group()
            )
    except OSError as error:
        say(f"the page is not served: {error}")
        yield
        return
    reading = threading.Thread(target=_pass_on, args=(process, log, say), name="page", daemon=True)
    reading.start()
    try:
        yield
    finally:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101
        with contextlib.suppress(OSError):
            process.stdin.close()  # which tells it to end
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reading.join()
        process.stdout.close()


def _pass_on(process: subprocess.Popen[bytes], log: Path, say: Callable[[str], None]) -> None:
    """Say where the page is, or why there is none."""
    assert process.stdout is not None  # noqa: S101
    for line in process.stdout:
        say(f"page: {line.decode(errors='replace').strip()}")
    if process.wait() == 0:
        return
    with contextlib.suppress(OSError, IndexError):
        last = log.read_text("utf-8", "replace").strip().splitlines()[-1]
        say(f"the page is not served: {last}")
