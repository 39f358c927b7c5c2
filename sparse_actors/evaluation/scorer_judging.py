"""What a scorer of candidates is worth on tiles that it was not trained on, and what its scores mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .matching import Sites

LEVELS = 80
CARD_RECALLS = (0.9, 0.95, 0.98, 0.99)
_SCORE_BINS = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures on held-out tiles."""

    tiles: int
    sites: int
    calibration: tuple[float, float]
    """Slope and offset of the line from the sum of the trees to the log odds of a site (Platt 1999)."""
    score_at_recall: tuple[tuple[float, float], ...]
    """(recall, score), the most careful first."""
    detections_at_recall: tuple[tuple[float, float], ...]
    """(recall asked for, detections a tile)."""
    reliability: tuple[tuple[float, float, int], ...]
    """Mean score, share of sites and number of the candidates, for groups of like score."""
    brier: float
    """Mean squared error of the score."""

    def to_json(self) -> dict[str, Any]:
        """Return it for the card."""
        return {
            "how": "on the scanned fast image of every tile, by a scorer trained on the other folds of tiles;"
            " the calibration was fitted to these same scores",
            "tiles": self.tiles,
            "sites": self.sites,
            "score_at_recall": [[round(r, 5), float(f"{s:.4g}")] for r, s in self.score_at_recall],
            "detections_a_tile_at_recall": [[r, round(n, 1)] for r, n in self.detections_at_recall],
            "reliability": [
                {"mean_score": round(mean, 5), "share_of_sites": round(share, 5), "candidates": n}
                for mean, share, n in self.reliability
            ],
            "brier": self.brier,
            "calibration": list(self.calibration),
        }


def judge(
    sites: Sequence[Sites],
    pixels: Sequence[NDArray[np.int64]],
    raw: Sequence[NDArray[np.float64]],
    is_site: Sequence[NDArray[np.int8]],
    scale: int,
) -> Judgement:
    """Calibrate scores and count what they find.

    Parameters
    ----------
    sites
        Of each tile.
    pixels
        For each tile (n, 2): row, column on the analysis grid where the pixel of each candidate begins.
    raw
        For each tile (n,): log odds as the trees give them; minus infinity for what is no candidate.
    is_site
        For each tile (n,): 1, 0, or -1 where a candidate is neither clearly on a site nor off all.
    scale
        Analysis pixels per fast pixel.
    """
    used = [np.isfinite(r) & (label >= 0) for r, label in zip(raw, is_site, strict=True)]
    logits = np.concatenate([r[use] for r, use in zip(raw, used, strict=True)])
    labels = np.concatenate([label[use] for label, use in zip(is_site, used, strict=True)])
    slope, offset = _platt(logits, labels)
    scores = [_logistic(slope * r + offset) for r in raw]
    all_scores = np.concatenate([s[np.isfinite(r)] for s, r in zip(scores, raw, strict=True)])
    # Many levels where the scores of sites are, and down to the least that there is.
    levels = np.unique(
        np.quantile(_logistic(slope * logits[labels == 1] + offset), np.linspace(0, 1, LEVELS))
    )
    levels = np.unique(
        np.concatenate([levels, np.geomspace(max(all_scores.min(), 1e-7), levels[-1], LEVELS)])
    )
    total = sum(map(len, sites))
    found = np.zeros(len(levels), np.int64)
    for tile, corner, score in zip(sites, pixels, scores, strict=True):
        found += _found(tile, corner, score, levels, scale)
    recalls = found / max(total, 1)
    # The highest score of each recall is the cheapest way to it.
    table = [
        (float(r), float(s))
        for r, s, after in zip(recalls, levels, [*recalls[1:], -1.0], strict=True)
        if r > after
    ]
    detections = []
    for wanted in CARD_RECALLS:
        fitting = [score for recall, score in table if recall >= wanted]
        if fitting:
            detections.append((wanted, float((all_scores >= max(fitting)).sum()) / len(sites)))
    calibrated = _logistic(slope * logits + offset)
    groups = np.digitize(calibrated, _SCORE_BINS[1:-1])
    return Judgement(
        tiles=len(sites),
        sites=total,
        calibration=(slope, offset),
        score_at_recall=tuple(table),
        detections_at_recall=tuple(detections),
        reliability=tuple(
            (
                float(calibrated[groups == g].mean()),
                float(labels[groups == g].mean()),
                int((groups == g).sum()),
            )
            for g in np.unique(groups)
        ),
        brier=float(((calibrated - labels) ** 2).mean()),
    )


def _found(
    sites: Sites,
    corner: NDArray[np.int64],
    score: NDArray[np.float64],
    levels: NDArray[np.float64],
    scale: int,
) -> NDArray[np.int64]:
    """Return how many sites have a candidate of each score or more."""
    counts = np.zeros(len(levels), np.int64)
    painted = np.zeros(sites.shape, np.bool_)
    before = np.inf
    for n in range(len(levels) - 1, -1, -1):
        for row, column in corner[(score >= levels[n]) & (score < before)]:
            painted[row : row + scale, column : column + scale] = True
        before = levels[n]
        counts[n] = sites.overlapped(painted).sum()
    return counts


def _platt(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Return the line to log odds that makes the labels likeliest, the slope above 0."""
    from scipy.optimize import minimize

    sign = np.where(labels == 1, -1.0, 1.0)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = np.exp(line[0]) * logits + line[1]
        slope = sign * _logistic(sign * odds)
        gradient = np.array([(slope * np.exp(line[0]) * logits).mean(), slope.mean()])
        return float(np.logaddexp(0, sign * odds).mean()), gradient

    logarithm, offset = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x
    return float(np.exp(logarithm)), float(offset)


def _logistic(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return result
