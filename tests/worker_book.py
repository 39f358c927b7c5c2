"""A worker book without sockets, for tests: what is said to it and what comes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import (
    DetectImage,
    DetectionLost,
    DetectionReturned,
    JobArrived,
    Message,
    WorkerHello,
    WorkerReady,
    WorkerWelcome,
)
from sparse_actors.network.effects import Effect, Publish, Refuse, Send
from sparse_actors.network.worker_book import WorkerBook
from sparse_actors.version import VERSION

DEADLINE_S, SILENCE_S, HEARTBEAT_S, JOIN_S = 30.0, 5.0, 1.0, 60.0
TOKEN = "the run's secret"


def new_book() -> WorkerBook:
    welcome = WorkerWelcome(
        detector="find", options={}, heartbeat_s=HEARTBEAT_S, silence_s=SILENCE_S, deadline_s=DEADLINE_S
    )
    return WorkerBook(welcome=welcome, token=TOKEN, join_s=JOIN_S)


def job(index: int, attempt: int = 1) -> DetectImage:
    image = np.zeros((4, 6), np.uint8)
    return DetectImage(partition=PartitionId(TileIndex(0, 0), index), attempt=attempt, image=image, scale=2)


def hello(token: str = TOKEN, version: str = VERSION) -> WorkerHello:
    return WorkerHello(token=token, version=version, host="pc", pid=42)


def returned(order: DetectImage, x_px: float = 1.0) -> DetectionReturned:
    pois = Pois.at([(x_px, 1.0)])
    return DetectionReturned(
        partition=order.partition, attempt=order.attempt, pois=pois, worker="liar", elapsed_s=0.1
    )


def lost(order: DetectImage, reason: str = "detector 'find' raised ValueError: no") -> DetectionLost:
    return DetectionLost(partition=order.partition, attempt=order.attempt, reason=reason, worker="liar")


def published(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Publish)]


def sent(effects: list[Effect], peer: bytes) -> list[Message]:
    return [e.message for e in effects if isinstance(e, Send) and e.peer == peer]


def reasons(effects: list[Effect], kind: type[Message] = DetectionLost) -> list[str]:
    return [m.reason for m in published(effects) if isinstance(m, kind)]


def refusals(effects: list[Effect]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, Refuse)]


def with_worker(book: WorkerBook, peer: bytes = b"1", *, local: str = "", now_s: float = 0.0) -> None:
    if local:
        book.expect(local, f"token of {local}", now_s)
    book.receive(peer, hello(f"token of {local}" if local else TOKEN), now_s)
    book.receive(peer, WorkerReady(), now_s)


def far_worker(
    book: WorkerBook, peer: bytes, user: str, tags: tuple[str, ...] = (), now_s: float = 0.0
) -> None:
    said = WorkerHello(token="", version=VERSION, host=user, pid=1, slot=1, tags=tags)
    book.receive(peer, said, now_s, user)
    book.receive(peer, WorkerReady(), now_s, user)


def jobs_done(
    book: WorkerBook, work_s: dict[bytes, float], transfer_s: dict[bytes, float], n: int
) -> Counter[bytes]:
    """Let workers with these times do n jobs; returns how many each did."""
    done: Counter[bytes] = Counter()
    now_s, events, most_s = 0.0, list[tuple[float, str, bytes, DetectImage]](), dict.fromkeys(work_s, 0.0)
    effects = [effect for index in range(n) for effect in book.submit(job(index), now_s)]
    while True:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, DetectImage):
                arrives_s = now_s + transfer_s[effect.peer]
                most_s[effect.peer] = max(most_s[effect.peer], arrives_s) + work_s[effect.peer]
                events.append((arrives_s, "arrived", effect.peer, effect.message))
                events.append((most_s[effect.peer], "done", effect.peer, effect.message))
        if not events:
            return done
        now_s, what, peer, order = event = min(events, key=lambda event: event[:2])
        events.remove(event)
        done[peer] += what == "done"
        effects = book.receive(peer, JobArrived() if what == "arrived" else returned(order), now_s)
