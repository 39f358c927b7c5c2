"""Pairs from images that were there before: analysis images alone, or fast ones beside them.

Where there are only analysis images, a fast image is point-sampled from each: the value of the recorded
pixel under the centre of each fast pixel, with noise added. A real fast scan has a noise of its own and is
shifted by drift; what is learnt from sampled ones is a forecast, and `origin` says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from sparse_actors.config import Config, parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.imaging import Imaging, ScanTiming
from sparse_actors.planning.merging import MaskForm

MANIFEST = "pairs.json"
SCHEMA = 1
PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_PLACED = re.compile(r"0_0_(\d+)_(\d+)\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class PairFiles:
    """What the manifest of a folder says; see `collect`."""

    config: Config
    settings: tuple[Imaging, ...]
    files: dict[str, Path]
    """The analysis image of each tile."""
    fast_files: dict[str, dict[tuple[int, int], Path]]
    """The fast images of each tile by (width, height); empty where they are sampled."""
    folder: Path
    """Of the manifest; of the images as long as there is none."""
    noise_grey: float
    """Standard deviation added to a sampled image at the dwell time of the analysis."""
    seed: int

    @property
    def tiles(self) -> tuple[str, ...]:
        """Names of the images, sorted."""
        return tuple(sorted(self.files))

    @property
    def origin(self) -> str:
        """How the fast images came about."""
        if self.fast_files:
            return "fast images as they were recorded"
        return (
            f"fast images point-sampled from the analysis images, with noise of {self.noise_grey:g} grey at "
            f"{self.config.analysis.dwell_ns:g} ns added (seed {self.seed}): a forecast, not a measurement"
        )

    @property
    def timing(self) -> ScanTiming:
        """As configured; files declare nothing."""
        return self.config.timing or ScanTiming()

    @property
    def mask_form(self) -> MaskForm:
        """Of a microscope that scans masks."""
        return "mask"

    @property
    def given(self) -> str:
        """The configuration; the file it came from is not kept."""
        return self.config.for_survey().to_toml()

    @property
    def manifest(self) -> Path:
        """The list of the images."""
        return self.folder / MANIFEST

    def analysis(self, tile: str) -> NDArray[Any]:
        """Return the image, cut to what the coarsest fast setting covers."""
        image = picture(self.files[tile])
        coarsest = math.lcm(*(self._scale(setting) for setting in self.settings))
        rows, columns = (n // coarsest * coarsest for n in image.shape)
        if not (rows and columns):
            raise ConfigError(
                f"{self.files[tile]}: is smaller than {coarsest} pixels, a whole of fast pixels"
            )
        return image[:rows, :columns]

    def fast(self, tile: str, setting: Imaging) -> NDArray[Any]:
        """Return the recorded or sampled image."""
        if self.fast_files:
            return picture(self.fast_files[tile][setting.size_px])
        image, scale = self.analysis(tile), self._scale(setting)
        # Where the scale is even, the centre of a fast pixel lies on a corner: the pixel right and below.
        sampled = image[scale // 2 :: scale, scale // 2 :: scale]
        ratio = self.config.analysis.dwell_ns / setting.dwell_ns
        key = crc32(f"{tile} {setting}".encode())
        deviates = np.random.default_rng((self.seed, key)).standard_normal(sampled.shape)
        levels = np.iinfo(image.dtype).max
        noisy = sampled + deviates * (self.noise_grey * math.sqrt(ratio) * levels / 255)
        return np.clip(np.rint(noisy), 0, levels).astype(image.dtype)

    def _scale(self, setting: Imaging) -> int:
        return self.config.analysis.size_px[0] // setting.size_px[0]

    @classmethod
    def open(cls, folder: Path) -> PairFiles:
        """Read the manifest of a folder; raises ConfigError if it is none or lacks images."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text("utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r}, expected {SCHEMA}")
            pairs = cls(
                config=parse_config(data["config_toml"]),
                settings=tuple(Imaging(tuple(size), dwell) for size, dwell in data["settings"]),
                files={name: Path(file) for name, file in data["files"].items()},
                fast_files={
                    name: {_size(size): Path(file) for size, file in fast.items()}
                    for name, fast in data["fast_files"].items()
                },
                folder=folder,
                noise_grey=float(data["noise_grey"]),
                seed=int(data["seed"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: is no list of pairs: {type(error).__name__}: {error}") from None
        missing = [file for file in pairs.files.values() if not file.is_file()]
        if missing:
            raise ConfigError(
                f"{missing[0]}: is not there any more, {len(missing)} of {len(pairs.files)} images"
            )
        return pairs

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder; the images stay where they are."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {
            "schema": SCHEMA,
            "origin": self.origin,
            "config_toml": self.config.to_toml(),
            "settings": [[list(setting.size_px), setting.dwell_ns] for setting in self.settings],
            "files": {name: str(file) for name, file in sorted(self.files.items())},
            "fast_files": {
                name: {f"{w}x{h}": str(file) for (w, h), file in fast.items()}
                for name, fast in sorted(self.fast_files.items())
            },
            "noise_grey": self.noise_grey,
            "seed": self.seed,
        }
        (folder / MANIFEST).write_text(json.dumps(data, indent=1), encoding="utf-8")


def collect(
    folder: Path, config: Config, settings: Sequence[Imaging], noise_grey: float, seed: int
) -> PairFiles:
    """Make pairs out of a folder of images.

    Parameters
    ----------
    folder
        Either images (TIFF, PNG, JPEG), each the analysis image of a tile; or a folder for each tile, in the
        layout of the SPARSE paper (section 2.5.6), with images named `0_0_width_height.tiff`: the largest is
        the analysis image, one of the size of each setting a fast image.
    config, settings
        The parameters of both. An image may differ in size from the configured analysis image: what counts is
        how many of its pixels are one fast pixel.
    noise_grey
        Standard deviation (grey levels of 0-255) of the noise that is added to point-sampled images at the
        dwell time of the analysis; it falls with the root of the dwell time.
    seed
        Of that noise.

    Raises
    ------
    ConfigError
        There are no images, or some lack their fast image.
    """
    images = {file.stem: file for file in _pictures(folder)}
    if images:
        return PairFiles(config, tuple(settings), images, {}, folder, noise_grey, seed)
    analysis: dict[str, Path] = {}
    fast: dict[str, dict[tuple[int, int], Path]] = {}
    problems = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        sizes = {
            _size(match[1] + "x" + match[2]): file
            for file in inner.iterdir()
            if (match := _PLACED.fullmatch(file.name))
        }
        if not sizes:
            continue
        largest = max(sizes, key=math.prod)
        missing = [setting.size_px for setting in settings if setting.size_px not in sizes]
        if missing or largest != config.analysis.size_px:
            problems.append(
                f"{inner}: has images of {', '.join(map(str, sorted(sizes)))}; expected those of "
                f"scan.analysis {config.analysis.size_px} and of the fast settings {missing or ''}"
            )
        analysis[inner.name], fast[inner.name] = sizes[largest], sizes
    if problems:
        raise ConfigError(*problems)
    if not analysis:
        raise ConfigError(
            f"--from {folder}: expected images ({', '.join(PICTURES)}), or folders with 0_0_W_H.tiff"
        )
    return PairFiles(config, tuple(settings), analysis, fast, folder, 0.0, seed)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"--from {folder}: is no folder")
    return sorted(file.absolute() for file in folder.iterdir() if file.suffix.lower() in PICTURES)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def picture(path: Path) -> NDArray[Any]:
    """Read a grey image of uint8 or uint16; colours are weighted to grey."""
    try:
        image: Any = tifffile.imread(path) if path.suffix.lower().startswith(".tif") else _decoded(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_RGB2GRAY)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise ConfigError(
            f"{path}: is {image.shape} of {image.dtype}, expected rows and columns of uint8 or uint16"
        )
    return np.ascontiguousarray(image)


def _decoded(path: Path) -> Any:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("no image that can be decoded")
    return image[:, :, ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
