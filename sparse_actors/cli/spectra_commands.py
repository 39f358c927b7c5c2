"""The commands that make what maps need: a library of spectra, a classifier, a sampler."""

from pathlib import Path
from typing import Annotated

import typer

from .reporting import ConfigFile, Json, Overrides, print_json, reported

train_app = typer.Typer(
    help="Make a sampler from label images, a classifier from a library, or a detector from pairs.",
    no_args_is_help=True,
)

Force = Annotated[bool, typer.Option("--force", help="Replace what is there under this name.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random; kept with the result.")]


def learn(
    config: ConfigFile = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Library to write; by default eds.options.library."),
    ] = None,
    spots: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Spots spread over the first tile: 100, or 0 with --at."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y=NAME", help="A spot of a known phase, px of eds.grid_px; can be repeated."),
    ] = None,
    phases: Annotated[
        int | None, typer.Option(min=1, max=250, metavar="K", help="How many phases; else what is found.")
    ] = None,
    live_ms: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="MS", help="Live time at each spot; else 20 x eds.live_time_ms."),
    ] = None,
    overrides: Overrides = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Take spectra of a specimen, group them by phase, and write the library that maps need.

    The microscope is brought back to where it was found, on every way out.
    """
    with reported(as_json) as data:
        from .learn import learn_shown

        found = learn_shown(config, overrides or (), out, spots, at or (), phases, live_ms, force)
        if as_json:
            print_json(data, **found)


@train_app.command()
def sampler(
    images: Annotated[
        list[Path], typer.Argument(help="Label images, TIFF or PNG: 0 is left out, others are phases.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Sampler to write, for eds.sampler.")],
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train where to measure next, on maps like those to be made. Maps need no training: one is built in."""
    with reported(as_json) as data:
        from .train import sampler_trained

        found = sampler_trained(images, out, seed, force)
        if as_json:
            print_json(data, **found)


@train_app.command()
def spectra(
    library: Annotated[Path, typer.Argument(help="Library of spectra, as `learn` writes it.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the networks, for eds.options.model.")],
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train the networks that tell phases by spectra; needs the packages of the extra `train`.

    The likelihood classifier needs no training: it reads the library itself.
    """
    with reported(as_json) as data:
        from .train import spectra_trained

        found = spectra_trained(library, out, seed, force)
        if as_json:
            print_json(data, **found)
