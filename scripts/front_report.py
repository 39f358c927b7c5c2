"""The table and the figure of what is found against what it costs."""

from __future__ import annotations

from typing import Any

from front_tiles import ARTEFACTS, DAMAGE, DRIFT_PX, PROBE_UM

from sparse_actors.evaluation.chart import COLOURS, Panel, chart

Row = dict[str, Any]


def line(row: Row) -> str:
    """Return one row for people."""
    low, high = row["ci"]["recall"]
    published = f"  (published {row['published_efficiency']:.2f})" if row["published_efficiency"] else ""
    return (
        f"{row['method']:42} {row['target']:.0%}: recall {row['recall']:.2%} ({low:.2%} to {high:.2%})  "
        f"efficiency {row['efficiency']:.3f} of {row['max_efficiency']:.3f}  time {row['total_time']:.3f}  "
        f"whole {row['whole']:.2%}{published}"
    )


TEXT = """# What is found against what it costs

{tiles} tiles of the specimen twin with {sites} reference sites (threshold 55, eps 1, n_min 5; 2-13: eps 2,
n_min 13), windows of 100 px where nothing else is said. Each tile is judged at parameters that were chosen on
other tiles, as the fastest that reach the recall asked for there; what they reach on the tile itself is the
recall in the table, which may be a little less. Time is that of eq. 6 relative to a conventional scan; beside
it, flybacks and the overhead of every scan included. "Whole" is the share of the sites that lie in the
rescanned regions with every pixel. Intervals hold 95 % (bootstrap of the tiles). Noise is the standard
deviation at grey 100 and 32 us; 2.2 where none is said. The twin is the simulated specimen with a probe of
{probe_nm:g} nm, damage {damage:g} and artefacts {artefacts:g}, sampled at points, with a drift of up to
{drift:g} px between the scans.

"""
HEAD = """| method | asked | recall | efficiency | published | time | with overheads | whole |
|---|---|---|---|---|---|---|---|
"""


def documents(points: list[Row], made_by: str) -> dict[str, str]:
    """Return the table and the figure."""
    twin = [row for row in points if row["images"] == "twin"]
    text = TEXT.format(
        tiles=twin[0]["tiles"],
        sites=twin[0]["sites"],
        probe_nm=PROBE_UM * 1e3,
        damage=DAMAGE,
        artefacts=ARTEFACTS,
        drift=DRIFT_PX,
    )
    text += HEAD + "".join(map(_table_row, twin))
    for images in dict.fromkeys(row["images"] for row in points if row["images"] != "twin"):
        own = [row for row in points if row["images"] == images]
        about = f"{own[0]['tiles']} images, {own[0]['sites']} reference sites. {own[0]['note']}"
        text += f"\n## {images}\n\n{about}\n\n{HEAD}" + "".join(map(_table_row, own))
    return {"front.md": f"{text}\n![front](front.svg)\n\n{made_by}\n", "front.svg": _figure(twin)}


def _table_row(row: Row) -> str:
    def share(name: str) -> str:
        low, high = row["ci"][name]
        return f"{row[name]:.1%} ({low:.1%}-{high:.1%})"

    published = f"{row['published_efficiency']:.0%}" if row["published_efficiency"] else ""
    return (
        f"| {row['method']} | {row['target']:.0%} | {share('recall')} | {share('efficiency')} | {published} "
        f"| {share('total_time')} | {row['full_time']:.1%} | {row['whole']:.1%} |\n"
    )


SHOWN = (
    "paper-same-fast-scan",
    "fitted-windows-same-fast-scan",
    "half-pitch-8us-noise-2",
    "half-pitch-8us-fitted-windows-noise-2",
    "full-pitch-0.5us-fitted-windows-noise-2",
)


def _figure(points: list[Row]) -> str:
    """Draw recall and time of some methods."""
    panel = Panel(
        title="", x_label="detection rate on tiles not used for choosing", y_label="time saved (1 - eq. 6)"
    )
    for name, colour in zip(SHOWN, COLOURS, strict=False):
        places = [(row["recall"], 1 - row["total_time"]) for row in points if row["method"] == name]
        panel.line(name, places, colour)
        panel.dots("", places, colour)
    return chart([[panel]], "Detection rate and time saved")
