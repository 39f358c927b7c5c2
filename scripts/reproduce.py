"""Remake the tables and figures of the documentation.

python scripts/reproduce.py idle                  idle share of the microscope, by simulation
python scripts/reproduce.py idle-daemon           the same of real runs, beside the simulation (8 minutes)
python scripts/reproduce.py front --processes 2   what is found against what it costs, on the twin
python scripts/reproduce.py slads --processes 2   distortion of phase maps, ours beside others (hours)
python scripts/reproduce.py stopping eds-maps     when a map is good enough; recorded spectrum images
python scripts/reproduce.py dose ill              classifiers of spectra
python scripts/reproduce.py eds-maps-daemon survey-and-map    maps by whole runs
python scripts/reproduce.py guarantee audit       whether a promised recall is kept, and an audit right
python scripts/reproduce.py idle --json           one object a line
python scripts/reproduce.py idle --quick          a few points, nothing is written
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reproduce_audit
import reproduce_eds_maps
import reproduce_front
import reproduce_guarantee
import reproduce_idle
import reproduce_idle_daemon
import reproduce_map_runs
import reproduce_slads
import reproduce_spectra
import reproduce_spectra_latency
import reproduce_stopping
from provenance import provenance, sentence

SEED = 0
DOCUMENTS = Path(__file__).parent.parent / "docs"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to remake."""

    rows: Callable[..., Iterator[Row]]
    """Measures, with whether to be quick and the seed."""
    documents: Callable[[list[Row], str], dict[str, str]]
    """Makes the files, by name, from the rows and a sentence that says how they came about."""
    line: Callable[[Row], str]
    """One row for people."""
    is_parallel: bool = False
    """Whether `rows` takes a number of processes too."""
    parts: tuple[str, ...] = ()
    """What `--only` may choose of it."""


CASES = {
    "idle": Case(reproduce_idle.rows, reproduce_idle.documents, reproduce_idle.line),
    "idle-daemon": Case(
        reproduce_idle_daemon.rows, reproduce_idle_daemon.documents, reproduce_idle_daemon.line
    ),
    "front": Case(reproduce_front.rows, reproduce_front.documents, reproduce_front.line, is_parallel=True),
    "slads": Case(
        reproduce_slads.rows,
        reproduce_slads.documents,
        reproduce_slads.line,
        is_parallel=True,
        parts=tuple(reproduce_slads.EXPERIMENTS),
    ),
    "stopping": Case(
        reproduce_stopping.rows, reproduce_stopping.documents, reproduce_stopping.line, is_parallel=True
    ),
    "dose": Case(reproduce_spectra.dose_rows, reproduce_spectra.dose_documents, reproduce_spectra.dose_line),
    "spectra-latency": Case(
        reproduce_spectra_latency.rows, reproduce_spectra_latency.documents, reproduce_spectra_latency.line
    ),
    "ill": Case(reproduce_spectra.ill_rows, reproduce_spectra.ill_documents, reproduce_spectra.ill_line),
    "eds-maps": Case(reproduce_eds_maps.rows, reproduce_eds_maps.documents, reproduce_eds_maps.line),
    "eds-maps-daemon": Case(
        reproduce_map_runs.eds_rows, reproduce_map_runs.eds_documents, reproduce_map_runs.eds_line
    ),
    "survey-and-map": Case(
        reproduce_map_runs.survey_rows, reproduce_map_runs.survey_documents, reproduce_map_runs.survey_line
    ),
    "audit": Case(reproduce_audit.rows, reproduce_audit.documents, reproduce_audit.line),
    "guarantee": Case(reproduce_guarantee.rows, reproduce_guarantee.documents, reproduce_guarantee.line),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="few points, and no files unless --out is given")
    parser.add_argument(
        "--processes", type=int, default=1, help="to spread front, slads and stopping over (1)"
    )
    parser.add_argument("--only", metavar="PART,PART", help="of slads: only these of its cases")
    parser.add_argument("--out", type=Path, help="where the files go (docs)")
    given = parser.parse_args(arguments)
    only = tuple(given.only.split(",")) if given.only else ()
    for name in given.cases:
        if unknown := set(only) - set(CASES[name].parts):
            parser.error(f"--only: {name} has no {', '.join(sorted(unknown))}")
    folder = given.out or (None if given.quick else DOCUMENTS)
    stamp = provenance("numpy") | {"seed": SEED}
    for name in given.cases:
        case = CASES[name]
        rows = []
        more: dict[str, Any] = {"processes": given.processes} if case.is_parallel else {}
        if case.parts:
            more["only"] = only
        for row in case.rows(given.quick, SEED, **more):
            rows.append(row)
            print(json.dumps({"case": name} | row | stamp) if given.json else case.line(row), flush=True)
        options = f"{' --quick' if given.quick else ''}{f' --only {given.only}' if only else ''}"
        command = f"`python scripts/reproduce.py {name}{options}`"
        made_by = f"Made by {command}, seed {SEED}, on {sentence(stamp)}"
        if folder is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in case.documents(rows, made_by).items():
            (folder / file).write_text(text, encoding="utf-8", newline="\n")
            print(f"wrote {folder / file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
