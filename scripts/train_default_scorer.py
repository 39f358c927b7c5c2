"""Make models/weights/steel_voids.onnx again: bit for bit on the same versions and platform.

The scorer that comes with the program is trained on tiles of the simulated dual-phase steel, of another seed
than those on which methods are compared. The images go to a folder, in the layout that `pairs --from` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tifffile
from front_tiles import ANALYSIS, FIELD_UM, PAPER_NOISE, FastScan, TwinTile

from sparse_actors.config import parse_config
from sparse_actors.evaluation.pair_files import collect
from sparse_actors.evaluation.scorer_training import save, train_scorer
from sparse_actors.imaging import Imaging

SEED, TILES = 7001, 20
FAST = FastScan(4, 32_000.0)
OUT = Path(__file__).parents[1] / "models" / "weights" / "steel_voids.onnx"
CONFIG = f"""
[sample]
name = "simulated dual-phase steel, seed {SEED}, noise {PAPER_NOISE} grey at 32 us"
[microscope]
driver = "simulated"
[panorama]
corners_mm = [[0.0, 0.0], [0.3, 0.0], [0.0, 0.2]]
tile_fov_um = {FIELD_UM}
[scan.fast]
size_px = [{ANALYSIS.size_px[0] // FAST.scale}, {ANALYSIS.size_px[1] // FAST.scale}]
dwell_ns = {FAST.dwell_ns}
[scan.analysis]
size_px = [{ANALYSIS.size_px[0]}, {ANALYSIS.size_px[1]}]
dwell_ns = {ANALYSIS.dwell_ns}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the images, some 10 MB a tile; those there are used")
    parser.add_argument("--tiles", type=int, default=TILES)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    for index in range(given.tiles):
        folder = given.folder / f"twin{index:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        tile = TwinTile(index, SEED)
        for scale, image in ((1, tile.analysis), (FAST.scale, tile.fast)):
            side = ANALYSIS.size_px[0] // scale
            file = folder / f"0_0_{side}_{side}.tiff"
            if not file.exists():
                tifffile.imwrite(file, image(PAPER_NOISE if scale == 1 else FAST))
                print(file, flush=True)
    config = parse_config(CONFIG)
    settings = [Imaging(config.scan.fast.size_px, FAST.dwell_ns)]
    pairs = collect(given.folder, config, settings, 0.0, SEED)
    pairs.save(given.folder)
    trained = train_scorer(pairs, settings[0], seed=SEED, on_progress=lambda text: print(text, flush=True))
    print(given.out, save(trained, given.out), len(trained.onnx))


if __name__ == "__main__":
    main()
