"""The daemon and the commands that talk to it, or to one run.

Only typer is imported here, as in `commands`.
"""

from pathlib import Path
from typing import Annotated, TextIO

import typer

from .reporting import ConfigFile, Json, Overrides, print_json, reported

Queue = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the queue; by default that of this user."),
]
RunFolder = Annotated[
    Path | None,
    typer.Option("--run", metavar="FOLDER", help="One run by its folder, whoever started it."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Kept with the run.")]
BY_HAND = "by hand"
RunNumber = Annotated[
    int | None, typer.Argument(min=1, metavar="[RUN]", help="Number of a run of the queue.")
]


def serve(
    queue: Queue = None,
    page: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Show its runs in the browser, e.g. 127.0.0.1:8765.")
    ] = "",
) -> None:
    """Make the runs of a queue, one after another, until Ctrl-C or SIGTERM.

    The first ends the run that goes on after the scan in flight and restores the microscope, the second at
    once. What was not finished goes on when `serve` is started again.
    """
    with reported(False):
        from .serve import serve_queue

        raise typer.Exit(serve_queue(queue, page))


def submit(
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run, instead of a new one in out_dir.")
    ] = None,
    at_front: Annotated[bool, typer.Option("--at-front", help="Before the runs that wait.")] = False,
    queue: Queue = None,
    as_json: Json = False,
) -> None:
    """Put a run into the queue of the daemon."""
    with reported(as_json) as data:
        from .queue_client import submitted

        taken = submitted(
            config, overrides or (), out, at_front, queue, lambda text: typer.echo(text, err=True)
        )
        if as_json:
            print_json(data, run=taken.run, before=taken.before)
        else:
            typer.echo(
                f"run {taken.run}, after {taken.before} others" if taken.before else f"run {taken.run}"
            )


def status(queue: Queue = None, run: RunFolder = None, as_json: Json = False) -> None:
    """Say what the daemon, or one run, is doing."""
    with reported(as_json) as data:
        from .queue_client import look, sentences

        seen = look(queue, run)
        if as_json:
            print_json(data, **seen.to_json())
        for sentence in () if as_json else sentences(seen):
            typer.echo(sentence, file=data)


def watch(queue: Queue = None, run: RunFolder = None, as_json: Json = False) -> None:
    """Show a run that goes on, until it ends. Ctrl-C ends the showing only."""
    with reported(as_json) as data:
        from rich.console import Console

        from .exit_codes import ExitCode
        from .queue_client import current_run, is_current
        from .watch import watch_run

        folder = run or current_run(queue)
        try:
            outcome, reason, figures, code = watch_run(
                folder, Console(stderr=True), lambda: run is None and is_current(queue, folder)
            )
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if as_json:
            print_json(data, outcome=outcome, reason=reason, folder=str(folder), figures=figures.to_json())
        raise typer.Exit(code)


def stop(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the scan in flight.")] = False,
    queue: Queue = None,
    run: RunFolder = None,
    as_json: Json = False,
) -> None:
    """End the run that goes on in order, the microscope restored; begin no other until `resume`."""
    with reported(as_json) as data:
        from .queue_client import stopped

        _say(data, as_json, stopped(queue, run, now=now))


def pause(
    reason: Reason = BY_HAND, queue: Queue = None, run: RunFolder = None, as_json: Json = False
) -> None:
    """Expose nothing more after the scan in flight, until `resume`."""
    with reported(as_json) as data:
        from .queue_client import paused

        _say(data, as_json, paused(queue, run, reason))


def resume(
    number: RunNumber = None, queue: Queue = None, run: RunFolder = None, as_json: Json = False
) -> None:
    """Go on: with a paused run, else with what was stopped and the queue; or with one run by its number."""
    with reported(as_json) as data:
        from .queue_client import resumed

        _say(data, as_json, resumed(queue, run, number))


def hold(queue: Queue = None, as_json: Json = False) -> None:
    """Let the run that goes on end by itself, and begin no other until `resume`."""
    with reported(as_json) as data:
        from .queue_client import held

        _say(data, as_json, held(queue))


def skip(
    what: Annotated[
        str, typer.Argument(metavar="TILE|RUN", help="Tile such as r000c001, or number of a run.")
    ],
    reason: Reason = BY_HAND,
    queue: Queue = None,
    run: RunFolder = None,
    as_json: Json = False,
) -> None:
    """Leave out what is left of a tile; or take a run off the queue, which ends in order if it goes on."""
    with reported(as_json) as data:
        from .queue_client import skipped

        _say(data, as_json, skipped(queue, run, what, reason))


def workers(queue: Queue = None, run: RunFolder = None, as_json: Json = False) -> None:
    """List the worker processes of the run that goes on."""
    with reported(as_json) as data:
        from .queue_client import current_run, run_status

        found = run_status(run or current_run(queue)).workers
        if as_json:
            listed = [{"name": w.name, "host": w.host, "pid": w.pid, **w.has} for w in found]
            print_json(data, workers=listed)
        for worker in () if as_json else found:
            has = "".join(f"  {name}: {', '.join(values)}" for name, values in worker.has.items())
            typer.echo(f"{worker.name}  {worker.host}  process {worker.pid}{has}", file=data)


def taps(queue: Queue = None, run: RunFolder = None, as_json: Json = False) -> None:
    """Say where other programs can look on at the run that goes on, and how many messages they missed."""
    with reported(as_json) as data:
        from .queue_client import current_run, run_status

        found = run_status(run or current_run(queue))
        if as_json:
            print_json(data, taps=found.taps, dropped=found.taps_dropped)
        for kind, count in () if as_json else found.taps_dropped.items():
            typer.echo(f"{kind}: {count} not shown, they came too fast", err=True)
        if not as_json:
            typer.echo(found.taps or "none: taps.listen is not set", file=data)


def _say(data: TextIO, as_json: bool, said: str) -> None:
    if as_json:
        print_json(data, said=said)
    else:
        typer.echo(said, file=data)


COMMANDS = (serve, submit, status, watch, pause, resume, stop, hold, skip, workers, taps)
