"""The evaluation of phase maps: the peer, the baselines, and the table."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

SCRIPTS = Path(__file__).parent.parent / "scripts"
SHAPE = (32, 40)


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def field():
    """Two discs in a matrix."""
    rows, columns = np.indices(SHAPE)
    labels = np.ones(SHAPE, dtype=np.int32)
    labels[np.hypot(rows - 12, columns - 12) < 8] = 2
    labels[np.hypot(rows - 22, columns - 30) < 6] = 3
    return labels


def distortions(field, order, counts):
    import slads_baselines

    return [(vote != field).mean() for vote, _ in slads_baselines.maps(field, order, counts)]


def test_lists_of_nearest_points_stay_those_of_a_new_search(field):
    import slads_baselines

    order = slads_baselines.random_pixels(SHAPE, 200, 0)
    lists = slads_baselines.NearestMeasured(SHAPE, order[:12], field.ravel()[order[:12]])
    for pixel in order[12:]:
        before = lists.distance2.copy()
        changed = lists.insert(pixel, field.flat[pixel])
        assert set(np.flatnonzero((lists.distance2 != before).any(axis=1))) <= set(changed)
    points = np.column_stack(np.unravel_index(order, SHAPE))
    pixels = np.column_stack(np.unravel_index(np.arange(field.size), SHAPE))
    distances = cKDTree(points).query(pixels, 10)[0]
    np.testing.assert_array_equal(lists.distance2, np.round(distances**2))
    share = lists.vote(np.arange(field.size))[1]
    assert (share[order] == 1).all()
    assert share.min() > 0.3


def test_maps_of_more_points_are_other_maps(field):
    import slads_baselines

    for name in slads_baselines.PATTERNS:
        made = list(slads_baselines.pattern_maps(field, name, [30, 100, 300], 0))
        for kind in range(2):
            errors = [(maps[kind] != field).mean() for maps in made]
            assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("name", ["random", "Halton", "R2", "grid"])
def test_patterns_are_distinct_pixels_and_come_from_their_seed(name):
    import slads_baselines

    pattern = slads_baselines.PATTERNS[name]
    pixels = pattern(SHAPE, 100, 3)
    assert len(np.unique(pixels)) == len(pixels)
    assert 80 <= len(pixels) <= 100
    assert 0 <= pixels.min()
    assert pixels.max() < SHAPE[0] * SHAPE[1]
    np.testing.assert_array_equal(pixels, pattern(SHAPE, 100, 3))
    assert set(pixels) != set(pattern(SHAPE, 100, 4))


def test_the_oracle_beats_the_heuristic_and_that_beats_random_points(field):
    import slads_baselines

    count = round(0.15 * field.size)
    errors = [
        distortions(field, choose, [count])[0]
        for choose in (
            slads_baselines.oracle(field, count, 0),
            slads_baselines.heuristic(field, count, 0),
            slads_baselines.random_pixels(SHAPE, count, 0),
        )
    ]
    assert errors[0] < 0.002
    assert errors[0] <= errors[1] < errors[2]


def test_the_authors_features_are_those_of_a_hand_count():
    import slads_authors

    phase_map = np.array([[1, 1, 2], [1, 1, 2], [1, 1, 2]], dtype=np.int32)
    measured = np.array([[0, 1], [1, 2], [2, 0]])
    pixels = np.array([[1, 1]])
    labels, distances = slads_authors.nearest(measured, np.array([1, 2, 1], dtype=np.int32), pixels)
    np.testing.assert_allclose(np.sort(distances[0]), [1, 1, np.sqrt(2)])
    mode = slads_authors.weighted_mode(labels, distances)
    assert mode == [1]  # 1 + 1/2 against 1
    row = slads_authors.features(phase_map, pixels, labels, distances, mode)[0]
    # R = 1 px of 9 pixels: two points within it.
    np.testing.assert_allclose(row, [0.4, np.sqrt(1 / 3), 1, (1 + np.pi) / 3, 1, 0])
    terms = slads_authors.polynomial(row[None])[0]
    assert len(terms) == 26
    assert terms[0] == 1
    assert terms[-1] == row[4] * row[5]
    assert terms[7] == row[0] ** 2


def test_the_reduction_in_distortion_falls_off_with_the_distance_to_the_nearest_point():
    import slads_authors

    truth, guess = np.ones((20, 20), dtype=np.int32), np.ones((20, 20), dtype=np.int32)
    guess[10, 10] = guess[10, 12] = guess[0, 0] = 2
    pixels = np.array([[10, 10], [10, 11]])
    found = slads_authors.reduction(truth, guess, pixels, np.array([8.0, 4.0]), c=2.0)
    np.testing.assert_allclose(found, [1 + np.exp(-4 / 32), 2 * np.exp(-1 / 8)])


def test_the_authors_update_is_a_half_open_square():
    import slads_authors

    assert [slads_authors.update_radius(128**2, k) for k in (100, 1000, 16000)] == [15, 7, 3]
    start = np.array([[5, 5], [30, 30], [5, 30], [30, 5]])
    sampler = slads_authors.AuthorsSampler((64, 64), np.eye(26)[3], start, [1, 1, 1, 1])  # ERD = distance
    before = sampler.erd.copy()
    assert sampler.pick() == (63, 63)
    sampler.tell((40, 40), 1)
    rows, columns = np.nonzero(sampler.erd != before)
    # Half a side of 15 px about (40, 40): up to and without 55.
    assert (rows.max(), columns.max()) == (54, 54)
    assert min(rows.min(), columns.min()) >= 25
    assert sampler.erd[40, 40] == -np.inf


@pytest.mark.parametrize("choose", ["authors_order", "exact_order"])
def test_the_authors_sampler_beats_random_points(field, choose):
    import slads_authors
    import slads_baselines

    theta = slads_authors.train([field[::-1].T.copy()], seed=0)
    count = round(0.2 * field.size)
    order = getattr(slads_authors, choose)(field, theta, count, 1)
    assert len(np.unique(order)) == count
    random = slads_baselines.random_pixels(SHAPE, count, 1)
    assert distortions(field, order, [count])[0] < 0.6 * distortions(field, random, [count])[0]


def test_a_seen_map_has_the_noise_it_says(field):
    import slads_images

    large = np.tile(field, (10, 10))
    seen = slads_images.observed(large, 0.02, 0.01, 5)
    assert (seen == 0).mean() == pytest.approx(0.02, abs=0.002)
    assert ((seen != large) & (seen > 0)).mean() == pytest.approx(0.0098, abs=0.002)
    np.testing.assert_array_equal(seen, slads_images.observed(large, 0.02, 0.01, 5))
    np.testing.assert_array_equal(large, slads_images.observed(large, 0, 0, 5))


def test_rows_hold_mean_and_worst_over_fields_and_seeds(field, monkeypatch):
    import reproduce_slads
    import slads_authors
    import slads_images

    from sparse_actors.sampling.erd_model import ErdModel

    other = np.ascontiguousarray(field[:, ::-1])
    folds = (slads_images.Fold((slads_images.Field("a", field),), (slads_images.Field("b", other),)),)
    experiment = slads_images.Experiment(lambda: folds, (0.1, 0.2), {0.2: 0.5}, {}, ill=0.0)
    monkeypatch.setitem(slads_images.EXPERIMENTS, "two-phase-128", experiment)
    theta = slads_authors.train([other], seed=0)
    monkeypatch.setattr(reproduce_slads, "default", lambda: ErdModel(coefficients=tuple(theta)))
    rows = list(reproduce_slads.rows(True, 0))
    methods = {row["method"] for row in rows}
    assert methods >= {"ours", "authors", "heuristic", "random", "Halton", "grid", "R2", "R2, nearest"}
    for row in rows:
        assert row["case"] == "two-phase-128"
        assert row["n_images"] == row["n_seeds"] == 1
        assert 0 <= row["td_mean"] <= row["td_worst"] < 0.3
    by_method = {row["method"]: row["td_mean"] for row in rows if row["fraction"] == 0.2}
    assert by_method["ours"] < by_method["random"]
    files = reproduce_slads.documents(rows, "Made by a test.")
    assert "| ours |" in files["slads.md"]
    assert files["slads.svg"].startswith("<svg")
    assert all(isinstance(reproduce_slads.line(row), str) for row in rows)


def test_the_fraction_for_an_agreement_is_where_it_stays(field):
    import reproduce_eds_maps

    def maps_at(counts):
        for step in range(1, len(counts) + 1):
            phase_map = field.copy()
            wrong = 0.10 if step < 5 or step == 30 else 0.03 if step < 60 else 0.0
            phase_map.flat[: int(wrong * field.size)] = 9
            yield phase_map

    assert reproduce_eds_maps.fractions(field, maps_at) == pytest.approx((0.31, 0.60))


@pytest.mark.skipif(not (SCRIPTS.parent.parent / "shared" / "data").exists(), reason="no ../shared/data")
def test_no_test_field_shares_a_pixel_with_what_was_trained_on():
    import slads_images

    for case in ("two-phase-128", "four-phase-256"):
        for fold in slads_images.EXPERIMENTS[case].folds():
            for test in fold.tests:
                for train in fold.train:
                    assert not np.shares_memory(test.labels, train.labels)
                    assert test.name != train.name
                    assert not np.array_equal(test.labels, train.labels)


def test_fields_to_judge_the_estimate_on_are_none_that_it_was_fitted_on():
    import stopping_fields

    fitted, judged = (list(stopping_fields.drawn_fields(use, 5)) for use in ("fit", "judge"))
    assert [field.kind for field in fitted] == [field.kind for field in judged]
    assert len({field.kind for field in judged}) == 7
    assert {field.labels.shape[0] for field in judged} == set(stopping_fields.SIDES_PX)
    for one, other in zip(fitted, judged, strict=True):
        assert one.labels.min() == other.labels.min() == 1
        assert one.labels.shape == other.labels.shape
        assert not np.array_equal(one.labels, other.labels)
        assert len(np.unique(other.labels)) > 1
    again = list(stopping_fields.drawn_fields("judge", 5))
    assert all(np.array_equal(one.labels, other.labels) for one, other in zip(judged, again, strict=True))


@pytest.mark.skipif(not (SCRIPTS.parent.parent / "shared" / "data").exists(), reason="no ../shared/data")
def test_no_micrograph_is_both_fitted_and_judged():
    import stopping_fields

    fitted, judged = (list(stopping_fields.micrographs(use)) for use in ("fit", "judge"))
    assert not {field.name for field in fitted} & {field.name for field in judged}
    for one in fitted:
        for other in judged:
            assert not np.array_equal(one.labels, other.labels)


def test_a_fit_finds_the_laws_that_maps_follow():
    import reproduce_stopping
    from stopping_runs import Check

    from sparse_actors.sampling.stopping import LAWS, Draw, Evidence, estimate, posterior

    random = np.random.default_rng(0)
    # Other laws than those in use: ten times as many particles are missed.
    laws = (LAWS[0], LAWS[1]._replace(constant=LAWS[1].constant + np.log(10)))
    known = []
    for number in range(600):
        pixels = int(random.choice([64, 96, 128])) ** 2
        measured = round(pixels * random.uniform(0.01, 0.2))
        disputed = int(random.uniform(0.01, 0.2) * pixels)
        doubt, unseen = disputed * random.uniform(0.05, 0.5), pixels * random.uniform(0, 0.02)
        drawn = Draw(10.0, 0)
        seen = Evidence(pixels, measured, disputed, doubt, unseen, drawn, drawn)
        wrong = []
        for law, is_disputed in zip(laws, (True, False), strict=True):
            shape, mean = posterior(seen, law, is_disputed)
            wrong.append(int(random.poisson(random.gamma(shape, mean / shape))))
        known.append(
            Check("drawn", f"{number}", 0.1, seen, estimate(seen), sum(wrong) / pixels, wrong[0], 0.0, False)
        )
    fitted, spread = reproduce_stopping.fit(known)
    assert spread <= 1.1
    for law, true, is_disputed in zip(fitted, laws, (True, False), strict=True):
        found, expected = (posterior(known[0].seen, each, is_disputed)[1] for each in (law, true))
        assert found == pytest.approx(expected, rel=0.25)
    row = reproduce_stopping._coverage("points", "all", known, (fitted, spread))
    assert row["held"] > 0.94
    assert row["checks"] == row["fields"] == 600
    assert reproduce_stopping._coverage("points", "all", known)["above"] > 0.2
