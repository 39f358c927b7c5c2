"""Where an operating point rescans: regions in yellow, sites in green, figure 6 of the SPARSE paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.errors import ConfigError

from .chart import svg_begin, text
from .judging import checked_config, regions_of, sites_of, with_one_thread
from .matching import find
from .measures import Measures
from .pairs import Pairs
from .sweep import Judged

SHOWN_PX = 1024
"""Side of the part of a tile that is shown, analysis pixels."""
SIDE = 480
"""The same in the figure."""
YELLOW, GREEN = "#ffd400", "#1fbf3a"


def region_figure(pairs: Pairs, folder: Path, points: Sequence[tuple[Judged, Measures]]) -> str:
    """Draw the same part of a tile for some operating points, the most eager last."""
    tile = max(points[0][0].scores, key=lambda entry: entry.sites).tile
    image = pairs.analysis(tile)
    box = _densest(sites_of(str(folder.absolute()), tile, points[0][0].configuration.reference), image.shape)
    top, left, rows, columns = box
    factor = SIDE / max(rows, columns)
    part = image[top : top + rows, left : left + columns]
    picture = _embedded(part, factor)
    width, height = columns * factor, rows * factor
    whole = svg_begin(len(points) * (width + 16) + 16, height + 64)
    parts = [whole]
    for number, (judged, found) in enumerate(points):
        x = 16 + number * (width + 16)
        parts.append(
            text(
                x,
                20,
                f"detection rate {found.recall:.1%}, efficiency {found.efficiency:.1%}",
                style='font-size="14"',
            )
        )
        config = checked_config(pairs, judged.configuration)
        detector = plugins.build("detector", config.detect.detector, with_one_thread(config))
        fast = pairs.fast(tile, judged.configuration.fast)
        detected = find(detector, fast, image.shape[0] // fast.shape[0])
        sites = sites_of(str(folder.absolute()), tile, judged.configuration.reference)
        regions = regions_of(detected.pois, config, (image.shape[1], image.shape[0]))
        parts.append(
            f'<svg x="{x:g}" y="32" width="{width:g}" height="{height:g}" viewBox="0 0 {columns} {rows}">'
        )
        parts.append(f'<image width="{columns}" height="{rows}" href="{picture}"/>')
        parts += _outlines(regions, left, top, YELLOW, 1.6 / factor)
        parts += _outlines(
            sites.found.pois.boxes_px + np.array([-4, -4, 8, 8]), left, top, GREEN, 1.6 / factor
        )
        parts.append("</svg>")
    parts.append(
        text(
            16,
            height + 52,
            f"tile {tile}, {columns} x {rows} px: regions in yellow, reference sites in green",
        )
    )
    return "\n".join([*parts, "</svg>", ""])


def _densest(sites: Any, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return top, left, rows, columns of the part with most sites."""
    rows, columns = min(SHOWN_PX, shape[0]), min(SHOWN_PX, shape[1])
    best, place = -1, (0, 0)
    xy = sites.found.pois.xy_px
    for top in range(0, shape[0] - rows + 1, max(1, rows // 2)):
        for left in range(0, shape[1] - columns + 1, max(1, columns // 2)):
            inside = ((xy >= (left, top)) & (xy < (left + columns, top + rows))).all(axis=1).sum()
            if inside > best:
                best, place = int(inside), (top, left)
    return (*place, rows, columns)


def _outlines(boxes: NDArray[np.int64], left: int, top: int, colour: str, width: float) -> list[str]:
    return [
        f'<rect x="{x - left}" y="{y - top}" width="{w}" height="{h}" fill="none" stroke="{colour}" '
        f'stroke-width="{width:.2f}"/>'
        for x, y, w, h in boxes.tolist()
    ]


def _embedded(image: NDArray[Any], factor: float) -> str:
    """Return an image as the text of a JPEG, no larger than it is shown on a sharp screen."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if 2 * factor < 1:
        image = cv2.resize(image, None, fx=2 * factor, fy=2 * factor, interpolation=cv2.INTER_AREA)
    is_done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not is_done:
        raise ConfigError("the image of the figure cannot be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
