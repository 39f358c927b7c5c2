from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nist_standards import mineral_map
from numpy.typing import NDArray
from sparse_actors.models.likelihood import LikelihoodClassifier
from sparse_actors.models.physics import Beam, simulate
from sparse_actors.models.spectrum_library import SpectrumLibrary

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.sampling.new_phases import NewPhases, Proposal

AXIS = EnergyAxis(channels=1024, offset_kev=0.0, scale_kev=0.015)
KNOWN = np.array(
    [simulate(mineral, beam=Beam(15), axis=AXIS, counts=1) for mineral in ("SiO2", "CaMgSi2O6", "Fe2O3")]
)
NEW = simulate("FeTiO3", beam=Beam(15), axis=AXIS, counts=1)
"""A fourth phase, which shares lines with the third."""
EVEN = np.full(AXIS.channels, 1 / AXIS.channels)


def drawn(shape: NDArray[np.float64], counts: float, random: np.random.Generator) -> NDArray[np.uint16]:
    return random.poisson(shape * counts).astype(np.uint16)


def new_ones(proposals: list[Proposal]) -> list[Proposal]:
    return [proposal for proposal in proposals if proposal.mixture_of is None]


@pytest.mark.parametrize("counts", [60, 300, 1000, 5000])
def test_the_fourth_phase_of_a_map_is_proposed_after_few_spectra(counts: int) -> None:
    """Among mixtures at boundaries, noise and single ill spectra, all of which fit no known phase."""
    random = np.random.default_rng(2)
    new_phases = NewPhases(AXIS, KNOWN)
    kinds: list[str] = []
    needed = None
    for position in range(240):
        kind = random.choice(["new", "boundary", "own boundary", "noise", "ill"], p=[0.3, 0.4, 0.1, 0.1, 0.1])
        share = random.uniform(0.2, 0.8)
        a, b = random.choice(3, 2, replace=False)
        shape = {
            "new": NEW,
            "boundary": share * KNOWN[a] + (1 - share) * KNOWN[b],
            "own boundary": share * KNOWN[a] + (1 - share) * NEW,
            "noise": EVEN,
            "ill": np.roll(KNOWN[a], int(random.integers(100, 900))),
        }[kind]
        kinds.append(kind)
        new_phases.add([position], drawn(shape, counts, random)[None])
        if position % 5 == 4 and new_ones(new_phases.propose()):
            needed = needed or kinds.count("new")
    assert needed is not None
    assert needed <= max(15, 4000 // counts)
    (proposal,) = new_ones(new_phases.propose())
    members = [kinds[position] for position in proposal.positions]
    assert members.count("new") >= (0.7 if counts == 60 else 0.85) * len(members)
    assert members.count("boundary") + members.count("noise") + members.count("ill") <= 0.05 * len(members)
    assert members.count("new") >= 0.9 * kinds.count("new")
    likeness = proposal.template @ NEW / np.sqrt((proposal.template @ proposal.template) * (NEW @ NEW))
    assert likeness > 0.98


@pytest.mark.parametrize("counts", [200, 2000])
def test_mixtures_of_known_phases_are_never_new(counts: int) -> None:
    random = np.random.default_rng(7)
    new_phases = NewPhases(AXIS, KNOWN)
    for position in range(200):
        a, b = random.choice(3, 2, replace=False)
        share = random.uniform(0.1, 0.9)
        shape = share * KNOWN[a] + (1 - share) * KNOWN[b]
        new_phases.add([position], drawn(shape, counts, random)[None])
    proposals = new_phases.propose()
    assert proposals
    assert not new_ones(proposals)
    assert all(set(p.mixture_of or ()) <= {FITS_NONE, 1, 2, 3} for p in proposals)


def test_a_boundary_names_its_two_phases() -> None:
    random = np.random.default_rng(0)
    new_phases = NewPhases(AXIS, KNOWN)
    half = (KNOWN[0] + KNOWN[2]) / 2
    new_phases.add(range(10), np.array([drawn(half, 2000, random) for _ in range(10)]))
    (proposal,) = new_phases.propose()
    assert proposal.mixture_of == (1, 3)


def test_ill_spectra_alone_are_never_proposed() -> None:
    random = np.random.default_rng(5)
    new_phases = NewPhases(AXIS, KNOWN)
    for position in range(60):
        shape = np.roll(KNOWN[position % 3], int(random.integers(50, 950)))
        new_phases.add([position], drawn(shape, 2000, random)[None])
    assert not new_ones(new_phases.propose())


def test_noise_is_explained_without_any_phase() -> None:
    random = np.random.default_rng(2)
    new_phases = NewPhases(AXIS, KNOWN)
    new_phases.add(range(20), np.array([drawn(EVEN, 20 * AXIS.channels, random) for _ in range(20)]))
    (proposal,) = new_phases.propose()
    assert proposal.mixture_of == ()


def test_an_accepted_phase_is_known_and_a_dismissed_one_silent() -> None:
    random = np.random.default_rng(1)
    new_phases = NewPhases(AXIS, KNOWN)
    new_phases.add(range(8), np.array([drawn(NEW, 1000, random) for _ in range(8)]))
    (proposal,) = new_phases.propose()
    new_phases.accept(proposal, label=9)
    assert len(new_phases) == 0
    half = (NEW + KNOWN[0]) / 2
    new_phases.add(range(8, 20), np.array([drawn(half, 1000, random) for _ in range(12)]))
    (mixture,) = new_phases.propose()
    assert mixture.mixture_of == (1, 9)
    new_phases.dismiss(mixture)
    new_phases.add(range(20, 30), np.array([drawn(half, 1000, random) for _ in range(10)]))
    assert new_phases.propose() == []


def test_too_few_spectra_or_counts_propose_nothing() -> None:
    random = np.random.default_rng(1)
    few = NewPhases(AXIS, KNOWN)
    few.add(range(4), np.array([drawn(NEW, 5000, random) for _ in range(4)]))
    assert few.propose() == []
    faint = NewPhases(AXIS, KNOWN)
    faint.add(range(10), np.array([drawn(NEW, 50, random) for _ in range(10)]))
    assert faint.propose() == []


def test_empty_spectra_do_no_harm() -> None:
    new_phases = NewPhases(AXIS, KNOWN)
    new_phases.add(range(10), np.zeros((10, AXIS.channels), np.uint16))
    assert new_phases.propose() == []


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=40), st.integers(0, 9))
def test_the_same_spectra_give_the_same_proposals_and_none_is_lost(kinds: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    shapes = [*KNOWN[:2], NEW, EVEN]
    spectra = np.array([drawn(shapes[kind], 600, random) for kind in kinds])
    seen = []
    for batch in (1, 7):
        new_phases = NewPhases(AXIS, KNOWN, least_members=1, least_counts=1)
        for first in range(0, len(kinds), batch):
            positions = range(first, min(first + batch, len(kinds)))
            new_phases.add(positions, spectra[first : first + batch])
        proposals = new_phases.propose()
        seen.append([(p.positions, p.mixture_of, p.deviation) for p in proposals])
        assert sorted(position for p in proposals for position in p.positions) == list(range(len(kinds)))
        assert sum(p.template for p in proposals).sum() == spectra.sum()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("left_out", [2, 3, 4])
def test_a_mineral_left_out_is_found_again(left_out: int, tmp_path: Path) -> None:
    """Real spectra of some 600 counts, of which a classifier of the other three says what fits none.

    The first mineral is in most grains of the second in some part, so that the classifier takes it for that.
    """
    counts, labels, axis, beam_kev = mineral_map()
    truth = labels.ravel()
    random = np.random.default_rng(left_out)
    spectra = random.binomial(counts, 0.03).astype(np.uint32).reshape(truth.size, -1)
    others = [label for label in range(1, 5) if label != left_out]
    places = [random.permutation(np.flatnonzero(truth == label)) for label in others]
    taught = [one[: max(10, len(one) // 3)] for one in places]
    chosen = np.concatenate(taught)
    library = SpectrumLibrary(
        counts=spectra[chosen],
        labels=np.repeat(np.arange(1, 4, dtype=np.int32), [len(one) for one in taught]),
        phases=tuple(f"mineral {label}" for label in others),
        axis=axis,
        live_time_s=np.full(len(chosen), 0.1),
        beam_kev=beam_kev,
    )
    library.save(tmp_path / "three.npz")
    classifier = LikelihoodClassifier(library=tmp_path / "three.npz")
    classes = classifier.classify(spectra, np.full(truth.size, 0.1), axis)
    fits_none = random.permutation(np.flatnonzero(classes.labels == FITS_NONE))
    new_phases = NewPhases(axis, np.array([spectra[one].sum(0) for one in taught]))
    new_phases.add(fits_none.tolist(), spectra[fits_none])
    (proposal,) = new_ones(new_phases.propose())
    members = truth[list(proposal.positions)]
    assert (members == left_out).mean() > 0.9
    assert len(members) > 0.8 * (truth[fits_none] == left_out).sum()
