"""What a run needs of a worker pool, whoever runs the workers."""

from __future__ import annotations

from typing import Protocol

from sparse_actors.messages import Message


class Pool(Protocol):
    """Does the jobs of a run in other processes; a port on the bus.

    It says `WorkerJoined` and `WorkerLost`, and answers every job that it took exactly once: with what was
    returned, or that it was lost, and why. A job whose worker died is lost; one that takes longer than its
    deadline is lost and its worker of no more use. `tests/test_processes_both_pools.py` holds for all.
    """

    name: str
    accepts: tuple[type[Message], ...]

    def start(self) -> None:
        """Begin to look for workers; raises ConfigError if there can be none."""
        ...

    def offer(self, message: Message) -> bool:
        """Take a job; False when the pool is full or closed. Never blocks."""
        ...

    def close(self, timeout_s: float = ...) -> None:
        """Let the workers go and return within about the timeout; open jobs are not answered any more."""
        ...
