"""The commands that choose an operating point, from `pairs` to `promise`."""

from pathlib import Path
from typing import Annotated, Literal

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


def sweep(
    folder: Annotated[
        Path, typer.Argument(metavar="PAIRS", exists=True, file_okay=False, help="Folder of pairs.")
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="What to try, e.g. detect.options.threshold=45:75:5."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Options of the reference sites, e.g. threshold=45:60:5; as configured.",
        ),
    ] = None,
    fast: Fast = None,
    random: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N of the configurations, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Local processes; 0: one for every core.")] = 0,
    engine: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where to compute.")
    ] = "local",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the results; by default PAIRS/sweep.")
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(metavar="GOAL", help='Choose the fastest configuration with e.g. "recall>=0.99".'),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="With --pick: configuration file to change."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge detector options, regions and fast settings on pairs: what is found, and in what time.

    A sweep that was stopped goes on where it was when the same command is given again.
    """
    with reported(as_json) as data:
        from .exit_codes import ExitCode
        from .sweep import SweepOptions, rows_as_json, sweep_shown

        options = SweepOptions(
            grid=grid or (),
            reference=reference or (),
            fast=fast or (),
            random=random,
            seed=seed,
            engine=engine,
            jobs=jobs,
            out=out,
            goals=pick or (),
            into=into,
        )
        try:
            found = sweep_shown(folder, options)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on with it", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if as_json:
            print_json(data, **{**found, "rows": rows_as_json(found["rows"])})


def train_detector(
    folder: Annotated[
        Path, typer.Argument(metavar="PAIRS", exists=True, file_okay=False, help="Folder of pairs.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Scorer to write, .onnx, for detect.options.model.")
    ],
    fast: Annotated[
        str | None,
        typer.Option(metavar="WxH@NS", help="Which fast setting, where the pairs have several."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What a site is, e.g. threshold=55; as configured."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random; kept with the result.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there under this name.")] = False,
    as_json: Json = False,
) -> None:
    """Train what the detector `candidates` goes by, from pairs; needs the packages of the extra `train`.

    A model card is written beside it: trained on what, judged on what.
    """
    with reported(as_json) as data:
        from .train_detector import detector_trained

        found = detector_trained(folder, out, fast, reference or (), seed, force)
        if as_json:
            print_json(data, **found)


def promise(
    folder: Annotated[
        Path, typer.Argument(metavar="PAIRS", exists=True, file_okay=False, help="Folder of pairs.")
    ],
    recall: Annotated[float, typer.Option(help="Share of the sites to be found, at least.")] = 0.99,
    confidence: Annotated[float, typer.Option(help="With which probability that holds.")] = 0.95,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="What is chosen, e.g. detect.options.threshold=45:95:1; by default thresholds around the "
            "configured one.",
        ),
    ] = None,
    looser: Annotated[
        Literal["higher", "lower"] | None,
        typer.Option(metavar="higher|lower", help="Where more is found; known of threshold and min_score."),
    ] = None,
    lost_together: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sites that one tile may miss; by default by their number."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What a site is, e.g. threshold=55; as configured."),
    ] = None,
    fast: Annotated[
        str | None,
        typer.Option(metavar="WxH@NS", help="Which fast setting, where the pairs have several."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Configuration to judge and change; by default one is written to PAIRS.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Local processes; 0: one for every core.")] = 0,
    engine: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where to compute.")
    ] = "local",
    as_json: Json = False,
) -> None:
    """Choose the strictest value of which it is proven, not only seen, that enough of the sites are found.

    Where the pairs are too few for that it says how many sites are missing, and nothing is written.
    """
    with reported(as_json) as data:
        from .promise import PromiseOptions, promise_shown

        options = PromiseOptions(
            recall=recall,
            confidence=confidence,
            grid=grid,
            looser=looser,
            lost_together=lost_together,
            reference=reference or (),
            fast=fast,
            into=into,
            engine=engine,
            jobs=jobs,
        )
        found = promise_shown(folder, options)
        if as_json:
            print_json(data, **found)


def codesign(
    folder: Annotated[
        Path, typer.Argument(metavar="PAIRS", exists=True, file_okay=False, help="Folder of pairs.")
    ],
    recall: Annotated[float, typer.Option(help="Share of the sites to be found.")] = 0.99,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Configuration to change; by default one is written to PAIRS.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Local processes; 0: one for every core.")] = 0,
    engine: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where to compute.")
    ] = "local",
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated noise.")] = 0,
    as_json: Json = False,
) -> None:
    """Choose pitch and dwell time of the fast scan together, for the least total time at a recall.

    Noise and sweep are measured on the pairs; fast scans are simulated from their analysis images.
    """
    with reported(as_json) as data:
        from .codesign import codesign_shown

        found = codesign_shown(folder, recall, into, engine, jobs, seed)
        if as_json:
            print_json(data, **found)
