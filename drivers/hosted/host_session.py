"""A host over its deaths: it is started again, and goes on only where the instrument is as it was left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sparse_actors.contracts.microscope import MicroscopeState, ScanLimits
from sparse_actors.errors import MicroscopeError

from .answers import as_limits, as_state, differences
from .host_link import HostLink


class HostSession:
    """What is between `connect` and `disconnect` of a driver in a host.

    Parameters
    ----------
    open_link
        Starts a host, or connects to one.
    start_timeout_s, reply_timeout_s, stage_timeout_s
        How long the driver may take to connect, to answer, and to prepare.
    stage_tolerance_mm
        How far from its last position the stage may be found when a host is taken up.

    Raises
    ------
    MicroscopeError
        No host, or its driver does not connect.
    """

    def __init__(
        self,
        open_link: Callable[[], HostLink],
        *,
        start_timeout_s: float,
        reply_timeout_s: float,
        stage_timeout_s: float,
        stage_tolerance_mm: float,
    ) -> None:
        self._open_link = open_link
        self._start_timeout_s = start_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._stage_timeout_s = stage_timeout_s
        self._stage_tolerance_mm = stage_tolerance_mm
        self.name = ""
        self.methods: frozenset[str] = frozenset()
        self.limits = ScanLimits()
        self._is_prepared = False
        self._link: HostLink | None = self._opened()
        self._expected = asdict(self._state(self._link))
        """The state as last read back, less what was ordered to change since."""

    def close(self) -> None:
        """Let the driver disconnect, and end a host that was started here; never raises."""
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(MicroscopeError):  # it is ended in any case
                link.call("disconnect", (), self._reply_timeout_s)
            link.close()

    def abort(self) -> None:
        """End the call in flight; from any thread."""
        link = self._link
        if link is not None:
            link.abort()

    def state(self) -> MicroscopeState:
        """Read stage and optics back."""
        state = as_state(self.call("get_state"))
        self._expected = asdict(state)
        return state

    def call(self, method: str, *arguments: Any, within_s: float = 0.0) -> Any:
        """Call a method of the driver in the host; one that was lost is started again before."""
        link = self._link or self._taken_up()
        try:
            return link.call(method, arguments, within_s or self._reply_timeout_s)
        finally:
            if not link.is_open:
                self._link = None

    def change(self, method: str, *arguments: Any, keys: Sequence[str], within_s: float = 0.0) -> None:
        """Call what changes some keys of the state, and read back what became of it."""
        for key in keys:
            self._expected.pop(key, None)
        self.call(method, *arguments, within_s=within_s)
        self.state()

    def prepare(self) -> None:
        """Make ready to scan; a host that is taken up later is made ready too."""
        self.change("prepare", keys=(), within_s=self._stage_timeout_s)
        self._is_prepared = True

    def reset(self, state: MicroscopeState) -> None:
        """Bring everything back, whatever it is now."""
        self._is_prepared = False
        self._expected = {}
        self.change("reset_microscope", asdict(state), keys=(), within_s=self._stage_timeout_s)

    def _opened(self) -> HostLink:
        """Return the connection to a host whose driver is connected."""
        link = self._open_link()
        try:
            link.call("connect", (), self._start_timeout_s)
            about = link.call("describe", (), self._reply_timeout_s)
            if not isinstance(about, dict):
                raise MicroscopeError(f"the host describes itself as {about!r}")
            self.limits = as_limits(about.get("limits"))
            self.methods = frozenset(map(str, about.get("methods", ())))
            self.name = str(about.get("name", ""))
        except BaseException:
            link.close()
            raise
        return link

    def _taken_up(self) -> HostLink:
        """Return the connection to a new host in the place of the one that was lost.

        An instrument keeps stage and optics when the program that drives it dies. Where it did not, all
        orders are refused until it is connected and set anew, or reset.
        """
        link = self._opened()
        try:
            differing = differences(self._expected, asdict(self._state(link)), self._stage_tolerance_mm)
            if differing:
                raise MicroscopeError(
                    f"its host was started again, and the microscope is not as it was: {differing}"
                )
            if self._is_prepared:
                link.call("prepare", (), self._stage_timeout_s)
        except BaseException:
            link.close()
            raise
        self._link = link
        return link

    def _state(self, link: HostLink) -> MicroscopeState:
        return as_state(link.call("get_state", (), self._reply_timeout_s))
