"""`promise`: the value of which a recall is proven, in the configuration; or what is missing for that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_pairs import recorded_pairs
from typer.testing import CliRunner, Result

from sparse_actors.cli.commands import app
from sparse_actors.cli.exit_codes import ExitCode
from sparse_actors.config import parse_config
from sparse_actors.evaluation.grid import Configuration, configurations
from sparse_actors.evaluation.guarantee import NEVER, promise, sites_needed
from sparse_actors.evaluation.judging import judged
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.site_scores import site_scores

GRID = "detect.options.threshold=50:90:5"
FINE = "256x256@8000"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_pairs(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def tried(pairs: Path) -> list[Configuration]:
    return configurations([open_pairs(pairs).settings[1]], [GRID])


@pytest.fixture(scope="module")
def scores(pairs: Path, tried: list[Configuration]) -> list[np.ndarray]:
    return site_scores(pairs, open_pairs(pairs).config.for_survey(), tried, "higher", jobs=1)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["promise", *map(str, arguments), "--jobs", "1"])


def test_scores_count_the_sites_that_a_sweep_finds(
    pairs: Path, tried: list[Configuration], scores: list[np.ndarray]
) -> None:
    assert len(scores) == 5
    assert sum(map(len, scores)) > 20
    for one in (tried[2], tried[-1]):
        for tile, of_sites in zip(judged(str(pairs), one), scores, strict=True):
            assert len(of_sites) == tile.sites
            always = int((of_sites <= one.options[0][1]).sum())
            assert always <= tile.found
            if one is tried[-1]:
                assert always == tile.found
    assert len(set(np.concatenate(scores)) - {NEVER}) > 1


def test_processes_find_the_same_and_the_order_of_values_is_no_matter(
    pairs: Path, tried: list[Configuration], scores: list[np.ndarray]
) -> None:
    config = open_pairs(pairs).config.for_survey()
    again = site_scores(pairs, config, tried[::-1], "higher", jobs=2)
    for one, other in zip(scores, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_promise_is_stated_and_written_into_a_configuration(
    pairs: Path, scores: list[np.ndarray], tmp_path: Path
) -> None:
    expected = promise(scores, recall=0.6, confidence=0.8)
    result = invoke(pairs, "--recall", 0.6, "--confidence", 0.8, "--grid", GRID, "--fast", FINE, "--json")
    assert result.exit_code == ExitCode.DONE, result.stderr
    told = json.loads(result.stdout)
    assert told["parameter"] == expected.parameter
    assert told["statement"] == str(expected)
    assert f"wrote {told['file']}" in result.stderr
    assert "calibration tiles" in result.stderr
    text = Path(told["file"]).read_text(encoding="utf-8")
    assert f"threshold = {expected.parameter:g} # dark" in text
    config = parse_config(text)
    assert (config.scan.fast.size_px, config.scan.fast.dwell_ns) == ((256, 256), 8000.0)
    # Into a file of somebody's own: its fast scan and its other options are those judged.
    own = tmp_path / "own.toml"
    own.write_text(text.replace("threshold =", "min_points = 5\nthreshold =", 1), encoding="utf-8")
    result = invoke(
        pairs, "--recall", 0.6, "--confidence", 0.8, "--grid", GRID, "--into", own, "--lost-together", 40
    )
    assert result.exit_code == ExitCode.RUN_FAILED  # so much may be lost together that too few are there
    assert "more sites are needed" in result.stderr
    result = invoke(pairs, "--recall", 0.6, "--confidence", 0.8, "--grid", GRID, "--into", own)
    assert result.exit_code == ExitCode.DONE, result.stderr
    options = parse_config(own.read_text(encoding="utf-8")).detect.options
    assert options["min_points"] == 5
    assert options["threshold"] >= expected.parameter


def test_too_few_sites_are_refused_with_how_many_are_missing(pairs: Path, scores: list[np.ndarray]) -> None:
    before = {path: path.stat().st_mtime_ns for path in pairs.glob("*.toml")}
    result = invoke(pairs, "--grid", GRID, "--fast", FINE, "--json")
    assert result.exit_code == ExitCode.RUN_FAILED
    (problem,) = json.loads(result.stdout)["problems"]
    assert "at least 99 % of the sites with 95 % confidence" in problem
    sites = sum(map(len, scores))
    assert sites < sites_needed(0.99, 0.95)
    assert f"of {sites} sites in 5 tiles" in problem
    assert before == {path: path.stat().st_mtime_ns for path in pairs.glob("*.toml")}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--recall", "1"), "--recall 1.0: expected a share between 0 and 1"),
        (("--confidence", "95"), "--confidence 95.0"),
        ((), "--fast is missing: the pairs have 128x128@32000, 256x256@8000"),
        (("--fast", FINE, "--grid", "detect.options.eps_px=1:2:0.5"), "--looser is missing"),
        (("--fast", FINE, "--grid", "detect.options.polarity=dark,bright"), "'dark' is no number"),
        (
            ("--fast", FINE, "--grid", "detect.options.eps_px,detect.options.min_points=1/4"),
            "expected one key",
        ),
        (("--fast", FINE, "--reference", "threshold=50,60"), "--reference: expected one value"),
        (("--fast", FINE, "--grid", "detect.options.thresold=1:3:1", "--looser", "higher"), "threshold"),
    ],
)
def test_what_cannot_be_promised_is_said_before_anything_is_computed(
    pairs: Path, arguments: tuple[str, ...], problem: str
) -> None:
    result = invoke(pairs, *arguments)
    assert result.exit_code == ExitCode.BAD_CONFIG, result.stderr
    assert problem in result.stderr


def test_a_configuration_with_another_fast_scan_is_refused(pairs: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = open_pairs(pairs).given
    own.write_text(
        text.replace("size_px = [128, 128]\ndwell_ns = 32000.0", "size_px = [128, 128]\ndwell_ns = 1000.0", 1)
    )
    result = invoke(pairs, "--into", own)
    assert result.exit_code == ExitCode.BAD_CONFIG
    assert "has scan.fast 128x128@1000, the pairs 128x128@32000, 256x256@8000" in result.stderr
