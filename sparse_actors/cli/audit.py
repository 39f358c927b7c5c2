"""`audit`: what a run has missed so far, by its random windows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparse_actors import plugins
from sparse_actors.config import parse_config
from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.run_audit import RunAudit, audit_run
from sparse_actors.recording.run_record import RunRecord


def audit_folder(folder: Path) -> RunAudit:
    """Return the audit of a run, finished or not, by its own configuration."""
    record = RunRecord.open(folder)
    config = parse_config(record.sessions[-1].config_toml) if "audit" in record.config else None
    if config is None or config.audit is None:
        raise ConfigError(f"audit: {folder} was run without an [audit] table, so nothing can be told")
    detector: Any = plugins.build("detector", *config.inspector)
    return audit_run(record, config.audit.plan(), config.run.seed, detector, config.analysis.size_px)


def figures(audit: RunAudit) -> dict[str, Any]:
    """Return the audit by name, as shares of 1 and seconds."""
    told = audit.estimate
    more = {"recall": told.recall, "low": told.low, "high": told.high}
    return asdict(told) | more | {key: value for key, value in asdict(audit).items() if key != "estimate"}


def sentences(audit: RunAudit) -> tuple[str, ...]:
    """Return the audit for people."""
    told = audit.estimate
    return (
        f"recall {told.recall:.1%}, with {told.confidence:.0%} confidence {told.low:.1%} to {told.high:.1%}",
        f"{told.found} sites found in {told.tiles} tiles; {told.seen} missed ones seen in {told.windows} "
        f"windows, which makes {told.missed:.0f} ({told.missed_low:.0f} to {told.missed_high:.0f})",
        f"the windows took {audit.beam_s:.1f} s, {audit.beam_share:.1%} of the beam time so far",
    )
