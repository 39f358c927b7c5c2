"""Libraries of spectra, and moving spectra to another energy axis."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_actors.models.spectrum_library import SpectrumLibrary, resampled
from sparse_actors.models.templates import estimated_templates
from spectra import AXIS, drawn, library, saved, shape

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.errors import ClassifierError


def test_a_library_comes_back_as_it_was_saved(tmp_path):
    given = library()
    back = SpectrumLibrary.load(saved(tmp_path, given))
    for field in dataclasses.fields(SpectrumLibrary):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(given, field.name))
    assert not back.counts.flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": ("quartz", "quartz")}, "different names"),
        ({"phases": ()}, "phases, not 0"),
        ({"phases": ("quartz", "feldspar", "iron")}, "'iron' has none"),
        ({"labels": np.zeros(12, np.int32)}, "labels 1 to 2"),
        ({"labels": np.ones(11, np.int32)}, "12 labels"),
        ({"live_time_s": np.full(12, -1.0)}, "live times"),
        ({"live_time_s": np.full(12, np.nan)}, "live times"),
        ({"beam_kev": 0.0}, "beam energy"),
        ({"counts": np.zeros((12, 2048), np.int64)}, "uint32"),
        ({"counts": np.zeros((12, 1024), np.uint32)}, r"\(n, 2048\)"),
    ],
)
def test_what_is_wrong_with_a_library_is_told(change, message):
    with pytest.raises(ClassifierError, match=message):
        dataclasses.replace(library(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "its format is 'other'"),
        ({"labels": None}, "it lacks labels"),
        ({"counts": np.full((12, 2048), 0.5)}, "of integers"),
        ({"counts": np.full((12, 2048), -1)}, r"0 to 2\*\*32"),
        ({"labels": np.full(12, 1.5)}, "labels|cast"),
        ({"energy_scale_kev": -0.01}, "energy axis"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path, change, message):
    path = saved(tmp_path)
    with np.load(path) as file:
        content = {key: file[key] for key in file.files} | change
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    with pytest.raises(ClassifierError, match=message) as raised:
        SpectrumLibrary.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [None, b"", b"no zip file", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_library_is_told(tmp_path, content):
    path = tmp_path / "some.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClassifierError, match=r"some\.npz is no library"):
        SpectrumLibrary.load(path)


@settings(max_examples=60, deadline=None)
@given(
    offset_kev=st.floats(-1, 1),
    scale_kev=st.floats(0.002, 0.05),
    channels=st.integers(1, 3000),
    seed=st.integers(0, 9),
)
def test_moving_spectra_makes_and_loses_no_counts(offset_kev, scale_kev, channels, seed):
    source = EnergyAxis(channels=300, offset_kev=0.0, scale_kev=0.01)
    target = EnergyAxis(channels=channels, offset_kev=offset_kev, scale_kev=scale_kev)
    spectra = np.random.default_rng(seed).poisson(3, (2, 300))
    moved = resampled(spectra, source, target)
    assert moved.shape == (2, channels)
    assert (moved >= -1e-9).all()
    whole = EnergyAxis(channels=5000, offset_kev=-2.0, scale_kev=0.01)
    if offset_kev <= 0 and offset_kev + channels * scale_kev >= 3:
        np.testing.assert_allclose(moved.sum(axis=1), spectra.sum(axis=1))
    else:
        assert (moved.sum(axis=1) <= spectra.sum(axis=1) + 1e-6).all()
    np.testing.assert_allclose(resampled(spectra, source, whole).sum(), spectra.sum())


def test_a_line_stays_at_its_energy():
    coarse = EnergyAxis(channels=1024, offset_kev=-0.1, scale_kev=0.0205)
    spectrum = shape("iron")
    moved = resampled(spectrum, AXIS, coarse)
    near = (coarse.energies_kev > 5.5) & (coarse.energies_kev < 7.5)
    mean_kev = np.average(coarse.energies_kev[near] + coarse.scale_kev / 2, weights=moved[near])
    assert mean_kev == pytest.approx(6.404, abs=0.02)


def test_templates_are_nearer_the_truth_than_the_counts_are():
    few = library(per_phase=4, dose=2000)
    templates = estimated_templates(few)
    truth = np.stack([shape(phase) for phase in few.phases])[:, templates.window]
    truth /= truth.sum(axis=1, keepdims=True)

    def divergence(shapes):
        shapes = shapes / shapes.sum(axis=1, keepdims=True)
        seen = np.maximum(truth, 1e-300)
        return (truth * np.log(seen / shapes)).sum(axis=1)

    plain = np.stack([few.counts[few.labels == k].sum(axis=0) for k in (1, 2)])[:, templates.window] + 0.5
    assert (divergence(templates.shapes) < 0.2 * divergence(plain)).all()
    assert (templates.shapes > 0).all()
    np.testing.assert_allclose(templates.shapes.sum(axis=1), 1)
    np.testing.assert_allclose(templates.rates_per_s, 200, rtol=0.05)


def test_one_spectrum_of_each_phase_is_enough():
    templates = estimated_templates(library(per_phase=1, dose=3000))
    assert np.isfinite(templates.shapes).all()
    assert templates.correlation < 0.01


def test_the_zero_energy_peak_is_left_out():
    counts = np.concatenate([drawn(phase, 3, 2000, zero_peak=5.0) for phase in ("quartz", "feldspar")])
    with_peak = dataclasses.replace(library(per_phase=3), counts=counts)
    templates = estimated_templates(with_peak)
    assert templates.axis.energies_kev[templates.window.start] >= 0.1
    assert templates.rates_per_s == pytest.approx([200, 200], rel=0.1)


def test_spectra_with_a_wrong_label_are_left_out_and_named():
    good = library(per_phase=8)
    labels = good.labels.copy()
    labels[3] = 2
    templates = estimated_templates(dataclasses.replace(good, labels=labels))
    assert templates.doubtful == (3,)
    truth = estimated_templates(dataclasses.replace(good, counts=good.counts.copy()))
    assert max(values.max() for values in templates.spread) < 2 * max(v.max() for v in truth.spread)


def test_spread_between_spectra_of_a_phase_is_found():
    random = np.random.default_rng(3)
    middle = (shape("quartz") + shape("feldspar")) / 2
    half = (shape("quartz") - shape("feldspar")) / 2
    mixed = np.repeat([0.4, -0.4], 16)[:, None] + 0.12 * random.standard_normal((32, 1))
    expected = 20_000 * (middle + mixed * half)
    varied = dataclasses.replace(library(per_phase=16), counts=random.poisson(expected).astype(np.uint32))
    calm = estimated_templates(library(per_phase=16, dose=20_000))
    templates = estimated_templates(varied)
    assert templates.correlation > 2 * calm.correlation
    assert templates.doubtful == ()
    assert templates.spread[0].mean() > 2 * calm.spread[0].mean()


def test_an_axis_that_misses_the_lines_is_refused():
    templates = estimated_templates(library(per_phase=2))
    with pytest.raises(ClassifierError, match=r"the library's spectra cover -0\.20 to 20\.28 keV and these"):
        templates.on(EnergyAxis(channels=100, offset_kev=0.0, scale_kev=0.01))
    moved = templates.on(EnergyAxis(channels=1024, offset_kev=0.0, scale_kev=0.02))
    np.testing.assert_allclose(moved.shapes.sum(axis=1), 1)
