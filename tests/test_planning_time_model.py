"""What scans and moves take is learnt from them, whatever was declared and however they hiccup."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_actors.config import MicroscopeTable
from sparse_actors.imaging import ScanTiming
from sparse_actors.instrument_times import read_times, times_file, times_folder, write_times
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.robust_fit import WINDOW, RobustFit, non_negative_minimum
from sparse_actors.planning.time_model import StageModel, TimeModel

FAST = (384 * 384, 384, 3200.0)
FRAME = (3072 * 3072, 3072, 3200.0)
DECLARED = ScanTiming(row_overhead_us=20.0, scan_overhead_ms=5.0)


def regions(random, count):
    """Shapes of merged regions: some hundred pixels wide and high."""
    for width, height in random.integers(100, 500, (count, 2)).tolist():
        yield width * height, height, 3200.0


def one_tile(random):
    """A fast scan of four partitions, forty regions."""
    return [*[FAST] * 4, *regions(random, 40)]


def taught(model, shapes, true, random, noise=0.01, hiccups=0.0, hiccup_s=3.0):
    for shape in shapes:
        took_s = true.duration_s(*shape) * (1 + noise * random.standard_normal())
        model.learn(*shape, took_s + hiccup_s * (random.random() < hiccups))
    return model


timings = st.builds(
    ScanTiming,
    row_overhead_us=st.floats(0, 300),
    scan_overhead_ms=st.floats(0, 100),
    dwell_factor=st.floats(0.05, 5),
)


@settings(max_examples=60, deadline=None)
@given(declared=timings, true=timings, seed=st.integers(0, 99))
def test_any_declaration_is_overruled_by_one_tile(declared, true, seed):
    random = np.random.default_rng(seed)
    model = taught(TimeModel.declared(declared), one_tile(random), true, random, hiccups=0.01)
    for shape in [FAST, *regions(random, 10)]:
        assert model.duration_s(*shape).seconds == pytest.approx(true.duration_s(*shape), rel=0.05, abs=3e-3)
    costs = model.timing
    assert min(costs.dwell_factor, costs.row_overhead_us, costs.scan_overhead_ms) >= 0


@pytest.mark.parametrize(
    "true", [ScanTiming(60, 15, 3.0), ScanTiming(60, 15, 1.0), ScanTiming(20 / 3, 5 / 3, 1 / 3)]
)
def test_a_timing_that_is_wrong_by_a_factor_of_three_is_recovered_after_a_tile(true):
    random = np.random.default_rng(1)
    model = taught(TimeModel.declared(DECLARED), one_tile(random), true, random, noise=0.002)
    assert model.timing.dwell_factor == pytest.approx(true.dwell_factor, rel=0.02)
    assert model.timing.row_overhead_us == pytest.approx(true.row_overhead_us, rel=0.5)
    assert model.timing.scan_overhead_ms == pytest.approx(true.scan_overhead_ms, rel=0.3)
    # Even a shape far outside what was seen: a whole frame.
    assert model.duration_s(*FRAME).seconds == pytest.approx(true.duration_s(*FRAME), rel=0.02)


@pytest.mark.parametrize("factor", [0.05, 3.0])
def test_a_few_scans_of_one_shape_tell_that_shape_and_keep_the_division(factor):
    random = np.random.default_rng(2)
    true = ScanTiming(factor * 20, factor * 5, factor)
    shape = (128 * 128, 128, 3200.0)
    model = taught(TimeModel.declared(DECLARED), [shape] * 3, true, random, noise=0.002)
    assert model.duration_s(*shape).seconds == pytest.approx(true.duration_s(*shape), rel=0.01)
    assert model.timing.dwell_factor / factor == pytest.approx(1, rel=0.1)
    assert 10 < model.timing.row_overhead_us / factor < 40


def test_hiccups_of_seconds_in_one_scan_of_a_hundred_change_nothing():
    random = np.random.default_rng(3)
    model = taught(TimeModel.declared(DECLARED), regions(random, 2000), DECLARED, random, hiccups=0.01)
    for shape in [FAST, *regions(random, 20)]:
        assert model.duration_s(*shape).seconds == pytest.approx(DECLARED.duration_s(*shape), rel=0.01)


def test_a_hiccup_of_the_very_first_scan_is_forgotten():
    random = np.random.default_rng(4)
    model = TimeModel.declared(DECLARED)
    model.learn(*FAST, 10.0)
    taught(model, [FAST] * 6, DECLARED, random)
    assert model.duration_s(*FAST).seconds == pytest.approx(DECLARED.duration_s(*FAST), rel=0.03)


def test_the_standard_error_is_the_error():
    random = np.random.default_rng(5)
    true = ScanTiming(40, 10, 1.1)
    shape = (256 * 256, 256, 3200.0)
    z = []
    for _ in range(200):
        model = taught(TimeModel.declared(DECLARED), one_tile(random), true, random, noise=0.01)
        duration = model.duration_s(*shape)
        z.append((duration.seconds - true.duration_s(*shape)) / duration.error_s)
    assert 0.7 < np.std(z) < 1.4
    assert abs(np.mean(z)) < 0.5


def test_more_scans_make_it_more_certain():
    random = np.random.default_rng(6)
    model = TimeModel.declared(DECLARED)
    errors = [model.duration_s(*FRAME).error_s]
    for _ in range(4):
        taught(model, one_tile(random), DECLARED, random)
        errors.append(model.duration_s(*FRAME).error_s)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * errors[0]


def test_an_instrument_that_changes_is_followed():
    random = np.random.default_rng(7)
    model = taught(TimeModel.declared(DECLARED), regions(random, 3 * WINDOW), DECLARED, random)
    slower = ScanTiming(60, 15, 1.5)
    taught(model, regions(random, 3 * WINDOW), slower, random)
    assert model.duration_s(*FAST).seconds == pytest.approx(slower.duration_s(*FAST), rel=0.02)


def test_nonsense_is_not_learnt():
    model = TimeModel.declared(DECLARED)
    for took_s in (float("nan"), float("inf"), 0.0, -1.0):
        model.learn(*FAST, took_s)
    assert model.duration_s(*FAST).seconds == pytest.approx(DECLARED.duration_s(*FAST))


def test_what_was_learnt_goes_from_run_to_run_less_certain():
    random = np.random.default_rng(8)
    true = ScanTiming(60, 15, 3.0)
    before = taught(TimeModel.declared(DECLARED), one_tile(random), true, random)
    after = TimeModel.from_json(json.loads(json.dumps(before.to_json())))
    old, new = before.duration_s(*FRAME), after.duration_s(*FRAME)
    assert new.seconds == pytest.approx(old.seconds)
    assert 0.2 < new.error_s / new.seconds < 0.6
    assert after.count == before.count == 44
    # In the next run the instrument is ten times as fast: a few scans tell.
    fast = ScanTiming(6, 1.5, 0.3)
    taught(after, [FAST] * 3, fast, random)
    assert after.duration_s(*FAST).seconds == pytest.approx(fast.duration_s(*FAST), rel=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"costs": [1.0, 2.0]},
        {"costs": [1.0, -2.0, 3.0]},
        {"costs": [1.0, float("nan"), 3.0]},
        {"costs": None},
        {"covariance": [[1.0]]},
        {"covariance": (-1e9 * np.eye(3)).tolist()},
        {"covariance": np.triu(np.ones((3, 3))).tolist()},
        {"count": "many"},
        {"count": -1},
    ],
)
def test_what_is_damaged_is_refused(change):
    good = TimeModel.declared(DECLARED).to_json()
    with pytest.raises((ValueError, TypeError)):
        TimeModel.from_json(good | change)


def test_moves_are_settling_and_distance():
    random = np.random.default_rng(9)
    model = StageModel.unknown()
    for distance_mm in [7.0, *[0.1] * 5, 0.4, 0.1]:
        model.learn(distance_mm, 0.2 + distance_mm / 2 + 1e-3 * random.standard_normal())
    assert model.duration_s(0.1).seconds == pytest.approx(0.25, rel=0.02)
    assert model.duration_s(5.0).seconds == pytest.approx(2.7, rel=0.02)
    again = StageModel.from_json(model.to_json())
    assert again.duration_s(5.0).seconds == pytest.approx(model.duration_s(5.0).seconds)


def test_the_least_of_a_quadratic_over_what_is_not_negative():
    random = np.random.default_rng(10)
    for _ in range(200):
        a, g = random.standard_normal((5, 3)), random.standard_normal(3)
        h = a.T @ a + 0.1 * np.eye(3)
        c = non_negative_minimum(h, g)
        gradient = h @ c - g
        # The conditions of Karush, Kuhn and Tucker.
        assert (c >= 0).all()
        assert (gradient >= -1e-9).all()
        assert abs(gradient @ c) < 1e-9


def test_without_times_the_prior_stands():
    fit = RobustFit(np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    np.testing.assert_allclose(fit.costs, [1.0, 2.0])
    np.testing.assert_allclose(fit.covariance, np.diag([4.0, 9.0]))


# -- kept between runs ------------------------------------------------------------------------


def learnt():
    times = LearntTimes(DECLARED)
    taught(times.scans, one_tile(np.random.default_rng(1)), ScanTiming(60, 15, 3.0), np.random.default_rng(2))
    return times


def test_times_are_kept_for_each_instrument(tmp_path):
    first = MicroscopeTable(driver="simulated", options={"seed": 1})
    second = MicroscopeTable(driver="vendor.sem:Scope", options={"host": "10.0.0.1"})
    folder = tmp_path / "new" / "times"
    assert read_times(folder, first) is None
    write_times(folder, first, learnt())
    write_times(folder, first, learnt())  # replaces
    write_times(folder, second, learnt())
    known = read_times(folder, first)
    assert LearntTimes(None, known).scans.duration_s(*FAST).seconds == pytest.approx(
        learnt().scans.duration_s(*FAST).seconds
    )
    assert read_times(folder, MicroscopeTable(driver="simulated", options={"seed": 2})) is None
    assert len(list(folder.iterdir())) == 2
    assert not any("10.0.0.1" in path.read_text(encoding="utf-8") for path in folder.iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "times": 3}', "\x00\xff"])
def test_a_damaged_file_counts_as_none(tmp_path, text):
    microscope = MicroscopeTable(driver="simulated")
    times_file(tmp_path, microscope).write_text(text, encoding="utf-8")
    assert read_times(tmp_path, microscope) is None


def test_where_times_are_kept(tmp_path):
    assert times_folder({"SPARSE_ACTORS_TIMES": "off"}) is None
    assert times_folder({"SPARSE_ACTORS_TIMES": str(tmp_path)}) == tmp_path
    default = times_folder({})
    assert default is not None
    assert default.name == "times"


def test_what_earlier_runs_learnt_counts_before_what_is_configured():
    times = LearntTimes(DECLARED, learnt().to_json())
    assert times.scans.timing.dwell_factor == pytest.approx(3, rel=0.05)
