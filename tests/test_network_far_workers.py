"""The worker book with workers elsewhere: credit, tags, silence and keys."""

from __future__ import annotations

import pytest
from worker_book import (
    DEADLINE_S,
    HEARTBEAT_S,
    JOIN_S,
    SILENCE_S,
    TOKEN,
    far_worker,
    job,
    jobs_done,
    new_book,
    reasons,
    sent,
    with_worker,
)

from sparse_actors.messages import (
    JobArrived,
    WorkerDismissed,
    WorkerLost,
    WorkerWelcome,
)
from sparse_actors.network.worker_book import WorkerBook


@pytest.mark.failure_matrix
def test_a_slow_worker_gets_less_and_one_behind_a_slow_link_more_at_once() -> None:
    book = new_book()
    for peer, user in ((b"f", "fast"), (b"s", "slow"), (b"l", "link")):
        far_worker(book, peer, user)
    work_s = {b"f": 0.1, b"s": 1.0, b"l": 0.1}
    done = jobs_done(book, work_s, {b"f": 0.001, b"s": 0.001, b"l": 0.2}, 60)
    assert done.total() == 60
    assert done[b"s"] < done[b"f"] / 4
    assert done[b"l"] > 2 * done[b"s"]
    fast, slow, behind = (book._workers[f"{user}/1"]._credit() for user in ("fast", "slow", "link"))
    assert (fast, slow, behind) == (1, 1, 3)


def test_an_image_goes_to_a_worker_that_has_what_it_needs() -> None:
    welcome = WorkerWelcome(
        detector="find", options={}, heartbeat_s=HEARTBEAT_S, silence_s=SILENCE_S, deadline_s=DEADLINE_S
    )
    book = WorkerBook(welcome=welcome, token=TOKEN, join_s=JOIN_S, needs=["gpu"])
    far_worker(book, b"1", "without")
    assert not book.submit(job(0), 0.0)
    book.tick(0.0)
    far_worker(book, b"2", "with", ("gpu", "big"), 1.0)
    assert book._workers["with/1"].given
    book.receive(b"2", WorkerLost(worker="", reason="gone"), 2.0)
    book.submit(job(1), 2.0)
    book.tick(2.0)
    assert reasons(book.tick(2.0 + JOIN_S)) == ["no worker with ['gpu'] became ready within 60 s"]


def test_a_job_with_which_two_workers_fell_silent_is_given_up() -> None:
    book = new_book()
    book.submit(job(0), 0.0)
    for number, peer in enumerate((b"1", b"2")):
        far_worker(book, peer, f"pc{number}", now_s=10.0 * number)
        book.receive(peer, JobArrived(), 10.0 * number)
        effects = book.unreachable(peer, 10.0 * number + SILENCE_S)
        assert book.open_jobs == 1 - number
    assert reasons(effects) == ["silent for 5.0 s"]


def test_a_revoked_key_and_a_hello_anew_cost_no_job() -> None:
    book = new_book()
    far_worker(book, b"1", "bench")
    book.submit(job(0), 0.0)
    book.receive(b"1", JobArrived(), 0.0)
    far_worker(book, b"2", "bench")
    assert b"1" not in book._peers, "the same process, on a new connection"
    assert [given.key for given in book._workers["bench/1"].given] == [(job(0).partition, 1)]
    effects = book.keep_only([], 1.0)
    assert WorkerDismissed(reason="its key was revoked") in sent(effects, b"2")
    assert book.open_jobs == 1
    with_worker(book, b"3")
    assert book._peers[b"3"].given
