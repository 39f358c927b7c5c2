"""The worker pool that a run's configuration asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sparse_actors.config import Config
from sparse_actors.messages import Message
from sparse_actors.network.dask_pool import DaskPool
from sparse_actors.network.endpoints import needs_keys
from sparse_actors.network.keys import Keys, keys_folder
from sparse_actors.network.local_workers import spare_cores
from sparse_actors.network.pool import WorkerPool
from sparse_actors.network.pool_contract import Pool
from sparse_actors.network.welcome import welcome_of


def pool_of(
    config: Config,
    *,
    detects: bool,
    inspects: bool,
    files: Mapping[str, str],
    publish: Callable[[Message], None],
    now: Callable[[], float],
    log: Path,
) -> Pool:
    """Make the pool: a Dask cluster where `workers.pool` names one, else workers of our own.

    Parameters
    ----------
    detects
        Whether there is anything to detect; a run of maps of whole fields has nothing.
    inspects
        Whether the detector looks at rescanned regions too.
    files
        SHA-256 of the files that the classifier's options name.
    publish, now
        See `WorkerPool`.
    log
        File that gets what local workers print.

    Raises
    ------
    ConfigError
        The options cannot be sent to workers, or other computers reach `workers.listen` without keys.
    """
    eds, workers = config.eds, config.workers
    welcome = welcome_of(
        detector=config.detect.detector if detects else "",
        options=config.detect.options if detects else {},
        inspector=config.inspector[0] if inspects else "",
        inspector_options=config.inspector[1] if inspects else {},
        classifier="" if eds is None else eds.classifier,
        classifier_options={} if eds is None else eds.options,
        classifier_files=files,
        deadline_s=config.detect.deadline_s,
    )
    if workers.pool:
        return DaskPool(workers.pool, publish=publish, now=now, welcome=welcome, needs=config.detect.needs)
    return WorkerPool(
        publish=publish,
        now=now,
        welcome=welcome,
        local_workers=workers.local or spare_cores(),
        listen=workers.listen,
        keys=Keys(keys_folder(os.environ)) if needs_keys(workers.listen) else None,
        needs=config.detect.needs,
        tags=workers.tags,
        token=os.environ.get("SPARSE_ACTORS_WORKER_TOKEN", ""),
        log=log,
    )
