"""Feed damaged input to whatever reads what comes from a socket, a file or a configuration.

python scripts/fuzz.py wire --executions 1000000            the decoder of messages
python scripts/fuzz.py all --executions 1000 --seed 7       every target, a thousand each
python scripts/fuzz.py journal --seconds 600 --keep DIR     end after ten minutes; inputs that failed are kept
python scripts/fuzz.py wire --atheris -- -runs=10000000     guided by coverage, where atheris is installed

Each input is a valid one that was damaged once or a few times: bytes are flipped, cut, doubled or replaced,
or a value in it is replaced by one that is odd (huge, negative, not finite, nested, of another type). A
target either takes an input or refuses it with the error that it promises. Anything else fails: another
exception, more than HANG_S for one input, a peer that answers no more, or memory that grows. The exit code
is 1 then. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from fuzz_inputs import Target, damaged
from provenance import provenance, sentence

NAMES = ("wire", "journal", "control", "door", "handshake", "keys", "sharksem", "config")
HANG_S = 1.0
"""Of the processor: a machine may be busy otherwise."""
MAX_GROWTH_BYTES = 200_000_000
SEEDS = 200
"""Valid inputs that atheris begins with."""
WARM_UP = 1000
"""Executions after which memory is not expected to grow."""


@dataclass(slots=True)
class Outcome:
    """What came of one target."""

    target: str
    seed: int
    executions: int = 0
    taken: int = 0
    """Inputs that were valid in spite of it all."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth_mb: float = 0.0
    failures: list[str] = field(default_factory=list)


def fuzz(target: Target, name: str, seed: int, executions: int, seconds: float, keep: Path | None) -> Outcome:
    rng = random.Random(seed)
    outcome = Outcome(name, seed)
    process = psutil.Process()
    before = process.memory_info().rss
    began_s = time.perf_counter()
    while outcome.executions < executions and time.perf_counter() - began_s < seconds:
        data = damaged(target.make(rng), rng, target.odd)
        started_s = time.process_time()
        try:
            outcome.taken += target.take(data)
            problem = ""
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            problem = "".join(traceback.format_exception(error))
        took_s = time.process_time() - started_s
        outcome.slowest_s = max(outcome.slowest_s, took_s)
        if not problem and took_s > HANG_S:
            problem = f"took {took_s:.1f} s"
        if problem:
            outcome.failures.append(problem)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{outcome.executions}").write_bytes(data)
        outcome.executions += 1
        if outcome.executions == min(WARM_UP, executions // 2):
            before = process.memory_info().rss
    outcome.seconds = round(time.perf_counter() - began_s, 1)
    grown = process.memory_info().rss - before
    outcome.growth_mb = round(grown / 1e6, 1)
    if grown > MAX_GROWTH_BYTES:
        outcome.failures.append(f"memory grew by {outcome.growth_mb} MB")
    return outcome


def targets(is_guided: bool) -> dict[str, Callable[[], AbstractContextManager[Target]]]:
    """Import what is fed, so that atheris sees what an input reaches in it."""
    with ExitStack() as stack:
        if is_guided:
            import atheris

            stack.enter_context(atheris.instrument_imports(include=["sparse_actors"]))
        from fuzz_sockets import control, door, handshake
        from fuzz_targets import config, journal, keys, messages, sharksem

    made = (messages, journal, control, door, handshake, keys, sharksem, config)
    return dict(zip(NAMES, made, strict=True))


def guided(target: Target, arguments: list[str]) -> None:
    """Let atheris choose the inputs, by what they reach in the code; it ends the process."""
    import atheris

    rng = random.Random(0)
    with TemporaryDirectory() as corpus:
        for number in range(SEEDS):
            Path(corpus, str(number)).write_bytes(target.make(rng))
        atheris.Setup([sys.argv[0], *arguments, corpus], lambda data: target.take(data) and None)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--executions", type=int, default=100_000, metavar="N", help="inputs for each target")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop a target after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the inputs that failed")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument(
        "--atheris", action="store_true", help="guided by coverage; arguments after -- go to it"
    )
    known, rest = parser.parse_known_args()
    names = list(NAMES) if known.target == "all" else [known.target]
    makers = targets(known.atheris)
    has_failed = False
    for name in names:
        with ExitStack() as stack:
            target = stack.enter_context(makers[name]())
            if known.atheris:
                guided(target, [one for one in rest if one != "--"])
            outcome = fuzz(target, name, known.seed, known.executions, known.seconds, known.keep)
        has_failed |= bool(outcome.failures)
        if known.json:
            fields = {slot: getattr(outcome, slot) for slot in outcome.__slots__}
            print(json.dumps({**fields, **provenance("pyzmq", "msgspec")}), flush=True)
            continue
        print(
            f"{name}: {outcome.executions} executions in {outcome.seconds} s, {outcome.taken} taken, "
            f"{len(outcome.failures)} failures, slowest {outcome.slowest_s * 1000:.0f} ms, "
            f"memory {outcome.growth_mb:+} MB",
            flush=True,
        )
        for failure in outcome.failures[:3]:
            print(failure, file=sys.stderr)
    if not known.json:
        print(sentence(provenance("pyzmq", "msgspec")))
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
