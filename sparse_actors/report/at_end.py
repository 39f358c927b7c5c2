"""The report at the end of a run: whatever happens here is said, and never harms the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


def report_problems(folder: Path, check: Callable[[], None], after: Sequence[str]) -> tuple[str, ...]:
    """Write the report of a run that has ended; returns what went wrong with that, in words.

    Parameters
    ----------
    folder
        Of the run.
    check
        Called between the parts; raises KeyboardInterrupt when nothing more is to be waited for.
    after
        What went wrong after the last scan so far.
    """
    try:
        # Only now, so that a run begins without what draws reports.
        from .run_report import write_report

        write_report(folder, check, after)
    except KeyboardInterrupt:
        return ("the report was not written; `sparse-actors report` writes it",)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        return (f"the report was not written ({cause}); the run is not harmed",)
    return ()
