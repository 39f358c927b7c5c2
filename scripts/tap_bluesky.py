"""A run as the documents of the Bluesky event model, as lines of JSON: start, descriptor, event, stop.

    python scripts/tap_bluesky.py tcp://127.0.0.1:7742 >> documents.jsonl

https://blueskyproject.io/event-model describes the documents. An event is a scan that is on disk.
"""

import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import sparse_actors
from sparse_actors.messages import Message, Recorded, RunFinished, RunStarted

KEYS = {
    "scan": {"dtype": "string", "shape": [], "source": "sparse-actors"},
    "tile_row": {"dtype": "integer", "shape": [], "source": "sparse-actors"},
    "tile_column": {"dtype": "integer", "shape": [], "source": "sparse-actors"},
    "is_fast": {"dtype": "boolean", "shape": [], "source": "sparse-actors"},
    "scan_s": {"dtype": "number", "shape": [], "source": "sparse-actors", "units": "s"},
}
EXITS = {"completed": "success", "stopped": "abort", "failed": "fail"}


def documents(messages: Iterable[Message]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Turn messages into (name, document); every session of a run is a run of its own."""
    start = descriptor = ""
    count, last_s = 0, 0.0
    for message in messages:
        match message:
            case RunStarted(name=name, session=session, started_s=time_s):
                start, descriptor, count, last_s = str(uuid.uuid4()), str(uuid.uuid4()), 0, time_s
                yield "start", {"uid": start, "time": time_s, "plan_name": name, "session": session}
                about = {"run_start": start, "name": "primary", "data_keys": KEYS}
                yield "descriptor", {"uid": descriptor, "time": time_s, **about}
            case Recorded(scan_id=scan_id, started_s=started_s, finished_s=last_s) if start:
                count += 1
                tile, took_s = scan_id.partition.tile, last_s - started_s
                values = (str(scan_id), tile.row, tile.column, scan_id.is_fast, took_s)
                yield (
                    "event",
                    {
                        "uid": str(uuid.uuid4()),
                        "time": last_s,
                        "descriptor": descriptor,
                        "seq_num": count,
                        "data": dict(zip(KEYS, values, strict=True)),
                        "timestamps": dict.fromkeys(KEYS, last_s),
                    },
                )
            case RunFinished(outcome=outcome, reason=reason) if start:
                end = {"run_start": start, "exit_status": EXITS[outcome], "reason": reason}
                yield (
                    "stop",
                    {"uid": str(uuid.uuid4()), "time": last_s, **end, "num_events": {"primary": count}},
                )
                start = ""
            case _:
                pass


if __name__ == "__main__":
    for pair in documents(sparse_actors.listen(sys.argv[1], RunStarted, Recorded, RunFinished)):
        print(json.dumps(pair), flush=True)
