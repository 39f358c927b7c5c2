"""The commands that choose an operating point: `pairs` and `sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from .reporting import ConfigFile, Json, Overrides, print_json, reported

Fast = Annotated[
    list[str] | None,
    typer.Option(metavar="WxH@NS", help="A fast setting: pixels and dwell time; can be repeated."),
]


def pairs(
    config: ConfigFile = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="N|NAMES", help="How many tiles, drawn at random, or which: r000c003,r002c001. [10]"
        ),
    ] = None,
    fast: Fast = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the pairs, instead of a new one in out_dir.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the pairs in --out, by default the latest.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what time, dose and disk it takes.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Make pairs from images that are there, not by scanning."),
    ] = None,
    noise_grey: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="SIGMA", help="With --from: noise added to sampled images at the analysis dwell."
        ),
    ] = 0.0,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Scan whole tiles with fast settings and for analysis, to choose the operating point from.

    Ctrl-C ends it after the scan in flight and brings the microscope back; it can be resumed.
    """
    with reported(as_json) as data:
        from . import pairs as shown

        if source is not None:
            found = shown.pairs_from_files(config, overrides or (), source, fast or (), noise_grey, out)
            if as_json:
                print_json(data, **found)
            return
        predicted, result, code = shown.pairs_shown(
            config, overrides or (), tiles=tiles, fast=fast or (), out=out, resume=resume, check=check
        )
        if as_json:
            ended = {}
            if result is not None:
                ended = {
                    "outcome": result.outcome,
                    "reason": result.reason,
                    "problems": list(result.problems),
                    "folder": str(result.folder),
                }
            print_json(data, prediction=shown.as_json(predicted), **ended)
        raise typer.Exit(code)
