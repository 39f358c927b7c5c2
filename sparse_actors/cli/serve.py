"""Running the daemon in front of somebody, or of the system's service manager."""

from __future__ import annotations

from pathlib import Path

import structlog
import typer

from sparse_actors.daemon.daemon import Daemon
from sparse_actors.daemon.requests import this_users_queue

from .exit_codes import ExitCode


def serve_queue(queue: Path | None) -> ExitCode:
    """Serve until a signal comes; what happens is said on stderr, and kept in `log.jsonl` of the queue."""
    folder = (queue or this_users_queue()).absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        before = structlog.get_config()
        structlog.configure(
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.add_log_level,
                structlog.processors.ExceptionRenderer(),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(log),
        )
        try:
            signals = Daemon(folder, lambda text: typer.echo(text, err=True)).serve()
        finally:
            structlog.configure(**before)
    return ExitCode.INTERRUPTED if signals.is_interrupt else ExitCode.STOPPED
