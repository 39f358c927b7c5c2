"""The page of a sweep: what is shown of a configuration is what was judged, and can be used."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_pairs import recorded_pairs
from report_pages import checked, opened

from sparse_actors.config import parse_config
from sparse_actors.evaluation.grid import configurations
from sparse_actors.evaluation.measures import TileScore
from sparse_actors.evaluation.pairs import open_pairs
from sparse_actors.evaluation.sweep import Judged, sweep
from sparse_actors.report import missed_sites, sweep_page
from sparse_actors.report.sweep_page import as_toml, write_sweep
from sparse_actors.toml_edit import with_values

HOSTILE = "</script><script>alert(1)</script>"
GRID = ["detect.options.threshold=40:80:20", "detect.options.min_points=2,5"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_pairs(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def results(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    return sweep(
        pairs, configurations(open_pairs(pairs).settings, GRID), tmp_path_factory.mktemp("out"), jobs=1
    )


def written(
    pairs: Path, results: list[Judged], out: Path, about: str = "5 tiles"
) -> tuple[Path, dict[str, Any]]:
    """Write the page; returns it and what its script reads."""
    path = write_sweep(out, open_pairs(pairs), pairs, results, about)
    assert path is not None
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    assert found is not None
    return path, json.loads(found[1])


def test_the_page_has_what_was_judged(pairs: Path, results: list[Judged], tmp_path: Path) -> None:
    path, data = written(pairs, results, tmp_path)
    page = checked(path)
    assert "Sweep of 12 configurations" in page.text
    assert len(data["points"]) == len(results) == 12
    for point, result in zip(data["points"], results, strict=True):
        found = result.measures()
        assert point["recall"] == pytest.approx([found.recall, *found.recall_ci], abs=1e-6)
        assert point["figures"][0] == pytest.approx([found.efficiency, *found.efficiency_ci], abs=1e-6)
        assert point["missed_count"] == found.sites - found.found
        assert len(point["missed"]) == min(missed_sites.SHOWN, point["missed_count"])
    assert any(0 < point["missed_count"] for point in data["points"])
    areas = [[data["sites"][n]["area_px"] for n in point["missed"]] for point in data["points"]]
    assert all(one == sorted(one, reverse=True) for one in areas)
    assert all(site["fast"].startswith("data:image/jpeg") for site in data["sites"])
    assert path.stat().st_size < 3_000_000


def test_the_run_of_the_pairs_left_a_report_at_its_end(pairs: Path) -> None:
    page = checked(pairs / "report.html")
    assert "steel-pairs completed" in page.text
    assert "Nothing was searched for." in page.text
    assert "of the time saved" not in page.text


def test_which_sites_were_found_survives_the_file_of_results(results: list[Judged]) -> None:
    for result in results:
        for entry in result.scores:
            again = TileScore.from_json(json.loads(json.dumps(entry.to_json())))
            assert again == entry
            assert again.is_found is not None
            assert int(again.is_found.sum()) == entry.found


def test_results_of_an_earlier_version_are_shown_without_the_sites(
    pairs: Path, results: list[Judged], tmp_path: Path
) -> None:
    def as_before(entry: TileScore) -> TileScore:
        row = entry.to_json()
        del row["found_bits"]
        return TileScore.from_json(row)

    older = [replace(result, scores=tuple(map(as_before, result.scores))) for result in results]
    _, data = written(pairs, older, tmp_path)
    assert not any(point["is_known"] or point["missed"] for point in data["points"])


def test_what_is_copied_is_the_configuration(pairs: Path, results: list[Judged]) -> None:
    given = open_pairs(pairs).given
    for result in results:
        copied = tomllib.loads(as_toml(result.configuration, result.measures()))
        values = {
            ("scan", "fast", "size_px"): copied["scan"]["fast"]["size_px"],
            ("scan", "fast", "dwell_ns"): copied["scan"]["fast"]["dwell_ns"],
            **{("detect", "options", key): value for key, value in copied["detect"]["options"].items()},
        }
        config = parse_config(with_values(given, values))
        assert config.fast == result.configuration.fast
        options = dict(result.configuration.options)
        assert config.detect.options["threshold"] == options["detect.options.threshold"]
        assert config.detect.options["min_points"] == options["detect.options.min_points"]


def test_nothing_that_comes_from_the_pairs_becomes_part_of_the_page(
    pairs: Path, results: list[Judged], tmp_path: Path
) -> None:
    options = (("detect.options.interpolation", HOSTILE), ("detect.options.threshold", 40))
    first = replace(results[0], configuration=replace(results[0].configuration, options=options))
    path, data = written(pairs, [first, *results[1:]], tmp_path, HOSTILE)
    page = checked(path)
    assert len(page.of("script")) == 2  # the data and the one of the page
    assert HOSTILE in page.text
    assert ["interpolation", HOSTILE] in data["points"][0]["keys"]


def test_a_page_of_many_configurations_keeps_the_best(
    pairs: Path, results: list[Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_page, "MOST_POINTS", 6)
    path, data = written(pairs, results, tmp_path)
    assert len(data["points"]) < len(results)
    best = max(result.measures().recall for result in results)
    assert max(point["recall"][0] for point in data["points"]) == pytest.approx(best, abs=1e-6)
    assert (
        f"{len(results) - len(data['points'])} configurations that others beat are left out"
        in checked(path).text
    )


def test_hover_click_and_copy_in_a_browser(pairs: Path, results: list[Judged], tmp_path: Path) -> None:
    path, data = written(pairs, results, tmp_path)
    with opened(path, viewport={"width": 1300, "height": 1000}) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator("#part").select_option("all")
        page.locator("#charts").focus()
        page.keyboard.press("ArrowRight")
        hint = page.locator("#hint")
        least = min(data["points"], key=lambda point: point["recall"][0])
        assert f"threshold: {dict(least['keys'])['threshold']}" in hint.inner_text()
        # Where the ring is, the pointer finds the same configuration.
        ring = page.locator(".pointed circle").bounding_box()
        page.mouse.move(ring["x"] + 200, ring["y"] + 5)
        page.mouse.move(0, 0)
        assert not hint.is_visible()
        page.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
        assert f"recall {100 * least['recall'][0]:.1f} %" in hint.inner_text()
        page.mouse.down()
        page.mouse.up()
        assert page.locator("#missed img").count() == 2 * len(least["missed"]) > 0
        assert f"It misses {least['missed_count']} of" in page.locator("#missed").inner_text()
        page.get_by_role("button", name="copy for the configuration").click()
        page.get_by_role("button", name="copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == least["toml"]
        page.locator("#against").select_option("full_time")
        assert page.locator('[data-key="full_time-all"]').is_visible()
        assert page.locator(".picked circle").count() == 1
        page.locator("[data-point]").first.click()
        assert "recall" in page.locator("#chosen").inner_text()
