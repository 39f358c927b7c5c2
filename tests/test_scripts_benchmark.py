"""The scripts that measure and that remake the documentation: run, on small inputs and without timing."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
SVG = "{http://www.w3.org/2000/svg}"


def run(script: str, *arguments: str) -> list[dict]:
    command = [sys.executable, "-B", str(SCRIPTS / script), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def scripts(monkeypatch):
    """Make the modules of the scripts importable."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def test_our_results_are_those_of_the_peers():
    rows = run("benchmark.py", "--check")
    cases = {row["case"] for row in rows}
    assert {"detect-3072-tau55", "label-20pct", "merge-10000", "merge-optimum", "handoff-18MB"} <= cases
    for row in rows:
        assert not {"differs", "ours_s", "ratio"} & row.keys()
        assert {"machine", "versions", "seed", "inputs"} <= row.keys()
        # Whatever is not compared says why.
        assert "agrees" in row or row.get("skipped") or row.get("not_compared")
    for case in cases:
        assert any("agrees" in row for row in rows if row["case"] == case), case


def test_a_result_that_differs_fails_the_check(scripts, monkeypatch, capsys):
    import benchmark
    import benchmark_detection

    labels = benchmark_detection.label_clusters
    monkeypatch.setattr(benchmark_detection, "label_clusters", lambda *given: labels(*given)[::-1])
    assert benchmark.main(["--check", "--case", "label-5pct"]) == 1
    assert "differs: other labels" in capsys.readouterr().out


def test_peers_that_are_missing_are_named(scripts, monkeypatch, capsys):
    import benchmark
    import benchmark_detection
    import benchmark_handoff

    for module, name in (
        (benchmark_detection, "PILLOW"),
        (benchmark_detection, "SCIPY"),
        (benchmark_handoff, "DISTRIBUTED"),
    ):
        monkeypatch.setattr(module, name, None)
    assert benchmark.main(["--check", "--case", "[dlh]*5*"]) == 0
    said = capsys.readouterr().out
    assert "skipped: pillow is not installed" in said
    assert "skipped: scipy is not installed" in said


def test_a_measured_row_has_its_spread_and_says_where_it_is_from(scripts):
    import benchmark
    from contest import Contest, Peer

    peer = Peer("sum of a list", lambda: sum(range(100)), lambda ours, theirs: "" if ours == theirs else "!")
    contest = Contest("0 to 99", lambda: 99 * 100 // 2, (peer,), {"abacus": "none at hand"})
    skipped, row = benchmark.measured(contest, rounds=3)
    assert skipped == {"peer": "abacus", "skipped": "none at hand"}
    low, high = row["spread"]
    assert 0 < low <= row["ratio"] <= high
    assert row["ours_s"] > 0
    assert row["peer_s"] > 0


def test_idle_shares_are_remade(tmp_path):
    rows = run("reproduce.py", "idle", "--quick", "--out", str(tmp_path))
    for row in rows:
        assert row["bound"] <= row["ours"] + 1e-9
        assert row["bound_with_seams"] <= row["ours_with_seams"] + 1e-9
        assert {"rho", "workers", "partitions", "efficiency", "machine", "versions", "seed"} <= row.keys()
    assert any(row["ours"] < row["paper"] - 0.01 for row in rows)
    text = (tmp_path / "idle.md").read_text(encoding="utf-8")
    assert "python scripts/reproduce.py idle --quick" in text
    figure = ET.parse(tmp_path / "idle.svg")
    panels = {(row["workers"], row["partitions"]) for row in rows if row["partitions"] > 1}
    assert len(figure.findall(f"{SVG}svg")) == len(panels)


def test_quick_leaves_the_documentation_alone():
    docs = SCRIPTS.parent / "docs"

    def state():
        return {path.name: path.stat().st_mtime_ns for path in docs.glob("*")}

    before = state()
    run("reproduce.py", "idle", "--quick")
    assert state() == before


def test_a_run_of_the_daemon_is_compared_with_the_simulation(tmp_path):
    (row,) = run("reproduce.py", "idle-daemon", "--quick", "--out", str(tmp_path))
    # In so short a run the pauses between scans count for much; only the account is checked here.
    assert 0 <= row["simulation"] <= row["daemon"] < 1
    assert row["scans"] > row["tiles"] * row["partitions"]
    assert "| 0.8 | 0.95 | 1 | 4 | hold_back |" in (tmp_path / "idle-daemon.md").read_text(encoding="utf-8")
