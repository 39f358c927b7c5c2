"""Keeps the standard output for data, whatever drivers and detectors print."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

STDOUT, STDERR = 1, 2


@contextlib.contextmanager
def stdout_for_data() -> Iterator[TextIO]:
    """Give the standard output to the caller alone; what anybody else prints goes to the standard error.

    So it does in the libraries of a vendor and in processes they start, and to the end of this process:
    a thread that hangs may print later, and C keeps what it prints until the end.
    """
    stdout = sys.stdout
    with contextlib.ExitStack() as stack:
        data = stdout
        if (
            isinstance(stdout, io.TextIOWrapper) and stdout is sys.__stdout__
        ):  # and not a stand-in, which has no descriptor to be taken
            with contextlib.suppress(OSError):
                data = stack.enter_context(_own_stdout(stdout))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield data


def _own_stdout(stdout: io.TextIOWrapper) -> TextIO:
    stdout.flush()
    own = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    return open(own, "w", encoding=stdout.encoding, errors=stdout.errors)
