"""The likelihood classifier and its fit test."""

import numpy as np
import pytest
from sparse_actors.models.fit_test import FitTest, confidence_of_ill
from sparse_actors.models.likelihood import LikelihoodClassifier, PhaseLikelihood, posterior
from sparse_actors.models.templates import estimated_templates
from spectra import AXIS, PHASES, drawn, library, saved, shape

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError, ConfigError

DOSE = 7500
LIVE_S = 10.0


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("spectra"), library(per_phase=12))


@pytest.fixture(scope="module")
def classifier(path):
    return LikelihoodClassifier(library=path)


def known(n, dose, **options):
    """Spectra of both phases, their labels, and live times in keeping with the dose."""
    counts = np.concatenate([drawn(phase, n, dose, **options) for phase in PHASES])
    return counts, np.repeat([1, 2], n), np.full(2 * n, LIVE_S * dose / DOSE)


@pytest.mark.parametrize("dose", [30, 300, 3000, 30_000])
def test_known_phases_are_told_apart_and_seldom_refused(classifier, dose):
    counts, labels, live = known(2000, dose)
    found = classifier.classify(counts, live, AXIS)
    assert (found.labels == FITS_NONE).mean() < 0.003
    right = found.labels == labels
    assert right.mean() > (0.9 if dose == 30 else 0.995)


def test_the_likeliest_phase_is_the_one_of_largest_likelihood(classifier, path):
    counts, _, live = known(50, 200)
    templates = estimated_templates(library(per_phase=12))
    logs = counts[:, templates.window] @ np.log(templates.shapes).T
    probabilities = classifier.probabilities(counts, live, AXIS)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), logs.argmax(axis=1))


def test_with_background_the_likelihood_is_the_mean_over_amplitudes():
    templates = estimated_templates(library())
    counts, _, _ = known(20, 150, background=1.5)
    ratios, amplitude = PhaseLikelihood(templates).ratios(counts, np.full(40, 1.5))
    seen = counts[:, templates.window].astype(float)
    amplitudes = np.geomspace(10, 600, 200)
    exact = np.empty((40, 2))
    for k in (0, 1):
        logs = seen @ np.log1p(np.outer(amplitudes, templates.shapes[k]) / 1.5).T - amplitudes
        exact[:, k] = np.logaddexp.reduce(logs, axis=1)
    np.testing.assert_allclose(posterior(ratios, amplitude, 0), posterior(exact, amplitude, 0), atol=0.02)
    strong = drawn("quartz", 20, 20_000, background=1.5)
    assert (PhaseLikelihood(templates).ratios(strong, np.full(20, 1.5))[0].argmax(axis=1) == 0).all()


def test_confidence_is_honest_in_noise(path):
    noisy = LikelihoodClassifier(library=path, background_per_channel_s=2 / LIVE_S)
    counts = np.concatenate([drawn(phase, 1500, 100, background=2) for phase in PHASES])
    probabilities = noisy.probabilities(counts, np.full(3000, LIVE_S), AXIS)
    right = probabilities.argmax(axis=1) == np.repeat([0, 1], 1500)
    assert right.mean() == pytest.approx(probabilities.max(axis=1).mean(), abs=0.04)
    assert 0.6 < right.mean() < 0.98


def test_some_spectra_may_have_background_and_some_not(path):
    noisy = LikelihoodClassifier(library=path, background_per_channel_s=1.0)
    counts, labels, _ = known(4, 3000)
    found = noisy.classify(counts, np.zeros(8), AXIS)
    np.testing.assert_array_equal(found.labels, labels)


def test_confidence_is_the_share_that_is_right(classifier):
    counts, labels, live = known(4000, 25)
    probabilities = classifier.probabilities(counts, live, AXIS)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) + 1 == labels
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99)):
        chosen = (confidence >= low) & (confidence < high)
        assert chosen.sum() > 100
        assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.06)


def test_spread_of_spectra_lowers_the_confidence():
    ratios = np.array([[20.0, 0.0]])
    sure = posterior(ratios, np.array([1000.0]), 0.0)
    unsure = posterior(ratios, np.array([1000.0]), 0.01)
    assert unsure[0, 0] == pytest.approx(1 / (1 + np.exp(-20 / 11)))
    assert sure[0, 0] > unsure[0, 0]


def ill(kind, n=300):
    """The kinds of ill spectra of the benchmarks, with noise of 2 counts a channel."""
    random = np.random.default_rng(8)
    quartz = drawn("quartz", n, DOSE, seed=9, background=2)
    match kind:
        case "poisson 20":
            return random.poisson(20, (n, 2048)).astype(np.uint32)
        case "no signal":
            return random.poisson(2, (n, 2048)).astype(np.uint32)
        case "flat, counts matched":
            return random.poisson(quartz.mean(), (n, 2048)).astype(np.uint32)
        case "unknown phase":
            return drawn("iron", n, DOSE, background=2)
        case "mixture":
            mean = (shape("quartz") + shape("feldspar")) / 2
            return random.poisson(DOSE * mean + 2, (n, 2048)).astype(np.uint32)
        case "energies flipped":
            return quartz[:, ::-1].copy()
        case _:
            return drawn("quartz", n, 0.05 * DOSE, background=2)


@pytest.mark.parametrize(
    "kind",
    ["poisson 20", "no signal", "flat, counts matched", "unknown phase", "mixture", "energies flipped"],
)
def test_ill_spectra_fit_none(path, kind):
    noisy = LikelihoodClassifier(library=path, background_per_channel_s=2 / LIVE_S)
    found = noisy.classify(ill(kind), np.full(300, LIVE_S), AXIS)
    assert (found.labels == FITS_NONE).mean() >= 0.99
    assert found.confidence[found.labels == FITS_NONE].mean() > 0.5


def test_a_known_phase_at_a_twentieth_of_the_dose_passes(path):
    noisy = LikelihoodClassifier(library=path, background_per_channel_s=2 / LIVE_S)
    found = noisy.classify(ill("5 % of the dose"), np.full(300, LIVE_S), AXIS)
    assert (found.labels == 1).mean() >= 0.99


def test_an_unknown_phase_is_found_from_few_counts(classifier):
    found = classifier.classify(drawn("iron", 300, 60), np.full(300, LIVE_S * 60 / DOSE), AXIS)
    assert (found.labels == FITS_NONE).mean() > 0.95


@pytest.mark.parametrize("factor", [1 / 100, 100])
def test_a_rate_far_from_the_librarys_fits_none(classifier, factor):
    counts, labels, live = known(20, 3000)
    assert (classifier.classify(counts, live / factor, AXIS).labels == FITS_NONE).all()
    np.testing.assert_array_equal(classifier.classify(counts, 0 * live, AXIS).labels, labels)


def test_spectra_without_counts_are_undecided_not_wrong(classifier):
    found = classifier.classify(np.zeros((3, 2048), np.uint16), np.full(3, 1e-4), AXIS)
    np.testing.assert_allclose(found.confidence, 0.5)
    assert len(classifier.classify(np.zeros((0, 2048), np.uint16), np.zeros(0), AXIS)) == 0


@pytest.mark.parametrize(
    "axis",
    [
        EnergyAxis(channels=1024, offset_kev=0.0, scale_kev=0.02),
        EnergyAxis(channels=4096, offset_kev=-0.3, scale_kev=0.005),
    ],
)
def test_spectra_of_another_energy_axis_are_classified(path, axis):
    counts = np.concatenate([drawn(phase, 200, 1000, axis=axis) for phase in PHASES])
    found = LikelihoodClassifier(library=path).classify(counts, np.full(400, LIVE_S / 7.5), axis)
    assert (found.labels == np.repeat([1, 2], 200)).mean() > 0.99


def test_the_zero_energy_peak_does_not_matter(classifier):
    counts, labels, live = known(20, 1000, zero_peak=20.0)
    np.testing.assert_array_equal(classifier.classify(counts, live, AXIS).labels, labels)


def test_the_order_of_spectra_and_of_batches_does_not_matter(path):
    counts, _, live = known(30, 500)
    together = LikelihoodClassifier(library=path).classify(counts, live, AXIS)
    alone = LikelihoodClassifier(library=path)
    single = [alone.classify(counts[[i]], live[[i]], AXIS) for i in reversed(range(len(counts)))]
    np.testing.assert_array_equal(together.labels, [one.labels[0] for one in reversed(single)])
    np.testing.assert_allclose(
        together.confidence, [one.confidence[0] for one in reversed(single)], rtol=1e-4
    )


def test_options_out_of_range_are_refused(path):
    with pytest.raises(ConfigError, match=r"false_alarm = 0\.5") as raised:
        LikelihoodClassifier(library=path, false_alarm=0.5, background_per_channel_s=-1.0)
    assert len(raised.value.problems) == 2
    with pytest.raises(ClassifierError, match="2048 channels"):
        LikelihoodClassifier(library=path).classify(np.zeros((1, 5), np.uint16), np.zeros(1), AXIS)


def test_chances_of_known_spectra_are_even():
    templates = estimated_templates(library(per_phase=12, dose=50_000))
    counts = drawn("quartz", 3000, 1000, seed=4)
    chances, noise = FitTest(templates).chances(
        counts, np.zeros(3000, np.int64), np.zeros(3000), np.zeros(3000)
    )
    assert not noise.any()
    for chance in (0.5, 0.1, 0.01):
        assert (chances < chance).mean() == pytest.approx(chance, rel=0.5)


def test_confidence_that_a_spectrum_is_ill_grows_as_it_fits_worse():
    confidence = confidence_of_ill(np.array([1.0, 1e-3, 1e-6, 0.0]))
    assert (np.diff(confidence) > 0).all()
    assert confidence[0] == pytest.approx(0.01)
    assert confidence[-1] <= 1
