"""Serves the page: files, images, what changes, and the way for orders."""

from __future__ import annotations

import asyncio
import re
import time
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sparse_actors.cli.audit import audit_folder, sentences
from sparse_actors.cli.queue_client import ordered
from sparse_actors.errors import ControlError, JournalError, SparseActorsError
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.network.control import Done, ask
from sparse_actors.recording.spectra import SpectraStore
from sparse_actors.run_requests import TILE, RunOrder, Stop

from .access import Access
from .batches import batch, packed, run_block
from .follower import Follower
from .guard import Guarded
from .pictures import SIDES_PX
from .tiles import TileView
from .view import RunView

FRAME_S = 0.02
"""At least between two messages to a browser."""
FIGURES_S = 0.5
PATIENCE_S = 30.0
"""A browser that does not say for so long that it drew what it got is asked to connect again."""
MOST_BROWSERS = 32
MAX_ORDER_BYTES = 65_536
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
REGION = re.compile(r"(r[0-9]{3,6}c[0-9]{3,6})p([0-9]{1,6})r([0-9]{1,9})")


class Page:
    """The page of one view.

    Parameters
    ----------
    view, follower
        What is shown, and who keeps it up to date.
    access
        Who may do what.
    """

    def __init__(self, view: RunView, follower: Follower, access: Access) -> None:
        self._view, self._follower, self._access = view, follower, access
        self._orders: msgspec.json.Decoder[Any] = msgspec.json.Decoder(RunOrder | Stop)
        self._audit_turn = asyncio.Lock()
        self._browsers = 0
        self._last_figures = -FIGURES_S, "", b""
        folder = resources.files("sparse_actors.page") / "assets"
        self._files = {
            file.name: (file.read_bytes(), TYPES[Path(file.name).suffix]) for file in folder.iterdir()
        }
        routes = [
            Route("/", self._index),
            Route("/assets/{name}", self._asset),
            Route("/tile/{tile}.jpg", self._tile_image),
            Route("/tile/{tile}.json", self._tile_facts),
            Route("/region/{scan}.png", self._region_image),
            Route("/spectrum.json", self._spectrum),
            Route("/audit", self._audit, methods=["POST"]),
            Route("/order", self._order, methods=["POST"]),
            WebSocketRoute("/changes", self._changes),
        ]
        self.app = Guarded(Starlette(routes=routes), access)

    async def _index(self, request: Request) -> Response:
        return self._file("index.html")

    async def _asset(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            return Response(status_code=404)
        content, media_type = self._files[name]
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    # -- images and details, when somebody looks ------------------------------------------------

    async def _tile_image(self, request: Request) -> Response:
        tile, pictures = self._tile(request.path_params["tile"]), self._follower.pictures
        side = request.query_params.get("width", "")
        if tile is None or pictures is None or side not in map(str, SIDES_PX):
            return Response(status_code=404)
        with_rescans = request.query_params.get("rescans") == "1"
        image = await run_in_threadpool(pictures.of_tile, tile, int(side), with_rescans=with_rescans)
        return _image(image, "image/jpeg")

    async def _region_image(self, request: Request) -> Response:
        match, pictures = REGION.fullmatch(request.path_params["scan"]), self._follower.pictures
        tile = self._tile(match[1]) if match else None
        if match is None or tile is None or pictures is None:
            return Response(status_code=404)
        scan_id = next(
            (
                i
                for i in tile.regions
                if i.partition == PartitionId(tile.index, int(match[2])) and i.region == int(match[3])
            ),
            None,
        )
        if scan_id is None:
            return Response(status_code=404)
        make = pictures.fast_of_region if request.query_params.get("fast") == "1" else pictures.of_region
        return _image(await run_in_threadpool(make, tile, scan_id), "image/png")

    async def _tile_facts(self, request: Request) -> Response:
        tile = self._tile(request.path_params["tile"])
        if tile is None:
            return Response(status_code=404)
        with self._view.lock:
            return JSONResponse(tile.details())

    async def _spectrum(self, request: Request) -> Response:
        with self._view.lock:
            folder, recorded, told = self._view.folder, self._view.maps.last, self._view.maps.last_labels
        if folder is None or recorded is None or told is None:
            return Response(status_code=404)
        try:
            counts, axis = await run_in_threadpool(SpectraStore(folder).read, recorded)
        except (JournalError, OSError):
            return Response(status_code=404)
        label, confidence = told
        return JSONResponse(
            {
                "counts": counts[-1].tolist(),
                "firstKev": axis.offset_kev,
                "stepKev": axis.scale_kev,
                "label": label,
                "confidence": confidence,
            }
        )

    def _tile(self, name: str) -> TileView | None:
        if re.fullmatch(TILE, name) is None:
            return None
        row, column = map(int, re.findall("[0-9]+", name))
        return self._view.tiles.get(TileIndex(row, column))

    # -- orders -----------------------------------------------------------------------------------

    async def _order(self, request: Request) -> Response:
        if not self._access.may_order(request.headers):
            return _refused(403, "this page may look, but not give orders: see docs/page.md")
        if request.headers.get("content-type", "") != "application/json":
            return _refused(415, "expected JSON")
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_ORDER_BYTES:
                return _refused(413, "too long for an order")
        try:
            order = self._orders.decode(content)
        except msgspec.MsgspecError as error:
            return _refused(400, f"not an order: {error}")
        folder = self._view.folder
        if folder is None:
            return _refused(409, "no run goes on")
        try:
            said = await run_in_threadpool(_given, folder, order)
        except ControlError as error:
            return _refused(409, str(error))
        return JSONResponse({"said": said})

    async def _audit(self, request: Request) -> Response:
        """Estimate what is missed; it looks at every recorded region, so that only one is made at a time."""
        if not self._access.is_own_page(request.headers):
            return _refused(403, "only this page may ask")
        folder = self._view.folder
        if folder is None or self._audit_turn.locked():
            return _refused(409, "no run is shown" if folder is None else "an estimate is being made")
        async with self._audit_turn:
            try:
                found = await run_in_threadpool(audit_folder, folder)
            except SparseActorsError as error:
                return _refused(409, str(error))
        return JSONResponse({"said": sentences(found)})

    # -- what changes -----------------------------------------------------------------------------

    async def _changes(self, socket: WebSocket) -> None:
        if not self._access.is_own_page(socket.headers) or self._browsers >= MOST_BROWSERS:
            await socket.close(1008)
            return
        await socket.accept()
        self._browsers += 1
        try:
            with self._view.reading() as unseen:
                figures_s, state = -FIGURES_S, ""
                while True:
                    began_s = time.monotonic()
                    pictures = self._follower.pictures
                    message = await run_in_threadpool(batch, self._view, unseen, pictures)
                    if message is not None:
                        await self._sent(socket, message)
                    if time.monotonic() - figures_s >= FIGURES_S or state != self._follower.state:
                        figures_s, state = time.monotonic(), self._follower.state
                        await self._sent(socket, await run_in_threadpool(self._figures))
                    await asyncio.sleep(max(0.0, FRAME_S - (time.monotonic() - began_s)))
        except (WebSocketDisconnect, TimeoutError):
            return
        finally:
            self._browsers -= 1

    async def _sent(self, socket: WebSocket, message: bytes) -> None:
        """Send, and wait until the browser has drawn it: a slow one gets fewer and larger messages."""
        await socket.send_bytes(message)
        async with asyncio.timeout(PATIENCE_S):
            await socket.receive_text()

    def _figures(self) -> bytes:
        """Return the figures, the same for all browsers that ask within a short time."""
        made_s, state, message = self._last_figures
        if state == self._follower.state and time.monotonic() - made_s < FIGURES_S:
            return message
        status = self._follower.status
        waits_for = status.waits_for if status else ""
        block = run_block(self._view, self._follower.state, waits_for, self._access.takes_orders)
        message = packed({"run": block | {"problem": self._follower.problem}}, [])
        self._last_figures = time.monotonic(), block["state"], message
        return message


def _given(folder: Path, order: RunOrder | Stop) -> str:
    if isinstance(order, Stop):
        return ask(folder, order, Done).said
    return ordered(folder, order)


def _image(content: bytes | None, media_type: str) -> Response:
    if content is None:
        return Response(status_code=404)
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})


def _refused(code: int, why: str) -> Response:
    return JSONResponse({"refused": why}, status_code=code)


def server(page: Page, host: str, port: int) -> uvicorn.Server:
    """Return a server for the page, which listens when it is run."""
    return uvicorn.Server(
        uvicorn.Config(
            page.app,
            host=host,
            port=port,
            ws="websockets-sansio",
            http="h11",
            ws_max_size=1024,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=256,
        )
    )
