"""Phases found on the way: not of nothing, not of what is known already."""

from __future__ import annotations

import numpy as np

from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.sampling.open_set import LEAST_COUNTS, OpenSet

AXIS = EnergyAxis(channels=600, offset_kev=0.0, scale_kev=0.01)


def spectra(line_kev: float, counts: float, n: int, seed: int = 0) -> np.ndarray:
    """A line on a flat background."""
    energies = AXIS.energies_kev
    shape = np.exp(-((energies - line_kev) ** 2) / (2 * 0.05**2)) + 0.02
    return (
        np.random.default_rng(seed).poisson(shape / shape.sum() * counts, (n, len(shape))).astype(np.uint32)
    )


def fed(known: int = 10) -> OpenSet:
    """An open set that has seen spectra of the one known phase."""
    found = OpenSet(AXIS, 1)
    labels, new = found.take(np.arange(known), spectra(1.5, 1000, known), np.ones(known, np.int64))
    assert (labels == 1).all()
    assert not new
    return found


def test_spectra_alike_that_fit_no_phase_make_one_and_later_ones_join_it() -> None:
    found = fed()
    _, new = found.take(np.arange(10, 30), spectra(3.5, 1000, 20, 1), np.zeros(20, np.int64))
    assert [phase.label for phase in new] == [2]
    later, more = found.take(np.arange(30, 40), spectra(3.5, 1000, 10, 2), np.zeros(10, np.int64))
    assert (later == 2).all()
    assert not more
    assert set(new[0].positions) <= set(range(10, 30))


def test_empty_spectra_join_nothing() -> None:
    found = fed()
    found.take(np.arange(10, 30), spectra(3.5, 1000, 20, 1), np.zeros(20, np.int64))
    dark = np.zeros((5, AXIS.channels), np.uint32)
    few = spectra(5.0, 3, 5)
    labels, new = found.take(np.arange(40, 50), np.concatenate([dark, few]), np.zeros(10, np.int64))
    assert (labels == 0).all()
    assert not new
    assert few.sum(axis=1).max() < LEAST_COUNTS


def test_a_known_phase_without_counts_is_no_hindrance() -> None:
    found = OpenSet(AXIS, 2)
    dark = np.zeros((5, AXIS.channels), np.uint32)
    found.take(np.arange(5), dark, np.full(5, 2))
    found.take(np.arange(5, 15), spectra(1.5, 1000, 10), np.ones(10, np.int64))
    _, new = found.take(np.arange(15, 35), spectra(3.5, 1000, 20, 1), np.zeros(20, np.int64))
    assert [phase.label for phase in new] == [3]


def test_what_is_taken_in_once_more_gets_its_label_again_though_others_were_found_since() -> None:
    """A field is given up after it found a phase, another finds one more, then the first is taken up."""
    own, other = spectra(3.5, 1000, 20, 1), spectra(4.5, 20_000, 1, 4)[0].astype(float)
    _, (first,) = fed().take(np.arange(10, 30), own, np.zeros(20, np.int64))
    again = OpenSet(AXIS, 1, since={first.label: first.template, 7: other})
    again.take(np.arange(10), spectra(1.5, 1000, 10), np.ones(10, np.int64))
    _, (found,) = again.take(np.arange(10, 30), own, np.zeros(20, np.int64))
    assert found.label == first.label == 2
    _, (theirs,) = again.take(np.arange(30, 50), spectra(4.5, 1000, 20, 5), np.zeros(20, np.int64))
    assert theirs.label == 7
    _, (new,) = again.take(np.arange(50, 70), spectra(2.5, 1000, 20, 6), np.zeros(20, np.int64))
    assert new.label == 8


def test_what_is_found_in_an_earlier_field_keeps_its_label() -> None:
    template = spectra(3.5, 20_000, 1)[0].astype(float)
    found = OpenSet(AXIS, 1, {2: template})
    labels, new = found.take(np.arange(10), spectra(3.5, 1000, 10, 3), np.zeros(10, np.int64))
    assert (labels == 2).all()
    assert not new
