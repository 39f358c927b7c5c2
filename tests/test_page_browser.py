"""The page of a run in a real browser: start, pause, propose a region, resume, end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from daemons import Gated, until

from sparse_actors.messages import RegionsProposed, RunContinued, RunPaused
from sparse_actors.recording.journal import read_journal

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PATIENCE_MS = 60_000


class Watched:
    """A page in a browser, and all that it did that it should not."""

    def __init__(self, page: playwright.Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(PATIENCE_MS)
        page.on(
            "console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _hear(self, said: playwright.ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def says(self, what: str, words: str) -> None:
        playwright.expect(self.page.locator(what)).to_contain_text(re.compile(words), timeout=PATIENCE_MS)


@pytest.fixture
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        # Chromium refuses its sandbox to root, which a container often is.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def address(survey: Gated) -> str:
    """Return where the page is, once the run has said so."""

    def said() -> str:
        found = re.search(r"page: (http://\S+)", (survey.folder / "output.txt").read_text())
        return found[1] if found else ""

    return str(until(said, "the page is served"))


@pytest.mark.timeout(300)
def test_a_run_is_watched_and_led_on_the_page(tmp_path: Path, browser: playwright.Browser) -> None:
    survey = Gated(tmp_path / "survey", free=6)
    text = survey.config.read_text(encoding="utf-8")
    survey.config.write_text(text + '[page]\nlisten = "127.0.0.1:0"\n', encoding="utf-8")
    process = survey.start()
    try:
        shown = Watched(browser.new_page(locale="en-US", viewport={"width": 1300, "height": 860}))
        page, url = shown.page, address(survey)
        page.goto(url)
        survey.waits()
        shown.says("#name", "survey")
        shown.says("#state", "running")
        # What the scheduler holds back until it is resumed must not matter: the tile is all scanned.
        page.click("#pause")
        shown.says("#said", "paused")
        shown.says("#state", "paused")
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
        shown.says("#card h2", "Tile r000c000")
        page.click("#propose")
        shown.says("#said", "regions are to be rescanned|Not done: ")
        page.click("#pause")
        shown.says("#state", "running")
        survey.gate.touch()
        shown.says("#state", "completed")
        shown.says("#events", "The run is completed")
        assert process.wait(60) == 0, (survey.folder / "output.txt").read_text()
        facts = read_journal(survey.run / "journal")
        assert any(isinstance(fact, RunPaused) and "page" in fact.reason for fact in facts)
        assert any(isinstance(fact, RunContinued) for fact in facts)
        assert any(isinstance(fact, RegionsProposed) and fact.source == "live page" for fact in facts)
        # The page ended with the run: only the connection that is gone may be complained about.
        assert [said for said in shown.complaints if "WebSocket" not in said] == []
        assert shown.hosts == {urlsplit(url).netloc}
    finally:
        survey.gate.touch()
        if process.poll() is None:
            process.terminate()
            process.wait(60)
