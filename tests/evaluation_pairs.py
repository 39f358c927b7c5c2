"""A configuration of small tiles on the simulated microscope, and pairs of it."""

from __future__ import annotations

from pathlib import Path

from sparse_actors.app import run_survey
from sparse_actors.config import parse_config

CONFIG = """# Steel, the night of the 12th.
[run]
name = "steel"
seed = 5
[microscope]
driver = "simulated"
beam_current_pa = 3000.0
[microscope.options]
seed = 2
damage = 8.0
time_scale = {time_scale}
stage_settle_s = 0.01
log_file = {log!r}
state_file = {state!r}
[panorama]
corners_mm = [[0.0, 0.0], [0.06, 0.0], [0.0, 0.06]]
tile_fov_um = 20.0
overlap_pct = 0.0
[scan.fast]
size_px = [128, 128]
dwell_ns = 32000.0
[scan.analysis]
size_px = [512, 512]
dwell_ns = 32000.0
[detect.options]
threshold = 60 # dark
[regions]
size_px = [48, 48]
[pairs]
tiles = 5
fast = [{{ size_px = [128, 128], dwell_ns = 32000.0 }}, {{ size_px = [256, 256], dwell_ns = 8000.0 }}]
[limits]
min_free_disk_gb = 0.0
"""


def config_text(folder: Path, time_scale: float = 0.0) -> str:
    """Return the configuration; the instrument keeps its log and its state in the folder."""
    log, state = str(folder / "log.jsonl"), str(folder / "state.json")
    return CONFIG.format(time_scale=time_scale, log=log, state=state)


def recorded_pairs(folder: Path, tiles: int = 5) -> Path:
    """Acquire pairs of so many tiles in this process and return their folder."""
    text = config_text(folder).replace("tiles = 5", f"tiles = {tiles}")
    if tiles > 9:
        text = text.replace("[0.06, 0.0], [0.0, 0.06]", "[0.1, 0.0], [0.0, 0.1]")
    config = parse_config(text).for_pairs()
    result = run_survey(config, given=text, out=folder / "pairs")
    assert (result.outcome, result.problems) == ("completed", ()), result
    return result.folder
