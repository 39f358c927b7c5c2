"""From which value of an option on each site is found: what a promise is made of.

The score of a site is the strictest value at which, and at every looser one tried, the site is found. Found
is what the detection rate counts (eq. 4 of the SPARSE paper).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging

from .engines import engine
from .grid import Configuration, Setting
from .guarantee import NEVER
from .judging import REFERENCE_DETECTOR, opened, sites_of, with_one_thread
from .matching import find

Looser = Literal["higher", "lower"]


def site_scores(
    folder: Path,
    config: Config,
    values: Sequence[Configuration],
    looser: Looser,
    *,
    engine_name: str = "local",
    jobs: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float64]]:
    """Return the scores of the sites of each tile of the pairs in a folder.

    Parameters
    ----------
    folder
        Of the pairs.
    config
        With the detector to be judged.
    values
        What is tried: configurations that differ in one number.
    looser
        Whether the detector finds more with a higher value or with a lower one.
    engine_name, jobs
        See `engine`.
    on_progress
        Called with how many tiles are done and how many there are.
    """
    given = [parse_config(config.to_toml(), one.overrides) for one in values]  # wrong ones are told at once
    numbers = [value_of(one) for one in values]
    order = np.argsort(numbers)
    strictest_first = order if looser == "higher" else order[::-1]
    texts = [given[n].to_toml() for n in strictest_first]
    scores = []
    tiles = opened(str(folder.absolute())).tiles
    with engine(engine_name, jobs) as executor:
        futures = [
            executor.submit(
                _found_from, str(folder.absolute()), tile, values[0].fast, values[0].reference, texts
            )
            for tile in tiles
        ]
        for done, future in enumerate(futures, start=1):
            first = future.result()
            ladder = np.array([*(numbers[n] for n in strictest_first), NEVER])
            scores.append(ladder[first])
            on_progress(done, len(futures))
    return scores


def value_of(configuration: Configuration) -> float:
    """Return the one number that a configuration sets; raises ConfigError."""
    ((key, value),) = configuration.options
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            f"--grid {key}: {value!r} is no number; a promise needs a scale from strict to loose"
        )
    return float(value)


def looser_of(config: Config, key: str) -> Looser | None:
    """Return in which direction a known option finds more; None where that is not known."""
    if key == "detect.options.threshold" and config.detect.detector == REFERENCE_DETECTOR:
        return "lower" if config.detect.options.get("polarity") == "bright" else "higher"
    return "lower" if key == "detect.options.min_score" else None


def _found_from(
    folder: str, tile: str, fast: Imaging, reference: Setting, texts: list[str]
) -> NDArray[np.int64]:
    """Return for each site (n,) the number of the first configuration from which on it is always found."""
    pairs = opened(folder)
    sites = sites_of(folder, tile, reference)
    image = pairs.fast(tile, fast)
    scale = sites.shape[0] // image.shape[0]
    first = np.full(len(sites), len(texts), np.int64)
    is_found_on = np.ones(len(sites), np.bool_)
    for number in range(len(texts) - 1, -1, -1):  # from the loosest, until none of the sites is found
        config = parse_config(texts[number])
        detector: Any = plugins.build("detector", config.detect.detector, with_one_thread(config))
        is_found_on &= sites.overlapped(find(detector, image, scale).painted(sites.shape))
        first[is_found_on] = number
        if not is_found_on.any():
            break
    return first
