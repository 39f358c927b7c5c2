"""What a published figure states about where it was measured."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance(*packages: str) -> dict[str, Any]:
    """Return the machine and the versions of Python, of this program and of some packages that it has."""
    versions = {"python": platform.python_version()}
    for name in ("sparse-actors", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"machine": f"{_processor()}, {os.cpu_count()} cores, {system}", "versions": versions}


def sentence(stamp: dict[str, Any]) -> str:
    """Return `provenance` as one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    return f"{stamp['machine']}; {versions}."


def load() -> str:
    """Return how busy the machine was in the last minute, where the system tells."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "processor unknown"
