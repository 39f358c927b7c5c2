"""Whether the interval of the audit holds the true recall, its limit is just, and what the audit costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from audit_limit_runs import LIMIT_TILES, SimulatedTile, limit_line, limit_rows

from sparse_actors.geometry import PixelBox, full_frame
from sparse_actors.imaging import ScanTiming
from sparse_actors.planning.audit import covered_by, draw_windows, exposed_for, is_missed
from sparse_actors.planning.audit_estimate import AuditedTile, AuditEstimate, estimate

RUNS, QUICK_RUNS = 1000, 25
FIELD_PX, WINDOW_PX, MARGIN_PX = 3072, 128, 16
DWELL_NS = 32_000.0
TIMING = ScanTiming(row_overhead_us=20.0, scan_overhead_ms=5.0)
COARSE = 16
"""Pixels of the analysis scan in one of the simulation."""
REGION = 6
CASES = (
    # tiles, sites in a tile, recall, windows in a tile
    (25, 40, 0.80, 30),
    (25, 94, 0.80, 12),
    (25, 94, 0.90, 30),
    (50, 20, 0.80, 30),
    (50, 40, 0.90, 12),
    (50, 40, 0.95, 30),
    (50, 94, 0.95, 30),
    (25, 40, 0.99, 12),
)
Row = dict[str, Any]

TEXT = """# Auditing the recall of a run

The sites that a survey misses are those that no region covers. From all windows of a tile in which the
regions leave something over some are drawn at random and scanned at analysis quality; the missed sites in
them, each counted for as many windows as it stands for, are an unbiased estimate of all that were missed.
A site counts where its centre lies: to the regions (found), or to the one window that holds its centre.
The windows are scanned with a margin, so that sites at their edges are seen whole.

## In a run

```toml
[audit]
windows = 4                   # in each tile
size_px = [128, 128]          # of a window, analysis pixels
margin_px = 16                # scanned around it
options = {{ threshold = 55 }}  # of the detector on images at analysis quality; left out: detect.options
least_recall_pct = 95         # the run pauses when fewer are found; left out: it does not
```

The windows of a tile are drawn, by `run.seed`, once all else of it is planned, and scanned before the stage
moves on. They are regions like any other, recorded and counted in dose and time, with `audit` as their
source; a run that is taken up has the same windows. `check` says what they cost.

After each tile workers look at its regions and windows with the detector, at analysis quality, while the
beam goes on. What they see stands in the result, region by region (`regions/sites_seen`: 0 is an artefact),
and the share that was found so far, with its interval, in the line that `run`, `watch` and `status` show,
in the closing report, in the table `audit` of `run.nxs`, and as `AuditUpdated` in the journal and at the
taps. Tiles that were skipped do not count.

    sparse-actors audit RUN [--json]

judges all finished tiles once more from their images, at any time.

## Site or artefact

```toml
[inspect]
detector = "threshold_dbscan"   # any detector, such as one that you trained
options = {{ threshold = 55 }}
```

has every rescanned region looked at again in the same way, with or without `[audit]`: one in which the
detector sees no site is an artefact. The closing report says how many these are. With both tables the audit
counts what `[inspect]` sees, and `audit.options` is left out.

## The limit

With `least_recall_pct` the run pauses as soon as it is certain, with 95 % confidence, that less than this
was found: `[hooks]` says who is told. `resume` lets it go on, and the evidence begins anew:
it is paused again only if the tiles since then show it too. To scan the rest with other options of the
detector, `stop` it, change the file and go on with `run --resume`; tiles that are finished are left as they
are.

The interval that is shown holds if it is looked at once, as at the end of a run. Whoever looks after every
tile and stops at the worst stops too often. The limit therefore goes by another bound (`recall_at_most`),
which holds at all looks together: a betting supermartingale (Waudby-Smith and Ramdas, J. R. Stat. Soc. B
86, 2024, 1; Howard et al., Ann. Statist. 49, 2021, 1055) that needs no assumption on how sites cluster or
tiles differ; `planning/audit_sequence.py` has the proof in short.

{limit_runs} runs each of {limit_tiles} tiles, looked at after every tile. "Wrong": runs in which the bound
was below the true recall of the tiles so far at any look, 5 % may be. "Interval wrong": the same for the
upper end of an interval of 90 %, which leaves out 5 % there.

| sites | recall | windows | limit | wrong | interval wrong | paused | after tiles, median |
|---|---|---|---|---|---|---|---|
{limits}

## The estimate

    from sparse_actors.planning.audit_estimate import AuditedTile, estimate
    audited = estimate(AuditedTile(found=38, windows=574, missed=(0, 0, 1, 0)) for tile in tiles)
    print(audited.recall, audited.low, audited.high)

Sites share a window, so it is windows that vary. Their number is finite, and few of them hold a missed
site: the interval is the mid-p gamma interval for weighted Poisson numbers (Fay and Kim, Biom. J. 59,
2017, 549), with the variance by window and for a draw without replacement within each tile.

## Does it hold?

{runs} runs each. Sites lie in clusters (Thomas process: {children:.1f} on average, {spread} px around its
centre), the tiles differ in how many there are and in how many are missed, and neighbours are missed
together. Around each found one lies a region of {region} x {region} px, and a third as many where nothing
is. "Held": the share of 95 % intervals that hold the true recall of their run. Sites and windows are by
tile, "seen" are the missed sites in all windows of a run, "bias" is that of the number missed.

| tiles | sites | recall | windows | seen | held | too low | too high | bias | interval, median |
|---|---|---|---|---|---|---|---|---|---|
{table}

Where hardly a missed site is seen in a whole run, no interval that does not draw lots can be right just
95 times of 100: it is too wide rather than too narrow.

## What it costs

Windows of {window} px with a margin of {margin} px, in a field of {field} px at {dwell:.0f} us, with
{row:.0f} us a line and {scan:.0f} ms a scan.

| windows in a tile | of the area | seconds in a tile | of a conventional scan |
|---|---|---|---|
{cost}

To see that the recall is above 98 % with nothing missed takes a run with enough windows: if the audit
looks at the share f of the area and sees no missed site, at most 3.0/f are missed.

{made_by}
"""


def rows(quick: bool, seed: int) -> Iterator[Row]:
    """Yield for each case how often the interval held, all cases together, and what windows cost."""
    runs = QUICK_RUNS if quick else RUNS
    held = []
    for number, (tiles, sites, recall, windows) in enumerate(CASES):
        row = _covered(np.random.default_rng((seed, number)), runs, tiles, sites, recall, windows)
        held.append(row["held"])
        yield row
    yield {"what": "coverage of all cases", "runs": runs * len(CASES), "held": float(np.mean(held))}
    yield from limit_rows(runs, seed, simulated_tile, (FIELD_PX / WINDOW_PX) ** 2)
    for windows in (3, 6, 12, 30):
        yield _cost(windows)


def _covered(
    random: np.random.Generator, runs: int, tiles: int, sites: int, recall: float, windows: int
) -> Row:
    estimates: list[AuditEstimate] = []
    true_recalls, true_missed = [], []
    for _ in range(runs):
        made = [simulated_tile(random, sites, recall, windows) for _ in range(tiles)]
        found, total = sum(tile.audited.found for tile in made), sum(tile.sites for tile in made)
        estimates.append(estimate(tile.audited for tile in made))
        true_recalls.append(found / total if total else 1.0)
        true_missed.append(total - found)
    true = np.array(true_recalls)
    low, high = (np.array([getattr(one, end) for one in estimates]) for end in ("low", "high"))
    # A whole number of sites is missed: ends are compared with some room for rounding.
    too_low, too_high = float(np.mean(true > high + 1e-9)), float(np.mean(true < low - 1e-9))
    return {
        "what": "coverage",
        "tiles": tiles,
        "sites": sites,
        "recall": recall,
        "windows": windows,
        "runs": runs,
        "true_recall_mean": float(true.mean()),
        "seen_mean": float(np.mean([one.seen for one in estimates])),
        "held": 1 - too_low - too_high,
        "too_low": too_low,
        "too_high": too_high,
        "missed_bias": float(np.mean([one.missed for one in estimates]) / np.mean(true_missed) - 1),
        "low_median": float(np.median(low)),
        "high_median": float(np.median(high)),
    }


_CHILDREN, _SPREAD = 1.5, 3.0
_SITES_SHAPE, _MISSED_SHAPE, _ALIKE = 4.0, 6.0, 0.3
_FALSE = 1 / 3


def simulated_tile(random: np.random.Generator, sites: float, recall: float, windows: int) -> SimulatedTile:
    """Simulate a tile on a grid of `COARSE` analysis pixels: its sites, its regions and its audit."""
    side = FIELD_PX // COARSE
    parents = random.poisson(random.gamma(_SITES_SHAPE, sites / _CHILDREN / _SITES_SHAPE))
    cluster = np.repeat(np.arange(parents), random.poisson(_CHILDREN, parents))
    xy = random.uniform(0, side, (parents, 2))[cluster] + random.normal(0, _SPREAD, (len(cluster), 2))
    xy %= side
    share = min(random.gamma(_MISSED_SHAPE, (1 - recall) / _MISSED_SHAPE), 1.0)
    # Some clusters are missed as one, the others site by site.
    lot = np.where(
        random.random(parents)[cluster] < _ALIKE, random.random(parents)[cluster], random.random(len(xy))
    )
    proposed = np.vstack([xy[lot >= share], random.uniform(0, side, (random.poisson(sites * _FALSE), 2))])
    corners = np.clip(np.floor(proposed - REGION / 2).astype(int), 0, side - REGION)
    regions = [PixelBox(int(x), int(y), REGION, REGION) for x, y in corners]
    covered = covered_by(regions, (side, side))
    seed = tuple(int(number) for number in random.integers(0, 2**31, 2))
    drawn, of = draw_windows(covered, (WINDOW_PX // COARSE,) * 2, windows, seed)
    missed = is_missed(xy, full_frame((side, side)), covered)
    count = np.zeros((side, side), np.int64)
    x, y = xy[missed].astype(np.int64).T
    np.add.at(count, (y, x), 1)
    seen = tuple(int(count[window.slices].sum()) for window in drawn)
    found = int(len(xy) - missed.sum())
    return SimulatedTile(AuditedTile(found=found, windows=of, missed=seen), len(xy))


def _cost(windows: int) -> Row:
    middle = PixelBox(FIELD_PX // 2, FIELD_PX // 2, WINDOW_PX, WINDOW_PX)
    box = exposed_for(middle, MARGIN_PX, (FIELD_PX, FIELD_PX))
    audit_s = windows * TIMING.duration_s(box.area, box.height, DWELL_NS)
    return {
        "what": "cost",
        "windows": windows,
        "area": windows * WINDOW_PX**2 / FIELD_PX**2,
        "audit_s": audit_s,
        "share": audit_s / TIMING.duration_s(FIELD_PX**2, FIELD_PX, DWELL_NS),
    }


def line(row: Row) -> str:
    """Return one row for people."""
    return "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )


def documents(found: list[Row], made_by: str) -> dict[str, str]:
    """Return the page on the audit."""
    coverage = (
        "| {tiles} | {sites} | {true_recall_mean:.1%} | {windows} | {seen_mean:.1f} | {held:.1%} "
        "| {too_low:.1%} | {too_high:.1%} | {missed_bias:+.1%} | {low_median:.1%} to {high_median:.1%} |"
    )
    cost = "| {windows} | {area:.2%} | {audit_s:.1f} | {share:.2%} |"
    table = [coverage.format(**row) for row in found if row["what"] == "coverage"]
    whole = next(row for row in found if row["what"] == "coverage of all cases")
    table.append(f"| all | | | | | {whole['held']:.1%} | | | | |")
    limits = [row for row in found if row["what"] == "limit"]
    text = TEXT.format(
        limit_runs=limits[0]["runs"],
        limit_tiles=LIMIT_TILES,
        limits="\n".join(limit_line(row) for row in limits),
        runs=next(row["runs"] for row in found if row["what"] == "coverage"),
        children=_CHILDREN,
        spread=round(_SPREAD * COARSE),
        region=REGION * COARSE,
        table="\n".join(table),
        window=WINDOW_PX,
        margin=MARGIN_PX,
        field=FIELD_PX,
        dwell=DWELL_NS / 1000,
        row=TIMING.row_overhead_us,
        scan=TIMING.scan_overhead_ms,
        cost="\n".join(cost.format(**row) for row in found if row["what"] == "cost"),
        made_by=made_by,
    )
    return {"audit.md": text}
