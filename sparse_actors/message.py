"""What every message is, and what an actor may answer with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Base of all messages."""

    is_order: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Message):
    """Base of all orders."""

    is_order: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class After:
    """An effect: send `message` to the actor that asked, after some seconds."""

    seconds: float
    message: Message


Effect = Message | After
