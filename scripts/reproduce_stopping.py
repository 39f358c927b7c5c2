"""Whether the estimate of a map's distortion holds, and where rules for stopping end a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import nbinom
from stopping_fields import MappedField, drawn_fields, micrographs
from stopping_runs import Check, End, checks, end

from sparse_actors.sampling.stopping import LAWS, SPREAD, Evidence, Law, estimate, learnt_threshold, posterior

SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)
TARGETS = (0.02, 0.01, 0.005)
FIT_FIELDS, FIELDS = 15, 27
"""Of each class that is drawn; of the micrographs all."""
FIT_SEED = 1000
Row = dict[str, Any]
Run = tuple[Check, ...]

TEXT = """# When a phase map is good enough

A map says how much of it is still wrong, with an interval that should hold the truth in 95 % of maps and be
exceeded in 2.5 %. It is told from the votes where near points disagree, from the particles found, each of
which stands for those of its size that no point can have hit yet, and from the points that were drawn
without regard to what they may find: every 20th, anywhere, and a tenth from 5 % on, far from all others.

Checked on {maps} maps, each of a field and with a seed of its own, by the same code that makes maps in a run;
the classifier makes no mistake. Fields are 64 to 256 px wide. Particles of radius 1, 2 and 3 px cover 0.3 to
10 %, graded fields have many particles on one side and few on the other, or a border that frays out; stripes
are 2 to 12 px wide. The estimate was fitted on {fitted} other fields: drawn with other seeds, and other
micrographs. Shares of wrong pixels are medians.

| points | maps | held | truth above | true | estimated | upper end | width |
|---|---|---|---|---|---|---|---|
{by_fraction}

By class, all fractions together:

| field | checks | held | truth above | true | estimated | upper end | width |
|---|---|---|---|---|---|---|---|
{by_kind}

A class that the fit has not seen at all, with a fit to the other classes:

| field | checks | held | truth above |
|---|---|---|---|
{unseen}

## Where maps end

With `distortion_pct` a map ends when the upper end of the interval is below it, at 20 % of the points at the
latest, and not before so many points that particles covering that share are hit with 97.5 % probability (183
for 2 %). These maps ended by themselves, each field with one of the targets. Beside them the paper's rule
(its filtered error below a threshold learnt for the target on the fields of the fit) on all maps, which it
looks at nine times.

| target | rule | maps | ended before 20 % | of these no more wrong than asked | worst | points, mean |
|---|---|---|---|---|---|---|
{rules}

The fit, to be copied to `LAWS` and `SPREAD` in `sparse_actors/sampling/stopping.py` when sampler or
reconstruction change: {fit}; in use: {used}.

{made_by}
"""


def rows(quick: bool, seed: int, processes: int = 1) -> Iterator[Row]:
    """Yield the fit, how often the interval holds by fraction and class, and where rules end maps."""
    few = slice(1 if quick else None)
    to_fit = [*drawn_fields("fit", 1 if quick else FIT_FIELDS), *list(micrographs("fit"))[few]]
    to_judge = [*drawn_fields("judge", 1 if quick else FIELDS), *list(micrographs("judge"))[few]]
    fitted_on = _each(_run, [(field, seed + FIT_SEED + i) for i, field in enumerate(to_fit)], processes)
    laws, spread = fit([check for run in fitted_on for check in run])
    yield {"what": "fit", "fields": len(to_fit), "laws": [list(law) for law in laws], "spread": spread}

    judged = _each(_run, [(field, seed + i) for i, field in enumerate(to_judge)], processes)
    shown = [check for run in judged for check in run if check.fraction in SHOWN]
    for fraction in SHOWN:
        yield _coverage("points", f"{fraction:.0%}", [c for c in shown if c.fraction == fraction])
    yield _coverage("points", "all", shown)
    for kind in dict.fromkeys(check.kind for check in shown):
        yield _coverage("field", kind, [c for c in shown if c.kind == kind])
    for kind in dict.fromkeys(check.kind for check in shown):
        others = [check for run in fitted_on for check in run if check.kind != kind]
        of_others = fit(others)
        yield _coverage("class not fitted", kind, [c for c in shown if c.kind == kind], of_others)

    jobs = [(field, seed + i, TARGETS[i % len(TARGETS)]) for i, field in enumerate(to_judge)]
    ended = _each(_end, jobs, processes)
    for target in TARGETS:
        yield _rule(target, "interval", [e for e in ended if e.target == target])
        threshold = learnt_threshold([_learning_curve(run) for run in fitted_on], target)
        by_error = [_first(run, target, partial(_is_filtered, threshold)) for run in judged]
        yield _rule(target, "filtered error", by_error) | {"threshold": threshold}


def _each(work: Callable[[Any], Any], jobs: Sequence[Any], processes: int) -> list[Any]:
    if processes == 1:
        return [work(job) for job in jobs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, jobs))


def _run(job: tuple[MappedField, int]) -> Run:
    return tuple(checks(*job))


def _end(job: tuple[MappedField, int, float]) -> End:
    return end(*job)


def fit(known: Sequence[Check]) -> tuple[tuple[Law, ...], float]:
    """Return the `LAWS` of greatest likelihood for simulated maps, and the `SPREAD` that lets 95 % hold."""
    seen = _stacked([check.seen for check in known])
    wrong = np.array([round(check.distortion * check.seen.pixels) for check in known])
    disputed = np.array([check.wrong_disputed for check in known])
    laws = []
    for used, is_disputed in zip(LAWS, (True, False), strict=True):
        found = minimize(
            partial(_loss, seen, disputed if is_disputed else wrong - disputed, is_disputed),
            used,
            method="L-BFGS-B",
            bounds=[(-5, 5)] * (len(used) - 1) + [(0.001, 1)],
        )
        laws.append(Law(*(round(float(value), 3) for value in found.x)))
    for spread in np.arange(1, 3, 0.05):
        held = [_holds(check, estimate(check.seen, laws, spread)) for check in known]
        if np.mean(held) >= 0.95:
            break
    return tuple(laws), round(float(spread), 2)


def _stacked(parts: Sequence[Any]) -> Any:
    """Return one of the parts with arrays of all of them for its fields."""
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(parts[0])}
    return replace(
        parts[0],
        **{
            name: _stacked(column) if is_dataclass(column[0]) else np.array(column)
            for name, column in columns.items()
        },
    )


def _loss(seen: Evidence, count: NDArray[np.int64], is_disputed: bool, law: NDArray[np.float64]) -> float:
    """Return the mean negative logarithm of a negative binomial likelihood, and a little for large values."""
    shape, mean = posterior(seen, Law(*law), is_disputed)
    likelihood = nbinom.logpmf(count, shape, shape / (shape + mean))
    return -float(likelihood.mean()) + 1e-4 * float(np.square(law).sum())


def _holds(check: Check, found: Any) -> bool:
    return bool(found.low <= check.distortion <= found.high)


def _coverage(by: str, name: str, known: Sequence[Check], fitted: tuple[Any, float] | None = None) -> Row:
    found = [check.found if fitted is None else estimate(check.seen, *fitted) for check in known]
    true = [check.distortion for check in known]
    return {
        "what": "interval",
        "by": by,
        "of": name,
        "checks": len(known),
        "fields": len({(check.kind, check.field) for check in known}),
        "held": float(np.mean([_holds(c, e) for c, e in zip(known, found, strict=True)])),
        "above": float(np.mean([t > e.high for e, t in zip(found, true, strict=True)])),
        "td_median": float(np.median(true)),
        "estimate_median": float(np.median([e.expected for e in found])),
        "high_median": float(np.median([e.high for e in found])),
        "width_median": float(np.median([e.high - e.low for e in found])),
    }


def _is_filtered(threshold: float, check: Check) -> bool:
    return check.is_falling and check.filtered_error < threshold


def _first(run: Run, target: float, ends: Callable[[Check], bool]) -> End:
    last = next((check for check in run if ends(check)), run[-1])
    return End(target, last is not run[-1], last.fraction, last.distortion)


def _learning_curve(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([c.filtered_error for c in run]), np.array([c.distortion for c in run])


def _rule(target: float, name: str, ends: Sequence[End]) -> Row:
    met = [e for e in ends if e.is_met]
    return {
        "what": "rule",
        "target": target,
        "rule": name,
        "maps": len(ends),
        "ended": len(met),
        "kept": sum(e.distortion <= target for e in met),
        "td_worst": max((e.distortion for e in met), default=0.0),
        "fraction_mean": float(np.mean([e.fraction for e in ends])),
    }


def line(row: Row) -> str:
    """Return one row for people."""
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )


def documents(found: list[Row], made_by: str) -> dict[str, str]:
    """Return the tables."""
    short = "| {of} | {checks} | {held:.1%} | {above:.1%} |"
    long = short + " {td_median:.4f} | {estimate_median:.4f} | {high_median:.4f} | {width_median:.4f} |"
    rule = "| {target:.1%} | {rule} | {maps} | {ended} | {kept} | {td_worst:.4f} | {fraction_mean:.1%} |"
    fitted = next(row for row in found if row["what"] == "fit")

    def table(form: str, **wanted: str) -> str:
        picked = [row for row in found if wanted.items() <= row.items()]
        return "\n".join(form.format(**row) for row in picked)

    text = TEXT.format(
        maps=next(row["fields"] for row in found if row.get("of") == "all"),
        fitted=fitted["fields"],
        by_fraction=table(long, what="interval", by="points"),
        by_kind=table(long, what="interval", by="field"),
        unseen=table(short, what="interval", by="class not fitted"),
        rules=table(rule, what="rule"),
        fit=f"{fitted['laws']}, {fitted['spread']}",
        used=f"{[list(law) for law in LAWS]}, {SPREAD}",
        made_by=made_by,
    )
    return {"stopping.md": text}
