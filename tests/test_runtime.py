"""Bus, shell, mailbox and clock, and what is relied on from pykka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pykka
import pytest

from sparse_actors.messages import (
    ActorFailed,
    After,
    Effect,
    Heartbeat,
    Message,
    MessageDropped,
    MicroscopeReset,
    StopRun,
    WorkerReady,
)
from sparse_actors.runtime.bus import Bus
from sparse_actors.runtime.clock import Clock
from sparse_actors.runtime.mailbox import Mailbox, MailboxFull
from sparse_actors.runtime.shell import RESTARTS, Behaviour, Shell


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.close()


class Seen:
    """A tap that can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.numbers: list[int] = []
        self._changed = threading.Condition()

    def __call__(self, message: Message, number: int) -> None:
        with self._changed:
            self.messages.append(message)
            self.numbers.append(number)
            self._changed.notify_all()

    def wait_for(self, kind: type[Message], count: int = 1) -> list[Message]:
        def found() -> list[Message]:
            return [m for m in self.messages if isinstance(m, kind)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, 10), self.messages
            return found()


class Echo:
    accepts = (StopRun,)

    def handle(self, message: StopRun) -> Iterator[Effect]:
        if message.reason == "later":
            yield After(0.01, StopRun(reason="now"))
            return
        yield MicroscopeReset()
        if message.reason == "fail":
            raise ValueError("after its first effect")
        if message.reason == "exit":
            raise SystemExit(3)


def run(clock: Clock, factory: Callable[[], Behaviour], *messages: Message) -> tuple[Bus, Seen, Shell]:
    bus, seen = Bus(), Seen()
    bus.tap(seen)
    shell = Shell("echo", Echo.accepts, factory, bus.publish, clock)
    bus.attach(shell)
    shell.start()
    for message in messages:
        bus.publish(message)
    return bus, seen, shell


def test_a_message_reaches_the_actor_and_its_effects_the_bus(clock: Clock) -> None:
    _, seen, shell = run(clock, Echo, StopRun(reason="now"))
    seen.wait_for(MicroscopeReset)
    assert seen.numbers == list(range(1, len(seen.numbers) + 1))
    assert shell.stop(5)


def test_an_answer_that_comes_before_start_has_returned_is_not_lost(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Echo):
        def begin(self) -> Iterator[Effect]:
            yield StopRun(reason="now")

    start = pykka.ThreadingActor.start.__func__
    bus, seen = Bus(), Seen()
    bus.tap(seen)

    def slow_start(cls: type[pykka.ThreadingActor], *args: object) -> object:
        started = start(cls, *args)
        seen.wait_for(StopRun)
        return started

    monkeypatch.setattr(pykka.ThreadingActor, "start", classmethod(slow_start))
    shell = Shell("echo", Echo.accepts, Impatient, bus.publish, clock)
    bus.attach(shell)
    shell.start()
    seen.wait_for(MicroscopeReset)
    assert shell.stop(5)


def test_after_comes_back_to_the_actor_that_asked(clock: Clock) -> None:
    _, seen, shell = run(clock, Echo, StopRun(reason="later"))
    seen.wait_for(MicroscopeReset)
    assert [type(m) for m in seen.messages] == [StopRun, MicroscopeReset]
    assert shell.stop(5)


@pytest.mark.parametrize(("reason", "error"), [("fail", "ValueError"), ("exit", "SystemExit")])
def test_a_failing_actor_emits_nothing_of_that_message_and_is_rebuilt(
    clock: Clock, reason: str, error: str
) -> None:
    built = []

    def factory() -> Echo:
        built.append(threading.current_thread())
        return Echo()

    bus, seen, shell = run(clock, factory, StopRun(reason=reason))
    (failed,) = seen.wait_for(ActorFailed)
    assert isinstance(failed, ActorFailed)
    assert failed.error.startswith(error)
    assert not failed.is_final
    assert not any(isinstance(m, MicroscopeReset) for m in seen.messages)
    bus.publish(StopRun(reason="now"))
    seen.wait_for(MicroscopeReset)
    assert len(built) == 2
    assert threading.current_thread() not in built  # hardware is opened in the actor's thread
    assert shell.stop(5)


def test_an_actor_gives_up_visibly_beyond_its_restart_budget(clock: Clock) -> None:
    _, seen, shell = run(clock, Echo, *[StopRun(reason="fail")] * (RESTARTS + 3))
    failures = seen.wait_for(ActorFailed, RESTARTS + 1)
    assert [f.is_final for f in failures if isinstance(f, ActorFailed)] == [False] * RESTARTS + [True]
    assert shell.stop(5)


def test_a_factory_that_fails_is_tried_within_the_budget(clock: Clock) -> None:
    tries = []

    def factory() -> Echo:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return Echo()

    bus, seen, shell = run(clock, factory)
    seen.wait_for(ActorFailed, 2)
    bus.publish(StopRun(reason="now"))
    seen.wait_for(MicroscopeReset)
    assert shell.stop(5)


def test_close_runs_in_the_actors_thread_when_it_stops(clock: Clock) -> None:
    closed = []

    class Closing(Echo):
        def close(self) -> None:
            closed.append(threading.current_thread().name)

    _, _, shell = run(clock, Closing)
    assert shell.stop(5)
    assert len(closed) == 1
    assert closed != [threading.current_thread().name]


def test_a_full_mailbox_refuses_a_message_and_still_takes_a_stop() -> None:
    mailbox = Mailbox(capacity=2)

    class Envelope:
        def __init__(self, message: object) -> None:
            self.message = message

    for _ in range(2):
        mailbox.put(Envelope(Heartbeat()))
    with pytest.raises(MailboxFull):
        mailbox.put(Envelope(Heartbeat()))
    mailbox.put(Envelope("pykka's own stop"))
    assert [mailbox.get().message for _ in range(3)][-1] == "pykka's own stop"
    assert mailbox.empty()


def test_a_refused_message_becomes_message_dropped_not_an_exception() -> None:
    class Full:
        name, accepts = "full", (Heartbeat,)

        def offer(self, message: Message) -> bool:
            return False

    bus, seen = Bus(), Seen()
    bus.tap(seen)
    bus.attach(Full())
    bus.publish(Heartbeat())
    bus.publish(WorkerReady())  # accepted by nobody: not dropped
    assert seen.messages == [Heartbeat(), MessageDropped(actor="full", kind="Heartbeat"), WorkerReady()]


def test_a_tap_that_raises_is_taken_off_and_nobody_else_notices(capsys: pytest.CaptureFixture[str]) -> None:
    bus, seen = Bus(), Seen()
    calls = []

    def broken(message: Message, number: int) -> None:
        calls.append(number)
        raise ValueError("tap")

    bus.tap(broken)
    bus.tap(seen)
    bus.publish(Heartbeat())
    bus.publish(Heartbeat())
    assert (calls, seen.numbers) == ([1], [1, 2])


def test_messages_from_many_threads_have_one_order_for_all(clock: Clock) -> None:
    bus, one, two = Bus(), Seen(), Seen()
    bus.tap(one)
    bus.tap(two)
    threads = [
        threading.Thread(target=lambda n=n: [bus.publish(StopRun(reason=f"{n}")) for _ in range(200)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.messages == two.messages
    assert one.numbers == list(range(1, 801))


def test_the_clock_calls_in_the_order_of_due_times(clock: Clock) -> None:
    called: list[int] = []
    done = threading.Event()
    clock.after(0.03, done.set)
    clock.after(0.02, lambda: called.append(2))
    clock.after(0.01, lambda: called.append(1))
    assert done.wait(5)
    assert called == [1, 2]


def test_pykka_has_the_seams_that_the_shell_uses() -> None:
    assert hasattr(pykka.ThreadingActor, "_create_actor_inbox")
    for name in ("on_start", "on_receive", "on_stop"):
        assert hasattr(pykka.ThreadingActor, name)
