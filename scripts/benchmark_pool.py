"""Measure how long a fault of a worker holds a job up, and how much work it costs, beside Dask.

python scripts/benchmark_pool.py                  every fault, interleaved, one table
python scripts/benchmark_pool.py --fault sigkill  one of them
python scripts/benchmark_pool.py --json           one object a line
python scripts/benchmark_pool.py --check          one round, to see that it works; nothing that it says counts

Two workers with one slot each get jobs of a known length, one after the other. While a job is under way
the worker that has it is killed (SIGKILL), stopped (SIGSTOP), or its link is cut. Recovery is the time from
the fault until that job is done by the other worker; lost are the jobs begun in vain. The workers are
processes beside this one, at the end of TCP links that the script can cut; "local" ones are the pool's own.
Dask is asked with its defaults; its workers have no nanny, which would start them anew but not tell sooner.
Without Dask (`pip install distributed`) only ours are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from contest import installed, missing
from provenance import load, provenance, sentence

from sparse_actors.contracts.detector import Pois
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import DetectImage, DetectionLost, DetectionReturned, Message
from sparse_actors.network.pool import WorkerPool
from sparse_actors.network.welcome import welcome_of
from sparse_actors.testing.cuttable_link import CuttableLink

JOB_S = 0.3
JOBS = 3
"""In each round: one before the fault, one that it hits, one after it."""
ROUNDS = 7
GIVE_UP_S = 30.0
FAULTS = ("sigkill", "sigstop", "cut")
STARTS = "SPARSE_ACTORS_BENCHMARK_STARTS"

Submit = Callable[[int], None]


def work(number: int, folder: str) -> int:
    """Do a job: leave a trace of who began it, and take its time."""
    Path(folder, f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(JOB_S)
    return number


class Work:
    """The same job as a detector; its number is the first pixel."""

    def detect(self, image: np.ndarray[Any, Any], scale: int) -> Pois:
        """Do the job, but for the image that a worker warms itself up with."""
        if image.shape == (1, 2):
            work(int(image[0, 0]), os.environ[STARTS])
        return Pois.at([])


class System:
    """What is measured: takes jobs by number, and tells which are done."""

    def __init__(self, submit: Submit, links: dict[int, CuttableLink]) -> None:
        self.submit = submit
        self.links = links
        """Of the workers elsewhere, by process id."""
        self.done: queue.SimpleQueue[int] = queue.SimpleQueue()


@contextmanager
def _ours(folder: Path, *, is_local: bool) -> Iterator[System]:
    published: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with ExitStack() as stack:
        pool = WorkerPool(
            publish=published.put,
            now=time.monotonic,
            welcome=welcome_of(detector="benchmark_pool:Work", options={}, deadline_s=60.0),
            local_workers=2 if is_local else 0,
            listen="" if is_local else "tcp://127.0.0.1:*",
        )
        pool.start()
        stack.callback(pool.close)
        tries: dict[int, int] = {}

        def submit(number: int) -> None:
            tries[number] = tries.get(number, 0) + 1
            image = np.full((1, 2), number, np.uint16)
            partition = PartitionId(TileIndex(0, 0), number)
            if not pool.offer(DetectImage(partition=partition, attempt=tries[number], image=image, scale=1)):
                raise RuntimeError("the pool refused a job")

        system = System(submit, {})
        links: dict[int, CuttableLink] = {}
        for link in [] if is_local else [_link(stack, pool.endpoints[1]) for _ in range(2)]:
            environment = {**os.environ, "SPARSE_ACTORS_WORKER_TOKEN": pool.token}
            command = [sys.executable, "-m", "sparse_actors", "worker", link.endpoint]
            links[_process(stack, command, environment)] = link
        joined: list[int] = []

        def listen() -> None:
            while (message := published.get()) is not None:
                if isinstance(message, DetectionReturned):
                    system.done.put(message.partition.index)
                elif isinstance(message, DetectionLost):
                    submit(message.partition.index)  # as the detector actor does
                elif type(message).__name__ == "WorkerJoined":
                    joined.append(message.pid)  # type: ignore[attr-defined]

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        stack.callback(listener.join)
        stack.callback(published.put, None)  # type: ignore[arg-type]
        _wait(lambda: len(joined) >= 2)
        system.links = {pid: links[_parent(pid)] for pid in joined} if links else {}
        yield system


@contextmanager
def _dask(folder: Path) -> Iterator[System]:
    distributed = installed("distributed")
    with ExitStack() as stack:
        cluster = stack.enter_context(
            distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp://")
        )
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        links = [_link(stack, cluster.scheduler_address) for _ in range(2)]
        pids = []
        for link in links:
            command = [sys.executable, "-m", "distributed.cli.dask_worker", link.endpoint]
            command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]
            pids.append(_process(stack, command, dict(os.environ)))
        client.wait_for_workers(2, timeout=60)
        futures = []

        def submit(number: int) -> None:
            name = f"job-{number}-{time.time_ns()}"
            future = client.submit(work, number, str(folder), pure=False, key=name)
            future.add_done_callback(lambda done: done.status == "finished" and system.done.put(number))
            futures.append(future)

        system = System(submit, dict(zip(pids, links, strict=True)))
        yield system


def one_round(system: System, folder: Path, fault: str, first: int) -> dict[str, float]:
    """Let a fault hit the second of three jobs; return the seconds until it was done, and the jobs lost."""
    numbers = range(first, first + JOBS)
    system.submit(numbers[0])
    _done(system, numbers[0])
    system.submit(numbers[1])
    _wait(lambda: bool(list(folder.glob(f"{numbers[1]}-*"))))
    (trace,) = folder.glob(f"{numbers[1]}-*")
    pid = int(trace.name.split("-")[1])
    if fault == "cut":
        system.links[pid].cut()
    else:
        os.kill(pid, signal.SIGKILL if fault == "sigkill" else signal.SIGSTOP)
    started_s = time.monotonic()
    try:
        recovered_s = _done(system, numbers[1]) - started_s
    except TimeoutError:
        recovered_s = float("inf")
    begun = len([path for n in numbers for path in folder.glob(f"{n}-*")])
    if fault == "sigstop":
        _end(pid)
    return {"recovery_s": recovered_s, "lost_jobs": begun - 2}


def _end(pid: int) -> None:
    """Let a process that was stopped go, if it is there."""
    try:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _done(system: System, number: int) -> float:
    give_up_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_s:
        try:
            if system.done.get(timeout=max(0.0, give_up_s - time.monotonic())) == number:
                return time.monotonic()
        except queue.Empty:
            break
    raise TimeoutError


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _link(stack: ExitStack, endpoint: str) -> CuttableLink:
    link = CuttableLink(int(endpoint.rpartition(":")[2]))
    stack.callback(link.close)
    return link


def _process(stack: ExitStack, command: list[str], environment: dict[str, str]) -> int:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process.pid


def _wait(is_true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 60
    while not is_true():
        if time.monotonic() > give_up_s:
            raise TimeoutError("the workers did not begin")
        time.sleep(0.002)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if not Path("/proc").exists():
        sys.exit("needs Linux: stops processes and looks for them in /proc")
    beside = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (beside, os.environ.get("PYTHONPATH")) if p)
    systems: dict[str, Callable[[Path], Any]] = {
        "ours, local": lambda folder: _ours(folder, is_local=True),
        "ours, extra PC": lambda folder: _ours(folder, is_local=False),
    }
    if installed("distributed"):
        systems["Dask"] = _dask
    stamp = provenance("distributed", "pyzmq")
    if not given.json:
        print(sentence(stamp), f"Load {load()}.", "" if "Dask" in systems else missing("distributed"))
    faults = [given.fault] if given.fault else FAULTS
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(1 if given.check else given.rounds):
        for fault in faults:
            for name, system in systems.items():
                if fault == "cut" and name == "ours, local":
                    continue
                with tempfile.TemporaryDirectory() as traces:
                    os.environ[STARTS] = traces
                    with system(Path(traces)) as opened:
                        found.setdefault((fault, name), []).append(one_round(opened, Path(traces), fault, 1))
    for (fault, name), rounds in found.items():
        seconds = [one["recovery_s"] for one in rounds]
        is_in_time = max(seconds) < float("inf")
        row = {
            "fault": fault,
            "system": name,
            "rounds": len(rounds),
            "recovery_s": round(statistics.median(seconds), 3) if is_in_time else None,
            "longest_s": round(max(seconds), 3) if is_in_time else None,
            "lost_jobs": statistics.mean(one["lost_jobs"] for one in rounds),
        }
        if given.json:
            print(json.dumps({**row, "job_s": JOB_S, "timed": not given.check, **stamp}))
            continue
        took = f"{row['recovery_s']} s, at most {row['longest_s']} s" if is_in_time else "not always in 30 s"
        print(f"{fault:8} {name:15} {took} with the job's {JOB_S} s; jobs lost {row['lost_jobs']:.1f}")


if __name__ == "__main__":
    main()
