"""The one pykka actor: runs a behaviour in a thread of its own.

Relied on from pykka 4.5 (kept by a seam test): `_create_actor_inbox` makes the inbox, `on_start`
and `on_receive` run in the actor's thread, an exception out of `on_receive` ends the actor.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pykka
import structlog

from sparse_actors.messages import ActorFailed, After, Effect, Message

from .clock import Clock
from .mailbox import Mailbox, MailboxFull

RESTARTS = 5
RESTART_WINDOW_S = 60.0


class Behaviour(Protocol):
    """What an actor decides: one message in, its effects out.

    Two methods are optional: `begin()` gives the first effects after each (re)start, `close()`
    is called once when the actor stops, in the actor's thread.
    """

    def handle(self, message: Any) -> Iterable[Effect]:
        """Return what shall happen; nothing of it happens if this raises."""
        ...


class Witness(Protocol):
    """Sees what actors do; see recording.flight.FlightRecorder."""

    def stepped(
        self, actor: str, message: Message | None, effects: Iterable[Effect], error: str = ""
    ) -> None:
        """Take down what an actor said to a message, or (None) when it was built; must return at once."""


class _Actor(pykka.ThreadingActor):
    # A driver that never returns must not keep the process alive; `Shell.stop` waits for the others.
    use_daemon_thread = True

    def __init__(self, shell: Shell) -> None:
        super().__init__()
        self._shell = shell
        # Before the thread runs: what the behaviour causes at once is answered at once.
        shell.ref = self.actor_ref

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    def on_start(self) -> None:
        self._shell.build()

    def on_receive(self, message: Any) -> None:
        self._shell.handle(message)

    def on_stop(self) -> None:
        self._shell.end()


class Shell:
    """A port on the bus with a behaviour behind it.

    The behaviour is built by its factory in the actor's thread. If it raises, none of its
    effects happen, `ActorFailed` is published and it is built anew behind the same mailbox; after
    RESTARTS failures within RESTART_WINDOW_S the actor gives up and says so.
    """

    def __init__(
        self,
        name: str,
        accepts: tuple[type[Message], ...],
        factory: Callable[[], Behaviour],
        publish: Callable[[Message], None],
        clock: Clock,
        witness: Witness | None = None,
    ) -> None:
        self.name = name
        self.accepts = accepts
        self._factory = factory
        self._publish = publish
        self._clock = clock
        self._witness = witness
        self._behaviour: Behaviour | None = None
        self._failures_s: deque[float] = deque(maxlen=RESTARTS)
        self._ended = threading.Event()
        self.ref: pykka.ActorRef[_Actor] | None = None

    def start(self) -> None:
        """Start the thread; the behaviour is built in it."""
        _Actor.start(self)

    def stop(self, timeout_s: float) -> bool:
        """Let the actor finish what is in its mailbox and end; False if it did not in time."""
        if self.ref is None:
            return True
        try:
            self.ref.stop(block=False)
        except pykka.ActorDeadError:
            return True
        return self.has_ended(timeout_s)

    def has_ended(self, timeout_s: float) -> bool:
        """Wait for the end of an actor that was told to stop; False if it did not end in time."""
        return self._ended.wait(timeout_s)

    def offer(self, message: Message) -> bool:
        """Put a message into the mailbox; False when it is full or the actor gone."""
        if self.ref is None:
            return False
        try:
            self.ref.tell(message)
        except (MailboxFull, pykka.ActorDeadError):
            return False
        return True

    # -- in the actor's thread ----------------------------------------------------------------

    def build(self) -> None:
        """Make the behaviour, and let it begin."""
        # What is logged in this thread says who wrote it.
        structlog.contextvars.bind_contextvars(actor=self.name)
        try:
            self._behaviour = self._factory()
            begin = getattr(self._behaviour, "begin", None)
            effects = list(begin()) if begin else []
        except BaseException as error:
            self._fail(None, error)
        else:
            self._emit(None, effects)

    def handle(self, message: Message) -> None:
        """Handle one message, all or nothing."""
        if self._behaviour is None:
            return
        try:
            effects = list(self._behaviour.handle(message))
        except BaseException as error:
            self._fail(message, error)
        else:
            self._emit(message, effects)

    def end(self) -> None:
        """Close the behaviour."""
        close = getattr(self._behaviour, "close", None)
        try:
            if close:
                close()
        except BaseException as error:
            structlog.get_logger().exception("close failed", actor=self.name)
            self._publish(ActorFailed(actor=self.name, error=_described(error), is_final=True))
        finally:
            self._ended.set()

    def _fail(self, message: Message | None, error: BaseException) -> None:
        self._behaviour = None
        self._testify(message, (), _described(error))
        now_s = self._clock.now()
        is_final = len(self._failures_s) == RESTARTS and now_s - self._failures_s[0] < RESTART_WINDOW_S
        self._failures_s.append(now_s)
        structlog.get_logger().error("actor failed", actor=self.name, exc_info=error, is_final=is_final)
        self._publish(ActorFailed(actor=self.name, error=_described(error), is_final=is_final))
        if not is_final:
            self.build()

    def _testify(self, message: Message | None, effects: Iterable[Effect], error: str = "") -> None:
        if self._witness is None:
            return
        try:
            self._witness.stepped(self.name, message, effects, error)
        except Exception:
            self._witness = None
            structlog.get_logger().exception("witness removed", actor=self.name)

    def _emit(self, message: Message | None, effects: Iterable[Effect]) -> None:
        self._testify(message, effects)
        for effect in effects:
            if isinstance(effect, After):
                later = effect.message
                self._clock.after(effect.seconds, lambda later=later: self._remind(later))  # type: ignore[misc]
            else:
                self._publish(effect)

    def _remind(self, message: Message) -> None:
        self.offer(message)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
