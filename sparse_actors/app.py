"""Wires a survey together, runs it, and leaves nothing behind. The one place that knows all parts."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from sparse_actors import plugins
from sparse_actors.actors.detector_actor import DetectorActor
from sparse_actors.actors.microscope_actor import Instrument, MicroscopeActor
from sparse_actors.actors.partition_scheduler import PartitionScheduler
from sparse_actors.actors.recorder import Recorder
from sparse_actors.actors.region_planner import RegionPlanner
from sparse_actors.actors.time_keeper import TimeKeeper
from sparse_actors.config import Config
from sparse_actors.errors import CapabilityError
from sparse_actors.instrument_times import read_times, write_times
from sparse_actors.messages import Message, RunFinished, RunStarted, Scan, StopRun, WorkerJoined, WorkerLost
from sparse_actors.network.local_workers import spare_cores
from sparse_actors.network.pool import WorkerPool
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.merging import compile_merging
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.recording.journal import Journal, read_journal
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.store import RunStore
from sparse_actors.runtime.bus import Bus, Tap
from sparse_actors.runtime.clock import Clock
from sparse_actors.runtime.shell import Behaviour, Shell
from sparse_actors.session import new_folder, open_session
from sparse_actors.version import VERSION

ACTOR_STOP_S = 60.0
WORKER_READY_S = 120.0
"""Compiling the detector for the first time takes some seconds of this."""
WORKERS_LOST = 3
"""So many workers that die before one is ready mean that the detector cannot be loaded."""
POLL_S = 0.2
"""A wait without an end would not see Ctrl-C on Windows."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended and where it lies."""

    outcome: Literal["completed", "stopped", "failed"]
    reason: str
    cause: str
    """What failed; "interrupt" if Ctrl-C stopped it."""
    folder: Path
    problems: tuple[str, ...] = ()
    """What went wrong after the last scan: an image file not written, a thread that hangs."""
    note: str = ""
    """What was found and mended when the run was taken up."""


def survey_plan(config: Config, until_tile: int | None = None) -> SurveyPlan:
    """Put the configuration into domain terms."""
    corners = config.panorama.at_corners
    detector = plugins.load("detector", config.detect.detector)
    reach_px, halo_px = 0, 0
    if config.detect.halo_px and hasattr(detector, "reach_px"):
        reach_px = detector.reach_px(config.scale, **config.detect.options)
        halo_px = max(config.detect.halo_px, 4 * reach_px)
    return SurveyPlan(
        panorama=config.panorama.geometry(config.analysis.size_px),
        fast=config.fast,
        analysis=config.analysis,
        partitions=config.panorama.partitions,
        halo_px=halo_px,
        reach_px=reach_px,
        region_px=config.regions.size_px,
        region_margin_px=config.regions.margin_px if config.regions.placement == "free" else None,
        merging=config.regions.merge,
        timing=config.timing,
        tile_order=config.panorama.order,
        scan_order=config.scan.order,
        working_distance_mm=corners.working_distance_mm,
        brightness_pct=corners.brightness_pct,
        contrast_pct=corners.contrast_pct,
        detection_deadline_s=config.detect.deadline_s,
        rescan_when_detection_fails=config.detect.on_failure == "rescan",
        scan_attempts=config.limits.scan_attempts,
        in_flight_bytes=int(config.limits.in_flight_mb * 1e6),
        beam_current_pa=config.microscope.beam_current_pa,
        max_dose_e_per_nm2=config.limits.max_dose_e_per_nm2,
        until_tile=until_tile,
        seed=config.run.seed,
    )


def run_survey(
    config: Config,
    *,
    given: str = "",
    out: Path | None = None,
    resume: bool = False,
    until_tile: int | None = None,
    observe: Tap | None = None,
    times_folder: Path | None = None,
) -> RunResult:
    """Run a survey to its end, or until it is stopped.

    Parameters
    ----------
    config
        The resolved configuration.
    given
        The text of the configuration file, kept with the run.
    out
        Folder of the run; by default a new one under `config.run.out_dir`.
    resume
        Go on with the run in `out`; its corner points may have been set anew.
    until_tile
        Stop after so many tiles.
    observe
        Sees every message with its number, from the sender's thread; must return at once.
    times_folder
        Where the times of instruments are kept between runs; None keeps none.

    Raises
    ------
    ConfigError
        The run cannot be resumed with this configuration, or the folder is not empty.
    JournalError
        The journal of the run to resume is damaged.
    """
    folder = RunFolder(out or new_folder(config))
    with ExitStack() as stack:
        journal, number, config, note = open_session(folder, config, resume=resume, given=given)
        stack.callback(journal.close)
        clock = Clock()
        stack.callback(clock.close)
        log_file = stack.enter_context(folder.log.open("a", encoding="utf-8"))
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.add_log_level,
                structlog.processors.ExceptionRenderer(),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(log_file),
        )
        started = RunStarted(
            name=config.run.name,
            session=number,
            started_s=clock.now(),
            seed=config.run.seed,
            version=VERSION,
            config_toml=config.to_toml(),
        )
        journal.append(started)
        journal.sync()
        if note:
            structlog.get_logger().warning(note)
        known = read_times(times_folder, config.microscope)
        survey = _Survey(config, folder, journal, clock, survey_plan(config, until_tile), known)
        result = replace(survey.run(started, observe), note=note)
        if times_folder is not None:
            _keep_times(times_folder, config, folder, known)
    try:
        finalize(folder.path)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        problem = f"the result file was not written ({cause}); resume to try again"
        result = replace(result, problems=(*result.problems, problem))
    return result


class _Survey:
    """The parts of one session of one run."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        journal: Journal,
        clock: Clock,
        plan: SurveyPlan,
        known_times: Mapping[str, Any] | None,
    ) -> None:
        history = read_journal(folder.journal)
        state = SurveyState(plan)
        for fact in history:
            state.learn(fact)
        self._clock = clock
        self._plan = plan
        self._folder = folder
        self._bus = bus = Bus()
        driver = plugins.build("microscope", config.microscope.driver, config.microscope.options)
        self._instrument = instrument = Instrument(driver, state.to_restore)
        metadata = folder.path / "metadata"
        metadata.mkdir(exist_ok=True)
        store = _GuardedStore(folder.path, int(config.limits.min_free_disk_gb * 1e9))
        self._pool = WorkerPool(
            publish=bus.publish,
            now=clock.now,
            detector=config.detect.detector,
            options=config.detect.options,
            deadline_s=config.detect.deadline_s,
            local_workers=config.workers.local or spare_cores(),
            listen=config.workers.listen,
            token=os.environ.get("SPARSE_ACTORS_WORKER_TOKEN", ""),
            log=folder.path / "workers.log",
        )
        parts: list[tuple[str, Any, Callable[[], Behaviour]]] = [
            ("recorder", Recorder, lambda: Recorder(store, journal, read_journal(folder.journal))),
            (
                "time keeper",
                TimeKeeper,
                lambda: TimeKeeper(LearntTimes(plan.timing, known_times), read_journal(folder.journal)),
            ),
            ("planner", RegionPlanner, lambda: RegionPlanner(plan, read_journal(folder.journal))),
            ("detector", DetectorActor, lambda: DetectorActor(plan, read_journal(folder.journal))),
            (
                "microscope",
                MicroscopeActor,
                lambda: MicroscopeActor(instrument, journal.append, clock.now, metadata),
            ),
            ("scheduler", PartitionScheduler, lambda: PartitionScheduler(plan, read_journal(folder.journal))),
        ]
        self._shells = [
            Shell(name, kind.accepts, factory, bus.publish, clock) for name, kind, factory in parts
        ]
        self._ended = threading.Event()
        self._finished: RunFinished | None = None
        self._stops = 0
        self._is_interrupted = False
        self._worker_is_ready = threading.Event()
        self._lost_reasons: list[str] = []

    def run(self, started: RunStarted, observe: Tap | None) -> RunResult:
        """Start everything, wait for the end, stop everything in reverse."""
        self._bus.tap(self._watch)
        if observe:
            self._bus.tap(observe)
        problems: list[str] = []
        try:
            for shell in self._shells:
                self._bus.attach(shell)
            self._bus.attach(self._pool)
            self._bus.publish(started)
            self._pool.start()
            with _signals(self._stop):
                recorder, *others = self._shells
                recorder.start()
                if self._is_ready():
                    for shell in others:
                        shell.start()
                while not self._ended.wait(POLL_S):
                    pass
        finally:
            problems += self._close()
        if self._finished is None:
            raise AssertionError("the run ended without saying how")
        cause: str = self._finished.cause
        if self._finished.outcome == "stopped" and self._is_interrupted:
            cause = "interrupt"
        return RunResult(
            self._finished.outcome, self._finished.reason, cause, self._folder.path, tuple(problems)
        )

    def _is_ready(self) -> bool:
        """Compile and wait for a detector before the microscope is touched; else say how the run ended."""
        compile_merging(self._plan.merging)
        deadline_s = self._clock.now() + WORKER_READY_S
        while not self._worker_is_ready.wait(POLL_S):
            if self._stops:
                self._bus.publish(RunFinished(outcome="stopped", reason="stopped before the first scan"))
                return False
            if len(self._lost_reasons) >= WORKERS_LOST or self._clock.now() > deadline_s:
                reason = self._lost_reasons[-1] if self._lost_reasons else "none joined"
                self._bus.publish(
                    RunFinished(outcome="failed", reason=f"no detector worker: {reason}", cause="worker")
                )
                return False
        return True

    def _watch(self, message: Message, number: int) -> None:
        match message:
            case RunFinished():
                self._finished = message
                self._ended.set()
            case WorkerJoined():
                self._worker_is_ready.set()
            case WorkerLost(reason=reason):
                self._lost_reasons.append(reason)
            case _:
                pass

    def _stop(self, signal_name: str) -> None:
        """First time: end after the scan in flight. Again: end the scan too. Then: do not wait for it."""
        self._stops += 1
        self._is_interrupted = signal_name == "SIGINT"
        self._bus.publish(StopRun(reason=f"{signal_name} received"))
        if self._stops > 2:
            reason = f"{signal_name} received again while the microscope does not answer"
            self._bus.publish(RunFinished(outcome="failed", reason=reason, cause="microscope"))
        elif self._stops > 1:
            try:
                self._instrument.driver.abort()
            except CapabilityError:
                structlog.get_logger().warning("the microscope cannot end a scan; waiting for it")

    def _close(self) -> list[str]:
        # The recorder is the first to start and the last to stop: it writes what the others leave.
        recorder, *others = self._shells
        hanging = [shell.name for shell in reversed(others) if not shell.stop(ACTOR_STOP_S)]
        self._pool.close()
        if not recorder.stop(ACTOR_STOP_S):
            hanging.append(recorder.name)
        problems = [f"the {name} did not stop within {ACTOR_STOP_S:.0f} s" for name in hanging]
        if "microscope" in hanging:
            # Its thread is in the driver, which is not made for two.
            problems.append("THE MICROSCOPE WAS NOT RESET: the driver does not return")
            return problems
        try:
            self._instrument.restore()
        except Exception as error:
            problems.append(f"THE MICROSCOPE WAS NOT RESET: {type(error).__name__}: {error}")
        return problems


class _GuardedStore(RunStore):
    """Refuses new images when the disk is nearly full, while there is room to end in order."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        super().__init__(folder)
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    def reserve(self, slab: str, scans: tuple[Scan, ...], pixel_type: str) -> None:
        """Reserve as RunStore does, if the disk keeps `limits.min_free_disk_gb` free."""
        free = shutil.disk_usage(self._folder).free
        if free < self._min_free_bytes:
            raise OSError(
                errno.ENOSPC,
                f"only {free / 1e9:.1f} GB free, limits.min_free_disk_gb = {self._min_free_bytes / 1e9:g}",
                str(self._folder),
            )
        super().reserve(slab, scans, pixel_type)


def _keep_times(
    times_folder: Path, config: Config, folder: RunFolder, known: Mapping[str, Any] | None
) -> None:
    """Keep what this run taught about the instrument's times; a run does not fail by it."""
    try:
        times = LearntTimes(config.timing, known)
        before = times.scans.count
        for fact in read_journal(folder.journal):
            times.learn(fact)
        if times.scans.count > before:
            write_times(times_folder, config.microscope, times)
    except Exception as error:
        structlog.get_logger().warning(f"the times of the instrument were not kept: {error}")


@contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a stop; elsewhere than in the main thread they stay as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # Publishing takes the bus's lock, which the interrupted main thread may hold: hence the thread.
    def handle(number: int, _: object) -> None:
        threading.Thread(target=stop, args=(signal.Signals(number).name,), name="stop").start()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: nohup relies on it.
    names = [name for name in names if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN]
    before = {name: signal.signal(getattr(signal, name), handle) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
