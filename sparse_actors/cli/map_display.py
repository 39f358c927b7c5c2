"""Maps in words: while they grow, and in the table at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .map_progress import MapEnd, MapFigures

SHOWN_PHASES = 6
SHOWN_ENDS = 6
"""With more fields than this they are counted by why they ended."""

_ENDS = {
    "points": "eds.points_pct reached",
    "distortion": "eds.distortion_pct reached",
    "time": "eds.time_min used up",
    "dose": "limits.max_dose_e_per_nm2 reached",
}
"""What a map says of its own end, in the words of the configuration."""


def map_line(maps: MapFigures) -> list[str]:
    """Return the parts of the line of progress."""
    total = "?" if maps.fields_total is None else maps.fields_total
    # The field under the beam is the one after those that are done.
    number = maps.fields_done + bool(maps.field)
    parts = [f"map {number}/{total}" + (f" ({maps.field})" if maps.field else "")]
    most = f" of at most {maps.points_most}" if maps.points_most is not None else ""
    parts.append(f"points {maps.points_done}{most}")
    parts += shares(maps, SHOWN_PHASES)
    if maps.points_without_phase:
        parts.append(f"no phase {maps.points_without_phase}")
    if maps.points_unclassified:
        parts.append(f"not classified {maps.points_unclassified}")
    if maps.points_left_out:
        parts.append(f"left out for dose {maps.points_left_out}")
    if maps.new_phases:
        parts.append("new " + ", ".join(phase.name for phase in maps.new_phases))
    return parts


def shares(maps: MapFigures, most: int) -> list[str]:
    """Return the phases with their shares, the largest first."""
    found = sorted(maps.phases.items(), key=lambda phase: -phase[1])
    texts = [f"{name} {share:.1%}" for name, share in found[:most]]
    return [*texts, f"{len(found) - most} more"] if len(found) > most else texts


def map_rows(maps: MapFigures) -> Iterator[tuple[str, str]]:
    """Return the rows of the summary, without times."""
    total = "?" if maps.fields_total is None else maps.fields_total
    yield "maps", f"{maps.fields_done} of {total}"
    share = f", {maps.points_done / maps.grid_points:.1%} of the grid" if maps.grid_points else ""
    yield "points measured", f"{maps.points_done}{share}"
    if maps.points_without_phase:
        yield "not of a known phase", str(maps.points_without_phase)
    if maps.points_unclassified:
        yield "not classified", f"{maps.points_unclassified} points; --resume tries again"
    if maps.points_left_out:
        yield "left out", f"{maps.points_left_out} points, for limits.max_dose_e_per_nm2"
    if maps.phases:
        yield "phases", ", ".join(shares(maps, len(maps.phases)))
    for phase in maps.new_phases:
        elements = ", ".join(phase.elements) or "elements not known"
        yield "new phase", f"{phase.name} ({elements}), found in {phase.spectra} spectra"
    if len(maps.ended) <= SHOWN_ENDS:
        for ended in maps.ended:
            lacks = f", {ended.unclassified} not classified" if ended.unclassified else ""
            yield f"map {ended.field}", f"{ended.points} points{lacks}, {why(ended)}{quality(ended)}"
    else:
        reasons = Counter(map(why, maps.ended))
        yield "maps ended by", ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
        judged = [ended for ended in maps.ended if ended.distortion is not None]
        if judged:
            worst = max(judged, key=lambda ended: ended.distortion or 0.0)
            yield "worst map", f"{worst.field}{quality(worst)}"


def why(ended: MapEnd) -> str:
    """Say why the map of a field ended."""
    return _ENDS.get(ended.reason, ended.reason) if ended.is_complete else f"cut short: {ended.reason}"


def quality(ended: MapEnd) -> str:
    """Say how good it is, as far as that is known."""
    if ended.distortion is None or ended.distortion_range is None:
        return ""
    low, high = ended.distortion_range
    return f", an estimated {ended.distortion:.2%} of its pixels wrong ({low:.2%} to {high:.2%})"
