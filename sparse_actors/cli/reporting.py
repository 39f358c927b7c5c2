"""What every command shares: its options, JSON on stdout, errors in words with an exit code.

Only typer is imported here, as in `commands`.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

SCHEMA = 1
"""Version of every JSON object printed."""
WANTS_JSON = "sparse_actors.wants_json"

ConfigFile = Annotated[
    Path | None,
    typer.Argument(help="Configuration file; by default sparse-actors.toml here or in the user's directory."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. scan.fast.dwell_ns=300."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]

UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises at wrong usage, whichever copy of click it uses."""


class Commands(TyperGroup):
    """Says wrong usage as JSON too where `--json` is among the arguments."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """Note whether JSON is wanted."""
        wants_json = "--json" in args
        with _usage_as_json(wants_json):
            context = super().make_context(info_name, args, *more, **extra)
        context.meta[WANTS_JSON] = wants_json
        return context

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with _usage_as_json(ctx.meta[WANTS_JSON]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_as_json(wants_json: bool) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if wants_json:
            print_json(sys.stdout, error="UsageError", problems=[error.format_message()])
        raise


def print_json(data: TextIO, **fields: Any) -> None:
    """Print one object."""
    typer.echo(json.dumps({"schema": SCHEMA, **fields}), file=data)


@contextlib.contextmanager
def reported(as_json: bool) -> Iterator[TextIO]:
    """Turn an error made on purpose, or one of the disk, into words and an exit code.

    Yields
    ------
    TextIO
        Where the data goes, and nothing else.
    """
    from sparse_actors.errors import ConfigError, SparseActorsError

    from .exit_codes import of_error
    from .stdout_for_data import stdout_for_data

    with stdout_for_data() as data:
        try:
            yield data
        except (SparseActorsError, OSError) as error:
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            kind = type(error).__name__
            for problem in problems:
                typer.echo(f"{kind}: {problem}", err=True)
            if as_json:
                print_json(data, error=kind, problems=list(problems))
            raise typer.Exit(of_error(error)) from None
