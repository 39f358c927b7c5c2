"""What every page must be: one file that asks nobody for anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

LOADING = ("src", "href", "xlink:href", "data", "action", "poster", "srcset", "formaction")
VOID = {"meta", "link", "img", "input", "br", "hr", "source"}


class Page(HTMLParser):
    """The elements of a page, with what they load, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, text: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.words.append(text)

    @property
    def text(self) -> str:
        """All text that is shown, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of the elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def checked(path: Path) -> Page:
    """Read a page and check that it is whole, loads nothing and lets nothing be loaded."""
    page = Page(path.read_text("utf-8"))
    for tag, attributes in page.elements:
        for key in LOADING:
            address = attributes.get(key, "")
            assert address.startswith(("data:", "#")) or not address, f"<{tag} {key}={address[:80]!r}>"
        assert not [key for key in attributes if key.startswith("on")], f"<{tag}> has a script of its own"
    assert "@import" not in page.source
    assert "url(" not in page.source
    (policy,) = [m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert page.of("title")
    assert page.of("html") == [{"lang": "en"}]
    return page


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[Any]:
    """Show a page in a real browser; fails where it asks for anything or complains."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser_path is None:
        pytest.skip("there is no Chromium on this computer")
    said: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        try:
            page = browser.new_page(locale="en-US", **how)
            page.on("console", lambda message: said.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: said.append(f"error: {error}"))
            page.on("request", lambda request: said.append(request.url))
            page.goto(path.as_uri())
            yield page
        finally:
            browser.close()
    assert [text for text in said if not text.startswith("data:")] == [path.as_uri()]
