"""Where work over recorded images is done: in processes of this computer, or on a Dask cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from sparse_actors.dask_client import CONNECT_S, SCHEME, find_scheduler
from sparse_actors.errors import ConfigError


class _Here(Executor):
    """Works when a result is asked for, in the thread that asks."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        """Return a future that computes its result when it is first asked."""
        return _Lazy(function, arguments, named)


class _Lazy(Future[Any]):
    def __init__(self, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        super().__init__()
        self._work = function, arguments, named

    def result(self, timeout: float | None = None) -> Any:
        function, arguments, named = self._work
        if not self.done():
            self.set_result(function(*arguments, **named))
        return super().result(timeout)


def computed(
    engine_name: str, jobs: int, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> Generator[Any, None, None]:
    """Yield what a function makes of each of the arguments, in their order, computed side by side.

    The function is one of a module; what has not begun is dropped when the generator is closed.

    Parameters
    ----------
    engine_name, jobs
        See `engine`.
    """
    with engine(engine_name, jobs) as executor:
        futures = [executor.submit(function, *given) for given in arguments]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@contextlib.contextmanager
def engine(name: str, jobs: int) -> Iterator[Executor]:
    """Yield an executor; work that has not begun is dropped at the end.

    Parameters
    ----------
    name
        "local", or the address of a Dask scheduler: "dask://host:port". Its workers need sparse-actors in
        the same version, and the folders under the paths that they are told.
    jobs
        Local processes; 1 works in this one, 0 takes one for every core.

    Raises
    ------
    ConfigError
        There is no such engine, or it cannot be reached.
    """
    if name == "local":
        count = jobs or os.cpu_count() or 1
        if count == 1:
            yield _Here()
            return
        executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _alone)
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)
    elif name.startswith(SCHEME):
        yield from _dask(name)
    else:
        raise ConfigError(f"--engine {name}: expected local or dask://HOST:PORT")


def _alone() -> None:
    """Leave Ctrl-C to the process that waits for the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _dask(url: str) -> Iterator[Executor]:
    client_class, address = find_scheduler(url, f"--engine {url}")
    try:
        client = client_class(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise ConfigError(f"--engine {url}: there is no scheduler: {error}") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise ConfigError(f"--engine {url}: the scheduler has no workers yet; start some")
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
