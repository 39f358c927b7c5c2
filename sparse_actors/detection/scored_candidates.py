"""A detector that learnt what a site looks like: local minima of the fast image and a trained scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.contracts.detector import Pois
from sparse_actors.errors import ConfigError, DetectorError

from .candidates import REACH_PX, candidates
from .scorer import Scorer, ScorerFacts, facts_of, model_sha256


class ScoredCandidates:
    """Finds local minima (of bright features: maxima) that look like sites.

    Parameters
    ----------
    model
        The scorer, as `train detector` writes it; left out, the one that comes with the program, which knows
        the simulated dual-phase steel at four analysis pixels per fast pixel.
    recall
        Share of sites to be found, as on the tiles on which the scorer was judged when it was trained.
    min_score
        Candidates of at least this score are reported, whatever `recall` says; 0 reports all. A score is the
        probability that a candidate is a site.

    Raises
    ------
    ConfigError
        An option is out of range, or the scorer finds less than is asked for.
    DetectorError
        The file is no scorer.
    """

    def __init__(
        self, *, model: Path | None = None, recall: float = 0.99, min_score: float | None = None
    ) -> None:
        problems = [
            f"{name} = {value!r}: expected {expected}"
            for name, value, accepted, expected in (
                ("recall", recall, 0 < recall <= 1, "a share above 0, at most 1"),
                ("min_score", min_score, min_score is None or 0 <= min_score <= 1, "0 to 1"),
            )
            if not accepted
        ]
        if problems:
            raise ConfigError(*problems)
        self._scorer = Scorer(model)
        self._least = self._scorer.facts.score_for(recall) if min_score is None else min_score

    @property
    def facts(self) -> ScorerFacts:
        """What the scorer says of itself."""
        return self._scorer.facts

    @classmethod
    def reach_px(cls, scale: int, *, model: Path | str | None = None, **_others: Any) -> int:
        """Return how far around a candidate its features reach; raises ConfigError for another scale."""
        trained = facts_of(None if model is None else Path(model)).scale
        if trained != scale:
            raise ConfigError(_other_scale(trained, scale))
        return REACH_PX

    @classmethod
    def model_files(cls, *, model: Path | str | None = None, **_others: Any) -> dict[str, str]:
        """Return the name and the SHA-256 of the scorer, which are recorded with a run."""
        path = None if model is None else Path(model)
        return {str(path or "built in"): model_sha256(path)}

    def detect(self, image: NDArray[Any], scale: int) -> Pois:
        """Find the candidates of a fast image, (rows, columns) of uint8 or uint16, that look like sites.

        Returns
        -------
        Pois
            The centre of each minimum's pixel, its score, and the box of what is darker than half its depth,
            in analysis pixels.
        """
        facts = self._scorer.facts
        if scale != facts.scale:
            raise DetectorError(_other_scale(facts.scale, scale))
        if facts.polarity == "bright":
            image = np.iinfo(image.dtype).max - image
        found = candidates(image, facts.least_depth_grey)
        score = self._scorer.scores(found.features)
        kept = score >= self._least
        return Pois(
            xy_px=(found.row_column[kept][:, ::-1].astype(np.float64) + 0.5) * scale,
            score=score[kept],
            boxes_px=found.boxes[kept] * scale,
        )


def _other_scale(trained: int, scale: int) -> str:
    return (
        f"the scorer was trained with {trained} analysis pixels per fast pixel, here there are {scale}: "
        "train one from pairs of this fast scan, `sparse-actors train detector`"
    )
