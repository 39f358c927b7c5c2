"""The worker book: whatever workers do, every job ends once and no worker has two."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from worker_book import (
    DEADLINE_S,
    JOIN_S,
    SILENCE_S,
    TOKEN,
    hello,
    job,
    lost,
    new_book,
    published,
    reasons,
    refusals,
    returned,
    sent,
    with_worker,
)

from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    DetectImage,
    DetectionLost,
    DetectionReturned,
    Heartbeat,
    JobArrived,
    Message,
    ResultCameLate,
    WorkerDismissed,
    WorkerJoined,
    WorkerLeaving,
    WorkerLost,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.network import jobs
from sparse_actors.network.effects import Effect, Kill, Publish, Send
from sparse_actors.network.worker_record import MAX_AHEAD


@pytest.mark.failure_matrix
def test_a_worker_joins_and_takes_what_waits_in_order() -> None:
    book = new_book()
    first, second = job(0), job(1)
    assert not book.submit(first, 0.0)
    assert not book.submit(second, 0.0)
    (welcome,) = sent(book.receive(b"1", hello(), 0.0), b"1")
    assert isinstance(welcome, WorkerWelcome)
    effects = book.receive(b"1", WorkerReady(), 1.0)
    assert published(effects) == [WorkerJoined(worker="pc-42", host="pc", pid=42)]
    assert sent(effects, b"1") == [first]
    effects = book.receive(b"1", returned(first), 2.0)
    (answer,) = published(effects)
    assert isinstance(answer, DetectionReturned)
    assert answer.worker == "pc-42", "the name is the daemon's, not what the worker claims"
    assert sent(effects, b"1") == [second]
    assert book.open_jobs == 1


def test_a_doubled_order_is_answered_once() -> None:
    book = new_book()
    with_worker(book)
    assert len(book.submit(job(0), 0.0)) == 1
    assert not book.submit(job(0), 0.0)
    book.receive(b"1", returned(job(0)), 1.0)
    assert not book.submit(job(0), 1.0)
    assert sent(book.submit(job(0, attempt=2), 1.0), b"1")


def test_foreign_results_are_refused_and_doubled_ones_counted() -> None:
    book = new_book()
    with_worker(book, b"1")
    with_worker(book, b"2")
    book.submit(job(0), 0.0)
    for peer, message in (
        (b"1", returned(job(0, attempt=2))),
        (b"1", returned(job(1))),
        (b"3", returned(job(0))),
    ):
        effects = book.receive(peer, message, 0.0)
        assert refusals(effects)
        assert not published(effects)
    late = ResultCameLate(worker="pc-42-2", is_used=False, count=1)
    assert published(book.receive(b"2", returned(job(0)), 0.0)) == [late], "it never had this job"
    assert isinstance(published(book.receive(b"1", returned(job(0)), 0.0))[0], DetectionReturned)
    assert published(book.receive(b"1", returned(job(0)), 0.0)) == [
        ResultCameLate(worker="pc-42", is_used=False, count=2)
    ]


@pytest.mark.parametrize("x_px", [-0.5, 12.5, 1e300])
def test_points_outside_the_image_are_not_believed(x_px: float) -> None:
    book = new_book()
    with_worker(book)
    book.submit(job(0), 0.0)
    (reason,) = reasons(book.receive(b"1", returned(job(0), x_px), 0.0))
    assert "'find'" in reason
    assert "outside" in reason


def test_a_late_job_costs_the_worker_its_life_and_no_restart() -> None:
    book = new_book()
    with_worker(book, local="local-1")
    book.submit(job(0), 10.0)
    book.receive(b"1", Heartbeat(), 39.0)
    assert not reasons(book.tick(39.9))
    effects = book.tick(40.0)
    (reason,) = reasons(effects)
    assert reason == "detector 'find' exceeded its deadline of 30 s"
    assert Kill("local-1", reason, is_overdue=True) in effects
    assert reasons(effects, WorkerLost) == [reason]
    assert not book.worker_died("local-1", "signal SIGKILL", 1.0)


def test_the_deadline_counts_from_when_a_worker_takes_the_job() -> None:
    book = new_book()
    book.submit(job(0), 0.0)
    with_worker(book, local="local-1", now_s=29.0)
    assert not reasons(book.tick(58.0))
    assert reasons(book.tick(59.0))


def test_a_dead_worker_loses_its_job_with_the_reason() -> None:
    book = new_book()
    with_worker(book, local="local-1")
    book.submit(job(0), 0.0)
    assert reasons(book.worker_died("local-1", "signal SIGKILL", 1.0)) == ["worker died: signal SIGKILL"]
    assert refusals(book.receive(b"1", returned(job(0)), 1.0)), "what a lost worker still says comes too late"


def test_silence_loses_an_idle_worker_and_not_one_that_works() -> None:
    book = new_book()
    with_worker(book, b"1", local="local-1")
    with_worker(book, b"2")
    book.submit(job(0), 0.0)
    book.receive(b"2", JobArrived(), 0.0)
    effects = book.tick(SILENCE_S)
    assert reasons(effects, WorkerLost) == ["silent for 5 s"]
    busy, idle = (
        (b"1", b"2") if Kill("local-1", "silent for 5 s", is_overdue=False) not in effects else (b"2", b"1")
    )
    assert published(book.receive(busy, returned(job(0)), 8.0))
    assert refusals(book.receive(idle, WorkerReady(), 8.0))
    assert reasons(book.tick(8.0 + SILENCE_S), WorkerLost) == ["silent for 5 s"]


def test_an_unreachable_remote_worker_is_lost_at_once() -> None:
    book = new_book()
    with_worker(book)
    book.submit(job(0), 0.0)
    book.receive(b"1", JobArrived(), 0.0)
    assert reasons(book.unreachable(b"1", 0.0)) == ["connection lost"]
    with_worker(book, local="local-1")
    assert not book.unreachable(b"1", 0.0)


def test_heartbeats_go_to_every_worker_at_their_period() -> None:
    book = new_book()
    with_worker(book, b"1")
    book.receive(b"2", hello(), 0.0)
    assert sent(book.tick(0.0), b"1") == sent(book.tick(1.0), b"2") == [Heartbeat()]
    assert not book.tick(1.5)


def test_a_wrong_token_or_version_is_dismissed_with_a_plain_reason() -> None:
    book = new_book()
    book.expect("local-1", "abc", 0.0)
    for message, word in (
        (hello("guess"), "wrong token"),
        (hello(""), "wrong token"),
        (hello("\x00ü"), "wrong token"),
        (hello(version="0.0.1"), "0.0.1"),
    ):
        effects = book.receive(b"1", message, 0.0)
        (dismissed,) = sent(effects, b"1")
        assert isinstance(dismissed, WorkerDismissed)
        assert word in dismissed.reason
        assert refusals(effects)
        assert refusals(book.receive(b"1", WorkerReady(), 0.0))


def test_the_token_of_a_local_worker_is_good_for_one_hello() -> None:
    book = new_book()
    with_worker(book, b"1", local="local-1")
    assert "wrong token" in sent(book.receive(b"2", hello("token of local-1"), 0.0), b"2")[0].reason
    book.expect("local-2", "abc", 0.0)
    book.worker_died("local-2", "exit code 1", 0.0)
    assert "wrong token" in sent(book.receive(b"3", hello("abc"), 0.0), b"3")[0].reason


def test_messages_out_of_order_are_refused() -> None:
    book = new_book()
    for message in (Heartbeat(), WorkerReady(), returned(job(0)), WorkerLost(worker="", reason=""), job(0)):
        assert refusals(book.receive(b"1", message, 0.0))
    with_worker(book)
    for message in (WorkerReady(), JobArrived(), returned(job(0)), lost(job(0)), job(0)):
        assert refusals(book.receive(b"1", message, 0.0))


def test_two_workers_of_one_process_have_two_names() -> None:
    book = new_book()
    with_worker(book, b"1")
    book.receive(b"2", hello(), 0.0)
    (joined,) = published(book.receive(b"2", WorkerReady(), 0.0))
    assert joined == WorkerJoined(worker="pc-42-2", host="pc", pid=42)


def test_a_detector_that_does_not_load_is_reported_and_its_process_ended() -> None:
    book = new_book()
    book.expect("local-1", "abc", 0.0)
    book.receive(b"1", hello("abc"), 0.0)
    effects = book.receive(b"1", WorkerLost(worker="", reason="detector 'find' could not be loaded"), 1.0)
    assert reasons(effects, WorkerLost) == ["detector 'find' could not be loaded"]
    assert Kill("local-1", "detector 'find' could not be loaded", is_overdue=False) in effects


def test_a_worker_that_never_becomes_ready_is_ended() -> None:
    book = new_book()
    book.expect("local-1", "abc", 0.0)
    book.expect("local-2", "def", 0.0)
    book.receive(b"2", hello("def"), 50.0)
    assert not reasons(book.tick(JOIN_S - 1), WorkerLost)
    assert reasons(book.tick(JOIN_S), WorkerLost) == ["not ready 60 s after its start"] * 2


@pytest.mark.failure_matrix
def test_jobs_do_not_wait_for_ever_without_workers() -> None:
    book = new_book()
    book.tick(0.0)
    book.submit(job(0), 1000.0)
    assert not reasons(book.tick(1000.0))
    assert not reasons(book.tick(1059.0))
    assert reasons(book.tick(1060.0)) == ["no worker became ready within 60 s"]


def test_jobs_are_given_up_at_once_when_no_worker_will_come() -> None:
    book = new_book()
    book.submit(job(0), 0.0)
    book.expect("local-1", "abc", 0.0)
    assert not reasons(book.tick(0.0, no_help="all resting")), "one is still starting"
    book.worker_died("local-1", "exit code 3", 0.0)
    assert reasons(book.tick(0.0, no_help="all resting")) == ["all resting"]
    assert book.open_jobs == 0


@pytest.mark.parametrize("image", [np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2), np.float32)])
def test_what_is_not_an_image_is_lost_at_once(image: np.ndarray) -> None:
    book = new_book()
    with_worker(book)
    order = DetectImage(partition=PartitionId(TileIndex(0, 0), 0), attempt=1, image=image, scale=1)
    (reason,) = reasons(book.submit(order, 0.0))
    assert "expected an image" in reason


def test_dismissing_and_abandoning_leaves_nothing_open() -> None:
    book = new_book()
    with_worker(book)
    book.submit(job(0), 0.0)
    book.submit(job(1), 0.0)
    assert sent(book.dismiss_all("done"), b"1") == [WorkerDismissed(reason="done")]
    assert reasons(book.abandon("broken")) == ["broken", "broken"]
    assert book.open_jobs == 0


class Pool(RuleBasedStateMachine):
    """Workers that do anything at any time, honest or not."""

    @initialize()
    def open(self) -> None:
        self.book = new_book()
        self.now_s = 0.0
        self.submitted: set[tuple[PartitionId, int]] = set()
        self.ended: Counter[tuple[PartitionId, int]] = Counter()
        self.held: dict[bytes, set[tuple[PartitionId, int]]] = {}
        self.joined: set[str] = set()
        self.running: dict[str, str] = {}
        self.peers = [b"0", b"1", b"2", b"3"]

    def note(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Publish(DetectionReturned() | DetectionLost() as answer):
                    key = answer.partition, answer.attempt
                    self.ended[key] += 1
                    for keys in self.held.values():
                        keys.discard(key)
                case Publish(WorkerJoined(worker=worker)):
                    assert worker not in self.joined
                    self.joined.add(worker)
                case Publish(WorkerLost(worker=worker)):
                    self.joined.discard(worker)
                case Send(peer, DetectImage() as order):
                    self.held.setdefault(peer, set()).add((order.partition, order.attempt))
                case Kill(worker):
                    self.running.pop(worker, None)

    peer = st.integers(0, 3)
    which = st.builds(job, st.integers(0, 3), st.integers(1, 3))

    @rule(order=which)
    def submit(self, order: DetectImage) -> None:
        self.submitted.add((order.partition, order.attempt))
        self.note(self.book.submit(order, self.now_s))

    @rule(number=st.integers(0, 2))
    def start_local(self, number: int) -> None:
        name = f"local-{number}"
        if name not in self.running:
            self.running[name] = f"{name} at {self.now_s}"
            self.book.expect(name, self.running[name], self.now_s)

    @rule(name=st.integers(0, 2), reason=st.sampled_from(["exit code 1", "signal SIGKILL"]))
    def die(self, name: int, reason: str) -> None:
        if self.running.pop(f"local-{name}", None):
            self.note(self.book.worker_died(f"local-{name}", reason, self.now_s))

    @rule(peer=peer, local=st.integers(-2, 2))
    def say_hello(self, peer: int, local: int) -> None:
        token = self.running.get(f"local-{local}", TOKEN if local == -1 else "wrong")
        self.note(self.book.receive(self.peers[peer], hello(token), self.now_s))

    @rule(
        peer=peer,
        message=st.sampled_from(
            [
                WorkerReady(),
                Heartbeat(),
                JobArrived(),
                WorkerLeaving(),
                WorkerLost(worker="x", reason="y"),
            ]
        ),
    )
    def say(self, peer: int, message: Message) -> None:
        self.note(self.book.receive(self.peers[peer], message, self.now_s))

    @rule(peer=peer)
    def join(self, peer: int) -> None:
        for message in (hello(), WorkerReady()):
            self.note(self.book.receive(self.peers[peer], message, self.now_s))

    @rule(peer=peer, order=which, answer=st.sampled_from([returned, lost]), x_px=st.floats(-1, 13))
    def answer_anything(self, peer: int, order: DetectImage, answer: object, x_px: float) -> None:
        message = returned(order, x_px) if answer is returned else lost(order)
        self.note(self.book.receive(self.peers[peer], message, self.now_s))

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), is_doubled=st.booleans())
    def answer(self, data: st.DataObject, is_doubled: bool) -> None:
        peer, key = data.draw(
            st.sampled_from([(p, k) for p, keys in self.held.items() for k in sorted(keys)])
        )
        message = returned(job(key[0].index, key[1]))
        for _ in range(1 + is_doubled):
            self.note(self.book.receive(peer, message, self.now_s))

    @rule(peer=peer, is_known=st.booleans())
    def vanish(self, peer: int, is_known: bool) -> None:
        self.note(self.book.unreachable(self.peers[peer], self.now_s))
        if is_known:
            # It comes back on a new connection, as after a broken link.
            self.peers[peer] += b"+"

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 30.0, 60.0]), help_comes=st.booleans())
    def wait(self, seconds: float, help_comes: bool) -> None:
        self.now_s += seconds
        self.note(self.book.tick(self.now_s, "" if help_comes else "none left"))

    @invariant()
    def every_open_job_is_in_one_place_and_no_worker_has_more_than_its_credit(self) -> None:
        if hasattr(self, "book"):
            workers = self.book._workers.values()
            given = [entry.key for worker in workers for entry in worker.given]
            places = Counter([*given, *map(jobs.key, self.book._queue)])
            assert all(places[key] == 1 for key in self.book._open), places
            assert all(len(w.given) <= (1 if w.is_local else 1 + MAX_AHEAD) for w in workers)

    @invariant()
    def nothing_is_answered_twice_or_unasked(self) -> None:
        assert all(count == 1 for count in self.ended.values())
        assert self.ended.keys() <= self.submitted

    @invariant()
    def what_is_not_answered_is_open(self) -> None:
        assert self.book.open_jobs == len(self.submitted) - len(self.ended)

    def teardown(self) -> None:
        # Nobody says anything any more: time alone must end every job.
        if hasattr(self, "book"):
            for _ in range(4 * 3 * 4):
                self.now_s += DEADLINE_S
                self.note(self.book.tick(self.now_s))
            assert self.ended.keys() == self.submitted
            assert set(self.ended.values()) <= {1}


Pool.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPool = Pool.TestCase


@pytest.mark.parametrize("local", ["local-1", ""])
def test_a_job_is_said_to_be_there_once_and_not_more(local: str) -> None:
    book = new_book()
    with_worker(book, b"1", local=local)
    book.submit(job(0), 0.0)
    assert not refusals(book.receive(b"1", JobArrived(), 0.1))
    assert refusals(book.receive(b"1", JobArrived(), 0.2))
