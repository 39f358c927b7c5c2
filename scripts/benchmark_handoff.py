"""Handing an image to a worker process and getting a small answer back."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
from contest import Contest, Peer, installed, missing
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import DetectImage, DetectionReturned, Message, WorkerJoined
from sparse_actors.network.pool import WorkerPool
from sparse_actors.network.welcome import welcome_of

DISTRIBUTED = installed("distributed")
WAIT_S = 60.0
Answer = tuple[int, int]
Ask = Callable[[], Answer]


def corner_pixels(image: NDArray[Any]) -> Answer:
    """Return the first and the last pixel, which tell that the whole image came."""
    return int(image[0, 0]), int(image[-1, -1])


class CornerPixels:
    """A detector that answers with one point, x and y being two pixels of the image."""

    def detect(self, image: NDArray[Any], scale: int) -> Pois:
        """Return the point."""
        return Pois.at([corner_pixels(image)])


@contextmanager
def _worker_pool(image: NDArray[Any]) -> Iterator[Ask]:
    published: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # The worker finds the detector beside this script.
    before = os.environ.get("PYTHONPATH")
    beside = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (beside, before) if path)
    pool = WorkerPool(
        publish=published.put,
        now=time.time,
        welcome=welcome_of(detector="benchmark_handoff:CornerPixels", options={}, deadline_s=WAIT_S),
        local_workers=1,
    )
    attempt = 0

    def ask() -> Answer:
        nonlocal attempt
        attempt += 1
        partition = PartitionId(TileIndex(0, 0), 0)
        if not pool.offer(DetectImage(partition=partition, attempt=attempt, image=image, scale=1)):
            raise RuntimeError("the pool refused the image")
        answer = published.get(timeout=WAIT_S)
        if not isinstance(answer, DetectionReturned):
            raise RuntimeError(f"no answer but {answer}")
        x, y = answer.pois.xy_px[0]
        return int(x), int(y)

    pool.start()
    try:
        if not isinstance(joined := published.get(timeout=WAIT_S), WorkerJoined):
            raise RuntimeError(f"no worker joined: {joined}")
        yield ask
    finally:
        pool.close()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _answer_slot(name: str, shape: tuple[int, int], orders: Any, answers: Any) -> None:
    slot = shared_memory.SharedMemory(name)
    image: NDArray[Any] = np.ndarray(shape, np.uint16, slot.buf)
    while orders.recv():
        answers.send(corner_pixels(image))
    del image
    slot.close()


@contextmanager
def _shared_memory(image: NDArray[Any]) -> Iterator[Ask]:
    """Copy into one slot of shared memory, and say so through a pipe: the least that can be done."""
    context = multiprocessing.get_context("spawn")
    slot = shared_memory.SharedMemory(create=True, size=image.nbytes)
    orders_out, orders = context.Pipe(duplex=False)
    answers, answers_in = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer_slot, args=(slot.name, image.shape, orders_out, answers_in), daemon=True
    )
    process.start()

    def ask() -> Answer:
        np.ndarray(image.shape, image.dtype, slot.buf)[:] = image
        orders.send(True)
        if not answers.poll(WAIT_S):
            raise RuntimeError("no answer")
        answer: Answer = answers.recv()
        return answer

    try:
        yield ask
    finally:
        orders.send(False)
        process.join(WAIT_S)
        process.close()
        for end in (orders_out, orders, answers, answers_in):
            end.close()
        slot.close()
        slot.unlink()


def _answer_images(images: Any, answers: Any) -> None:
    while (image := images.get()) is not None:
        answers.put(corner_pixels(image))


@contextmanager
def _queues(image: NDArray[Any]) -> Iterator[Ask]:
    context = multiprocessing.get_context("spawn")
    images, answers = context.Queue(), context.Queue()
    process = context.Process(target=_answer_images, args=(images, answers), daemon=True)
    process.start()

    def ask() -> Answer:
        images.put(image)
        answer: Answer = answers.get(timeout=WAIT_S)
        return answer

    try:
        yield ask
    finally:
        images.put(None)
        process.join(WAIT_S)
        for ends in (images, answers):
            ends.close()
            ends.join_thread()
        process.close()


@contextmanager
def _dask(image: NDArray[Any]) -> Iterator[Ask]:
    with (
        DISTRIBUTED.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        DISTRIBUTED.Client(cluster) as client,
    ):

        def ask() -> Answer:
            there = client.scatter(image, hash=False)
            answer: Answer = client.submit(corner_pixels, there, pure=False).result(timeout=WAIT_S)
            return answer

        yield ask


@contextmanager
def handoff(small: bool, seed: int, *, size_px: int) -> Iterator[Contest]:
    """Hand over an image of `size_px` rows and columns of 16 bits."""
    size_px = 256 if small else size_px
    random = np.random.default_rng(seed)
    image = random.integers(0, 2**16, (size_px, size_px), np.uint16)
    # A point must lie within the image.
    image[[0, -1], [0, -1]] = random.integers(0, size_px, 2)

    def problem(ours: Answer, theirs: Answer) -> str:
        return "" if ours == theirs == corner_pixels(image) else f"{ours} and {theirs}"

    with ExitStack() as stack:
        ours = stack.enter_context(_worker_pool(image))
        peers = [
            Peer("multiprocessing.Queue", stack.enter_context(_queues(image)), problem),
            Peer("shared memory and a pipe", stack.enter_context(_shared_memory(image)), problem),
        ]
        skipped = {}
        if DISTRIBUTED is None:
            skipped["Dask LocalCluster"] = missing("distributed")
        else:
            peers.append(Peer("Dask LocalCluster", stack.enter_context(_dask(image)), problem))
        yield Contest(
            f"image of {image.nbytes / 1e6:.1f} MB, answer of two numbers", ours, tuple(peers), skipped
        )
