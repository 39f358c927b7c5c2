"""Phases that were found get a name once, in whichever session."""

from __future__ import annotations

import numpy as np

from sparse_actors.actors.phase_namer import PhaseNamer
from sparse_actors.contracts.spectra import EnergyAxis
from sparse_actors.geometry import TileIndex
from sparse_actors.messages import FieldId, PhaseNamed, PhaseProposed


def proposed(label: int) -> PhaseProposed:
    return PhaseProposed(
        field=FieldId(TileIndex(0, 0), 0),
        label=label,
        members=5,
        template=np.full(3, float(label)),
        axis=EnergyAxis(channels=3, offset_kev=0.0, scale_kev=0.01),
    )


def test_what_nobody_came_to_name_is_named_in_the_next_session() -> None:
    named = PhaseNamed(label=2, name="Fe (found, 2)", elements=("Fe",))
    namer = PhaseNamer(lambda template, axis: ("Cr",), [proposed(2), named, proposed(3)])
    assert list(namer.begin()) == [PhaseNamed(label=3, name="Cr (found, 3)", elements=("Cr",))]
    assert not list(PhaseNamer(lambda template, axis: (), [proposed(2), named]).begin())


def test_a_spectrum_that_cannot_be_matched_costs_a_name_and_not_the_run() -> None:
    def fails(template: object, axis: object) -> tuple[str, ...]:
        raise ValueError("no lines")

    (named,) = PhaseNamer(fails, [proposed(2)]).begin()
    assert named == PhaseNamed(label=2, name="unknown (found, 2)", elements=())
