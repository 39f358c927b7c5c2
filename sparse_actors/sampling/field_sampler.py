"""Which pixels of a field to measure next, while the labels of earlier ones may still be on their way."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparse_actors.contracts.classifier import FITS_NONE

from .beam_path import beam_path
from .erd_map import ErdMap
from .erd_model import ErdModel
from .field_points import FREE, PENDING, TOLD, TWICE, mark_told, pixels_of, points_of
from .start_points import StartKind as StartKind
from .start_points import start_points

CHOSEN, DRAWN_DISPUTED, DRAWN_AGREED = 0, 1, 2
"""How a point was picked: for what it may find; or without regard to that, where the nearest points
disagreed, or where they agreed."""

EXPLORES_FROM = 0.05
"""Measured share of the field from which on some points explore; before, boundaries are worth more."""
_CANDIDATES = 64
"""Free pixels, drawn at random, of which the one farthest from all points explores."""


class FieldSampler:
    """Picks the pixels of a phase map by their expected reduction in distortion (ERD).

    The first picks are the start points. From then on each pick has the largest ERD given everything told so
    far and, for the points picked and not yet told, the label that was predicted for them (`pending`). When
    the label told is another one, everything that depends on it is computed again, so that the maps are those
    of a new sampler that was told the same labels and no others.

    Points are pixels (x, y) with the origin at the top left. What `pick` returns is determined by the
    arguments of the constructor and the sequence of calls; the order of the points within a `tell` does not
    matter. In more detail: the set of points picked next depends on the points told with their last labels,
    on the points pending with the labels predicted when they were picked, and on how many start points were
    picked; the order of the points in addition on the point picked last.

    Parameters
    ----------
    shape
        (rows, columns) of the field.
    model
        For labels.
    seed
        Of the start points.
    mask
        (rows, columns), which pixels belong to the field; None: all. It need not be one piece.
    start, start_fraction
        Kind of the start points, and how many, as a share of the field's pixels (at least one).
    budget_fraction
        The share of the field's pixels that will be measured in all; the start takes no more.
    exploration
        Share of the points, from EXPLORES_FROM on, that are taken far from all others: no ERD tells of an
        island that no point has hit, and such islands are what is left when the boundaries are known.
    excluded_label
        Points with this label take no part in the reconstruction, and are not picked again; None: all do.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        model: ErdModel,
        *,
        seed: int,
        mask: NDArray[np.bool_] | None = None,
        start: StartKind = "halton",
        start_fraction: float = 0.01,
        budget_fraction: float = 0.2,
        exploration: float = 0.1,
        excluded_label: int | None = FITS_NONE,
    ) -> None:
        if model.values != "labels":
            raise ValueError("a phase map needs a sampler trained on labels")
        if not (0 < start_fraction <= 1 and 0 < budget_fraction <= 1):
            raise ValueError(
                f"start_fraction = {start_fraction}, budget_fraction = {budget_fraction}: "
                "must be above 0 and at most 1"
            )
        self.shape = shape
        self._map = ErdMap(shape, model, mask)
        self._inside = np.ones(shape, np.bool_) if mask is None else mask.copy()
        pixels = int(self._inside.sum())
        if pixels == 0:
            raise ValueError("the mask leaves no pixel")
        self._seed = seed
        self._excluded = excluded_label
        self._exploration, self._explores_from = exploration, EXPLORES_FROM * pixels
        n = max(1, round(min(start_fraction, budget_fraction) * pixels))
        points = start_points(start, self._inside, n, seed)
        self._start = points[beam_path(self._points_px(points), np.zeros(2, np.int64))]
        self._started = 0
        self._status = np.zeros(shape[0] * shape[1], np.uint8)
        self._labels = np.zeros(len(self._status), np.int32)
        self._drawn = np.full(len(self._status), CHOSEN, np.uint8)
        self._last_px = np.zeros(2, np.int64)
        self._unpredicted = self._start[:0]
        """Points picked while nothing could be predicted for them."""
        self.measured = 0
        """How many points were told."""
        self.pending = 0
        """How many points were picked and not yet told."""

    def pick(self, n: int) -> NDArray[np.int64]:
        """Choose the next points to measure.

        Returns
        -------
        numpy.ndarray
            (m, 2), x and y, in the order of a short way of the beam; m < n only when no more are left.
            Start points come first. As long as no label is known, points beyond them are picked at random.
        """
        start = self._next_start(n)
        self._status[start] = PENDING
        more = self._next_by_erd(n - len(start)) if len(start) < n else start[:0]
        chosen = np.concatenate([start, more])
        self._status[chosen] = PENDING
        self.pending += len(chosen)
        points_px = self._points_px(chosen)
        if len(chosen):
            self._last_px = points_px[-1]
        return points_px

    def pick_anywhere(self, n: int) -> NDArray[np.int64]:
        """Draw points at random from all that were neither picked nor told; returns (m, 2), m <= n."""
        free = np.flatnonzero((self._status == FREE) & self._inside.ravel())
        random = np.random.default_rng([self._seed, 1, self.measured + self.pending])
        chosen = random.choice(free, min(n, len(free)), replace=False)
        if self._map.points == 0:
            self._unpredicted = np.concatenate([self._unpredicted, chosen])
        else:
            self._drawn[chosen] = np.where(self._map.dissent[chosen] > 0, DRAWN_DISPUTED, DRAWN_AGREED)
            self._map.update(chosen, self._map.values[chosen], np.ones(len(chosen), np.bool_))
        self._status[chosen] = PENDING
        self.pending += len(chosen)
        return self._points_px(chosen)

    def tell(self, points_px: ArrayLike, labels: ArrayLike) -> None:
        """Take in what was measured.

        Parameters
        ----------
        points_px
            (n, 2), x and y of different points in the field, picked or not, in any order. Of a point told
            before the new label counts.
        labels
            (n,).

        Raises
        ------
        ValueError
            When a point is not in the field, or appears twice.
        """
        pixels = self._pixels(points_px)
        told = np.asarray(labels, np.int32)
        if told.shape != pixels.shape:
            raise ValueError(f"{len(pixels)} points, but labels {told.shape}")
        pending, new = mark_told(pixels, self._status)
        if pending == TWICE:
            raise ValueError("a point appears twice")
        self.pending -= pending
        self.measured += new
        self._labels[pixels] = told
        self._map.update(pixels, told.astype(np.float32), told != self._excluded)

    def predicted(self, points_px: ArrayLike) -> NDArray[np.int32]:
        """Return the labels (n,) of the reconstruction at points; FITS_NONE while no label is known."""
        return self._map.values[self._pixels(points_px)].astype(np.int32)

    def drawn(self, points_px: ArrayLike) -> NDArray[np.uint8]:
        """Return how points (n,) were picked: CHOSEN, DRAWN_DISPUTED or DRAWN_AGREED."""
        return self._drawn[self._pixels(points_px)]

    def phase_map(self) -> NDArray[np.int32]:
        """Return the labels (rows, columns): as told at measured points, else the reconstruction.

        The reconstruction is the label with the largest summed weight d^-2 of the ten nearest points.
        FITS_NONE outside the mask.
        """
        phases = np.where(self._status == TOLD, self._labels, self._map.values.astype(np.int32))
        return np.where(self._inside, phases.reshape(self.shape), FITS_NONE).astype(np.int32)

    def erd_map(self) -> NDArray[np.float32]:
        """Return the ERD (rows, columns) in pixels; 0 at points picked or told and outside the mask."""
        erd = self._map.erd.reshape(self.shape)
        return np.where(np.isneginf(erd), np.float32(0), erd)

    def vote_share(self) -> NDArray[np.float32]:
        """Return the share of its votes (rows, columns), 0..1, that the reconstructed label has.

        1 at measured and pending points, 0 outside the mask and while no label is known.
        """
        known = self._inside & (self._map.points > 0)
        return np.where(known, 1 - self._map.dissent.reshape(self.shape), np.float32(0))

    def _next_start(self, n: int) -> NDArray[np.int64]:
        """Return up to n start points that were neither picked nor told."""
        rest = self._start[self._started :]
        if not len(rest) or n < 1:
            return rest[:0]
        free = np.flatnonzero(self._status[rest] == FREE)[:n]
        self._started = len(self._start) if len(free) < n else self._started + int(free[-1]) + 1
        self._unpredicted = np.concatenate([self._unpredicted, rest[free]])
        return rest[free]

    def _next_by_erd(self, n: int) -> NDArray[np.int64]:
        """Return up to n points of largest ERD in the order of a short way; random ones without any label."""
        if self._map.points == 0:
            free = np.flatnonzero((self._status == FREE) & self._inside.ravel())
            rng = np.random.default_rng([self._seed, self.measured + self.pending])
            chosen = rng.choice(free, min(n, len(free)), replace=False)
            self._unpredicted = np.concatenate([self._unpredicted, chosen])
        else:
            if len(self._unpredicted):
                waiting = self._unpredicted[self._status[self._unpredicted] == PENDING]
                self._unpredicted = waiting[:0]
                self._map.update(waiting, self._map.values[waiting], np.ones(len(waiting), np.bool_))
            before = self.measured + self.pending
            explored = self._explore(n, before) if before >= self._explores_from else self._start[:0]
            chosen = np.concatenate([explored, self._map.pick(n - len(explored))])
        if len(chosen) < 2:
            return chosen
        return chosen[beam_path(self._points_px(chosen), self._last_px)]

    def _explore(self, n: int, before: int) -> NDArray[np.int64]:
        """Return the points that explore among the next n, when so many were chosen before."""
        count = int((before + n) * self._exploration) - int(before * self._exploration)
        explored: list[int] = []
        for i in range(count):
            drawn = np.random.default_rng([self._seed, before, i]).integers(0, len(self._status), _CANDIDATES)
            far = self._map.farthest(drawn)
            if far >= 0:
                pixel = np.array([far])
                # Where they disagree, the farthest pixel is no fair sample: rather in the middle of a gap.
                self._drawn[far] = CHOSEN if self._map.dissent[far] > 0 else DRAWN_AGREED
                self._map.update(pixel, self._map.values[pixel], np.ones(1, np.bool_))
                explored.append(far)
        return np.array(explored, np.int64)

    def _points_px(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        return points_of(pixels, self.shape[1])

    def _pixels(self, points_px: ArrayLike) -> NDArray[np.int64]:
        pixels, are_inside = pixels_of(np.asarray(points_px, np.int64).reshape(-1, 2), *self.shape)
        if not are_inside:
            columns_rows = " x ".join(map(str, reversed(self.shape)))
            raise ValueError(f"a point is outside the field of {columns_rows} pixels")
        return pixels
