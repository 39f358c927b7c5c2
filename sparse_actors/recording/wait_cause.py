"""Why the microscope waited between two exposures, from the facts as they pass."""

from __future__ import annotations

from sparse_actors.messages import Message, MicroscopeIdle, RunContinued, RunFinished, RunPaused


class WaitCause:
    """Folds facts into the cause of the gap before the next exposure.

    A gap in which the run was paused has the pause as its cause, whatever else was waited for in it.
    """

    def __init__(self) -> None:
        self.paused = ""
        """Why the run is paused; empty if it is not."""
        self._pause = ""  # of the gap, though it may be over
        self._idle = ""

    @property
    def is_pause(self) -> bool:
        """Whether somebody wanted the gap."""
        return bool(self.paused or self._pause)

    def learn(self, fact: Message) -> None:
        """Take in one fact."""
        match fact:
            case MicroscopeIdle(cause=cause):
                self._idle = cause
            case RunPaused(reason=reason):
                self.paused = self._pause = reason
            case RunContinued() | RunFinished():
                self.paused = ""
            case _:
                pass

    def take(self) -> str:
        """Return the cause of the gap that ends now, empty if there is none but the handling of orders."""
        cause = f"paused: {self.paused or self._pause}" if self.is_pause else self._idle
        self._pause = self._idle = ""
        return cause
