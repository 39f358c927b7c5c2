"""A picture of which only those pixels are read that are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors.geometry import PixelBox
from sparse_actors.messages import Scan, ScanId

MOST_READ_BYTES = 1 << 30
"""More is not read at once: somebody asked for it by accident."""
CACHED_BYTES = 256 << 20
"""Decoded scans that are kept."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a scan that shows in a picture."""

    place: PixelBox
    """In the picture."""
    part: PixelBox
    """The same from the corner of `scan.box`."""
    scan: Scan


class ScanCache:
    """The scans read last, as (rows, columns); a scan that cannot be read is told once and left out.

    Parameters
    ----------
    read
        Returns the image of a scan, (rows, columns); None where it cannot be read.
    """

    def __init__(self, read: Callable[[Scan], NDArray[Any] | None]) -> None:
        self._read = read
        self._images: OrderedDict[ScanId, NDArray[Any] | None] = OrderedDict()
        self._bytes = 0

    def image(self, scan: Scan) -> NDArray[Any] | None:
        """Return the image of a scan, (rows, columns)."""
        if scan.id in self._images:
            self._images.move_to_end(scan.id)
            return self._images[scan.id]
        image = self._images[scan.id] = self._read(scan)
        self._bytes += 0 if image is None else image.nbytes
        while self._bytes > CACHED_BYTES and len(self._images) > 1:
            _, oldest = self._images.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return image


class Picture:
    """An image (rows, columns) put together of scans; 0 where nothing was scanned.

    Indexing reads, and gives an array: ``picture[100:200, :50]``, ``picture[::8, ::8]``, ``picture[7]``.
    ``numpy.asarray(picture)`` and ``picture[:]`` read all of it, up to 1 GiB.

    Attributes
    ----------
    shape : (rows, columns)
    dtype : uint8 or uint16, grey levels
    pixel_um : (width, height) of a pixel, um
    origin_um : (x, y) of the picture's left and upper edge in the panorama, um
    name : what it shows
    """

    dims = ("y", "x")
    ndim = 2

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        pixel_um: tuple[float, float],
        origin_um: tuple[float, float],
        pieces: Callable[[], Iterable[Piece]],
        cache: ScanCache,
    ) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self.pixel_um, self.origin_um = pixel_um, origin_um
        self._make_pieces, self._cache = pieces, cache
        self._cell_px = max(64, max(shape) // 64)
        self._cells: dict[tuple[int, int], list[Piece]] | None = None

    def __repr__(self) -> str:
        rows, columns = self.shape
        return (
            f"<Picture {self.name}: {rows} x {columns} px of {self.dtype}, "
            f"{self.pixel_um[0]:.4g} x {self.pixel_um[1]:.4g} um/px>"
        )

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Size of the whole picture."""
        return self.size * self.dtype.itemsize

    @property
    def coords(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Middle of each row (y) and of each column (x) in the panorama, um."""
        (x0, y0), (width, height) = self.origin_um, self.pixel_um
        return {
            "y": y0 + (np.arange(self.shape[0]) + 0.5) * height,
            "x": x0 + (np.arange(self.shape[1]) + 0.5) * width,
        }

    @property
    def attrs(self) -> dict[str, Any]:
        """What a labelled array says beside its values."""
        return {"units": "grey level", "pixel_um": self.pixel_um, "long_name": self.name}

    @property
    def extent_um(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) edges, for ``matplotlib.pyplot.imshow(..., extent=...)``."""
        (x0, y0), (rows, columns) = self.origin_um, self.shape
        return x0, x0 + columns * self.pixel_um[0], y0 + rows * self.pixel_um[1], y0

    def read(self, box: PixelBox) -> NDArray[Any]:
        """Return the pixels of a box of the picture, (box.height, box.width)."""
        pixels: NDArray[Any] = np.zeros((box.height, box.width), dtype=self.dtype)
        for common, piece in self._under(box):
            image = self._cache.image(piece.scan)
            if image is not None:
                source = common.shifted(piece.part.left - piece.place.left, piece.part.top - piece.place.top)
                pixels[common.shifted(-box.left, -box.top).slices] = image[source.slices]
        return pixels

    def is_scanned(self, box: PixelBox) -> NDArray[np.bool_]:
        """Return which pixels of a box were scanned, (box.height, box.width); reads no pixels."""
        scanned = np.zeros((box.height, box.width), dtype=np.bool_)
        for common, _ in self._under(box):
            scanned[common.shifted(-box.left, -box.top).slices] = True
        return scanned

    def blocks(self, rows: int, columns: int) -> Iterator[tuple[PixelBox, NDArray[Any]]]:
        """Yield the picture block by block, row by row of blocks; those at its ends may be smaller."""
        for top in range(0, self.shape[0], rows):
            for left in range(0, self.shape[1], columns):
                width, height = min(columns, self.shape[1] - left), min(rows, self.shape[0] - top)
                box = PixelBox(left, top, width, height)
                yield box, self.read(box)

    def reduced(self, factor: int) -> NDArray[Any]:
        """Return the means of squares of `factor` x `factor` pixels, (rows // factor, columns // factor).

        What is left at the right and lower end is left out. Not more than a strip is in memory at a time.
        """
        rows, columns = (n // factor for n in self.shape)
        if not (rows and columns):
            raise ValueError(f"factor = {factor}: the picture has {self.shape} pixels")
        result: NDArray[Any] = np.empty((rows, columns), dtype=self.dtype)
        step = max(1, 512 // factor)
        for top in range(0, rows, step):
            count = min(step, rows - top)
            strip = self.read(PixelBox(0, top * factor, columns * factor, count * factor))
            squares = strip.reshape(count, factor, columns, factor)
            result[top : top + count] = squares.mean(axis=(1, 3)).round()
        return result

    def to_xarray(self, rows: slice = slice(None), columns: slice = slice(None)) -> Any:
        """Return an ``xarray.DataArray`` of some rows and columns with coordinates in um; reads them.

        Raises
        ------
        ImportError
            xarray is not installed.
        """
        import xarray

        coords = {
            axis: (axis, values[part], {"units": "um"})
            for (axis, values), part in zip(self.coords.items(), (rows, columns), strict=True)
        }
        return xarray.DataArray(self[rows, columns], coords, self.dims, name=self.name, attrs=self.attrs)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        index = tuple(i for i in (key if isinstance(key, tuple) else (key,)) if i is not Ellipsis)
        if len(index) > 2 or not all(isinstance(i, (int, np.integer, slice)) for i in index):
            raise IndexError(f"{key!r}: expected numbers or slices for rows and columns")
        index += (slice(None),) * (2 - len(index))
        wanted = [np.arange(n)[i] for i, n in zip(index, self.shape, strict=True)]
        if not all(each.size for each in wanted):
            return np.zeros([n for each in wanted for n in each.shape], dtype=self.dtype)
        (top, left), (last_row, last_column) = ([int(f(each)) for each in wanted] for f in (np.min, np.max))
        box = PixelBox(left, top, last_column - left + 1, last_row - top + 1)
        size = box.area * self.dtype.itemsize
        if size > MOST_READ_BYTES:
            raise ValueError(
                f"{self!r}: that is {size / 1e9:.3g} GB at once; read a part, as in picture[:1000, :1000], "
                "or picture.reduced(factor), or go through picture.blocks(rows, columns)"
            )
        pixels: NDArray[Any] = self.read(box)[wanted[0] - top][..., wanted[1] - left]
        return pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        pixels = self[:]
        return pixels if dtype is None else pixels.astype(dtype)

    def _under(self, box: PixelBox) -> Iterator[tuple[PixelBox, Piece]]:
        """Yield the pieces that show in a box, each with what they have in common."""
        if self._cells is None:
            self._cells = {}
            for piece in self._make_pieces():
                for cell in self._cells_of(piece.place):
                    self._cells.setdefault(cell, []).append(piece)
        near = {id(piece): piece for cell in self._cells_of(box) for piece in self._cells.get(cell, ())}
        for piece in near.values():
            common = piece.place.intersection(box)
            if common is not None:
                yield common, piece

    def _cells_of(self, box: PixelBox) -> Iterator[tuple[int, int]]:
        size = self._cell_px
        for row in range(box.top // size, (box.bottom - 1) // size + 1):
            for column in range(box.left // size, (box.right - 1) // size + 1):
                yield row, column
