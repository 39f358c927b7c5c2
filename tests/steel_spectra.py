"""The library of the simulated steel, made as for the tables in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def write_library(path: Path) -> None:
    """Write 30 spectra of each phase."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        from steel_library import steel_library
    steel_library(seed=1, spectra=30, first_mm=(1.0, 2.0)).save(path)
