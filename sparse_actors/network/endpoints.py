"""Where a run may listen for workers started by hand: on this computer only."""

from __future__ import annotations

import ipaddress
import re

from sparse_actors.errors import ConfigError

HIGHEST_PORT = 65535


def listen_problem(listen: str) -> str:
    """Say what is wrong with an endpoint; empty if it is the TCP endpoint of a loopback address, or empty."""
    if not listen:
        return ""
    match = re.fullmatch(r"tcp://(?:\[(?P<v6>[0-9a-f:]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5}|\*)", listen)
    try:
        is_loopback = match is not None and ipaddress.ip_address(match["v6"] or match["v4"]).is_loopback
    except ValueError:
        is_loopback = False
    if match is None or not is_loopback:
        return (
            "expected a loopback address such as 'tcp://127.0.0.1:5555'. "
            "Workers on other machines reach it through a tunnel (ssh -R)"
        )
    if match["port"] != "*" and int(match["port"]) > HIGHEST_PORT:
        return f"expected a port of at most {HIGHEST_PORT}"
    return ""


def check_listen(listen: str) -> None:
    """Raise ConfigError unless a run may listen there."""
    if problem := listen_problem(listen):
        raise ConfigError(f"workers.listen = {listen!r}: {problem}")


def tap_problem(key: str, endpoint: str) -> str:
    """Say why taps may not listen at an endpoint; empty if they may."""
    if not listen_problem(endpoint):
        return ""
    return (
        f"taps.{key} = {endpoint!r}: expected a loopback address such as 'tcp://127.0.0.1:7742'. "
        "Taps on other computers reach it through a tunnel (ssh -L)"
    )
