"""Measure this program beside others that do the same, in one run and interleaved.

python scripts/benchmark.py                       all cases, one table
python scripts/benchmark.py --case "detect-*"     some of them
python scripts/benchmark.py --json                one object a line
python scripts/benchmark.py --check               small inputs; results are compared, nothing is timed

This program uses one thread unless the case says otherwise, the others as many as they choose.
Peers that are not installed are named and skipped: `pip install pillow scipy scikit-learn distributed`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import benchmark_detection
import benchmark_handoff
import benchmark_merging
import benchmark_sampling
from contest import Contest
from provenance import load, provenance, sentence

SEED = 0
ROUNDS = 7
RUN_S = 0.05
"""In each round every contestant runs for at least so long, and its median time counts."""

MakeContest = Callable[[bool, int], AbstractContextManager[Contest]]
CASES: dict[str, MakeContest] = {
    **{
        f"detect-{size_px}-{name}": partial(
            benchmark_detection.detect, size_px=size_px, threshold=threshold, share=share, threads=threads
        )
        for size_px, name, threshold, share, threads in (
            (3072, "tau55", 55, None, 1),
            (3072, "tau55-2threads", 55, None, 2),
            (3072, "tau85", 85, None, 1),
            (3072, "tau85-2threads", 85, None, 2),
            (3072, "dense5pct", 55, 0.05, 1),
            (3072, "dense5pct-2threads", 55, 0.05, 2),
            (3072, "dense20pct", 55, 0.2, 1),
            (1536, "tau55", 55, None, 1),
        )
    },
    **{
        f"label-{percent}pct": partial(benchmark_detection.label, share=float(percent) / 100)
        for percent in ("0.1", "1", "5", "20", "47")
    },
    "label-47pct-2threads": partial(benchmark_detection.label, share=0.47, threads=2),
    **{f"merge-{n}": partial(benchmark_merging.against_paper, n=n) for n in (100, 1000, 10_000)},
    "merge-1000-1us": partial(benchmark_merging.against_paper, n=1000, model=benchmark_merging.QUICK_PIXELS),
    "merge-optimum": benchmark_merging.against_optimum,
    **{
        f"sampling-{side_px}-{percent}pct": partial(
            benchmark_sampling.measure, side_px=side_px, share=percent / 100
        )
        for side_px in (128, 256, 512, 1024, 2048)
        for percent in (1, 5, 10, 20)
    },
    "handoff-18MB": partial(benchmark_handoff.handoff, size_px=3072),
}


def measured(contest: Contest, rounds: int) -> Iterator[dict[str, Any]]:
    """Run every contestant in every round and yield one row for each peer."""
    yield from compared(contest)  # which also warms everything up
    contestants = [contest.ours, *(peer.run for peer in contest.peers)]
    times_s: list[list[float]] = [[] for _ in contestants]
    for number in range(rounds):
        for i in range(len(contestants)):
            turn = (number + i) % len(contestants)
            times_s[turn].append(_seconds(contestants[turn], contest.prepare))
    contest.prepare()
    ours = contest.ours()
    for peer, peer_s in zip(contest.peers, times_s[1:], strict=True):
        contest.prepare()
        ratios = [theirs / own for own, theirs in zip(times_s[0], peer_s, strict=True)]
        yield {
            "ours_s": statistics.median(times_s[0]),
            "peer": peer.name,
            "peer_s": statistics.median(peer_s),
            "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
            **peer.figures(ours, peer.run()),
        }


def compared(contest: Contest) -> Iterator[dict[str, Any]]:
    """Run every contestant once; yield a row for each peer that is skipped or has another result."""
    contest.prepare()
    ours = contest.ours()
    for peer in contest.peers:
        contest.prepare()
        theirs = peer.run()
        if peer.problem is not None and (problem := peer.problem(ours, theirs)):
            yield {"peer": peer.name, "differs": problem}
    for name, reason in contest.skipped.items():
        yield {"peer": name, "skipped": reason}


def checked(contest: Contest) -> Iterator[dict[str, Any]]:
    """Yield one row for each peer: whether its results are ours."""
    found = {row["peer"]: row for row in compared(contest)}
    for peer in contest.peers:
        if peer.problem is None:
            yield {"peer": peer.name, "not_compared": peer.why_not_compared}
        elif peer.name not in found:
            yield {"peer": peer.name, "agrees": peer.agreement}
    yield from found.values()


def _seconds(run: Callable[[], Any], prepare: Callable[[], None]) -> float:
    times_s: list[float] = []
    end_s = time.perf_counter() + RUN_S
    while not times_s or time.perf_counter() < end_s:
        prepare()
        begin_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - begin_s)
    return statistics.median(times_s)


def line(row: dict[str, Any]) -> str:
    """Return a row as a line of the table."""
    head = f"  {row['peer']:38}"
    if "ratio" not in row:
        said = (
            f"{key.replace('_', ' ')}: {row[key]}"
            for key in ("agrees", "differs", "not_compared", "skipped")
            if key in row
        )
        return f"{head} {next(said)}"
    low, high = row["spread"]
    times_ms = f"{row['ours_s'] * 1e3:10.3f} {row['peer_s'] * 1e3:10.2f}"
    extra = f"   scan time {row['scan_time_ratio']:.4f}" if "scan_time_ratio" in row else ""
    return f"{head} {times_ms} {row['ratio']:8.2f}   {low:.2f}..{high:.2f}{extra}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="*", help="which cases: a name or a pattern")
    parser.add_argument(
        "--check", action="store_true", help="compare results on small inputs; measure nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"how often each contestant runs ({ROUNDS})"
    )
    given = parser.parse_args(arguments)
    cases = [name for name in CASES if fnmatchcase(name, given.case)]
    if not cases:
        parser.error(f"no case {given.case!r}; there are {', '.join(CASES)}")
    stamp = provenance(
        "numpy", "numba", "pillow", "scikit-learn", "scipy", "opencv-python-headless", "pyzmq", "distributed"
    )
    stamp |= {"seed": SEED} | ({} if given.check else {"rounds": given.rounds})
    if not given.json:
        print(sentence(stamp))
        rounds = "" if given.check else f", {given.rounds} rounds, load {load()} at the start"
        print(f"Seed {SEED}{rounds}.")
        if not given.check:
            print(f"\n{'case and peer':40} {'ours ms':>10} {'peer ms':>10} {'ratio':>8}   min..max")
    differs = False
    for case in cases:
        with CASES[case](given.check, SEED) as contest:
            if not given.json:
                print(f"{case}: {contest.inputs}")
            for row in checked(contest) if given.check else measured(contest, given.rounds):
                differs |= "differs" in row
                whole = {"case": case, "inputs": contest.inputs} | row | stamp
                print(json.dumps(whole) if given.json else line(row), flush=True)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
