"""The commands. Data goes to stdout, progress and words to stderr.

Only typer is imported here, so that `--help` and completion answer at once.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

SCHEMA = 1
"""Version of every JSON object printed."""
WANTS_JSON = "sparse_actors.wants_json"

UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises at wrong usage, whichever copy of click it uses."""


class _Commands(TyperGroup):
    """Says wrong usage as JSON too where `--json` is among the arguments."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        wants_json = "--json" in args
        with _usage_as_json(wants_json):
            context = super().make_context(info_name, args, *more, **extra)
        context.meta[WANTS_JSON] = wants_json
        return context

    def invoke(self, ctx: Any) -> Any:
        with _usage_as_json(ctx.meta[WANTS_JSON]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_as_json(wants_json: bool) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if wants_json:
            _print_json(sys.stdout, error="UsageError", problems=[error.format_message()])
        raise


app = typer.Typer(
    cls=_Commands,
    name="sparse-actors",
    help="Adaptive electron microscopy: beam time only where it matters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show the configuration, or its schema for editors.", no_args_is_help=True)
app.add_typer(config_app, name="config")

ConfigFile = Annotated[
    Path | None,
    typer.Argument(help="Configuration file; by default sparse-actors.toml here or in the user's directory."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. scan.fast.dwell_ns=300."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from sparse_actors import __version__

        typer.echo(f"sparse-actors {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: ConfigFile = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run, instead of a new one in out_dir.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out, by default the latest."),
    ] = False,
    overrides: Overrides = None,
    until_tile: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N tiles, in the order of the scan.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a survey. Ctrl-C ends it after the scan in flight; it can be resumed."""
    with _reported(as_json) as data:
        from .run import run_shown

        result, figures, code = run_shown(config, overrides or (), out, resume, until_tile)
        if as_json:
            _print_json(
                data,
                outcome=result.outcome,
                reason=result.reason,
                problems=list(result.problems),
                folder=str(result.folder),
                figures=figures.to_json(),
            )
        raise typer.Exit(code)


@app.command()
def check(
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
    advice: Annotated[
        bool,
        typer.Option("--advice", help="Time the detector here and recommend partitions and workers."),
    ] = False,
) -> None:
    """Validate a configuration and predict time, dose and disk; touches no microscope."""
    with _reported(as_json) as data:
        from dataclasses import asdict

        from rich.console import Console

        from sparse_actors.config import load_config
        from sparse_actors.instrument_times import read_times, times_folder

        from .advise import advise, measured_detection_s, sentences
        from .check import declared_limits, free_disk_bytes, predict, table, warnings

        settings = load_config(config, overrides or ())
        limits = declared_limits(settings)
        prediction = predict(
            settings,
            limits,
            free_disk_bytes(settings.run.out_dir),
            read_times(times_folder(os.environ), settings.microscope),
        )
        warned = warnings(settings, prediction)
        found = {}
        if advice:
            detection_s = measured_detection_s(settings, limits.pixel_type)
            mine, best = advise(settings, prediction.timing, detection_s)
            found = {"detection_s": detection_s, "configured": asdict(mine), "best": asdict(best)}
        if as_json:
            _print_json(
                data,
                is_valid=True,
                problems=[],
                warnings=warned,
                prediction=prediction.to_json(),
                advice=found,
            )
            return
        console = Console(stderr=True)
        console.print(table(prediction))
        if prediction.dose_e_per_nm2:
            fast, analysis, both = prediction.dose_e_per_nm2
            console.print(f"dose: fast {fast:.3g}, rescan {analysis:.3g}, both {both:.3g} electrons per nm^2")
        else:
            console.print("dose: not known; give microscope.beam_current_pa", markup=False)
        for sentence in sentences(mine, best, detection_s) if advice else ():
            console.print(sentence, markup=False)
        for warning in warned:
            console.print(f"warning: {warning}", markup=False, style="yellow")


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", exists=True, file_okay=False, help="Folder of a run.")
    ],
    as_json: Json = False,
) -> None:
    """Check the journal of a run against its pixels; changes nothing. Exit code 1 if they disagree."""
    with _reported(as_json) as data:
        from dataclasses import asdict

        from sparse_actors.recording import verify as recording

        from .exit_codes import ExitCode

        report = recording.verify(folder)
        if as_json:
            _print_json(data, is_sound=not report.problems, folder=str(folder), **asdict(report))
        for warning in report.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for problem in report.problems:
            typer.echo(f"problem: {problem}", err=True)
        verdict = (
            f"{len(report.problems)} problems" if report.problems else "every image is as it was recorded"
        )
        typer.echo(f"{report.scans_checked} scans, {report.pixels} pixels: {verdict}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED if report.problems else ExitCode.DONE)


@app.command()
def worker(
    endpoint: Annotated[
        str, typer.Argument(help="Where the run listens (workers.listen), e.g. tcp://127.0.0.1:7741.")
    ],
) -> None:
    """Detect for a run on this computer, until the run ends.

    The run and the worker are started with the same secret in SPARSE_ACTORS_WORKER_TOKEN.
    """
    with _reported(False):
        from sparse_actors.network.worker import run_worker

        raise typer.Exit(run_worker(endpoint))


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from sparse_actors import config

    typer.echo(json.dumps(config.schema(), indent=2))


@config_app.command()
def show(
    config: ConfigFile = None,
    overrides: Overrides = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """Print the configuration as resolved: file, environment and --set together."""
    with _reported(as_json) as data:
        from sparse_actors.config import load_config, origins

        settings = load_config(config, overrides or ())
        sources = origins(settings, config, overrides or ())
        if as_json:
            more: dict[str, Any] = {"origins": sources} if origin else {}
            _print_json(data, config=settings.model_dump(mode="json"), **more)
        elif origin:
            width = max(map(len, sources))
            for key, source in sources.items():
                typer.echo(f"{key:{width}}  {source}", file=data)
        else:
            typer.echo(settings.to_toml(), nl=False, file=data)


def _print_json(data: TextIO, **fields: Any) -> None:
    typer.echo(json.dumps({"schema": SCHEMA, **fields}), file=data)


@contextlib.contextmanager
def _reported(as_json: bool) -> Iterator[TextIO]:
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
                _print_json(data, error=kind, problems=list(problems))
            raise typer.Exit(of_error(error)) from None
