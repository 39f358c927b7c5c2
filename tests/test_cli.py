"""The commands: cheap to start, right exit codes, data on stdout and words on stderr."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparse_actors.cli.commands import app
from sparse_actors.config import parse_config
from sparse_actors.errors import (
    ActorError,
    ConfigError,
    JournalError,
    MicroscopeError,
    PluginError,
    SparseActorsError,
    WireError,
)
from sparse_actors.imaging import ScanTiming
from sparse_actors.instrument_times import write_times
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.version import VERSION

CONFIG = """
[run]
name = "steel"
[microscope]
driver = "cli_stand_ins:Scope"
[panorama]
corners_mm = [[0.0, 0.0], [0.2, 0.0], [0.0, 0.1]]
tile_fov_um = 100
overlap_pct = 0
partitions = 2
[scan.fast]
size_px = [100, 100]
dwell_ns = 1000
[scan.analysis]
size_px = [400, 400]
dwell_ns = 4000
[detect]
detector = "cli_stand_ins:Finder"
[regions]
size_px = [40, 40]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A configuration file whose driver must not be touched."""
    from sparse_actors.contracts.microscope import Microscope, ScanLimits
    from sparse_actors.imaging import ScanTiming

    class Scope(Microscope):
        def __init__(self, is_mute: bool = False, settling_ms: float = 0.0) -> None:
            self.is_mute, self.settling_ms = is_mute, settling_ms

        @property
        def limits(self):
            if self.is_mute:
                raise MicroscopeError("connect first")
            timing = ScanTiming(row_overhead_us=100.0, scan_overhead_ms=10.0)
            return ScanLimits(
                pixel_type="uint16",
                timing=timing,
                timing_source="declared",
                spectrum_overhead_s=self.settling_ms / 1000,
            )

        def connect(self) -> None:
            raise AssertionError("the microscope was touched")

    class Finder:
        def detect(self, image, scale): ...

    Scope.__abstractmethods__ = frozenset()
    module = types.ModuleType("cli_stand_ins")
    module.Scope, module.Finder = Scope, Finder
    monkeypatch.setitem(sys.modules, "cli_stand_ins", module)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


# -- cheap and helpful ------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["config", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import sys
from sparse_actors.cli import main
sys.argv = ["sparse-actors", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"numba", "sklearn", "cv2", "h5py", "zmq", "numpy", "scipy", "structlog"}}
print("heavy:", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "heavy: []"
    assert VERSION in result.stdout or "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["--nonsense", "run"], "--nonsense"),
        (["run", "--until-tile", "0"], "--until-tile"),
        (["run", "a.toml", "b.toml"], "b.toml"),
        (["verify"], "RUN"),
        (["verify", "not/there"], "not/there"),
        (["config", "show", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_said_as_json_where_json_is_wanted(arguments, named):
    result = invoke(*arguments, "--json")
    assert result.exit_code == 2
    printed = json.loads(result.stdout)
    assert (printed["schema"], printed["error"]) == (1, "UsageError")
    assert any(named in problem for problem in printed["problems"])
    assert result.stderr
    assert invoke(*arguments).stdout == ""


def test_wrong_usage_is_two():
    assert invoke("run", "--nonsense").exit_code == 2
    assert invoke("nonsense").exit_code == 2
    assert invoke("run", "--until-tile", "0").exit_code == 2


# -- check and config -------------------------------------------------------------------------


def test_a_bad_configuration_is_three_with_every_problem_in_both_forms(file):
    changes = ["--set", "scan.fast.dwel_ns=3", "--set", "regions.merge=bbox"]
    result = invoke("check", file, *changes)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.count("ConfigError: ") == 2
    result = invoke("check", file, *changes, "--json")
    assert result.exit_code == 3
    printed = json.loads(result.stdout)
    assert printed["schema"] == 1
    assert printed["error"] == "ConfigError"
    assert [p.split(" ")[0] for p in printed["problems"]] == ["scan.fast.dwel_ns", "regions.merge"]


def test_check_predicts_by_equation_one(file):
    result = invoke("check", file, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["prediction"]
    assert (found["tiles"], found["tile_rows"], found["tile_columns"]) == (2, 1, 2)
    assert found["timing_source"] == "declared"
    assert found["conventional_s"] == pytest.approx(2 * (160_000 * 4e-6 + 400 * 100e-6 + 10e-3))
    # Two partitions of 100 x 50: the same lines, one more overhead.
    assert found["fast_s"] == pytest.approx(2 * (10_000 * 1e-6 + 100 * 100e-6 + 2 * 10e-3))
    one, five, twenty, fifty = found["adaptive"]
    assert [c["share"] for c in (one, five, twenty, fifty)] == [0.01, 0.05, 0.20, 0.50]
    assert five["regions_per_tile"] == pytest.approx(5)
    region_s = 1600 * 4e-6 + 40 * 100e-6 + 10e-3
    assert five["scan_s"] == pytest.approx(found["fast_s"] + 2 * 5 * region_s)
    assert five["saved_share"] == pytest.approx(1 - five["scan_s"] / found["conventional_s"])
    assert five["disk_bytes"] == 2 * 2 * (10_000 + 8_000)
    assert found["largest_disk_bytes"] == 2 * 2 * (10_000 + 160_000)
    assert found["dose_e_per_nm2"] is None


def test_check_predicts_the_windows_of_an_audit(file):
    without = json.loads(invoke("check", file, "--json").stdout)["prediction"]
    result = invoke("check", file, "--json", "--set", "audit.windows=3", "--set", "audit.size_px=[40, 40]")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["prediction"]
    # With a margin of 16 px on all sides.
    assert (without["audit_s"], found["audit_s"]) == (
        0,
        pytest.approx(2 * 3 * (72**2 * 4e-6 + 72 * 100e-6 + 10e-3)),
    )
    for before, after in zip(without["adaptive"], found["adaptive"], strict=True):
        assert after["scan_s"] - before["scan_s"] == pytest.approx(found["audit_s"])
        assert after["disk_bytes"] - before["disk_bytes"] == 2 * 2 * 3 * 72**2


def test_check_predicts_the_dose_where_the_current_is_known(file):
    result = invoke("check", file, "--json", "--set", "microscope.beam_current_pa=100")
    fast, analysis, both = json.loads(result.stdout)["prediction"]["dose_e_per_nm2"]
    # 1e-10 A x 1e-6 s / e = 624.15 electrons on 1000 nm x 1000 nm, and on 250 x 250 four times longer.
    assert fast == pytest.approx(624.15e-6, rel=1e-4)
    assert analysis == pytest.approx(4 * 624.15 / 250**2, rel=1e-4)
    assert both == pytest.approx(fast + analysis)


def test_configured_overheads_win_over_the_driver(file):
    result = invoke("check", file, "--json", "--set", "scan.timing.row_overhead_us=0")
    found = json.loads(result.stdout)["prediction"]
    assert found["timing_source"] == "configured"
    assert found["conventional_s"] == pytest.approx(2 * 160_000 * 4e-6)


def test_what_earlier_runs_measured_wins_over_both_and_check_says_so(file, tmp_path, monkeypatch):
    times = LearntTimes(ScanTiming())
    true = ScanTiming(300.0, 30.0, 3.0)
    for side in (50, 100, 200) * 10:
        shape = side * side, side, 4000.0
        times.scans.learn(*shape, true.duration_s(*shape))
    monkeypatch.setenv("SPARSE_ACTORS_TIMES", str(tmp_path / "times"))
    write_times(tmp_path / "times", parse_config(CONFIG).microscope, times)
    found = json.loads(invoke("check", file, "--json").stdout)["prediction"]
    assert (found["timing_source"], found["timing_scans"]) == ("learnt", 30)
    assert found["conventional_s"] == pytest.approx(2 * (160_000 * 12e-6 + 400 * 300e-6 + 30e-3), rel=0.01)
    assert "learnt from 30 scans" in " ".join(invoke("check", file).stderr.split())


def test_a_driver_that_cannot_tell_before_it_is_connected_is_a_warning(file):
    result = invoke("check", file, "--json", "--set", "microscope.options.is_mute=true")
    printed = json.loads(result.stdout)
    assert printed["prediction"]["timing_source"] == "unknown"
    assert any("give [scan.timing]" in warning for warning in printed["warnings"])


def test_check_warns_of_a_full_disk_and_of_no_gain(file, monkeypatch):
    monkeypatch.setattr("sparse_actors.cli.check.free_disk_bytes", lambda folder: 1000)
    changes = ["--set", "regions.size_px=[1, 1]"]
    printed = json.loads(invoke("check", file, "--json", *changes).stdout)
    assert [w.split(":")[0] for w in printed["warnings"]] == ["disk", "time"]


def test_check_for_people_is_on_stderr(file):
    result = invoke("check", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 tiles (1 rows x 2 columns)" in result.stderr
    assert "5% rescanned" in result.stderr


def test_config_show_is_a_configuration(file):
    result = invoke("config", "show", file, "--set", "run.seed=5")
    assert parse_config(result.stdout) == parse_config(CONFIG, ["run.seed=5"])
    assert json.loads(invoke("config", "show", file, "--json").stdout)["config"]["run"]["name"] == "steel"


def test_config_show_origin(file, monkeypatch):
    monkeypatch.setenv("SPARSE_ACTORS__SCAN__FAST__DWELL_NS", "2000")
    lines = invoke("config", "show", file, "--origin", "--set", "run.seed=5").stdout.splitlines()
    found = dict(line.split(maxsplit=1) for line in lines)
    assert found["run.name"] == f"file {file}"
    assert found["run.seed"] == "--set run.seed"
    assert found["scan.fast.dwell_ns"] == "environment variable SPARSE_ACTORS__SCAN__FAST__DWELL_NS"
    assert found["workers.local"] == "default"


def test_config_schema_is_json():
    assert "MicroscopeTable" in json.loads(invoke("config", "schema").stdout)["$defs"]


def test_the_configuration_delivered_with_the_program_is_valid():
    path = Path(__file__).parent.parent / "config.toml"
    config = parse_config(path.read_text(encoding="utf-8"))
    assert config.microscope.driver == "simulated"
    assert parse_config(config.to_toml()) == config


# -- run --------------------------------------------------------------------------------------


@pytest.fixture
def ending(monkeypatch, tmp_path):
    """Replace the survey by one that ends as told; gives the list of how it was called."""
    from sparse_actors import app as application
    from sparse_actors.cli import run as run_module

    calls = []

    def ends(outcome="completed", cause="", problems=(), error=None):
        def run_survey(config, **options):
            calls.append((config, options))
            if error:
                raise error
            return application.RunResult(outcome, f"it {outcome}", cause, tmp_path / "runs" / "x", problems)

        monkeypatch.setattr(run_module, "run_survey", run_survey)
        return calls

    return ends


@pytest.mark.parametrize(
    ("outcome", "cause", "problems", "code"),
    [
        ("completed", "", (), 0),
        ("completed", "", ("the microscope was not reset",), 1),
        ("stopped", "", (), 75),
        ("failed", "actor", (), 1),
        ("failed", "microscope", (), 4),
        ("failed", "storage", (), 5),
    ],
)
def test_the_exit_code_says_how_the_run_ended(file, ending, outcome, cause, problems, code):
    ending(outcome, cause, problems)
    result = invoke("run", file, "--json")
    assert result.exit_code == code, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["schema"], printed["outcome"], printed["problems"]) == (1, outcome, list(problems))
    assert printed["figures"]["tiles_total"] == 2
    assert Path(printed["folder"]).name == "x"
    assert all(problem in result.stderr for problem in problems)
    assert "Survey" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a", "b"), 3),
        (PluginError("p"), 3),
        (MicroscopeError("unreachable"), 4),
        (JournalError("j"), 5),
        (WireError("w"), 5),
        (OSError(28, "No space left on device"), 5),
        (ActorError("x"), 1),
        (SparseActorsError("y"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_code_says_what_went_wrong(file, ending, error, code):
    ending(error=error)
    result = invoke("run", file)
    assert (result.exit_code, result.stdout) == (code, "")
    assert "Traceback" not in result.stderr


def test_options_reach_the_survey(file, ending, tmp_path):
    calls = ending()
    out = tmp_path / "here"
    invoke("run", file, "--out", out, "--until-tile", "1", "--set", "run.seed=9")
    config, options = calls[0]
    assert config.run.seed == 9
    assert options.pop("observe")
    assert options.pop("say")
    assert options == {"given": CONFIG, "out": out, "resume": False, "until_tile": 1, "times_folder": None}


def test_resume_takes_the_latest_run_of_the_name(file, ending, tmp_path):
    calls = ending()
    result = invoke("run", file, "--resume")
    assert result.exit_code == 3
    assert "no run of this name in runs" in result.stderr
    for name in ("2026-01-02T030405_steel", "2026-01-01T030405_steel", "2026-01-03T030405_my_steel"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    result = invoke("run", file, "--resume")
    assert result.exit_code == 0, result.stderr
    assert calls[0][1]["resume"] is True
    assert calls[0][1]["out"] == Path("runs") / "2026-01-02T030405_steel"


# -- verify and worker ------------------------------------------------------------------------


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["scan r000c000p0: lost"], 1)])
def test_verify_says_whether_a_run_is_sound(tmp_path, monkeypatch, problems, code):
    from sparse_actors.recording import verify as recording

    report = recording.VerifyReport(scans_checked=3, pixels=300, problems=problems, warnings=["torn"])
    monkeypatch.setattr(recording, "verify", lambda folder: report)
    result = invoke("verify", tmp_path, "--json")
    assert result.exit_code == code
    printed = json.loads(result.stdout)
    assert (printed["schema"], printed["is_sound"], printed["pixels"]) == (1, not problems, 300)
    assert printed["problems"] == problems
    assert "warning: torn" in result.stderr
    assert all(f"problem: {problem}" in result.stderr for problem in problems)


def test_verify_needs_a_run(tmp_path):
    assert invoke("verify", tmp_path / "nothing").exit_code == 2
    assert invoke("verify", tmp_path).exit_code == 1


def test_worker_ends_with_the_code_of_the_worker(monkeypatch):
    from sparse_actors.network import worker_host

    seen = []
    monkeypatch.setattr(worker_host, "host_workers", lambda *arguments: seen.append(arguments) or 3)
    options = ["--keyfile", "bench.secret", "--slots", "4", "--tag", "gpu", "--tag", "big"]
    assert invoke("worker", "tcp://127.0.0.1:9", *options).exit_code == 3
    assert seen == [("tcp://127.0.0.1:9", Path("bench.secret"), 4, ["gpu", "big"])]
