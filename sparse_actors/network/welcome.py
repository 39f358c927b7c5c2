"""What every worker of a run is told when it joins."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sparse_actors import plugins, wire
from sparse_actors.errors import ConfigError, PluginError, WireError
from sparse_actors.messages import WorkerWelcome

from .same_code import code_of


def welcome_of(
    *,
    detector: str,
    options: Mapping[str, Any],
    deadline_s: float,
    inspector: str = "",
    inspector_options: Mapping[str, Any] | None = None,
    classifier: str = "",
    classifier_options: Mapping[str, Any] | None = None,
    classifier_files: Mapping[str, str] | None = None,
    heartbeat_s: float = 1.0,
    silence_s: float = 5.0,
) -> WorkerWelcome:
    """Say what workers load, with the hashes of its code.

    Parameters
    ----------
    detector, options
        Name or "module:Class" of the detector, and its options; empty for none.
    deadline_s
        Longest time for one job.
    inspector, inspector_options
        Likewise of the detector that looks at rescanned regions.
    classifier, classifier_options
        Likewise of the classifier of spectra.
    classifier_files
        SHA-256 of the files that these options must name, by their keys; see `map_files`.
    heartbeat_s, silence_s
        Period of the heartbeats, and the silence after which a side is held for dead.

    Raises
    ------
    ConfigError
        The options cannot be sent to a worker.
    """
    welcome = WorkerWelcome(
        detector=detector,
        options=dict(options),
        heartbeat_s=heartbeat_s,
        silence_s=silence_s,
        deadline_s=deadline_s,
        inspector=inspector,
        inspector_options=dict(inspector_options or {}),
        classifier=classifier,
        classifier_options=dict(classifier_options or {}),
        session=secrets.token_hex(8),
        code=_code("detector", detector, options)
        | _code("detector", inspector, inspector_options or {})
        | _code("classifier", classifier, classifier_options or {}),
        classifier_files=dict(classifier_files or {}),
    )
    try:
        wire.decode(wire.encode(welcome))
    except (WireError, TypeError) as error:
        given = {"detect": options, "audit": inspector_options, "eds": classifier_options}
        raise ConfigError(f"one of the options {given} cannot be sent to a worker: {error}") from None
    return welcome


def _code(kind: plugins.Kind, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    try:
        return code_of(kind, name, options) if name else {}
    except PluginError:
        return {}  # The workers will say what is wrong with it.
