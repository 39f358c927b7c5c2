"""Wires a survey together, runs it, and leaves nothing behind. The one place that knows all parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog

from sparse_actors import plugins
from sparse_actors.actors.microscope_actor import Instrument, MicroscopeActor
from sparse_actors.actors.recorder import KEPT, Recorder
from sparse_actors.config import Config
from sparse_actors.deciders import Decider, deciders
from sparse_actors.ending import POLL_S, QUICK_S, Ending
from sparse_actors.errors import ControlError
from sparse_actors.hooks import CLOSE_S, Hooks
from sparse_actors.instrument_times import read_times, write_times
from sparse_actors.lease import leased
from sparse_actors.messages import Message, RunFinished, RunStarted, StopRun, WorkerJoined, WorkerLost
from sparse_actors.network.pool_contract import Pool
from sparse_actors.network.taps import Taps
from sparse_actors.page.process import page_process
from sparse_actors.planning.learnt_times import LearntTimes
from sparse_actors.planning.merging import compile_merging
from sparse_actors.planning.pairs_plan import PairsPlan
from sparse_actors.planning.survey_plan import SurveyPlan
from sparse_actors.planning.survey_state import SurveyState
from sparse_actors.recording.flight import FlightRecorder, Session
from sparse_actors.recording.journal import Journal, read_journal
from sparse_actors.recording.nexus import finalize
from sparse_actors.recording.room import GuardedStore, check_room
from sparse_actors.recording.run_folder import RunFolder
from sparse_actors.recording.spectra import SpectraStore
from sparse_actors.report.at_end import report_problems
from sparse_actors.run_control import RunControl
from sparse_actors.run_log import RunLog
from sparse_actors.run_pool import pool_of
from sparse_actors.runtime.bus import Bus, Tap
from sparse_actors.runtime.clock import Clock
from sparse_actors.runtime.shell import Shell
from sparse_actors.sampling.field_map import compile_sampling
from sparse_actors.session import new_folder, open_session
from sparse_actors.stop_signals import StopSignals
from sparse_actors.version import VERSION

WORKER_READY_S = 120.0
"""Compiling the detector for the first time takes some seconds of this."""
WORKERS_LOST = 3
"""So many workers that die before one is ready mean that the detector cannot be loaded."""
WORKERS_CLOSE_S = 5.0
WRITING = "writing the result; a second signal leaves that to a resumed run"


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
    """Put the configuration into domain terms: those of pairs where it has [pairs], else of a survey."""
    corners = config.panorama.at_corners
    detector = plugins.load("detector", config.detect.detector)
    reach_px, halo_px = 0, 0
    if config.detect.halo_px and hasattr(detector, "reach_px"):
        reach_px = detector.reach_px(config.scale, **config.detect.options)
        halo_px = max(config.detect.halo_px, 4 * reach_px)
    survey = SurveyPlan(
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
        fields=None if config.eds is None else config.eds.fields(),
        audit=None if config.audit is None else config.audit.plan(),
        inspects=config.inspect is not None or config.audit is not None,
        seed=config.run.seed,
    )
    if config.pairs is None:
        return survey
    fast = [scan.imaging() for scan in config.pairs.fast] or [config.fast]
    return PairsPlan.of(survey, fast, config.pairs.at, config.pairs.tiles)


def _models(config: Config) -> tuple[str, ...]:
    """Return the files that a detector which was trained says it goes by, with their hashes."""
    detector = plugins.load("detector", config.detect.detector)
    if not hasattr(detector, "model_files") or config.pairs is not None:
        return ()
    files = detector.model_files(**config.detect.options)
    return tuple(f"{config.detect.detector}: {name}, sha256 {digest}" for name, digest in files.items())


def run_survey(
    config: Config,
    *,
    given: str = "",
    out: Path | None = None,
    resume: bool = False,
    until_tile: int | None = None,
    observe: Tap | None = None,
    times_folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Run a survey to its end, or until it is stopped.

    The first Ctrl-C or SIGTERM ends it in order. After the second neither a driver that does not return
    nor the result file is waited for; a resumed run brings both into order.

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
    say
        Called from any thread with a sentence for whoever sent a signal.

    Raises
    ------
    ConfigError
        The run cannot be resumed with this configuration, or the folder is not empty.
    InstrumentInUseError
        Another run has the microscope.
    JournalError
        The journal of the run to resume is damaged.
    """
    folder = RunFolder(out or new_folder(config))
    with StopSignals() as signals, ExitStack() as telling, ExitStack() as stack:
        stack.enter_context(leased(config.microscope, str(folder.path.absolute()), os.environ))
        session = open_session(
            folder,
            config,
            resume=resume,
            given=given,
            plan_of=lambda config: survey_plan(config, until_tile),
            is_stopping=lambda: signals.count > 0,
        )
        journal, config = session.journal, session.config
        stack.callback(journal.close)
        control = telling.enter_context(RunControl(config.run.name, folder.path.absolute(), signals))
        if session.is_finished:
            stack.close()
            reason = "it was finished before and is left as it is"
            finished = RunResult("completed", reason, "", folder.path, note=session.note)
            return _with_result(finished, folder, signals)
        shown = (str(folder.path.absolute()),)
        telling.enter_context(page_process(config.page.listen, shown, folder.path / "page.log", say))
        clock = Clock()
        stack.callback(clock.close)
        log = telling.enter_context(RunLog.opened(folder.log, config.run.name))
        hooks = Hooks(config.hooks, config.run.name, folder.path.absolute(), os.environ)
        telling.callback(lambda: hooks.close(QUICK_S if signals.count > 1 else CLOSE_S))
        started = RunStarted(
            name=config.run.name,
            session=session.number,
            started_s=clock.now(),
            seed=config.run.seed,
            version=VERSION,
            config_toml=config.to_toml(),
            files=session.files,
            models=_models(config),
        )
        journal.append(started)
        journal.sync()
        if session.note:
            structlog.get_logger().warning(session.note)
        known = read_times(times_folder, config.microscope)
        plan = survey_plan(config, until_tile)
        survey = _Survey(config, folder, journal, clock, plan, known, signals, say, session.files)
        control.attach(survey.order, survey.waits_for, survey.taps)
        observers = (log.watch, control.watch, hooks.watch, observe)
        result = replace(survey.run((started, *session.lost), *observers), note=session.note)
        if times_folder is not None:
            _keep_times(times_folder, config, folder, known)
        stack.close()
        control.detach("the result to be written")
        signals.listen(lambda name, count: say(f"{name}: {WRITING}") if count == 1 else None)
        result = _with_result(result, folder, signals)
        hooks.tell(
            "failed" if result.outcome == "failed" else "finished",
            result.reason,
            outcome=result.outcome,
            problems=result.problems,
        )
        return result


def _with_result(result: RunResult, folder: RunFolder, signals: StopSignals) -> RunResult:
    """Write the result file and the report, and say what is wrong with them."""
    try:
        problems = finalize(folder.path, signals.check)
    except KeyboardInterrupt:
        problems = ("the result file was not written; resume to write it",)
        if result.outcome == "completed":
            cause = "interrupt" if signals.is_interrupt else ""
            result = replace(result, outcome="stopped", reason=f"{signals.name} received", cause=cause)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        problems = (f"the result file was not written ({cause}); resume to try again",)
    problems = (*result.problems, *problems)
    return replace(result, problems=(*problems, *report_problems(folder.path, signals.check, problems)))


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
        signals: StopSignals,
        say: Callable[[str], None],
        files: Mapping[str, str],
    ) -> None:
        history = read_journal(folder.journal)
        state = SurveyState(plan)
        for fact in history:
            state.learn(fact)
        self._clock = clock
        self._config = config
        self._plan = plan
        self._folder = folder
        self._bus = bus = Bus()
        driver = plugins.build("microscope", config.microscope.driver, config.microscope.options)
        instrument = Instrument(driver, state.to_restore)
        self._signals = signals
        self._ending = Ending(instrument, bus.publish, say)
        metadata = folder.path / "metadata"
        metadata.mkdir(exist_ok=True)
        min_free_bytes = int(config.limits.min_free_disk_gb * 1e9)
        store = GuardedStore(folder.path, min_free_bytes)
        eds = config.eds
        map_plan = None if eds is None else eds.plan(config.run.seed, config.limits.scan_attempts)
        self._map_plan = map_plan
        self._pool: Pool | None = None
        if not isinstance(plan, PairsPlan):
            self._pool = pool_of(
                config,
                detects=bool(plan.tiles),
                inspects=plan.inspects,
                files=files,
                publish=bus.publish,
                now=clock.now,
                log=folder.path / "workers.log",
            )
        self._taps = ExitStack()
        self._shown: Taps | None = None

        def spectra() -> SpectraStore:
            # The recorder tells it what the journal holds, each time it is built.
            return SpectraStore(folder.path, lambda: check_room(folder.path, min_free_bytes))

        self._flight = flight = FlightRecorder(folder.flight, lambda: read_journal(folder.journal))
        self._known_times = known_times

        def shell(part: Decider) -> Shell:
            build = partial(lambda part: part.build(flight.history(part.name)), part)
            return Shell(part.name, part.accepts, build, bus.publish, clock, flight)

        def recorder() -> Recorder:
            return Recorder(store, spectra(), journal, read_journal(folder.journal))

        def microscope() -> MicroscopeActor:
            return MicroscopeActor(instrument, journal.append, clock.now, metadata)

        *deciding, scheduler = deciders(config, plan, known_times)
        self._shells = [
            Shell("recorder", Recorder.accepts, recorder, bus.publish, clock),
            *map(shell, deciding),
            Shell("microscope", MicroscopeActor.accepts, microscope, bus.publish, clock),
            shell(scheduler),
        ]
        self._ended = threading.Event()
        self._finished: RunFinished | None = None
        self._worker_is_ready = threading.Event()
        self._takes_orders = threading.Event()
        self._lost_reasons: list[str] = []

    def waits_for(self) -> str:
        """Return what the microscope does, in words."""
        return self._ending.waits_for

    def order(self, order: Message) -> None:
        """Give an order from outside; raises ControlError where nobody would hear of it yet."""
        if not self._takes_orders.is_set():
            raise ControlError("the run takes no orders yet: it is starting; try again in a moment")
        self._bus.publish(order)

    def taps(self) -> tuple[str, dict[str, int]]:
        """Return where other programs can look on, empty for nowhere, and what they missed, by kind."""
        taps = self._shown
        return (taps.endpoint, taps.dropped) if taps else ("", {})

    def run(self, begun: Iterable[Message], *observers: Tap | None) -> RunResult:
        """Say what is journaled of this session, start everything, wait for the end, stop all in reverse."""
        self._open_taps()
        self._bus.tap(self._watch)
        self._bus.tap(self._ending.watch)
        for observe in filter(None, observers):
            self._bus.tap(observe)
        problems: list[str] = []
        try:
            for shell in self._shells:
                self._bus.attach(shell)
            if self._pool is not None:
                self._bus.attach(self._pool)
            for fact in begun:
                self._bus.publish(fact)
                if isinstance(fact, RunStarted):
                    self._flight.begin(Session(fact.session, self._known_times, self._plan.until_tile))
            self._signals.listen(self._ending.stop)
            if self._pool is not None:
                self._pool.start()
            recorder, *others = self._shells
            recorder.start()
            if self._is_ready():
                for shell in others:
                    shell.start()
                self._takes_orders.set()
                if self._signals.count:  # before there was anybody to hear of it
                    self._bus.publish(StopRun(reason=f"{self._signals.name} received"))
            while not self._ended.wait(POLL_S):
                pass
        finally:
            problems += self._close()
            self._taps.close()
            self._signals.listen(None)
        if self._finished is None:
            raise AssertionError("the run ended without saying how")
        cause: str = self._finished.cause
        if self._finished.outcome == "stopped" and self._signals.is_interrupt:
            cause = "interrupt"
        return RunResult(
            self._finished.outcome, self._finished.reason, cause, self._folder.path, tuple(problems)
        )

    def _open_taps(self) -> None:
        journal, (listen, images_listen) = self._folder.journal, self._config.tap_endpoints
        if listen:
            taps = Taps(
                listen=listen,
                images_listen=images_listen,
                images=self._config.taps.images,
                token=os.environ.get("SPARSE_ACTORS_TAP_TOKEN", ""),
                history=lambda: read_journal(journal),
                journaled=KEPT,
                publish=self.order,
            )
            self._taps.callback(taps.close)
            self._bus.tap(taps.take)
            self._shown = taps

    def _is_ready(self) -> bool:
        """Compile and wait for a detector before the microscope is touched; else say how the run ended."""
        if self._pool is None:
            self._worker_is_ready.set()  # nothing is detected
        elif not self._signals.count:
            compile_merging(self._plan.merging)
            if self._map_plan is not None:
                compile_sampling(self._map_plan)
        deadline_s = self._clock.now() + WORKER_READY_S
        while self._signals.count or not self._worker_is_ready.wait(POLL_S):
            if self._signals.count:
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
            case RunFinished() if self._finished is None:
                self._finished = message
                self._ended.set()
            case WorkerJoined():
                self._worker_is_ready.set()
            case WorkerLost(reason=reason):
                self._lost_reasons.append(reason)
            case _:
                pass

    def _close(self) -> list[str]:
        # The recorder is the first to start and the last to stop: it writes what the others leave.
        recorder, *others = self._shells
        hanging = [shell.name for shell in reversed(others) if not self._ending.has_stopped(shell)]
        if self._pool is not None:
            self._pool.close(QUICK_S if self._ending.has_given_up else WORKERS_CLOSE_S)
        if not self._ending.has_stopped(recorder):
            hanging.append(recorder.name)
        problems = [f"the {name} did not stop in time" for name in hanging]
        self._flight.close()
        if self._flight.problem:
            problems.append(self._flight.problem)
        # A thread that hangs is in the driver, which is not made for two.
        is_hanging = "microscope" in hanging
        why = "the driver does not return" if is_hanging else self._ending.restored()
        self._ending.over()
        return [*problems, f"THE MICROSCOPE WAS NOT RESET: {why}"] if why else problems


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
