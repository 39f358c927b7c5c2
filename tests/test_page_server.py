"""The page over a socket: what it shows, whom it lets in, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded_run import TILES, RecordedRun, whole_run
from served_page import Served, served
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sparse_actors.errors import ConfigError
from sparse_actors.geometry import PartitionId
from sparse_actors.messages import TileFinished
from sparse_actors.network.control import Control
from sparse_actors.page.access import Access, parse_listen
from sparse_actors.run_requests import REQUESTS, Answered, Pause, RunStatus, Status


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    whole_run(tmp_path)
    with served(tmp_path) as found:
        yield found


def is_complete(message: dict[str, Any]) -> bool:
    return bool(message.get("run") and message["run"]["state"] == "completed")


def test_a_browser_gets_the_whole_run_first(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
        # One that comes later gets it as well.
    with page.browser() as browser:
        seen: set[int] = set()

        def has_all_pictures(message: dict[str, Any]) -> bool:
            seen.update(block[1] for block in message["blocks"] if block[0] == "tile")
            return len(seen) == 4

        messages = browser.until(has_all_pictures)
        layout = messages[0]["layout"]
        assert (layout["columns"], layout["rows"]) == (2, 2)
        tiles = {tile["i"]: tile for tile in messages[0]["tiles"]}
        assert sorted(tiles) == sorted(seen) == [0, 1, 2, 3]
        assert tiles[0]["c"] == "ddd"
        assert len(tiles[0]["r"]) == 15
        small = [block for message in messages for block in message["blocks"] if block[0] == "tile"]
        assert all(len(block[-1]) == block[2][0] * block[2][1] for block in small)
        assert any("completed" in event[3] for event in messages[0]["events"])


def test_only_what_changed_comes_next(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.fast(TILES[0])
    with served(tmp_path) as page, page.browser() as browser:
        browser.until(lambda message: any(tile["i"] == 0 for tile in message.get("tiles", [])))
        run.fast(TILES[3])
        run.journal.append(TileFinished(tile=TILES[3]))
        later = browser.until(lambda message: any(tile["s"] == 5 for tile in message.get("tiles", [])))
        tiles = [tile for message in later for tile in message.get("tiles", [])]
        assert {tile["i"] for tile in tiles} <= {0, 3}, "the tile that was left, and the one that was reached"
        assert not any("layout" in message for message in later)
        run.finish()


def test_images_are_those_on_disk(page: Served, tmp_path: Path) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    code, headers, content = page.get("/tile/r000c000.jpg?width=128&rescans=0")
    assert code == 200
    assert headers["content-type"] == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (96, 128)
    scan = next(iter(page.view.tiles[TILES[0]].regions))
    code, _, content = page.get(f"/region/{scan}.png")
    rescan = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert rescan.shape == (12, 16)
    code, _, content = page.get(f"/region/{scan}.png?fast=1")
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).shape == (6, 8)
    details = json.loads(page.get("/tile/r000c000.json")[2])
    assert [region["status"] for region in details["regions"]] == ["rescanned"] * 3
    assert details["fastTime"] == pytest.approx(1.0)


def test_a_mask_is_shown_in_its_box(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    code, _, content = page.get(f"/region/{PartitionId(TILES[1], 0)}r0000.png")
    assert code == 200
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).shape == (12, 12)


def test_what_is_not_there_is_not_found(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    paths = (
        "/nothing",
        "/assets/../page.py",
        "/assets/%2e%2e%2fserver.py",
        "/tile/r000c009.jpg?width=128",
        "/tile/r000c000.jpg?width=99999",
        "/tile/..%2f..%2fjournal.jpg?width=128",
        "/tile/x.json",
        "/region/r000c000p0r9999.png",
        "/region/r999999c000p0r0.png",
        "/spectrum.json",
    )
    assert {path: page.get(path)[0] for path in paths} == dict.fromkeys(paths, 404)


def test_everything_carries_the_headers_that_protect_the_page(page: Served) -> None:
    for path in ("/", "/assets/page.js", "/nothing"):
        _, headers, _ = page.get(path)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_name_that_was_bound_to_this_computer_is_not_answered(page: Served) -> None:
    assert page.get("/", Host="attacker.example")[0] == 421
    assert page.get("/", Host=f"localhost:{page.port}")[0] == 200
    assert page.order({"ask": "stop"}, Host="attacker.example", Origin="http://attacker.example")[0] == 421


def test_other_sites_give_no_orders_and_hear_nothing(page: Served) -> None:
    for origin in ("http://attacker.example", "null", "", "http://127.0.0.1:1"):
        code, answer = page.order({"ask": "stop"}, Origin=origin)
        assert code == 403
        assert "refused" in answer
        with pytest.raises((InvalidStatus, ConnectionClosed)), page.browser(Origin=origin) as browser:
            browser.receive()


def test_nonsense_is_refused(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    bodies = {
        b"": 400,
        b"{": 400,
        b'{"ask": "status"}': 400,
        b'{"ask": "pause", "reason": "", "request": "x"}': 400,
        b'{"ask": "skip", "tile": "../x", "reason": "r", "request": "x"}': 400,
        b"[" * 70_000: 413,
    }
    assert {body: page.order(body)[0] for body in bodies} == bodies


def test_an_order_needs_a_run_and_json(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    code, answer = page.order({"ask": "continue", "request": "x"})
    assert code == 409
    assert "nobody answers" in answer["refused"]
    assert page.order({"ask": "stop"}, Content_Type="text/plain")[0] == 415


def test_orders_reach_the_run(tmp_path: Path) -> None:
    RecordedRun(tmp_path).fast(TILES[0])
    asked: list[Any] = []

    def answer(request: Any) -> Any:
        asked.append(request)
        if isinstance(request, Status):
            return RunStatus(
                name="steel",
                folder=str(tmp_path),
                pid=1,
                state="running",
                tile="",
                waits_for="the scan",
                messages=1,
                workers=(),
                taps="",
                taps_dropped={},
                refused=0,
            )
        return Answered("paused: tea")

    with Control(tmp_path, REQUESTS, answer), served(tmp_path) as page, page.browser() as browser:
        run = browser.until(lambda message: message.get("run", {}).get("waitsFor"))[-1]["run"]
        assert run["state"] == "running"
        assert run["waitsFor"] == "the scan"
        assert run["mayOrder"]
        assert page.order({"ask": "pause", "reason": "tea", "request": "1"}) == (200, {"said": "paused: tea"})
    assert Pause(reason="tea", request="1") in asked


def test_with_a_token_only_who_shows_it_gives_orders(tmp_path: Path) -> None:
    whole_run(tmp_path)
    order = {"ask": "continue", "request": "x"}
    with served(tmp_path, host="0.0.0.0", token="secret") as page:
        with page.browser() as browser:
            assert browser.until(is_complete)[-1]["run"]["mayOrder"]
        assert page.order(order)[0] == 403
        assert page.order(order, Authorization="Bearer wrong")[0] == 403
        assert page.order(order, Authorization="Bearer secret")[0] == 409
    with served(tmp_path, host="0.0.0.0") as page:
        with page.browser() as browser:
            assert not browser.until(is_complete)[-1]["run"]["mayOrder"]
        assert page.order(order)[0] == 403


def test_a_page_without_a_run_says_so(tmp_path: Path) -> None:
    with served(None) as page, page.browser() as browser:
        messages = browser.until(lambda message: "run" in message)
        assert messages[0]["layout"] == {"name": ""}
        assert messages[-1]["run"]["state"] == "none"
        assert page.order({"ask": "stop"})[0] == 409


def test_the_next_run_takes_the_place_of_the_last(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        whole_run(folder)
    current = folders[:1]
    with served(lambda: current[-1]) as page, page.browser() as browser:
        browser.until(is_complete)
        current.append(folders[1])
        message = browser.until(lambda message: message.get("layout", {}).get("name"))[-1]
        assert message["layout"]["folder"] == str(folders[1])
        assert {tile["i"] for tile in message["tiles"]} == {0, 1, 2, 3}


def test_recall_is_told_by_an_audit_only(page: Served) -> None:
    with page.browser() as browser:
        browser.until(is_complete)
    code, _, content = page.ask("POST", "/audit", b"", {"Origin": page.origin})
    assert code == 409
    assert "without an [audit] table" in json.loads(content)["refused"]
    assert page.ask("POST", "/audit", b"", {"Origin": "http://attacker.example"})[0] == 403


def test_a_journal_of_a_later_version_is_said_not_to_be_readable(tmp_path: Path) -> None:
    whole_run(tmp_path)
    journal = tmp_path / "journal"
    journal.write_bytes(b"something else" + journal.read_bytes())
    with served(tmp_path) as page, page.browser() as browser:
        problem = browser.until(lambda message: message.get("run", {}).get("problem"))[-1]["run"]["problem"]
        assert "cannot be shown" in problem


@pytest.mark.parametrize(
    "listen", ["", "8765", "localhost:8765", "127.0.0.1", "1.2.3.4.5:1", "127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"page\.listen"):
        parse_listen(listen)


def test_addresses() -> None:
    assert parse_listen("[::1]:80") == ("::1", 80)
    assert parse_listen("0.0.0.0:8765") == ("0.0.0.0", 8765)
    assert not Access("127.0.0.5").is_open
    assert Access("10.0.0.5").is_open
    assert Access("10.0.0.5").is_host("10.0.0.5:8765")
    assert not Access("127.0.0.1").is_host("evil.example")
    assert not Access("127.0.0.1").is_host("a b")
