"""Total distortion of phase maps of few points: our sampler, its authors' and others, by case."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slads_authors import authors_order, exact_order, train
from slads_baselines import PATTERNS, heuristic, maps, oracle, pattern_maps
from slads_images import EXPERIMENTS, Experiment, Labels, observed
from slads_report import documents, line

from sparse_actors.sampling.erd_model import default
from sparse_actors.sampling.field_sampler import FieldSampler
from sparse_actors.sampling.reconstruction import reconstruct

__all__ = ["EXPERIMENTS", "documents", "line", "rows"]

SEEDS = 3
METHODS = ("ours", "authors", "heuristic", "R2", "grid", "Halton", "random", "oracle")
NOISY_METHODS = ("ours", "authors", "heuristic", "Halton")
QUICK_CASES = ("two-phase-128",)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One map: a field of a case, a method and a seed."""

    case: str
    fold: int
    test: int
    method: str
    seed: int


def rows(quick: bool, seed: int, processes: int = 1, only: Sequence[str] = ()) -> Iterator[Row]:
    """Yield one row for each case, method and fraction: mean and worst over fields and seeds.

    `only` names cases; empty: those of `quick`, or all.
    """
    jobs = list(_jobs(only or (QUICK_CASES if quick else EXPERIMENTS), quick, seed))
    found: dict[tuple[str, str], dict[Job, list[float]]] = defaultdict(dict)
    expected = {(job.case, job.method): 0 for job in jobs}
    for job in jobs:
        expected[job.case, job.method] += 1
    for job, distortions in _results(jobs, processes):
        for method, values in distortions.items():
            found[job.case, method][job] = values
        if len(found[job.case, job.method]) == expected[job.case, job.method]:
            for method in distortions:
                yield from _summary(job.case, method, found[job.case, method])


def _jobs(cases: Iterable[str], quick: bool, seed: int) -> Iterator[Job]:
    """Yield the maps to make, those that take longest first."""
    for case in sorted(cases, key=lambda case: ("1024" not in case, case)):
        folds = EXPERIMENTS[case].folds()
        for method in _methods(EXPERIMENTS[case], quick):
            for fold, fields in enumerate(folds):
                for test in range(1 if quick else len(fields.tests)):
                    for number in range(1 if quick else SEEDS):
                        yield Job(case, fold, test, method, seed + number)


def _methods(experiment: Experiment, quick: bool) -> Sequence[str]:
    if experiment.ill or experiment.misclassified:
        return NOISY_METHODS
    return METHODS[:-1] if quick else METHODS[::-1]


def _results(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, list[float]]]]:
    if processes == 1:
        yield from ((job, run(job)) for job in jobs)
        return
    # Spawned processes start with the environment of this one: one thread each.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from zip(jobs, pool.map(run, jobs), strict=True)


def run(job: Job) -> dict[str, list[float]]:
    """Return the total distortion at each fraction of the case, by the name of method and reconstruction.

    Pixels with an ill spectrum have no true label and do not count.
    """
    experiment = EXPERIMENTS[job.case]
    truth = experiment.folds()[job.fold].tests[job.test].labels
    seen = observed(truth, experiment.ill, experiment.misclassified, job.seed)
    counts = [int(fraction * truth.size) for fraction in experiment.fractions]
    if job.method == "ours":
        made = {"ours": list(our_maps(seen, counts, job.seed))}
    elif job.method in PATTERNS:
        vote, nearest = zip(*pattern_maps(seen, job.method, counts, job.seed), strict=True)
        made = {job.method: list(vote), f"{job.method}, nearest": list(nearest)}
    else:
        made = {job.method: [vote for vote, _ in maps(seen, _order(job, seen, counts[-1]), counts)]}
    return {
        method: [float((phase_map != truth)[seen > 0].mean()) for phase_map in phase_maps]
        for method, phase_maps in made.items()
    }


def our_maps(seen: Labels, counts: Sequence[int], seed: int) -> Iterator[NDArray[Any]]:
    """Yield our map at each count of points; the sampler is the one that comes with the program."""
    shape = seen.shape
    sampler = FieldSampler(shape, default(), seed=seed, budget_fraction=counts[-1] / seen.size)
    measured = np.empty((0, 2), dtype=np.int64)
    for count in counts:
        while len(measured) < count:
            points = sampler.pick(1)
            sampler.tell(points, seen[points[:, 1], points[:, 0]])
            measured = np.concatenate((measured, points))
        yield reconstruct(shape, measured, seen[measured[:, 1], measured[:, 0]]).labels


def _order(job: Job, seen: Labels, count: int) -> NDArray[np.int64]:
    """Return what a method that learns from its measurements measures, in order, as indices."""
    if job.method == "authors":
        fields = EXPERIMENTS[job.case].folds()[job.fold].train
        theta = train([field.labels for field in fields], seed=job.seed)
        is_large = seen.size > 512**2
        return (exact_order if is_large else authors_order)(seen, theta, count, job.seed)
    return {"heuristic": heuristic, "oracle": oracle}[job.method](seen, count, job.seed)


def _summary(case: str, method: str, found: dict[Job, list[float]]) -> Iterator[Row]:
    experiment = EXPERIMENTS[case]
    values = np.array(list(found.values()))
    for fraction, column in zip(experiment.fractions, values.T, strict=True):
        yield {
            "case": case,
            "method": method,
            "fraction": fraction,
            "td_mean": float(column.mean()),
            "td_worst": float(column.max()),
            "n_images": len({(job.fold, job.test) for job in found}),
            "n_seeds": len({job.seed for job in found}),
            "paper": experiment.paper.get(fraction),
            "goal": experiment.goals.get(fraction),
        }
