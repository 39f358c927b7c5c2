"""The commands about what was recorded: go through a run again, write its result file or its report anew."""

from pathlib import Path
from typing import Annotated

import typer

from .reporting import Json, Overrides, print_json, reported

RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", exists=True, file_okay=False, help="Folder of a run.")
]


def replay(folder: RunArgument, as_json: Json = False) -> None:
    """Let a run's actors decide again, without microscope; exit code 1 where they decide otherwise.

    This version of the program is what decides: after an update, the first difference shows what changed.
    """
    with reported(as_json) as data:
        from dataclasses import asdict

        from sparse_actors.replay import replay as gone_through

        from .exit_codes import ExitCode

        replayed = gone_through(folder)
        if as_json:
            print_json(data, folder=str(folder), is_same=replayed.difference is None, **asdict(replayed))
        steps = ", ".join(f"{actor} {count}" for actor, count in sorted(replayed.steps.items()))
        typer.echo(f"{replayed.sessions} sessions, steps of {steps or 'nobody'}", err=True)
        found = replayed.difference
        if found is None:
            typer.echo("every decision is the same", err=True)
            return
        where = f"session {found.session}, {found.actor}, step {found.step}"
        typer.echo(f"FIRST DIFFERENCE: {where}\ntold:  {found.told}", err=True)
        for title, said in (("then", found.recorded), ("now", found.now)):
            for line in said or ("(nothing)",):
                typer.echo(f"{title + ':':6} {line}", err=True)
        for name, value in found.state.items():
            typer.echo(f"  {name} = {value}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED)


def export(
    folder: RunArgument,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="paper-tiff, ome-tiff, ome-zarr, imagej-tiff, tileconfig, trakem2, csv, hspy or msa.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The file or folder to be made; by default in RUN/export."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run for other programs; exit code 1 if something could not be read and is left out."""
    with reported(as_json) as data:
        from sparse_actors.export.formats import export as written
        from sparse_actors.results.run import Run

        from .exit_codes import ExitCode

        run = Run.open(folder)
        done = written(run, to, out)
        if as_json:
            print_json(data, path=str(done.path), problems=list(done.problems), state=run.state)
        for problem in done.problems:
            typer.echo(f"left out: {problem}", err=True)
        if run.state != "completed":
            typer.echo(f"the run is {run.state}: this is what is there so far", err=True)
        typer.echo(f"wrote {done.path}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED if done.problems else ExitCode.DONE)


def repair(folder: RunArgument, as_json: Json = False) -> None:
    """Write a run's result files anew from its journal and pixels; exit code 1 if something is missing."""
    with reported(as_json) as data:
        from sparse_actors.errors import JournalError
        from sparse_actors.recording.journal import Journal
        from sparse_actors.recording.nexus import finalize
        from sparse_actors.recording.run_folder import RunFolder

        from .exit_codes import ExitCode

        if not RunFolder(folder).journal.exists():
            raise JournalError(f"{folder} is not a run: it has no journal")
        # Nobody else records while the files are written; a torn last record is cut off.
        journal, _, warning = Journal.open(RunFolder(folder).journal)
        try:
            problems = finalize(folder, is_distrusted=True)
        finally:
            journal.close()
        if as_json:
            print_json(data, folder=str(folder), warning=warning or "", problems=list(problems))
        for text in (f"warning: {warning}" if warning else "", *(f"problem: {text}" for text in problems)):
            if text:
                typer.echo(text, err=True)
        typer.echo(f"wrote {RunFolder(folder).nexus}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED if problems else ExitCode.DONE)


def redetect(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", exists=True, file_okay=False, help="Folders of runs.")
    ],
    overrides: Overrides = None,
    engine: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where to compute.")
    ] = "local",
    jobs: Annotated[int, typer.Option(min=0, help="Local processes; 0: one for every core.")] = 0,
    path_map: Annotated[
        list[str] | None,
        typer.Option(metavar="HERE=THERE", help="Where a cluster finds the runs, e.g. /data=Z:/data."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the results, which may hold earlier ones.")
    ] = Path("redetected"),
    as_json: Json = False,
) -> None:
    """Detect again in recorded fast images, e.g. with --set detect.options.threshold=60, and compare.

    What was stopped goes on where it was when the same command is given again.
    """
    with reported(as_json) as data:
        from .redetect import redetect_shown

        rows = redetect_shown(
            folders, overrides or (), out, engine=engine, jobs=jobs, path_maps=path_map or ()
        )
        if as_json:
            print_json(data, out=str(out), tiles=rows)


def report(
    folder: RunArgument,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Print it as report.pdf too, by Chromium, Chrome or Edge.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the report of a run, report.html, anew; the run may be going on."""
    with reported(as_json) as data:
        from sparse_actors.report.pdf import print_pdf
        from sparse_actors.report.run_report import write_report

        page = write_report(folder)
        typer.echo(f"wrote {page}", err=True)
        printed = print_pdf(page) if pdf else None
        if printed is not None:
            typer.echo(f"wrote {printed}", err=True)
        if as_json:
            print_json(data, folder=str(folder), report=str(page), pdf=printed and str(printed))
