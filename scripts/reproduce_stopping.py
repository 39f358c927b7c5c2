"""Whether the estimate of a map's distortion holds, and where rules for stopping end a map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import nbinom
from stopping_runs import Check, calibration_fields, checks, test_fields

from sparse_actors.sampling.stopping import PRIOR, Evidence, estimate, learnt_threshold, prior_of

SHOWN = (0.03, 0.05, 0.08, 0.12, 0.20)
TARGETS = (0.02, 0.01, 0.005)
CALIBRATION_SEEDS, SEEDS = 2, 3
MOST_DISTORTION = 0.3
QUICK_FIELDS = 2
Row = dict[str, Any]
Run = tuple[Check, ...]

TEXT = """# When a phase map is good enough

The number of wrong pixels is estimated from the borders in the map, the share of points measured, and the
audits: every 20th point is drawn at random. The interval should hold the truth in 95 % of maps. Checked on
{fields} fields x {seeds} seeds, whose pixels the fit has not seen: the test fields of [slads.md](slads.md),
superalloys, steels and coatings. Of the fields of the fit half are drawn, half micrographs.

| points | maps | held | true distortion | estimated | median upper end |
|---|---|---|---|---|---|
{coverage}

Where a rule ends these maps (at 20 % at the latest): the upper end of the interval below the target, and
the paper's filtered error below a threshold learnt for the target on the fields of the fit.

| target | rule | points | distortion, mean | worst | ended before 20 % |
|---|---|---|---|---|---|
{rules}

The fit, to be copied to `PRIOR` in `sparse_actors/sampling/stopping.py` when sampler or reconstruction
change:
{fit}; in use: {used}.

{made_by}
"""


def rows(quick: bool, seed: int, processes: int = 1) -> Iterator[Row]:
    """Yield the fit, how often the interval holds at each fraction and in all, and where rules end maps."""
    fields = slice(QUICK_FIELDS if quick else None)
    calibration = list(calibration_fields())[fields]
    test = list(test_fields())[fields]
    fitted_on = _runs(calibration, range(seed, seed + (1 if quick else CALIBRATION_SEEDS)), processes)
    judged = _runs(test, range(seed, seed + (1 if quick else SEEDS)), processes)
    if not quick:
        yield {"what": "fit", "prior": list(fit([check for run in fitted_on for check in _shown(run)]))}
    shown = [check for run in judged for check in _shown(run)]
    for fraction in SHOWN:
        yield _coverage(f"{fraction:.0%}", [check for check in shown if check.fraction == fraction])
    yield _coverage("all", shown)
    for target in TARGETS:
        yield _rule(target, "estimate", [_first(run, partial(_is_below, target)) for run in judged])
        threshold = learnt_threshold([_learning_curve(run) for run in fitted_on], target)
        ends = [_first(run, partial(_is_filtered, threshold)) for run in judged]
        yield _rule(target, "filtered error", ends) | {"threshold": threshold}


def _runs(fields: Sequence[tuple[str, NDArray[np.int32]]], seeds: Sequence[int], processes: int) -> list[Run]:
    jobs = [(name, np.ascontiguousarray(labels), seed) for name, labels in fields for seed in seeds]
    if processes == 1:
        return [_run(job) for job in jobs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_run, jobs))


def _run(job: tuple[str, NDArray[np.int32], int]) -> Run:
    return tuple(checks(*job))


def _shown(run: Run) -> list[Check]:
    return [check for check in run if check.fraction in SHOWN]


def fit(known: Sequence[Check]) -> tuple[float, ...]:
    """Return the `PRIOR` of greatest likelihood for the true numbers of wrong pixels of simulated maps."""
    usable = [check for check in known if check.distortion < MOST_DISTORTION]

    def loss(prior: NDArray[np.float64]) -> float:
        return -float(np.mean([_log_likelihood(check.seen, check.distortion, prior) for check in usable]))

    found = minimize(
        loss, PRIOR, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-3, "fatol": 1e-5}
    )
    return tuple(round(float(value), 3) for value in found.x)


def _log_likelihood(seen: Evidence, distortion: float, prior: NDArray[np.float64]) -> float:
    expected, shape = prior_of(seen, prior)
    return float(nbinom.logpmf(round(distortion * seen.pixels), shape, shape / (shape + expected)))


def _coverage(name: str, known: Sequence[Check]) -> Row:
    found = [estimate(check.seen) for check in known]
    true = [check.distortion for check in known]
    return {
        "what": "interval",
        "points": name,
        "maps": len(known),
        "held": float(np.mean([e.low <= t <= e.high for e, t in zip(found, true, strict=True)])),
        "too_low": float(np.mean([t > e.high for e, t in zip(found, true, strict=True)])),
        "td_mean": float(np.mean(true)),
        "estimate_mean": float(np.mean([e.expected for e in found])),
        "high_median": float(np.median([e.high for e in found])),
        "fields": len({check.field for check in known}),
        "seeds": len({check.seed for check in known}),
    }


def _is_below(target: float, check: Check) -> bool:
    return estimate(check.seen).high <= target


def _is_filtered(threshold: float, check: Check) -> bool:
    return check.is_falling and check.filtered_error < threshold


def _first(run: Run, ends: Any) -> Check:
    return next((check for check in run if ends(check)), run[-1])


def _learning_curve(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([c.filtered_error for c in run]), np.array([c.distortion for c in run])


def _rule(target: float, name: str, ends: Sequence[Check]) -> Row:
    return {
        "what": "rule",
        "target": target,
        "rule": name,
        "fraction_mean": float(np.mean([check.fraction for check in ends])),
        "td_mean": float(np.mean([check.distortion for check in ends])),
        "td_worst": max(check.distortion for check in ends),
        "ended": float(np.mean([check.fraction < 0.2 for check in ends])),
    }


def line(row: Row) -> str:
    """Return one row for people."""
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )


def documents(found: list[Row], made_by: str) -> dict[str, str]:
    """Return the tables."""
    intervals = [row for row in found if row["what"] == "interval"]
    coverage = "| {points} | {maps} | {held:.1%} | {td_mean:.4f} | {estimate_mean:.4f} | {high_median:.4f} |"
    rule = "| {target:.1%} | {rule} | {fraction_mean:.1%} | {td_mean:.4f} | {td_worst:.4f} | {ended:.0%} |"
    text = TEXT.format(
        fields=intervals[-1]["fields"],
        seeds=intervals[-1]["seeds"],
        coverage="\n".join(coverage.format(**row) for row in intervals),
        rules="\n".join(rule.format(**row) for row in found if row["what"] == "rule"),
        fit=next((row["prior"] for row in found if row["what"] == "fit"), "not made"),
        used=list(PRIOR),
        made_by=made_by,
    )
    return {"slads-stopping.md": text}
