"""`page`: the live page of a run, or of whatever run the daemon makes.

Only typer is imported here, as in `commands`.
"""

from pathlib import Path
from typing import Annotated

import typer

from .queue_commands import Queue
from .reporting import reported


def page(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Folder of a run; by default whatever run the daemon makes."),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Where browsers find it; 0.0.0.0: also from afar.")
    ] = "127.0.0.1:8765",
    queue: Queue = None,
    as_child: Annotated[bool, typer.Option("--as-child", hidden=True)] = False,
) -> None:
    """Show a run in the browser while it goes on, until Ctrl-C; the run does not notice."""
    with reported(False) as data:
        from sparse_actors.errors import ConfigError, ControlError
        from sparse_actors.page.serve import serve_page

        from .exit_codes import ExitCode
        from .queue_client import current_run

        if folder is not None and not as_child and not (folder / "journal").exists():
            raise ConfigError(f"{folder} is not a run: it has no journal")

        def find() -> Path | None:
            if folder is not None:
                return folder
            try:
                return current_run(queue)
            except ControlError:
                return None

        try:
            serve_page(listen, find, lambda url: print(url, file=data, flush=True), is_child=as_child)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
