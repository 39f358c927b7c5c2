"""Showing a run on the terminal, and a table of what came out."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from sparse_actors.messages import Message

from .audit_display import audit_line, audit_rows
from .map_display import map_line, map_rows
from .map_progress import MapFigures
from .progress import Figures, Progress

BAR_PERIOD_S = 0.25
LINE_PERIOD_S = 10.0


class Display:
    """Shows the figures of a run while it lasts: a bar on a terminal, else a line every 10 s.

    A context manager; its thread ends with the block.
    """

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._bar = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("survey", total=1.0, line="")
        self._thread = threading.Thread(target=self._keep_showing, name="display", daemon=True)

    def observe(self, message: Message, number: int) -> None:
        """Take a message of the run in; may be called from any thread."""
        with self._lock:
            self._progress.observe(message, number)

    def figures(self) -> Figures:
        """Return where the run stands."""
        with self._lock:
            return self._progress.figures()

    def show(self) -> None:
        """Show the figures now."""
        figures = self.figures()
        if self._console.is_terminal:
            what, share = _current_part(figures)
            self._bar.update(
                self._task, description=what, completed=share, line=escape(one_line(figures)), refresh=True
            )
        else:
            self._console.print(one_line(figures), markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        if self._console.is_terminal:
            self._bar.stop()

    def _keep_showing(self) -> None:
        period_s = BAR_PERIOD_S if self._console.is_terminal else LINE_PERIOD_S
        while not self._is_over.wait(period_s):
            self.show()


def _current_part(figures: Figures) -> tuple[str, float]:
    """Return which part of the run is going on, and how much of it is done, 0..1."""
    if figures.maps is not None and figures.tiles_done == figures.tiles_total:
        return "map", figures.maps.points_done / max(1, figures.maps.points_most or 1)
    return "survey", figures.tiles_done / max(1, figures.tiles_total)


def one_line(figures: Figures) -> str:
    """Return the figures as one line."""
    maps = figures.maps
    parts = []
    if figures.tiles_total:
        parts = [
            f"tile {figures.tiles_done}/{figures.tiles_total}",
            f"fast {figures.fast_scans_done}/{figures.fast_scans_total}",
            f"regions {figures.regions_done}/{figures.regions_planned}",
        ]
    if maps is not None and (not figures.tiles_total or maps.points_done):
        parts += map_line(maps)
    if figures.paused:
        parts.append(f"paused: {figures.paused}")
    parts.append(f"idle {figures.idle_share:.1%}")
    if figures.saved_share is not None:
        parts.append(f"saved {figures.saved_share:.0%}")
    if figures.audit is not None:
        parts.append(audit_line(figures.audit))
    if figures.scans_missed:
        parts.append(f"missing {figures.scans_missed}")
    if figures.eta_s is not None:
        eta_s = (figures.eta_s, figures.eta_low_s, figures.eta_high_s)
        left, low, high = (duration(seconds or 0.0) for seconds in eta_s)
        parts.append(f"left {left} ({low} to {high})")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return hours, minutes, seconds; below ten seconds with a decimal."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def summary(figures: Figures, outcome: str, reason: str, folder: Path) -> Table:
    """Return the table at the end of a run."""
    maps = figures.maps
    made = [name for name, is_made in (("survey", figures.tiles_total), ("map", maps)) if is_made]
    title = Text(f"{' and '.join(made)} {outcome}".capitalize() + (f": {reason}" if reason else ""))
    table = Table(title=title, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    if figures.tiles_total:
        _add_survey_rows(table, figures)
    told = audit_rows(figures.audit) if figures.audit else ()
    for name, text in (*told, *(map_rows(maps) if maps else ())):
        table.add_row(Text(name), Text(text))
    if figures.tiles_total:
        table.add_row("time scanning", duration(figures.scan_s))
    if maps:
        table.add_row("time on spectra", duration(maps.spectra_s))
    table.add_row("time moving", duration(figures.stage_s))
    causes = ", ".join(f"{cause} {duration(s)}" for cause, s in sorted(figures.idle_s.items()) if s >= 0.05)
    table.add_row("microscope idle", Text(f"{figures.idle_share:.1%}" + (f" ({causes})" if causes else "")))
    if figures.saved_share is not None:
        text = f"{duration(figures.saved_s)}, {figures.saved_share:.0%} of a conventional analysis scan"
        table.add_row("time saved", text)
    if maps is not None and maps.saved_share is not None:
        table.add_row("time saved" + " by maps" * bool(figures.tiles_total), _saved_by_maps(maps))
    table.add_row("result", Text(str(folder / "run.nxs"), overflow="fold"))
    table.add_row("report", Text(str(folder / "report.html"), overflow="fold"))
    return table


def _add_survey_rows(table: Table, figures: Figures) -> None:
    table.add_row("tiles", f"{figures.tiles_done} of {figures.tiles_total}")
    if figures.tiles_skipped:
        table.add_row("skipped", f"{figures.tiles_skipped} tiles, as somebody wanted")
    table.add_row("fast scans", f"{figures.fast_scans_done} of {figures.fast_scans_total}")
    table.add_row("regions rescanned", f"{figures.regions_done} of {figures.regions_planned}")
    if figures.regions_inspected:
        seen = figures.regions_inspected - figures.artefacts
        table.add_row("regions looked at again", f"{seen} with sites, {figures.artefacts} artefacts")
    if figures.left_out_pixels:
        table.add_row("left out", f"{figures.left_out_pixels} pixels, to keep limits.max_dose_e_per_nm2")
    if figures.scans_missed or figures.detections_failed:
        missing = f"{figures.scans_missed} scans given up, {figures.detections_failed} detections failed"
        table.add_row("missing", missing, style="red")
        table.add_row("the last because", Text(" ".join(figures.last_failure.split())[:200]), style="red")
    table.add_row("pixels exposed", f"{figures.exposed_pixels / 1e6:.2f} million")


def _saved_by_maps(maps: MapFigures) -> str:
    share = f"{maps.saved_share:.0%} of {duration(maps.full_s)} for every point of these fields"
    return f"{duration(maps.saved_s)}, {share}"
