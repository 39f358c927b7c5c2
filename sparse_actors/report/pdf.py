"""A page as PDF, printed by a browser of the Chromium family that is installed on this computer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sparse_actors.errors import SparseActorsError

COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "msedge",
)
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
WINDOWS_FOLDERS = ("ProgramFiles", "ProgramFiles(x86)", "LOCALAPPDATA")
WINDOWS_PLACES = ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
PATIENCE_S = 120.0


class PrintError(SparseActorsError):
    """A page could not be printed."""


def print_pdf(page: Path) -> Path:
    """Print a page into a PDF beside it, and return where that is.

    Raises
    ------
    PrintError
        There is no such browser, or it did not print.
    """
    browser = next(_browsers(), None)
    by_hand = f"open {page} and print it from the browser"
    if browser is None:
        raise PrintError(f"--pdf: neither Chromium, Chrome nor Edge was found here; {by_hand}")
    target = page.absolute().with_suffix(".pdf")
    target.unlink(missing_ok=True)
    # Chromium does not start as root inside its sandbox; the page is ours and can load nothing.
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            *as_root,
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={target}",
            page.absolute().as_uri(),
        ]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PrintError(f"--pdf: {browser}: {error}; {by_hand}") from None
    if not target.exists():
        said = ended.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise PrintError(f"--pdf: {browser} ended with {ended.returncode}: {said[0]}; {by_hand}")
    return target


def _browsers() -> Iterator[str]:
    yield from filter(None, map(shutil.which, COMMANDS))
    yield from (place for place in PLACES if Path(place).exists())
    for folder in filter(None, map(os.environ.get, WINDOWS_FOLDERS)):
        yield from (str(path) for place in WINDOWS_PLACES if (path := Path(folder, place)).exists())
