"""The configuration: every problem at once, in words that help; where values come from; round trip."""

import math
import re
import sys
import tomllib
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_actors import config as configuration
from sparse_actors.config import load_config, origins, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.geometry import Panorama, TileIndex
from sparse_actors.imaging import Imaging, ScanTiming

GOOD = """
[run]
name = "steel"
[microscope]
driver = "stand_ins:Scope"
options = { seed = 3 }
[panorama]
corners_mm = [[0.0, 0.0], [0.3, 0.0], [0.0, 0.2]]
tile_fov_um = 100
overlap_pct = 0
[panorama.at_corners]
working_distance_mm = [10.0, 10.2, 10.1]
[scan.fast]
size_px = [768, 512]
dwell_ns = 300
[scan.analysis]
size_px = [3072, 2048]
dwell_ns = 3200
[scan.timing]
row_overhead_us = 20
[detect]
detector = "stand_ins:Finder"
options = { threshold = 55 }
"""

EIGHT_ERRORS = """
[microscope]
driver = "stand_ins:Scop"
[panorama]
corners_mm = [[0.0, 0.0], [0.3, 0.0], [0.0, -0.2]]
tile_fov_um = "100"
partitions = 3
[scan.fast]
size_px = [768, 512]
dwell_us = 0.3
[scan.analysis]
size_px = [3072, 2048]
dwell_ns = 3200
[detect]
detector = "stand_ins:Finder"
options = { treshold = 55 }
[regions]
merge = "bbox"
[limit]
scan_attempts = 3
"""


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """A driver and a detector without anything behind them."""
    from sparse_actors.contracts.microscope import Microscope

    class Scope(Microscope):
        def __init__(self, seed: int = 0) -> None: ...

    class Finder:
        def __init__(self, threshold: int = 50) -> None: ...
        def detect(self, image, scale): ...

    Scope.__abstractmethods__ = frozenset()
    module = types.ModuleType("stand_ins")
    module.Scope, module.Finder = Scope, Finder
    monkeypatch.setitem(sys.modules, "stand_ins", module)


def problems(text=GOOD, overrides=(), environ=None):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, overrides, environ)
    return list(caught.value.problems)


def keys(found):
    return [problem.split(" ")[0].rstrip(":") for problem in found]


# -- what is right ---------------------------------------------------------------------------


def test_values_become_domain_objects():
    config = parse_config(GOOD)
    assert config.fast == Imaging((768, 512), 300.0)
    assert config.analysis == Imaging((3072, 2048), 3200.0)
    assert config.scale == 4
    assert config.timing == ScanTiming(row_overhead_us=20.0, scan_overhead_ms=0.0)
    panorama = config.panorama.geometry(config.analysis.size_px)
    assert isinstance(panorama, Panorama)
    assert panorama.tile_fov_mm == pytest.approx((0.1, 0.1 * 2 / 3))
    assert (panorama.columns, panorama.rows) == (3, 3)
    assert panorama.plane(config.panorama.at_corners.working_distance_mm, TileIndex(1, 1)) == pytest.approx(
        10.15
    )


def test_without_overheads_the_driver_is_asked():
    text = GOOD.replace("[scan.timing]\nrow_overhead_us = 20\n", "")
    assert parse_config(text).timing is None


def test_a_config_is_frozen():
    config = parse_config(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.run.name = "other"


# -- what is wrong ---------------------------------------------------------------------------


def test_eight_errors_are_eight_problems():
    found = problems(EIGHT_ERRORS)
    assert sorted(keys(found)) == [
        "detect.options.treshold",
        "limit",
        "microscope.driver",
        "panorama.corners_mm",
        "panorama.partitions",
        "panorama.tile_fov_um",
        "regions.merge",
        "scan.fast.dwell_us",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dwell_ns = 300\n", "dwell_us = 0.3\n", r"scan.fast.dwell_us = 0.3: .*dwell_ns\? 0.3 us are 300 ns"),
        ("dwell_ns = 300\n", "dwell = 300\n", r"scan.fast.dwell = 300: .*dwell_ns\? The value is in ns"),
        ("dwell_ns = 300\n", "dwel_ns = 300\n", "scan.fast.dwel_ns = 300: .*did you mean scan.fast.dwell_ns"),
        (
            "dwell_ns = 300\n",
            "",
            "scan.fast.dwell_ns is missing .time on each pixel in nanoseconds, for example 300",
        ),
        (
            "dwell_ns = 300\n",
            'dwell_ns = "300"\n',
            'scan.fast.dwell_ns = "300": expected a number .time on each',
        ),
        ("dwell_ns = 300\n", "dwell_ns = 0\n", "scan.fast.dwell_ns = 0: expected greater than 0"),
        ("dwell_ns = 300\n", "dwell_ns = nan\n", "scan.fast.dwell_ns = nan: expected a finite number"),
        ("[768, 512]", "[768]", r"scan.fast.size_px = \[768\]: expected one value more at \[1\]"),
        ("[768, 512]", "[768, 512, 1]", "expected at most 2 values, got 3|expected 2 values, got 3"),
        ("[768, 512]", "[768.5, 512]", r"expected a whole number at \[0\]"),
        ("[768, 512]", "[768, 500]", r"scan.analysis.size_px = .*on both axes, for example \[3072, 2000\]"),
        ("[768, 512]", "[6144, 4096]", "scan.analysis.size_px = .*whole multiple of scan.fast.size_px"),
        ("tile_fov_um", "tile_fov_mm", "panorama.tile_fov_mm = 100: .*100 mm are 100000 um"),
        ("tile_fov_um = 100", "tile_fov_um = 0.1", "panorama.corners_mm = .*tiles of tile_fov_um = 0.1"),
        ("[panorama.at_corners]", "[panorama.at_cornes]", "panorama.at_cornes = .*panorama.at_corners"),
        (
            "working_distance_mm = [",
            "contrast_pct = [",
            "at_corners.contrast_pct: brightness_pct and contrast_pct",
        ),
        ("[0.3, 0.0]", "[0.0, 0.0]", "panorama.corners_mm = .*three different points"),
        ("overlap_pct = 0", "partitions = 3", "panorama.partitions = 3: expected 2 or a square number"),
        ('"steel"', '"a/b"', "run.name = .a/b.: expected text of the form .*letters, digits"),
        ("[run]", "[run]\ndwell_ns = 3", "run.dwell_ns = 3: .*scan.fast.dwell_ns or scan.analysis.dwell_ns"),
        ("[run]", "[run]\nqwerty = 3", "run.qwerty = 3: unknown key; run takes name, out_dir, seed"),
        ("[run]", "[regions]\nsize_px = [4000, 10]\n[run]", "regions.size_px = .*at most the field of view"),
        ("[run]", "[limits]\nin_flight_mb = 1\n[run]", "limits.in_flight_mb = 1: expected at least 3.14573"),
        (
            "[run]",
            "[taps]\nlisten = 'tcp://0.0.0.0:7742'\n[run]",
            "taps.listen = .*expected a loopback address",
        ),
        ("[run]", "[taps]\nimages_listen = 'tcp://127.0.0.1:7744'\n[run]", "taps.listen is not"),
        (
            "[run]",
            "[taps]\nlisten = 'tcp://127.0.0.1:7742'\nimages_listen = 'tcp://127.0.0.1:7743'\n[run]",
            "taps.images_listen = .*the port is that of the facts",
        ),
        (
            "[run]",
            "[taps]\nlisten = 'tcp://127.0.0.1:7741'\n[workers]\nlisten = 'tcp://127.0.0.1:7741'\n[run]",
            "workers.listen = .*the port is that of taps.listen",
        ),
        ("[run]", "[workers]\nlisten = '0.0.0.0:7'\n[run]", "workers.listen = .*tcp://ADDRESS:PORT"),
        (
            'driver = "stand_ins:Scope"',
            'driver = "simulatd"',
            "microscope.driver = .*did you mean 'simulated'",
        ),
        (
            "{ seed = 3 }",
            "{ sed = 3 }",
            r"microscope.options.sed = 3: .*did you mean microscope.options.seed\?",
        ),
        ("{ seed = 3 }", "3", "microscope.options = 3: expected a table"),
        ('"stand_ins:Finder"', '"stand_ins:Lost"', "detect.detector = .*cannot be loaded"),
        (
            "{ threshold = 55 }",
            "{ threshold = 5.5 }",
            "detect.options.threshold = 5.5: expected a whole number",
        ),
    ],
)
def test_each_mistake_is_one_problem_that_helps(old, new, expected):
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert len(found) == 1, found
    assert re.search(expected, found[0]), found[0]


def test_an_empty_file_names_every_key_that_is_missing():
    assert keys(problems('[detect]\ndetector = "stand_ins:Finder"')) == [
        "microscope.driver",
        "panorama.corners_mm",
        "panorama.tile_fov_um",
        "scan.fast.size_px",
        "scan.fast.dwell_ns",
        "scan.analysis.size_px",
        "scan.analysis.dwell_ns",
    ]


@pytest.mark.parametrize("table", ["run", "scan", "panorama", "microscope", "limits"])
def test_a_value_in_the_place_of_a_table_is_reported(table):
    text = "\n".join(
        [f"{table} = 3", *(p for p in GOOD.split("\n[") if not p.strip("[\n").startswith(table))]
    )
    text = f'{table} = 3\n[detect]\ndetector = "stand_ins:Finder"'
    assert f"{table} = 3: expected a table" in problems(text)


def test_a_file_that_is_not_toml_says_where():
    found = problems('[run]\nout_dir = "C:\\data"')
    assert len(found) == 1
    assert "line 2" in found[0]
    assert "single quotes" in found[0]


# -- where values come from -------------------------------------------------------------------


def test_the_environment_overrides_the_file_and_set_overrides_both():
    environ = {"SPARSE_ACTORS__SCAN__FAST__DWELL_NS": "400", "SPARSE_ACTORS__RUN__NAME": "lab", "HOME": "/"}
    config = parse_config(GOOD, ["run.name=cli"], environ)
    assert (config.fast.dwell_ns, config.run.name) == (400.0, "cli")
    assert parse_config(GOOD, [], environ).run.name == "lab"
    assert parse_config(GOOD).run.name == "steel"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("run.name=steel-2", lambda c: c.run.name == "steel-2"),
        ('run.name="steel"', lambda c: c.run.name == "steel"),
        ("run.seed = 7", lambda c: c.run.seed == 7),
        ("scan.fast.size_px=[384, 256]", lambda c: c.fast.size_px == (384, 256)),
        ("microscope.options.seed=9", lambda c: c.microscope.options == {"seed": 9}),
        ("regions.merge=mask", lambda c: c.regions.merge == "mask"),
    ],
)
def test_set_takes_toml_and_else_text(override, read):
    assert read(parse_config(GOOD, [override]))


@pytest.mark.parametrize("override", ["run.name", "=3", ".x=1", "run..name=a"])
def test_set_without_key_or_value_is_a_problem(override):
    assert problems(overrides=[override])[0].startswith(f"--set {override}: expected key=value")


def test_a_problem_says_where_an_override_comes_from():
    found = problems(
        overrides=["run.sed=1", "microscope.driver.x=1"], environ={"SPARSE_ACTORS__SCAN__FAST__DWELL_NS": "x"}
    )
    assert "did you mean run.seed?" in found[1]
    assert found[1].endswith("[from --set run.sed]")
    assert found[2].endswith("[from environment variable SPARSE_ACTORS__SCAN__FAST__DWELL_NS]")
    assert found[0] == "microscope.driver.x (--set microscope.driver.x): driver is a value, not a table"


def test_the_file_is_found_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    homes = {"user_config_path": tmp_path / "user", "site_config_path": tmp_path / "site"}
    for function, folder in homes.items():
        monkeypatch.setattr(f"platformdirs.{function}", lambda *_, folder=folder, **__: folder)
    places = [
        tmp_path / "site" / "sparse-actors.toml",
        tmp_path / "user" / "sparse-actors.toml",
        tmp_path / "sparse-actors.toml",
        tmp_path / "from-variable.toml",
        tmp_path / "explicit.toml",
    ]
    environ = {}
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(environ=environ)
    for number, place in enumerate(places):
        place.parent.mkdir(exist_ok=True)
        place.write_text(GOOD.replace("steel", f"run-{number}"), encoding="utf-8")
        if number == 3:
            environ["SPARSE_ACTORS_CONFIG"] = str(place)
        path = place if number == 4 else None
        assert load_config(path, environ=environ).run.name == f"run-{number}"


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "none.toml", environ={})
    with pytest.raises(ConfigError, match=r"\$SPARSE_ACTORS_CONFIG.*there is no such file"):
        load_config(environ={"SPARSE_ACTORS_CONFIG": str(tmp_path / "none.toml")})
    path = tmp_path / "utf16.toml"
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(path, environ={})
    path.write_bytes(GOOD.encode("utf-8-sig"))
    assert load_config(path, environ={}).run.name == "steel"


def test_every_value_knows_its_origin(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(GOOD, encoding="utf-8")
    environ = {"SPARSE_ACTORS__RUN__SEED": "4"}
    overrides = ["scan.fast.dwell_ns=200"]
    found = origins(load_config(path, overrides, environ), path, overrides, environ)
    assert found["run.name"] == f"file {path}"
    assert found["run.seed"] == "environment variable SPARSE_ACTORS__RUN__SEED"
    assert found["scan.fast.dwell_ns"] == "--set scan.fast.dwell_ns"
    assert found["limits.scan_attempts"] == "default"
    assert found["microscope.options.seed"] == f"file {path}"


# -- written and read back --------------------------------------------------------------------

scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(max_size=8), values, max_size=4),
    st.floats(1e-3, 1e11),
    st.integers(0, 2**63 - 1),
    st.tuples(st.floats(1, 20), st.floats(1, 20), st.floats(1, 20)) | st.none(),
)
def test_what_is_written_reads_back_equal(options, dwell_ns, seed, distances_mm):
    good = parse_config(GOOD)
    config = good.model_copy(
        update={
            "run": good.run.model_copy(update={"seed": seed}),
            "scan": good.scan.model_copy(
                update={"fast": good.scan.fast.model_copy(update={"dwell_ns": dwell_ns})}
            ),
            "panorama": good.panorama.model_copy(
                update={
                    "at_corners": good.panorama.at_corners.model_copy(
                        update={"working_distance_mm": distances_mm}
                    )
                }
            ),
        }
    )
    assert parse_config(config.to_toml()) == config
    with_options = good.model_copy(update={"detect": good.detect.model_copy(update={"options": options})})
    assert tomllib.loads(with_options.to_toml()).get("detect", {}).get("options", {}) == options


def test_infinite_options_survive():
    from sparse_actors.toml_text import toml_document

    read = tomllib.loads(toml_document({"a": [math.inf, -math.inf, math.nan]}, ()))["a"]
    assert read[:2] == [math.inf, -math.inf]
    assert math.isnan(read[2])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("windows = 0", "audit.windows"),
        ("size_px = [4000, 10]", "audit.size_px = [4000, 10]: expected at most the field of view"),
        ("options = { treshold = 3 }", "audit.options"),
    ],
)
def test_an_audit_that_cannot_be_is_told(table, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_config(f"{GOOD}\n[audit]\n{table}\n")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ('[inspect]\ndetector = "nobody"\n', "inspect.detector"),
        ("[inspect]\noptions = { treshold = 3 }\n", "inspect.options"),
        (
            "[inspect]\noptions = { threshold = 55 }\n[audit]\noptions = { threshold = 60 }\n",
            "audit.options: [inspect] says already",
        ),
        ("[audit]\nleast_recall_pct = 100\n", "audit.least_recall_pct"),
    ],
)
def test_a_second_look_that_cannot_be_is_told(tables, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_config(f"{GOOD}\n{tables}")


def test_the_second_look_is_that_of_inspect_else_of_the_audit_else_of_the_survey():
    own = parse_config(GOOD)
    assert own.inspector == (own.detect.detector, own.detect.options)
    audit = parse_config(f"{GOOD}\n[audit]\noptions = {{ threshold = 60 }}\nleast_recall_pct = 95\n")
    assert audit.inspector == (own.detect.detector, {"threshold": 60})
    assert audit.audit.plan().least_recall == 0.95
    inspect = parse_config(f"{GOOD}\n[audit]\n[inspect]\noptions = {{ threshold = 50 }}\n")
    assert inspect.inspector == ("threshold_dbscan", {"threshold": 50})
    assert inspect.for_pairs().inspect is None


def test_an_audit_takes_the_options_of_the_detector_unless_it_has_its_own():
    assert parse_config(GOOD).audit is None
    audit = parse_config(f"{GOOD}\n[audit]\noptions = {{ threshold = 60 }}\n").audit
    assert (audit.options, audit.plan().windows) == ({"threshold": 60}, 4)
    assert parse_config(f"{GOOD}\n[audit]\n").audit.options is None


def test_the_schema_describes_every_key_with_its_unit():
    schema = configuration.schema()
    assert schema["$schema"].endswith("2020-12/schema")
    tables = {**schema["$defs"], "Config": schema}
    for name, table in tables.items():
        assert table["additionalProperties"] is False
        for key, entry in table["properties"].items():
            assert "description" in entry or "$ref" in entry or name == "Config", (name, key)
    dwell = tables["ScanTable"]["properties"]["dwell_ns"]
    assert "nanoseconds" in dwell["description"]
    assert dwell["exclusiveMinimum"] == 0


EDS = """
[eds]
where = "field"
grid_px = [384, 256]
live_time_ms = 5.0
classifier = "stand_ins:Teller"
"""


@pytest.fixture
def teller(stand_ins):
    class Teller:
        def __init__(self, share: float = 0.5) -> None: ...
        def classify(self, counts, live_time_s, axis): ...

    sys.modules["stand_ins"].Teller = Teller


@pytest.mark.usefixtures("teller")
def test_a_map_is_planned_from_its_table():
    config = parse_config(GOOD + EDS)
    assert config.eds.plan(seed=3, attempts=2).live_time_s == 0.005
    assert parse_config(config.to_toml()) == config


@pytest.mark.usefixtures("teller")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("where", ""),
        ("where", '"both"'),
        ("grid_px", "[300, 300]"),
        ("sampler", '"no such file.json"'),
        ("live_time_range_ms", "[10.0, 20.0]"),
        ("options", "{ shar = 1.0 }"),
    ],
)
def test_what_is_wrong_with_a_map_is_told_by_its_key(key, value):
    kept = [line for line in EDS.splitlines(keepends=True) if not line.startswith(f"{key} ")]
    text = "".join(kept) + (f"{key} = {value}\n" if value else "")
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD + text)
    assert any(problem.startswith(f"eds.{key}") for problem in caught.value.problems), caught.value.problems
