"""Training a scorer of candidates in front of somebody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.grid import configurations
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.scorer_training import save, train_scorer

from .pairs import setting_of
from .train import refuse_to_overwrite


def detector_trained(
    folder: Path, out: Path, fast: str | None, reference: Sequence[str], seed: int, force: bool
) -> dict[str, Any]:
    """Train on pairs and say where the scorer is and what it is worth; raises ConfigError and OSError."""
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: expected a name that ends in .onnx")
    for file in (out, out.with_suffix(".json")):
        refuse_to_overwrite(file, force)
    pairs = open_pairs(folder)
    setting = setting_of(pairs, fast)
    wanted = configurations([setting], (), reference)
    if len(wanted) != 1:
        raise ConfigError("--reference: expected one value for each key")
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{len(pairs.tiles)} tiles; {pairs.origin}")
    trained = train_scorer(pairs, setting, wanted[0].reference, seed=seed, on_progress=say)
    card = save(trained, out)
    judged = trained.card["judged_on"]
    for recall, detections in judged["detections_a_tile_at_recall"]:
        say(f"recall {recall:.0%} of {judged['sites']} sites: {detections:g} detections a tile")
    say(f"wrote {out} and {card}")
    say(f'use it: [detect] detector = "candidates", [detect.options] model = "{out.as_posix()}"')
    return {"model": str(out), "card": trained.card}
