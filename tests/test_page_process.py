"""The page in a process of its own, as a run and the daemon start it."""

from __future__ import annotations

import queue
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from recorded_run import whole_run

from sparse_actors.page.process import page_process

PATIENCE_S = 120.0


def test_a_page_is_served_as_long_as_it_is_wanted_and_harms_nobody_where_it_cannot_be(tmp_path: Path) -> None:
    whole_run(tmp_path)
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    log = tmp_path / "page.log"
    with page_process("127.0.0.1:0", (str(tmp_path),), log, said.put):
        url = said.get(timeout=PATIENCE_S).removeprefix("page: ")
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            assert b"<title>sparse-actors</title>" in answer.read()
        taken = url.removeprefix("http://").rstrip("/")
        with page_process(taken, (str(tmp_path),), log, said.put):
            assert "is another page served there?" in said.get(timeout=PATIENCE_S)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=PATIENCE_S)
    assert said.empty()
