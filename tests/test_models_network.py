"""The paper's networks: their sizes, their training, and how they run."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sparse_actors.models.augmentation import Augmentation, counted, thinned, through_instrument
from sparse_actors.models.network_classifier import NetworkClassifier
from sparse_actors.models.paper_networks import (
    STRAIGHT_LINE,
    classification_network,
    line_variance,
    network_axis,
    regression_network,
)
from sparse_actors.models.training import train_spectra
from spectra import AXIS, PHASES, drawn, library, saved, shape

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError, ConfigError

try:
    import onnx  # noqa: F401
    import torch
except ModuleNotFoundError as error:
    torch, reason = None, f"{error.name} is not installed (extra train)"
else:
    reason = ""
needs_training = pytest.mark.skipif(torch is None, reason=reason)
EASY = ("quartz", "iron")
LIVE_S = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    if torch is None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparse_actors.models.training._ILL_STEPS", 200)
        card = train_spectra(
            saved(folder, library(per_phase=4, phases=EASY)), folder, seed=3, epochs=3, spectra_per_epoch=1024
        )
    return folder, card


@needs_training
@pytest.mark.parametrize("channels", [2040, 2048])
def test_the_layers_have_the_papers_sizes(channels):
    network = classification_network(4)
    sizes, x = [], torch.zeros(1, channels)
    for layer in network:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[1] == (8, channels // 2)
    assert (16, 128) in sizes
    assert [size for size in sizes if len(size) == 1][0::2] == [(2048,), (100,), (32,), (8,)]
    assert sizes[-1] == (4,)
    assert sum(w.numel() for w in network.parameters()) == 209_816
    linear = [layer for layer in regression_network(channels) if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [100] * 6


def test_the_variance_metric_is_equation_14():
    outputs = np.stack([STRAIGHT_LINE, STRAIGHT_LINE + 3, 0 * STRAIGHT_LINE]).astype(np.float32)
    np.testing.assert_allclose(line_variance(outputs), [0, 0, (100**2 - 1) / 12])


def test_the_paper_channels_stay_and_others_are_cropped_or_resampled():
    assert network_axis(library()) == AXIS
    long = EnergyAxis(channels=4096, offset_kev=-0.2, scale_kev=0.01)
    assert network_axis(library(per_phase=1, axis=long)) == AXIS
    fine = EnergyAxis(channels=4096, offset_kev=-0.2, scale_kev=0.005)
    moved = network_axis(library(per_phase=1, axis=fine))
    assert moved.channels == 2048
    assert moved.energies_kev[-1] == pytest.approx(15.75, abs=0.01)


@needs_training
def test_the_card_tells_how_the_model_was_made(model):
    folder, card = model
    assert json.loads((folder / "card.json").read_text(encoding="utf-8")) == json.loads(json.dumps(card))
    assert card["phases"] == list(EASY)
    assert card["seed"] == 3
    assert card["data"]["spectra"] == {"quartz": 4, "iron": 4}
    assert card["calibration"]["cross_entropy"] <= card["calibration"]["uncalibrated"]
    assert {"torch", "onnx", "numpy"} <= set(card["versions"])


@needs_training
def test_onnxruntime_gives_what_pytorch_gives(model, tmp_path):
    import onnxruntime
    from sparse_actors.models.onnx_graph import save_onnx

    counts = drawn("quartz", 5, 500).astype(np.float32)
    for network, prepare, prepared in (
        (classification_network(3), "sqrt", np.sqrt(counts)),
        (regression_network(2048), 0.25, 0.25 * counts),
    ):
        save_onnx(tmp_path / "network.onnx", network, 2048, prepare)
        session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
        with torch.no_grad():
            expected = network(torch.from_numpy(prepared)).numpy()
        np.testing.assert_allclose(session.run(None, {"counts": counts})[0], expected, atol=1e-4)
    with pytest.raises(ValueError, match="Tanh"):
        save_onnx(tmp_path / "other.onnx", torch.nn.Sequential(torch.nn.Tanh()), 2048, "sqrt")


@needs_training
@pytest.mark.parametrize("ill_test", ["deviance", "paper"])
def test_a_trained_network_classifies(model, ill_test):
    classifier = NetworkClassifier(model=model[0], ill_test=ill_test)
    counts = np.concatenate([drawn(phase, 200, 7500) for phase in EASY])
    found = classifier.classify(counts, np.full(400, LIVE_S), AXIS)
    assert classifier.phases == EASY
    assert (found.labels == np.repeat([1, 2], 200)).mean() > 0.97
    alone = [classifier.classify(counts[[i]], np.full(1, LIVE_S), AXIS) for i in (0, 399)]
    np.testing.assert_array_equal([one.labels[0] for one in alone], found.labels[[0, 399]])
    assert len(classifier.classify(counts[:0], np.zeros(0), AXIS)) == 0


@needs_training
def test_only_the_deviance_knows_an_unknown_phase_and_a_low_dose(model):
    unknown, faint = drawn("feldspar", 100, 7500), drawn("quartz", 100, 300)
    deviance = NetworkClassifier(model=model[0])
    paper = NetworkClassifier(model=model[0], ill_test="paper")
    live = np.full(100, LIVE_S)
    assert (deviance.classify(unknown, live, AXIS).labels == 0).all()
    assert (deviance.classify(faint, live, AXIS).labels != 0).all()
    assert (paper.classify(faint, live, AXIS).labels == 0).mean() > 0.9


@needs_training
def test_spectra_of_another_axis_are_moved(model):
    axis = EnergyAxis(channels=1024, offset_kev=-0.1, scale_kev=0.02)
    counts = np.concatenate([drawn(phase, 50, 5000, axis=axis) for phase in EASY])
    found = NetworkClassifier(model=model[0]).classify(counts, np.full(100, LIVE_S), axis)
    assert (found.labels == np.repeat([1, 2], 50)).mean() > 0.95


@needs_training
def test_what_is_wrong_with_a_model_is_told(model, tmp_path):
    with pytest.raises(ClassifierError, match="holds no model"):
        NetworkClassifier(model=tmp_path)
    for name in ("card.json", "library.npz"):
        (tmp_path / name).write_bytes((model[0] / name).read_bytes())
    (tmp_path / "classifier.onnx").write_bytes(b"no network")
    with pytest.raises(ClassifierError, match="no network that onnxruntime can run"):
        NetworkClassifier(model=tmp_path)
    with pytest.raises(ConfigError) as raised:
        NetworkClassifier(model=model[0], ill_test="none", threads=0, false_alarm=1.0)
    assert len(raised.value.problems) == 3
    with pytest.raises(ClassifierError, match="2048 channels"):
        NetworkClassifier(model=model[0]).classify(np.zeros((1, 9), np.uint16), np.zeros(1), AXIS)


def test_training_without_pytorch_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ClassifierError, match=r"sparse-actors\[train\]"):
        train_spectra(tmp_path / "library.npz", tmp_path)


def test_classifying_needs_no_pytorch():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import sparse_actors.models.network_classifier, sparse_actors.models.likelihood\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_thinning_keeps_some_of_the_counts():
    counts = drawn("quartz", 50, 4000)
    few = thinned(counts, np.full(50, 400.0), np.random.default_rng(1))
    assert (few <= counts).all()
    assert few.sum(axis=1).mean() == pytest.approx(400, rel=0.05)
    np.testing.assert_array_equal(thinned(counts, np.full(50, 1e9), np.random.default_rng(1)), counts)


def mean_kev(spectrum, low, high):
    near = (AXIS.energies_kev > low) & (AXIS.energies_kev < high)
    return np.average(AXIS.energies_kev[near] + AXIS.scale_kev / 2, weights=spectrum[near])


def test_the_instrument_moves_widens_and_piles_up():
    shapes = np.repeat([shape("iron")], 200, axis=0)
    random = np.random.default_rng(2)
    none = {"gain_error": 0.0, "drift_kev": 0.0, "broadening_kev": 0.0, "pile_up": 0.0}

    def seen(**options):
        return through_instrument(shapes, AXIS, Augmentation(**none | options), random)

    np.testing.assert_allclose(seen(), shapes, atol=1e-9)
    place = [mean_kev(s, 6.1, 6.7) for s in seen(drift_kev=0.01)]
    assert np.std(place) == pytest.approx(0.01, rel=0.2)
    place = [mean_kev(s, 6.1, 6.7) for s in seen(gain_error=0.002)]
    assert np.std(place) == pytest.approx(0.002 * 6.4, rel=0.2)
    assert seen(broadening_kev=0.05).max() < shapes.max()
    assert seen(broadening_kev=0.05).max(axis=1).mean() < 0.97 * shapes.max()
    piled = seen(pile_up=0.02)
    pair = (AXIS.energies_kev > 12.5) & (AXIS.energies_kev < 13.1)
    assert piled[:, pair].sum(axis=1).mean() == pytest.approx(shapes[0, pair].sum() + 0.01 * 0.7**2, rel=0.2)
    assert mean_kev(piled.mean(axis=0) - shapes[0] * 0.98, 12.6, 13.0) == pytest.approx(12.808, abs=0.02)
    np.testing.assert_allclose(piled.sum(axis=1), 1 - 0.01, atol=0.011)


def test_counting_draws_doses_log_uniformly_and_adds_noise():
    shapes = np.repeat([shape(PHASES[0])], 400, axis=0)
    window = slice(30, 2048)
    bright = counted(shapes, window, Augmentation(dose_counts=(100, 10_000)), np.random.default_rng(1)).sum(
        axis=1
    )
    assert np.median(bright) == pytest.approx(1000, rel=0.25)
    assert 80 < bright.min() < 200
    dark = counted(
        0 * shapes, window, Augmentation(background_per_channel=(2.0, 2.0)), np.random.default_rng(1)
    )
    assert dark[:, window].mean() == pytest.approx(2, rel=0.01)
    assert not dark[:, :30].any()
