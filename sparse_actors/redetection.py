"""Detecting a recorded tile again: the same decisions as in the run, with another detector or other options.

A pure function of the recorded pixels and of the configuration. It runs in worker processes, here or of a
cluster, which open the run by its path.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_actors import plugins
from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.app import survey_plan
from sparse_actors.config import Config, parse_config
from sparse_actors.contracts.detector import Pois, checked_pois
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.judging import regions_of, with_one_thread
from sparse_actors.geometry import PixelBox, TileIndex
from sparse_actors.messages import (
    DetectImage,
    DetectionFailed,
    DetectionReturned,
    Message,
    PartitionReloaded,
    PoisFound,
)
from sparse_actors.network import jobs
from sparse_actors.network.same_code import code_of, difference
from sparse_actors.planning.audit import covered_by
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.recording.run_record import RunRecord
from sparse_actors.version import VERSION


@dataclass(frozen=True, slots=True)
class Work:
    """What every tile of a run has in common, small enough to be sent with each."""

    folder: str
    """Of the run, as its worker finds it."""
    config_toml: str
    version: str
    code: dict[str, str]
    """Hash of each file of the detector, as whoever asks has it."""

    @classmethod
    def of(cls, folder: str, config: Config) -> Work:
        """Say what is to be done, with this program's own version and code."""
        return cls(folder, config.to_toml(), VERSION, _code(config))


def _code(config: Config) -> dict[str, str]:
    return code_of("detector", config.detect.detector, config.detect.options)


def redetected(work: Work, row: int, column: int) -> dict[str, Any]:
    """Detect a tile again and compare with what its run did.

    Returns
    -------
    dict
        For JSON. `found_then`, `found_now`: candidates. `gained`: of those now, how many have their centre
        where the run rescanned nothing. `lost`: of those then, how many would not be rescanned now.
        `wanted_px`: analysis pixels of the regions around the candidates; `unscanned_px`: those of them that
        the run did not rescan. `failed`: parts of the tile whose detection failed. `absent`: fast images
        that were not recorded. `candidates`: [x, y, score] of each, analysis pixels of the field of view.

    Raises
    ------
    ConfigError
        This process has another version or other code than whoever asks.
    JournalError
        The run cannot be read, or an image is not what was recorded.
    """
    if work.version != VERSION:
        raise ConfigError(
            f"a worker has sparse-actors {VERSION}, the caller {work.version}: install the same"
        )
    config = parse_config(work.config_toml)
    if differs := difference(work.code, _code(config)):
        raise ConfigError(f"a worker's detector is not the caller's: {differs}; install the same on both")
    record, tile = _opened(work.folder), TileIndex(row, column)
    plan = survey_plan(config)
    found, failed, absent = _detected(record, plan, config, tile)
    field_px = config.analysis.size_px
    then = _together([fact.pois for part, fact in sorted(record.pois.items()) if part.tile == tile])
    now = _together([fact.pois for fact in sorted(found, key=lambda fact: fact.partition)])
    wanted = _wanted(now, config, field_px)
    rescanned = covered_by(
        (
            box
            for scan_id in record.recorded
            if scan_id.partition.tile == tile and not scan_id.is_fast
            for box in record.scans[scan_id].mask_boxes or (record.scans[scan_id].box,)
        ),
        field_px,
    )
    return {
        "found_then": len(then),
        "found_now": len(now),
        "gained": int((~_at(rescanned, now)).sum()),
        "lost": int((~_at(wanted, then)).sum()),
        "wanted_px": int(wanted.sum()),
        "unscanned_px": int((wanted & ~rescanned).sum()),
        "failed": failed,
        "absent": absent,
        "candidates": [
            [round(float(x), 3), round(float(y), 3), round(float(score), 6)]
            for (x, y), score in zip(now.xy_px, now.score, strict=True)
        ],
    }


def _detected(
    record: RunRecord, plan: SurveyPlan, config: Config, tile: TileIndex
) -> tuple[list[PoisFound], int, int]:
    """Have the run's actor decide what to detect; return finds, and count failures and absent images."""
    detector: Any = plugins.build("detector", config.detect.detector, with_one_thread(config))
    actor = DetectorActor(plan, ())
    scans = [scan for scan in plan.fast_scans(tile) if scan.id in record.recorded]
    todo: deque[Message] = deque(
        PartitionReloaded(scan=scan, attempt=1, image=record.image(scan.id), partition=scan.id.partition)
        for scan in scans
    )
    found: list[PoisFound] = []
    failed = 0
    while todo:
        for effect in actor.handle(todo.popleft()):  # type: ignore[arg-type]
            if isinstance(effect, DetectImage):
                todo.append(_answer(detector, effect))
            elif isinstance(effect, PoisFound):
                found.append(effect)
            else:
                failed += isinstance(effect, DetectionFailed)
    return found, failed, len(plan.fast_scans(tile)) - len(scans)


def _answer(detector: Any, job: DetectImage) -> Message:
    try:
        rows, columns = job.image.shape
        pois = checked_pois(detector.detect(job.image, job.scale), (rows, columns), job.scale)
    except Exception as error:
        return jobs.lost(job, f"{type(error).__name__}: {error}", worker="")
    return DetectionReturned(
        partition=job.partition, attempt=job.attempt, pois=pois, worker="", elapsed_s=0.0
    )


def _together(pois: list[Pois]) -> Pois:
    if not pois:
        return Pois.at([])
    return Pois(
        xy_px=np.concatenate([one.xy_px for one in pois]),
        score=np.concatenate([one.score for one in pois]),
        boxes_px=np.concatenate([one.boxes_px for one in pois]),
    )


def _wanted(pois: Pois, config: Config, field_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels the regions around candidates cover, (rows, columns)."""
    boxes = regions_of(pois, config, field_px).tolist()
    return covered_by((PixelBox(*map(int, box)) for box in boxes), field_px)


def _at(covered: NDArray[np.bool_], pois: Pois) -> NDArray[np.bool_]:
    """Return which candidates have their centre in what is covered."""
    rows, columns = covered.shape
    x, y = np.floor(pois.xy_px).astype(np.int64).T
    inside: NDArray[np.bool_] = covered[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]
    return inside


@lru_cache(maxsize=4)
def _opened(folder: str) -> RunRecord:
    return RunRecord.open(Path(folder))
