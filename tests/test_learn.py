"""From a specimen to a library: spots, groups, names, and the microscope as it was found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_actors.models.spectrum_library import SpectrumLibrary
from typer.testing import CliRunner, Result

from sparse_actors import learn, plugins
from sparse_actors.app import survey_plan
from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ConfigError, MicroscopeError
from sparse_actors.sampling.spectrum_groups import grouped

CONFIG = """
[microscope]
driver = "simulated"
options = {{ time_scale = 0, state_file = {state!r}, log_file = {log!r} }}
[panorama]
corners_mm = [[1.0, 2.0], [1.1, 2.0], [1.0, 2.1]]
tile_fov_um = 100.0
[scan.fast]
size_px = [128, 128]
dwell_ns = 3200.0
[scan.analysis]
size_px = [512, 512]
dwell_ns = 3200.0
[eds]
where = "field"
grid_px = [64, 64]
live_time_ms = 5.0
beam_kev = 15
[eds.options]
library = {library!r}
"""
AXIS = EnergyAxis(channels=300, offset_kev=0.0, scale_kev=0.01)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Matching lines takes seconds; here the brightest channel is the element.
    def match_elements(counts: Any, axis: EnergyAxis, *, beam_kev: float) -> tuple[Any, ...]:
        chromium = counts[530:550].sum() / counts.sum() > 0.01
        symbols = ("Fe", "Cr") if chromium else ("Fe",)
        return tuple(SimpleNamespace(element=symbol, counts=100.0) for symbol in symbols)

    real = plugins.model_part
    monkeypatch.setattr(plugins, "model_part", lambda n: match_elements if n == plugins.ELEMENTS else real(n))
    names = {"state": "state.json", "log": "log.jsonl", "library": "library.npz"}
    text = CONFIG.format(**{key: str(tmp_path / name) for key, name in names.items()})
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    return tmp_path / "c.toml"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["learn", *map(str, arguments)])


def spectra(random: np.random.Generator, sizes: list[int], dose: float) -> tuple[Any, Any]:
    """Spectra (n, 300) of phases with a line each, in random order, and their phases."""
    energy = AXIS.energies_kev
    shapes = [1 + 40 * np.exp(-(((energy - 0.5 - 0.6 * k) / 0.05) ** 2)) for k in range(len(sizes))]
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    amounts = dose * random.uniform(0.3, 2.0, len(labels))  # topography changes the counts, not the phase
    means = np.array([shapes[label] / shapes[label].sum() for label in labels]) * amounts[:, None]
    return random.poisson(means).astype(np.uint32), labels


# -- groups -----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(5, 30), min_size=1, max_size=4), st.floats(200, 50_000))
def test_groups_are_the_phases_whatever_the_dose(seed: int, sizes: list[int], dose: float) -> None:
    counts, labels = spectra(np.random.default_rng(seed), sizes, dose)
    found = grouped(counts, AXIS)
    assert found is not None
    assert sorted(len(group.members) for group in found.groups) == sorted(sizes)
    assert all(len(set(labels[list(group.members)])) == 1 for group in found.groups)
    assert not found.left


def test_what_somebody_named_stays_apart_and_takes_in_its_like() -> None:
    counts, labels = spectra(np.random.default_rng(1), [20, 20], 5000)
    order = np.argsort(labels, kind="stable")  # the first three are of one phase
    found = grouped(counts[order], AXIS, names=["a", "a", "b"])
    assert found is not None
    groups = {group.name: group.members for group in found.groups}
    assert {0, 1} <= set(groups["a"])
    assert 2 in groups["b"]
    assert sorted((*groups["a"], *groups["b"])) == list(range(20))
    assert len(groups[""]) == 20


def test_a_spectrum_like_no_other_is_left_out_unless_it_has_a_name() -> None:
    counts, _ = spectra(np.random.default_rng(2), [20, 1], 5000)
    lonely = grouped(counts, AXIS)
    assert lonely is not None
    assert (len(lonely.groups), len(lonely.left)) == (1, 1)
    chosen = grouped(counts[[*lonely.left, *lonely.groups[0].members]], AXIS, names=["inclusion"])
    assert chosen is not None
    assert {group.name for group in chosen.groups} == {"inclusion", ""}


def test_as_many_phases_as_asked_for_or_none() -> None:
    counts, _ = spectra(np.random.default_rng(3), [20, 20, 20], 5000)
    for phases in (1, 2, 3):
        found = grouped(counts, AXIS, phases=phases)
        assert found is not None
        assert len(found.groups) == phases
    assert grouped(counts, AXIS, phases=200) is None


def test_spectra_without_a_count_do_no_harm() -> None:
    assert grouped(np.zeros((5, 300), np.uint32), AXIS) is not None


# -- spots and names --------------------------------------------------------------------------


def test_chosen_spots_come_first_and_no_spot_twice(file: Path) -> None:
    config = parse_config(file.read_text("utf-8"))
    chosen = [learn.Spot(x_px=3, y_px=4, name="a")]
    points = learn.spots_of(config, 500, chosen)
    assert points[0].tolist() == [3, 4]
    assert len(np.unique(points, axis=0)) == 501
    # Evenly: each quarter of the field has its share.
    assert np.abs(np.bincount((points // 32) @ [1, 2]) - 125).max() < 15
    with pytest.raises(ConfigError, match=r"--at 64,4=b: expected x of 0 to 63"):
        learn.spots_of(config, 0, [learn.Spot(x_px=64, y_px=4, name="b")])
    with pytest.raises(ConfigError, match="no room"):
        learn.spots_of(config, 4096, chosen)


def test_the_microscope_is_as_it_was_also_when_it_fails(file: Path) -> None:
    text = file.read_text("utf-8")
    config = parse_config(text)
    found = plugins.build("microscope", "simulated", {})
    found.connect()
    before = json.loads(json.dumps(asdict(found.get_state())))
    learn.measure(config.microscope, survey_plan(config), learn.spots_of(config, 8, ()), 0.4)
    assert json.loads((file.parent / "state.json").read_text())["state"] == before
    log = [json.loads(line) for line in (file.parent / "log.jsonl").read_text().splitlines()]
    assert [entry["spots"] for entry in log if entry["what"] == "spectra"] == [2, 2, 2, 2]
    failing = parse_config(text.replace("time_scale = 0", "time_scale = 0, fail_scans = [6]"))
    with pytest.raises(MicroscopeError, match="spots: "):
        learn.measure(failing.microscope, survey_plan(failing), learn.spots_of(config, 8, ()), 0.4)
    assert json.loads((file.parent / "state.json").read_text())["state"] == before


# -- the command ------------------------------------------------------------------------------


def test_a_newcomer_gets_a_library_of_what_is_there(file: Path) -> None:
    result = invoke(file, "--spots", 60, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert {phase["name"] for phase in printed["phases"]} == {"Fe", "Fe-Cr"}
    assert sum(phase["share"] for phase in printed["phases"]) == pytest.approx(1)
    assert "60 spots of 100 ms live time, 6.0 s of beam time" in result.stderr
    library = SpectrumLibrary.load(file.parent / "library.npz")
    assert library.phases == tuple(phase["name"] for phase in printed["phases"])
    assert len(library) == 60 - printed["left_out"]
    assert (library.beam_kev, set(library.live_time_s)) == (15.0, {0.1})


def test_chosen_spots_alone_are_enough(file: Path) -> None:
    result = invoke(
        file, "--at", "3,4=soft phase", "--at", "9, 9=hard", "--at", "30,30=hard", "--live-ms", 50
    )
    assert result.exit_code == 0, result.stderr
    library = SpectrumLibrary.load(file.parent / "library.npz")
    assert sorted(library.phases) == ["hard", "soft phase"]
    assert len(library) == 3
    assert "'hard' has 2 spectra; 5 or more" in " ".join(result.stderr.split())


def test_nothing_is_overwritten_or_touched_without_being_asked(file: Path) -> None:
    library = file.parent / "library.npz"
    library.write_text("mine")
    result = invoke(file)
    assert result.exit_code == 3
    assert "exists already; --force replaces it" in result.stderr
    assert library.read_text() == "mine"
    assert not (file.parent / "log.jsonl").exists()
    assert invoke(file, "--spots", 20, "--force").exit_code == 0
    assert SpectrumLibrary.load(library).phases


def test_bad_input_names_what_is_wrong_all_at_once(file: Path) -> None:
    text = file.read_text("utf-8")
    file.write_text(text.replace("beam_kev = 15\n", ""), encoding="utf-8")
    result = invoke(file, "--at", "3;4", "--json")
    assert result.exit_code == 3
    problems = json.loads(result.stdout)["problems"]
    assert [problem.split(" ")[0] for problem in problems] == ["--at", "eds.beam_kev"]
    file.write_text(text.partition("[eds]")[0], encoding="utf-8")
    assert "ConfigError: eds is missing" in invoke(file).stderr
    file.write_text(text, encoding="utf-8")
    assert "cannot be parted so" in invoke(file, "--spots", 20, "--phases", 18).stderr


def test_without_tables_of_lines_phases_have_numbers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.model_part

    def lacks(name: str) -> Any:
        if name == plugins.ELEMENTS:
            raise ConfigError("no xraylib")
        return real(name)

    monkeypatch.setattr(plugins, "model_part", lacks)
    names = [phase["name"] for phase in json.loads(invoke(file, "--spots", 40, "--json").stdout)["phases"]]
    assert names == ["phase 1", "phase 2"]


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="needs the package sparse_actors_nowhere"):
        plugins.model_part("sparse_actors_nowhere:f")


def test_a_library_that_cannot_be_written_is_told_before_anything_is_exposed(file: Path) -> None:
    (file.parent / "taken").write_text("a file")
    result = invoke(file, "--out", str(file.parent / "taken" / "library.npz"))
    assert result.exit_code == 3
    assert "taken/library.npz: nothing can be written there" in result.stderr.replace("\\", "/")
    assert not (file.parent / "log.jsonl").exists()
