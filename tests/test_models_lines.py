from __future__ import annotations

import numpy as np
import pytest
from nist_standards import mineral_map, standards
from sparse_actors.models.composition import elements
from sparse_actors.models.detector_response import Detector
from sparse_actors.models.element_matching import ElementMatch, match_elements
from sparse_actors.models.lines import subshells
from sparse_actors.models.physics import Beam, characteristic, simulate

from sparse_actors.contracts.spectra import EnergyAxis

AXIS = EnergyAxis(channels=1900, offset_kev=-0.02, scale_kev=0.01)
SYMBOLS = dict(
    zip(
        (6, 8, 9, 12, 13, 14, 20, 22, 26, 30, 32),
        ("C", "O", "F", "Mg", "Al", "Si", "Ca", "Ti", "Fe", "Zn", "Ge"),
        strict=True,
    )
)


def found(counts: np.ndarray, axis: EnergyAxis, beam_kev: float) -> set[str]:
    return {match.element for match in match_elements(counts, axis, beam_kev=beam_kev)}


def test_lines_are_where_tables_have_them() -> None:
    lines = {line.transition: line for shell in subshells(26) for line in shell.lines}
    assert lines["KL3"].energy_kev == pytest.approx(6.404, abs=0.002)
    assert lines["KM3"].energy_kev == pytest.approx(7.058, abs=0.002)
    assert lines["L3M5"].energy_kev == pytest.approx(0.705, abs=0.002)
    ratio = (lines["KM3"].weight + lines["KM2"].weight) / (lines["KL3"].weight + lines["KL2"].weight)
    assert ratio == pytest.approx(0.135, abs=0.01)


def test_light_lanthanides_have_m_lines() -> None:
    lines = {line.transition: line for shell in subshells(58) for line in shell.lines}
    assert lines["M5N7"].energy_kev == pytest.approx(0.883, abs=0.005)


def test_vacancies_move_outwards_only() -> None:
    for z in range(6, 93):
        for shell in subshells(z):
            assert all(other > shell.name and 0 < p < 1 for other, p in shell.moves_to)
            assert sum(line.weight for line in shell.lines) < 1


@pytest.mark.parametrize(
    ("specimen", "present"),
    [
        ("MoS2", {"Mo", "S"}),
        ("PbS", {"Pb", "S"}),
        ("PbO", {"Pb", "O"}),
        ("BaTiO3", {"Ba", "Ti", "O"}),
        ("TiO2", {"Ti", "O"}),
        ("NaCl", {"Na", "Cl"}),
        ("ZnO", {"Zn", "O"}),
        ("KAlSi3O8", {"K", "Al", "Si", "O"}),
        ("SrTiO3", {"Sr", "Ti", "O"}),
        ("CuFeS2", {"Cu", "Fe", "S"}),
    ],
)
def test_overlapping_lines_are_told_apart(specimen: str, present: set[str]) -> None:
    expected = simulate(specimen, beam=Beam(20), axis=AXIS, counts=30_000)
    counts = np.random.default_rng(3).poisson(expected)
    assert found(counts, AXIS, 20) == present


def test_an_element_needs_its_hard_lines() -> None:
    """Soft lines of zinc whose K lines are missing, at a beam energy that excites both, are not zinc."""
    lines = characteristic(elements("Zn"), Beam(15))
    soft = np.array([(energy_kev, photons) for *_, energy_kev, photons in lines if energy_kev < 2]).T
    expected = Detector().respond(soft[0], soft[1] / soft[1].sum() * 20_000, AXIS)
    expected = expected + simulate("SiO2", beam=Beam(15), axis=AXIS, counts=30_000)
    assert "Zn" not in found(np.random.default_rng(0).poisson(expected), AXIS, 15)


def test_noise_and_nothing_have_no_elements() -> None:
    assert match_elements(np.zeros(AXIS.channels), AXIS, beam_kev=15) == ()
    even = np.random.default_rng(0).poisson(np.full(AXIS.channels, 2.0))
    assert match_elements(even, AXIS, beam_kev=15) == ()


def test_a_match_names_its_lines() -> None:
    counts = np.random.default_rng(0).poisson(simulate("Fe", beam=Beam(15), axis=AXIS, counts=20_000))
    (match,) = match_elements(counts, AXIS, beam_kev=15)
    assert isinstance(match, ElementMatch)
    assert match.element == "Fe"
    assert set(match.lines) == {"Fe_Ka", "Fe_La"}
    assert 8_000 < match.counts < 20_000


@pytest.mark.parametrize(("counts", "precision", "recall"), [(100_000, 0.85, 1.0), (10_000, 0.9, 0.96)])
def test_elements_of_measured_standards(counts: int, precision: float, recall: float) -> None:
    """Elements above 2 wt%; carbon is on all specimens, oxygen on metals."""
    random, right, wrong, missed = np.random.default_rng(1), 0, 0, 0
    for standard in [*standards(15.0), *standards(20.0)]:
        xrays = standard.counts * (standard.axis.energies_kev > 0.1)
        spectrum = random.poisson(xrays / xrays.sum() * counts)
        fractions = elements(standard.composition)
        present = {SYMBOLS[z] for z, part in fractions.items() if part > 0.02}
        ignored = {"C", "O"} if len(fractions) == 1 else {"C"}
        seen = found(spectrum, standard.axis, standard.beam_kev) - ignored
        right, wrong, missed = (
            right + len(seen & present),
            wrong + len(seen - present),
            missed + len(present - seen),
        )
    assert right / (right + wrong) >= precision
    assert right / (right + missed) >= recall


def test_elements_of_minerals() -> None:
    counts, labels, axis, beam_kev = mineral_map()
    minerals = [found(counts[labels == label].sum(0), axis, beam_kev) for label in range(1, 5)]
    assert minerals[0] >= {"K", "Fe", "Mg", "Al", "Si", "O"}
    assert minerals[1] >= {"Ca", "Fe", "Mg", "Al", "Si", "O"}
    assert minerals[2] >= {"Fe", "Ti", "Mn", "O"}
    assert minerals[3] >= {"Ca", "P", "O"}
