"""The pages about keys and commands are those of this program."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = runpy.run_path(str(ROOT / "scripts" / "make_reference.py"))["PAGES"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_reference_is_what_the_script_makes(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == PAGES[page](), "python scripts/make_reference.py"
