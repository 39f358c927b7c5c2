"""How a survey is brought to its end when somebody asks for it, though the driver may hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from sparse_actors.actors.microscope_actor import Instrument
from sparse_actors.messages import (
    MeasureSpots,
    Message,
    MicroscopeFailed,
    MicroscopePrepared,
    MicroscopeReset,
    MoveToTile,
    PartitionScanned,
    PrepareMicroscope,
    RegionScanned,
    ResetMicroscope,
    RunFinished,
    ScanArea,
    SpectraMeasured,
    StopRun,
    TileReached,
)
from sparse_actors.runtime.shell import Shell

ACTOR_STOP_S = 60.0
PATIENCE_S = 3.0
"""After the second signal what is waited for has so long to end."""
QUICK_S = 1.0
"""How long anything has to end once it was given up."""
POLL_S = 0.2
"""A wait without an end would not see Ctrl-C on Windows."""
NOTHING = "what is being written"


class Ending:
    """Knows what the survey waits for, and when to wait no longer.

    The first signal ends the survey after what is in flight. The second ends that too, and gives it up
    if it lasts longer than PATIENCE_S. A third does not wait.

    Parameters
    ----------
    instrument
        Whose scan is aborted, and which is brought back at the end.
    publish
        To the bus.
    say
        Called with a sentence for whoever sent the signal.
    """

    def __init__(
        self, instrument: Instrument, publish: Callable[[Message], None], say: Callable[[str], None]
    ) -> None:
        self._instrument = instrument
        self._publish = publish
        self._say = say
        self._waits_for = NOTHING
        self._ordered: list[str] = []
        """What the microscope is to do, one thing at a time; it is at the first."""
        self._has_given_up = threading.Event()
        self._has_moved_on = threading.Event()

    @property
    def waits_for(self) -> str:
        """What the survey waits for, in words."""
        return self._waits_for

    @property
    def has_given_up(self) -> bool:
        """Whether the survey ends without what it waited for."""
        return self._has_given_up.is_set()

    def watch(self, message: Message, number: int) -> None:
        """Tap of the bus: what the microscope does."""
        match message:
            case PrepareMicroscope() | MicroscopePrepared():
                what = "the microscope to connect and prepare"
            case MoveToTile(tile=tile) | TileReached(tile=tile):
                what = f"the stage to reach tile {tile}"
            case ScanArea(scan=scan) | PartitionScanned(scan=scan) | RegionScanned(scan=scan):
                what = f"the end of scan {scan.id}"
            case MeasureSpots(field=field, batch=batch) | SpectraMeasured(field=field, batch=batch):
                what = f"the end of spectra {field}, batch {batch}"
            case ResetMicroscope() | MicroscopeReset():
                what = "the microscope to be reset"
            case MicroscopeFailed():
                what = self._ordered[0] if self._ordered else ""
            case _:
                return
        if message.is_order:
            if what not in self._ordered:
                self._ordered.append(what)
        elif what in self._ordered:
            # What was ordered before is done, or was found to be done already.
            del self._ordered[: self._ordered.index(what) + 1]
        self._wait_for(self._ordered[0] if self._ordered else NOTHING)

    def _wait_for(self, what: str) -> None:
        if what != self._waits_for:
            self._waits_for = what
            self._has_moved_on.set()

    def stop(self, name: str, count: int) -> None:
        """Take the count-th signal; returns within PATIENCE_S."""
        self._publish(StopRun(reason=f"{name} received"))
        waits_for = self._waits_for
        if count == 1:
            self._say(f"{name}: waiting for {waits_for}; a second one gives that up")
            return
        if count == 2:
            self._has_moved_on.clear()
            threading.Thread(target=self._abort, name="abort", daemon=True).start()
            if self._has_moved_on.wait(PATIENCE_S):
                return
        self._has_given_up.set()
        reason = f"{name} received again while waiting for {waits_for}"
        self._publish(RunFinished(outcome="stopped", reason=reason))

    def _abort(self) -> None:
        self._instrument.is_given_up = True
        try:
            self._instrument.driver.abort()
        except Exception as error:
            structlog.get_logger().warning(f"the scan in flight could not be ended: {error}")

    def has_stopped(self, shell: Shell) -> bool:
        """Let an actor end what it has begun, and wait for it; not for long once it was given up."""
        self._wait_for(f"the {shell.name} to end")
        left_s = ACTOR_STOP_S
        is_stopped = shell.stop(0)
        while not is_stopped and left_s > 0:
            is_stopped = shell.has_ended(POLL_S)
            left_s = min(left_s, QUICK_S) - POLL_S if self.has_given_up else left_s - POLL_S
        return is_stopped

    def restored(self) -> str:
        """Bring the microscope back if that was not done yet; returns what went wrong."""
        self._wait_for("the microscope to be reset")
        problems = ["the driver does not return"]

        def restore() -> None:
            try:
                self._instrument.restore()
                problems.clear()
            except Exception as error:
                problems[:] = [f"{type(error).__name__}: {error}"]

        thread = threading.Thread(target=restore, name="restore", daemon=True)
        thread.start()
        while thread.is_alive() and not self.has_given_up:
            thread.join(POLL_S)
        thread.join(QUICK_S)
        return problems[0] if problems else ""

    def over(self) -> None:
        """Wait for nothing more."""
        self._has_moved_on.set()
