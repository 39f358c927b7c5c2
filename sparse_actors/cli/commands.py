"""The commands. Data goes to stdout, progress and words to stderr.

Only typer is imported here, so that `--help` and completion answer at once.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .evaluation_commands import codesign, pairs, promise, sweep, train_detector
from .keys_commands import keys_app
from .page_command import page
from .queue_commands import COMMANDS
from .recorded_commands import export, redetect, repair, replay, report
from .reporting import Commands, ConfigFile, Json, Overrides, print_json, reported
from .spectra_commands import learn, train_app

app = typer.Typer(
    cls=Commands,
    name="sparse-actors",
    help="Adaptive electron microscopy: beam time only where it matters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show the configuration, or its schema for editors.", no_args_is_help=True)
app.add_typer(config_app, name="config")


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
    """Run a survey, maps or both. Ctrl-C ends it after the scan in flight; it can be resumed."""
    with reported(as_json) as data:
        from .run import run_shown

        result, figures, code = run_shown(config, overrides or (), out, resume, until_tile)
        if as_json:
            print_json(
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
    with reported(as_json) as data:
        from dataclasses import asdict

        from rich.console import Console

        from sparse_actors.codesign_record import advice as advice_of
        from sparse_actors.config import load_config
        from sparse_actors.instrument_times import read_times, times_folder

        from .advise import advise, measured_detection_s, sentences
        from .check import declared_limits, free_disk_bytes, predict, table, warnings
        from .check_maps import map_sentences, map_table, map_warnings, predict_maps

        settings = load_config(config, overrides or ()).for_survey()
        limits = declared_limits(settings)
        prediction = predict(
            settings,
            limits,
            free_disk_bytes(settings.run.out_dir),
            read_times(times_folder(os.environ), settings.microscope),
        )
        eds = settings.eds
        maps = None if eds is None else predict_maps(settings, eds)
        has_survey = eds is None or eds.where == "regions"
        warned = warnings(settings, prediction, has_survey, maps.costs[-1].disk_bytes if maps else 0)
        if has_survey and (said := advice_of(times_folder(os.environ), settings)) is not None:
            warned.append(said)
        if eds is not None and maps is not None:
            warned += map_warnings(settings, eds, maps)
        found = {}
        if advice:
            detection_s = measured_detection_s(settings, limits.pixel_type)
            mine, best = advise(settings, prediction.timing, detection_s)
            found = {"detection_s": detection_s, "configured": asdict(mine), "best": asdict(best)}
        if as_json:
            print_json(
                data,
                is_valid=True,
                problems=[],
                warnings=warned,
                prediction=prediction.to_json() if has_survey else None,
                maps=maps.to_json() if maps else None,
                advice=found,
            )
            return
        console = Console(stderr=True)
        if has_survey:
            console.print(table(prediction))
        if eds is not None and maps is not None:
            console.print(map_table(settings, eds, maps))
        if settings.microscope.beam_current_pa is None:
            console.print("dose: not known; give microscope.beam_current_pa", markup=False)
        elif has_survey and prediction.dose_e_per_nm2:
            fast, analysis, both = prediction.dose_e_per_nm2
            console.print(f"dose: fast {fast:.3g}, rescan {analysis:.3g}, both {both:.3g} electrons per nm^2")
        for sentence in map_sentences(maps) if maps else ():
            console.print(sentence, markup=False)
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
    """Check a run's journal against its pixels and spectra; changes nothing. Exit code 1 if they disagree."""
    with reported(as_json) as data:
        from dataclasses import asdict

        from sparse_actors.recording import verify as recording

        from .exit_codes import ExitCode

        report = recording.verify(folder)
        if as_json:
            print_json(data, is_sound=not report.problems, folder=str(folder), **asdict(report))
        for warning in report.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for problem in report.problems:
            typer.echo(f"problem: {problem}", err=True)
        verdict = (
            f"{len(report.problems)} problems" if report.problems else "everything is as it was recorded"
        )
        checked = f"{report.scans_checked} scans, {report.pixels} pixels, {report.spectra} spectra"
        typer.echo(f"{checked}: {verdict}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED if report.problems else ExitCode.DONE)


@app.command()
def audit(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", exists=True, file_okay=False, help="Folder of a run.")
    ],
    as_json: Json = False,
) -> None:
    """Estimate what a run has missed so far, by the random windows of its audit; changes nothing."""
    with reported(as_json) as data:
        from .audit import audit_folder, figures, sentences

        found = audit_folder(folder)
        if as_json:
            print_json(data, **figures(found))
        for sentence in sentences(found):
            typer.echo(sentence, err=True)


@app.command()
def worker(
    endpoint: Annotated[
        str, typer.Argument(help="Where the run listens (workers.listen), e.g. tcp://scope:7741.")
    ],
    keyfile: Annotated[
        Path | None, typer.Option(metavar="NAME.secret", help="Key of this computer, of `keys new`.")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="How many jobs at a time.")] = 1,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="What this computer has, e.g. gpu; repeatable.")
    ] = None,
) -> None:
    """Detect for the runs of another computer, one after the other, until Ctrl-C.

    It is let in by its key. On one and the same computer a secret in SPARSE_ACTORS_WORKER_TOKEN, the same
    for the run and the worker, does as well.
    """
    with reported(False):
        from sparse_actors.network.worker_host import host_workers

        raise typer.Exit(host_workers(endpoint, keyfile, slots, tag or ()))


@app.command()
def tap(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="Kinds of messages, e.g. Recorded; all.")
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="ENDPOINT", help="Where the run shows its messages (taps.listen).")
    ] = "tcp://127.0.0.1:7742",
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Of each kind, one of N.")] = 1,
    to: Annotated[str, typer.Option(metavar="FORM", help="json: lines; npy: the arrays, as files.")] = "json",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for files; else lines go to stdout.")
    ] = None,
) -> None:
    """Show the messages of a run that goes on: those so far, and then each as it comes."""
    with reported(False) as data:
        from .tap import tap as listen_and_write

        if to not in ("json", "npy"):
            raise typer.BadParameter(f"{to!r}: expected json or npy", param_hint="--to")
        lost = listen_and_write(at, topics or (), every, to, out, data)
        for kind, count in sorted(lost.items()):
            typer.echo(f"{count} messages {kind} were lost: they came faster than they were taken", err=True)


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
    with reported(as_json) as data:
        from sparse_actors.config import load_config, origins

        settings = load_config(config, overrides or ())
        sources = origins(settings, config, overrides or ())
        if as_json:
            more: dict[str, Any] = {"origins": sources} if origin else {}
            print_json(data, config=settings.model_dump(mode="json"), **more)
        elif origin:
            width = max(map(len, sources))
            for key, source in sources.items():
                typer.echo(f"{key:{width}}  {source}", file=data)
        else:
            typer.echo(settings.to_toml(), nl=False, file=data)


app.command()(pairs)
app.command()(sweep)
app.command()(codesign)
app.command()(promise)
app.command()(learn)
app.command()(export)
app.command()(repair)
app.command()(replay)
app.command()(redetect)
app.command()(report)
app.command()(page)
app.add_typer(train_app, name="train")
train_app.command("detector")(train_detector)
app.add_typer(keys_app, name="keys")
for command in COMMANDS:
    app.command()(command)
