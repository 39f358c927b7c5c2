"""Images for pages: eight bits, reduced, as data in the text of the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 85
DARKEST_PCT, BRIGHTEST_PCT = 0.5, 99.5


@dataclass(frozen=True, slots=True)
class GreyRange:
    """Which grey levels are shown as black and as white; the same for all images of a page."""

    black: float = 0.0
    white: float = 255.0

    @classmethod
    def of(cls, image: NDArray[Any]) -> GreyRange:
        """Show uint8 as it is, and of uint16 what the image has, but for the utmost half percents."""
        if image.dtype == np.uint8 or not image.size:
            return cls()
        black, white = np.percentile(image, (DARKEST_PCT, BRIGHTEST_PCT))
        return cls(float(black), float(max(white, black + 1)))

    def eight_bits(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Return an image as uint8, (rows, columns)."""
        if image.dtype == np.uint8 and self == GreyRange():
            return image
        scaled = (image.astype(np.float32) - self.black) * (255 / (self.white - self.black))
        grey: NDArray[np.uint8] = np.clip(scaled, 0, 255).round().astype(np.uint8)
        return grey


def jpeg(image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> str:
    """Return an image, (rows, columns) or with 3 channels in the order of OpenCV, as a data URI."""
    return _encoded(".jpg", image, "jpeg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def png(image: NDArray[np.uint8]) -> str:
    """Return the same without loss; 4 channels have transparency."""
    return _encoded(".png", image, "png", [])


def resized(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Return an image of another size: averaged where it shrinks, its pixels as squares where it grows."""
    smaller = width * height < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, (max(1, width), max(1, height)), interpolation=how))


def _encoded(suffix: str, image: NDArray[np.uint8], kind: str, how: list[int]) -> str:
    is_done, data = cv2.imencode(suffix, image, how)
    if not is_done:
        raise ValueError(f"an image of {image.shape} {image.dtype} cannot be encoded as {kind}")
    return f"data:image/{kind};base64," + base64.b64encode(data.tobytes()).decode()
