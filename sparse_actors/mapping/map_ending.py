"""What is said of a map that has ended."""

from __future__ import annotations

from sparse_actors.messages import FieldMapped
from sparse_actors.sampling.field_map import FieldMap


def field_mapped(done: FieldMap, fault: str, unclassified: int) -> FieldMapped:
    """Return the news of a map that ended by itself, or by a fault, so many of its points unclassified."""
    result = done.result()
    return FieldMapped(
        field=done.field,
        is_complete=not fault,
        reason=fault or done.ended,
        points_px=result.points_px,
        labels=result.labels,
        distortion=result.distortion,
        distortion_range=result.distortion_range,
        phase_map=result.phase_map,
        confidence=result.confidence,
        erd=result.erd,
        unclassified=unclassified,
    )
