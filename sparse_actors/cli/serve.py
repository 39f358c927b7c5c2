"""Running the daemon in front of somebody, or of the system's service manager."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import structlog
import typer

from sparse_actors.config_sharing import HooksTable
from sparse_actors.config_sources import gather
from sparse_actors.daemon.daemon import Daemon
from sparse_actors.daemon.requests import this_users_queue
from sparse_actors.daemon.run_queue import Entry
from sparse_actors.errors import ConfigError
from sparse_actors.hooks import Hooks
from sparse_actors.page.access import parse_listen
from sparse_actors.page.process import page_process

from .exit_codes import ExitCode


def given_up(entry: Entry) -> Hooks:
    """Tell whom the configuration of a run names that it failed: its process may not have been able to."""
    try:
        data = gather(entry.config, entry.overrides).data
        table = HooksTable.model_validate_json(json.dumps(data.get("hooks", {}), default=str))
    except (ConfigError, ValueError):
        table = HooksTable()
    hooks = Hooks(table, entry.name, Path(entry.folder), os.environ)
    hooks.tell("failed", entry.reason)
    return hooks


def serve_queue(queue: Path | None, page: str) -> ExitCode:
    """Serve until a signal comes; what happens is said on stderr, and kept in `log.jsonl` of the queue.

    Parameters
    ----------
    queue
        Folder of the queue; None: that of this user.
    page
        Address and port of the page that shows the runs; empty: none.
    """
    if page:
        parse_listen(page)
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
        with ExitStack() as stack:
            stack.callback(structlog.configure, **before)

            def say(text: str) -> None:
                typer.echo(text, err=True)

            def tell(entry: Entry) -> None:
                stack.callback(given_up(entry).close)

            daemon = Daemon(folder, say, tell)
            with page_process(page, ("--queue", str(folder)), folder / "page.log", say):
                signals = daemon.serve()
    return ExitCode.INTERRUPTED if signals.is_interrupt else ExitCode.STOPPED
