"""The expected reduction in distortion (ERD) of every pixel, kept exact while points are measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .erd_model import ErdModel
from .erd_state import Rule, State
from .erd_updates import farthest, features_of, pick, rebuild, refresh, update
from .features import all_terms, crowding_radius2_px2
from .neighbours import LARGEST_SIDE_PX, empty_lists
from .peaks import peaks_of


class ErdMap:
    """The reconstruction and the ERD of a field, from any set of its pixels with their values.

    The state depends on the set of points and their values alone, not on the order of calls.
    Pixels are numbered in reading order: pixel = row * columns + column.

    Parameters
    ----------
    shape
        (rows, columns).
    model
        How the ERD follows from the features.
    mask
        (rows, columns), which pixels belong to the field; None: all. The reconstruction covers the whole
        rectangle; pixels outside are never picked.
    """

    def __init__(
        self, shape: tuple[int, int], model: ErdModel, mask: NDArray[np.bool_] | None = None
    ) -> None:
        if not 0 < min(shape) <= max(shape) <= LARGEST_SIDE_PX:
            raise ValueError(f"shape {shape}: sides must be 1 to {LARGEST_SIDE_PX} pixels")
        if mask is not None and mask.shape != shape:
            raise ValueError(f"the mask is {mask.shape}, the field {shape}")
        self.shape = shape
        pixels = shape[0] * shape[1]
        taken = np.zeros(pixels, np.bool_) if mask is None else ~mask.ravel()
        erd = np.where(taken, -np.inf, 0).astype(np.float32)
        rule = Rule(
            all_terms(model.coefficients),
            crowding_radius2_px2(model.features, pixels),
            model.values == "continuous",
            model.features == "kriged" and model.values == "labels",
        )
        self._state = State(
            lists=empty_lists(shape),
            values=np.zeros(pixels, np.float32),
            dissent=np.zeros(pixels, np.float32),
            spread=np.zeros(pixels, np.float32),
            erd=peaks_of(erd, shape),
            taken=taken,
            stale=np.zeros(pixels, np.uint8),
            queue=np.empty(pixels, np.int32),
            queued=np.zeros(1, np.int64),
            found=np.empty(pixels, np.int32),
            walked=np.full(2, -1, np.int64),
        )
        # To recognise a named tuple takes numba longer than a pick.
        state = tuple(tuple(part) if isinstance(part, tuple) else part for part in self._state)
        self._plain = state, tuple(rule)

    @property
    def points(self) -> int:
        """How many points the reconstruction is made from."""
        return int(self._state.lists.points[0])

    @property
    def listed(self) -> NDArray[np.bool_]:
        """(pixels,): where these points are; not to be written to, like all arrays here."""
        return self._state.lists.listed

    @property
    def values(self) -> NDArray[np.float32]:
        """(pixels,): the reconstruction, 0 while there is no point."""
        return self._fresh().values

    @property
    def dissent(self) -> NDArray[np.float32]:
        """(pixels,): for labels the share of the votes that went to others; 0 at the points."""
        return self._fresh().dissent

    @property
    def erd(self) -> NDArray[np.float32]:
        """(pixels,): the expected reduction in distortion, -inf where nothing is to be picked."""
        return self._fresh().erd.heights

    def update(
        self, pixels: NDArray[np.int64], values: NDArray[np.float32], listed: NDArray[np.bool_]
    ) -> None:
        """Set what is known of different pixels.

        Parameters
        ----------
        pixels, values
            (n,), the pixels and what was measured there. None of them is picked from now on.
        listed
            (n,), whether the value counts in the reconstruction; else the pixel itself is reconstructed.
        """
        take_in = rebuild if len(pixels) > self.points else update
        take_in(self._plain, pixels, values, listed)

    def pick(self, n: int) -> NDArray[np.int64]:
        """Take n pixels of largest ERD, one after the other, each as if measured with its reconstruction.

        Of equal ones the first in reading order is taken. Returns fewer when no more are left, and none
        while there is no point.
        """
        if self.points == 0:
            return np.empty(0, np.int64)
        return pick(self._plain, n)

    def farthest(self, candidates: NDArray[np.int64]) -> int:
        """Return the first of those candidates farthest from all points that may be picked; -1: none may."""
        return int(farthest(self._plain, candidates))

    def features(self, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the six features (n, 6) of pixels that are no points; see `features`."""
        if self.points == 0:
            raise ValueError("there are no features before the first point")
        self._fresh()
        return features_of(self._plain, pixels)

    def _fresh(self) -> State:
        """Return the state with all that updates and the last pick have left to compute.

        Nothing is computed before it is needed: when the label of the point picked last comes and is not the
        one predicted, what depends on it has not been computed for the prediction.
        """
        if self._state.queued[0]:
            refresh(self._plain)
        return self._state
