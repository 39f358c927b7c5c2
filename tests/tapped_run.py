"""Taps with a bus and a journal, without a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import sparse_actors
from sparse_actors.actors.recorder import KEPT
from sparse_actors.geometry import PartitionId, PixelBox, TileIndex
from sparse_actors.imaging import Imaging
from sparse_actors.messages import (
    Message,
    PartitionScanned,
    ProposeRegions,
    RegionsProposed,
    Scan,
    ScanId,
)
from sparse_actors.network.listener import Listener
from sparse_actors.network.taps import Taps

FIRST = TileIndex(0, 0)
TOKEN = "let me in"
ANY = "tcp://127.0.0.1:*"


class Run:
    """A bus, a journal and taps, without a run."""

    def __init__(self, **settings: Any) -> None:
        self.journal: list[Message] = []
        self.proposed: list[Message] = []
        self.answer: Callable[[ProposeRegions], Message] = lambda order: RegionsProposed(
            partition=PartitionId(order.tile, 4),
            boxes=order.boxes,
            source=order.source,
            request=order.request,
        )
        self.number = 0
        given = {"listen": ANY, "images_listen": ANY, "images": "preview", "token": TOKEN}
        self.taps = Taps(
            **(given | settings),
            history=lambda: list(self.journal),
            journaled=KEPT,
            publish=self._propose,
        )

    def _propose(self, order: Message) -> None:
        assert isinstance(order, ProposeRegions)
        self.proposed.append(order)
        self.say(self.answer(order))

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.number += 1
            self.taps.take(message, self.number)

    def listen(self, *kinds: type[Message], **options: Any) -> Listener[Any]:
        return sparse_actors.listen(self.taps.endpoint, *kinds, **options)


def scanned(number: int = 0, side: int = 16, kind: type = PartitionScanned, dtype: str = "uint8") -> Any:
    scan = Scan(ScanId(PartitionId(FIRST, number)), PixelBox(0, 0, side, side), Imaging((side, side), 100))
    image = np.arange(side * side).reshape(side, side).astype(dtype)
    return kind(scan=scan, attempt=1, image=image, dwell_ns=100, started_s=0.0, finished_s=float(number))
