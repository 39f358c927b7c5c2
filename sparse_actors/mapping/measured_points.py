"""Which points of a tile are measured, and their phases: what overlapping fields take from each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sparse_actors.contracts.classifier import FITS_NONE
from sparse_actors.geometry import TileIndex
from sparse_actors.mapping.open_batch import Point
from sparse_actors.messages import (
    NOT_KNOWN,
    FieldId,
    FieldMapped,
    MapField,
    Message,
    SpectraClassified,
    SpectraRecorded,
    SpotsSpared,
)


class MeasuredPoints:
    """A fold of facts; a fact learnt twice changes nothing."""

    def __init__(self) -> None:
        self._batches: defaultdict[TileIndex, dict[tuple[FieldId, int], SpectraRecorded]] = defaultdict(dict)
        self._labels: dict[tuple[FieldId, int], list[int]] = {}
        self._spared: defaultdict[tuple[FieldId, int], dict[Point, int]] = defaultdict(dict)
        self._maps: defaultdict[TileIndex, dict[FieldId, FieldMapped]] = defaultdict(dict)

    def learn(self, fact: Message) -> None:
        """Take in one fact."""
        match fact:
            case SpectraRecorded(field=field, batch=batch):
                self._batches[field.tile][field, batch] = fact
            case SpectraClassified(field=field, batch=batch):
                labels = fact.labels.tolist()
                self._labels[field, batch] = labels if fact.worker else [NOT_KNOWN] * len(labels)
            case SpotsSpared(field=field, batch=batch, points_px=points_px, labels=labels):
                points = ((x, y) for x, y in points_px.tolist())
                self._spared[field, batch].update(zip(points, labels.tolist(), strict=True))
            case FieldMapped(field=field):
                self._maps[field.id.tile][field.id] = fact
            case _:
                pass

    def spared(self, batch: tuple[FieldId, int]) -> Mapping[Point, int]:
        """Return the points of a batch that were not measured for it, with their labels as they were then."""
        return self._spared[batch]

    def elsewhere(self, field: MapField) -> dict[Point, int]:
        """Return the points of a field that were measured in others, with their labels.

        NOT_KNOWN where the phase is not known; a second exposure would not be the answer to that.
        """
        found: dict[Point, int] = {}
        tile = field.id.tile
        for key, recorded in self._batches[tile].items():
            labels = self._labels.get(key, [])
            if key[0] == field.id:
                continue
            if len(labels) != len(recorded.points_px):
                labels = [NOT_KNOWN] * len(recorded.points_px)
            found.update(zip(map(tuple, recorded.points_px.tolist()), labels, strict=True))
        for field_id, mapped in self._maps[tile].items():
            if field_id == field.id:
                continue
            # Labels of a finished map are newer: phases may have been found after a batch was classified.
            for point, label in zip(
                map(tuple, mapped.points_px.tolist()), mapped.labels.tolist(), strict=True
            ):
                if point in found and (label > FITS_NONE or found[point] != NOT_KNOWN):
                    found[point] = label
        box = field.box
        return {
            (x, y): label
            for (x, y), label in found.items()
            if box.left <= x < box.right and box.top <= y < box.bottom
        }
